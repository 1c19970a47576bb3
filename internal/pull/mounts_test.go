package pull

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mountedTest is the environment variable that names the test for which this
// process has mounts of its own.
const mountedTest = "TEST_PULL_MOUNTS"

// ownMounts runs the test once more, in a process whose mounts nobody else sees and
// which end with it, and reports whether this is that process.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountedTest) == t.Name() {
		return true
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), mountedTest+"="+t.Name())
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	}
	output, err := command.CombinedOutput()
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("a mount needs root or user namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return false
}

// smallDisk mounts an empty filesystem of so many bytes.
func smallDisk(t *testing.T, bytes int64) string {
	t.Helper()
	path := t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// reopen closes a store and opens it as a new process would.
func reopenStore(t *testing.T, s *Store, options OpenOptions) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openAt(t, s.root.path, options)
}

// openAt opens a store until the test ends, or until it is closed before.
func openAt(t *testing.T, path string, options OpenOptions) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a second time after reopenStore
	return s
}
