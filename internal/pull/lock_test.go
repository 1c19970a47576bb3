package pull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// otherUser is nobody who owns anything here.
const otherUser = 54321

// TestLockIsNobodyElses: whoever can open a file can hold its lock, also through a
// mount that is read-only.
func TestLockIsNobodyElses(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, lock string){
		"a new store": func(*testing.T, string) {},
		"one that everybody could read": func(t *testing.T, lock string) {
			t.Helper()
			write(t, lock, "")
			if err := os.Chmod(lock, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"both names of one that was being made": func(t *testing.T, lock string) {
			t.Helper()
			write(t, lock, "")
			if err := os.Link(lock, lock+tempPrefix); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			prepare(t, filepath.Join(path, LockFile))
			openAt(t, path, OpenOptions{})
			info, err := os.Lstat(filepath.Join(path, LockFile))
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("LOCK is %v (%v), want -rw-------", info.Mode(), err)
			}
			if os.Geteuid() == 0 {
				tryAs(t, otherUser, filepath.Join(path, LockFile))
			}
		})
	}
}

// tryAs makes sure that a user cannot open a file.
func tryAs(t *testing.T, user uint32, path string) {
	t.Helper()
	read := exec.CommandContext(t.Context(), "cat", path)
	read.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := read.CombinedOutput(); err == nil || !strings.Contains(string(out), "denied") {
		t.Errorf("user %d reads %s: %s (%v)", user, path, out, err)
	}
}

// TestRootLeavesTheLockToTheOwner: the command line may run as root on an agent's store.
func TestRootLeavesTheLockToTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may open the store of another user")
	}
	for name, before := range map[string]bool{"none before": false, "one of root's before": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			if err := os.Chown(path, otherUser, otherUser); err != nil {
				t.Fatal(err)
			}
			lock := filepath.Join(path, LockFile)
			if before {
				write(t, lock, "")
			}
			openAt(t, path, OpenOptions{})
			var st unix.Stat_t
			if err := unix.Stat(lock, &st); err != nil || st.Uid != otherUser || st.Gid != otherUser || st.Mode&0o7777 != 0o600 {
				t.Errorf("LOCK belongs to %d:%d, mode %o (%v)", st.Uid, st.Gid, st.Mode&0o7777, err)
			}
		})
	}
}

// TestLockThatIsNoFile must not keep Open waiting for somebody at the other end of a FIFO.
func TestLockThatIsNoFile(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(path, LockFile), 0o644); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		_, err := Open(t.Context(), path, OpenOptions{})
		opened <- err
	}()
	select {
	case err := <-opened:
		wantReason(t, err, StorageError)
	case <-time.After(30 * time.Second):
		t.Fatal("Open waits for a writer of the FIFO")
	}
}

// TestWaitingSaysWhoIsInTheWay names the process that holds a lock.
func TestWaitingSaysWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	lock, err := os.Create(filepath.Join(path, LockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	var said []error
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		_, err := Open(ctx, path, OpenOptions{Wait: true, Waiting: func(err error) { said = append(said, err) }})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open returned %v", err)
		}
	})
	if len(said) != 3 {
		t.Fatalf("told %d times in 35 s: %v", len(said), said)
	}
	wantReason(t, said[0], StoreBusy)
	if want := fmt.Sprintf("process %d (", os.Getpid()); !strings.Contains(said[0].Error(), want) {
		t.Errorf("%v: want %q in it", said[0], want)
	}
}

func TestFlockOn(t *testing.T) {
	t.Parallel()
	st := unix.Stat_t{Dev: unix.Mkdev(0xfe, 0x10), Ino: 131090}
	for name, tt := range map[string]struct {
		line string
		pid  int
		ok   bool
	}{
		"held":                  {"1: FLOCK  ADVISORY  WRITE 1234 fe:10:131090 0 EOF", 1234, true},
		"held by readers":       {"2: FLOCK  ADVISORY  READ 7 fe:10:131090 0 EOF", 7, true},
		"waited for":            {"1: -> FLOCK  ADVISORY  WRITE 99 fe:10:131090 0 EOF", 0, false},
		"another file":          {"1: FLOCK  ADVISORY  WRITE 1234 fe:10:131091 0 EOF", 1234, false},
		"another device":        {"1: FLOCK  ADVISORY  WRITE 1234 fe:11:131090 0 EOF", 1234, false},
		"another kind":          {"1: POSIX  ADVISORY  WRITE 1234 fe:10:131090 0 EOF", 0, false},
		"outside the container": {"1: FLOCK  ADVISORY  WRITE 0 fe:10:131090 0 EOF", 0, false},
		"cut":                   {"1: FLOCK", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if pid, ok := flockOn(tt.line, st); pid != tt.pid || ok != tt.ok {
				t.Errorf("flockOn(%q) = %d, %t", tt.line, pid, ok)
			}
		})
	}
}
