package pull

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody calls do as a user whom permissions bind. Only this thread changes.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		do()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	do()
	if err := unix.Setfsuid(0); err != nil {
		panic(err) // the thread must not serve other tests
	}
}

// TestUsageOfWhatCannotBeRead has a folder that root left, under a umask of 077.
func TestUsageOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]os.FileMode{"nothing of it": 0, "its names only": 0o444} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openAt(t, t.TempDir(), OpenOptions{Limits: Limits{MaxSize: 1 << 30}})
			for _, parent := range []string{s.partial.path, s.quarantine.path} {
				for _, folder := range []string{"closed", "open"} {
					path := filepath.Join(parent, folder)
					if err := os.Mkdir(path, 0o755); err != nil {
						t.Fatal(err)
					}
					write(t, filepath.Join(path, "x"), string(make([]byte, 1<<20)))
				}
				closed := filepath.Join(parent, "closed")
				if err := os.Chmod(closed, mode); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.Chmod(closed, 0o755) })
			}
			var usage Usage
			var all []candidate
			var errUsage, errCandidates error
			asNobody(t, func() {
				usage, errUsage = s.Usage()
				all, errCandidates = s.candidates()
			})
			if errUsage != nil || usage.ReservedBytes != 1<<20 || usage.QuarantineBytes != 1<<20 {
				t.Errorf("usage %+v, %v", usage, errUsage)
			}
			if errCandidates != nil || len(all) != 4 {
				t.Errorf("candidates %+v, %v", all, errCandidates)
			}
		})
	}
}
