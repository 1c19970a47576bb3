package pull

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInUse(t *testing.T) {
	t.Parallel()
	record := func(command int, kind int16) func(f *os.File, path string) error {
		return func(f *os.File, _ string) error {
			return unix.FcntlFlock(f.Fd(), command, &unix.Flock_t{Type: kind, Start: 100, Len: 1})
		}
	}
	flock := func(how int) func(f *os.File, path string) error {
		return func(f *os.File, _ string) error { return unix.Flock(int(f.Fd()), how) }
	}
	for name, tt := range map[string]struct {
		use  func(f *os.File, path string) error
		want string // part of the reason; empty: not in use
	}{
		"nobody":             {nil, ""},
		"shared flock":       {flock(unix.LOCK_SH), "flock"},
		"exclusive flock":    {flock(unix.LOCK_EX), "flock"},
		"OFD lock to read":   {record(unix.F_OFD_SETLK, unix.F_RDLCK), "a lock on a part"},
		"OFD lock to write":  {record(unix.F_OFD_SETLK, unix.F_WRLCK), "a lock on a part"},
		"another name":       {func(_ *os.File, path string) error { return os.Link(path, path+".mine") }, "another name"},
		"open, without lock": {func(*os.File, string) error { return nil }, "open"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "blob")
			write(t, path, "bytes")
			if tt.use != nil {
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				if err := tt.use(f, path); err != nil {
					t.Fatal(err)
				}
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if tt.want == "open" && !hasLeases(t) {
				t.Skip("no leases here, so an open file without a lock is not seen")
			}
			if why := inUse(f); (why == "") != (tt.want == "") || !strings.Contains(why, tt.want) {
				t.Errorf("in use because %q, want %q", why, tt.want)
			}
		})
	}
}

// hasLeases tells whether the filesystem of tests has leases, and this user may take them.
func hasLeases(t *testing.T) bool {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	return err == nil
}
