package powercut

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatACutMayLeave writes a file and gives it its name, forgetting now this
// and now that, and wants to see what comes of it.
func TestWhatACutMayLeave(t *testing.T) {
	m := mount(t)
	tests := []struct {
		name string
		do   []step
		want []string

		draftStays bool // unless the file has its final name
	}{
		{name: "all that it takes", do: []step{create, write, syncFile, rename, syncDir}, want: []string{right}},
		{name: "without fsync of the file", do: []step{create, write, rename, syncDir}, want: []string{right, wrong}},
		{name: "without fsync of the directory", do: []step{create, write, syncFile, rename}, want: []string{none, right}},
		{name: "without both", do: []step{create, write, rename}, want: []string{none, right, wrong}},
		{name: "fsync after the rename", do: []step{create, write, rename, syncFile}, want: []string{none, right}},
		{name: "fsync before the write", do: []step{create, syncFile, write, rename, syncDir}, want: []string{right, wrong}},
		{name: "fsync that failed, and another", do: []step{create, write, failSync, syncFile, rename, syncDir}, want: []string{right, wrong}},
		{name: "name synced before the rename", do: []step{create, write, syncFile, syncDir, rename}, want: []string{none, right}, draftStays: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDisk()
			path := m.Insert(d)
			defer m.Eject(d)
			for _, do := range tt.do {
				do(t, d, path)
			}
			found := map[string]bool{}
			for _, c := range d.Choices(len(d.Log()), seed, 20) {
				tree := d.Cut(len(d.Log()), c).Tree()
				what := whatIsLeft(tree)
				found[what] = true
				if _, draft := tree["/draft"]; tt.draftStays && what == none && !draft {
					t.Errorf("%s: neither name is left", c.Label)
				}
			}
			var got []string
			for _, what := range []string{none, right, wrong} {
				if found[what] {
					got = append(got, what)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("a cut leaves %q, want %q", got, tt.want)
			}
		})
	}
}

// What "final" may hold after a cut.
const none, right, wrong = "nothing", "right", "wrong"

func whatIsLeft(tree map[string]File) string {
	f, ok := tree["/final"]
	switch {
	case !ok:
		return none
	case string(f.image.bytes()) == text:
		return right
	default:
		return wrong
	}
}

// text is more than a block.
var text = strings.Repeat("all work and no play ", 500)

type step func(t *testing.T, d *Disk, path string)

func create(t *testing.T, _ *Disk, path string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(path, "draft"), nil, 0o600))
}

func write(t *testing.T, _ *Disk, path string) {
	t.Helper()
	use(t, filepath.Join(path, "draft"), func(f *os.File) error { _, err := f.WriteString(text); return err })
}

func syncFile(t *testing.T, _ *Disk, path string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "*"))
	must(t, err)
	use(t, names[0], (*os.File).Sync)
}

func failSync(t *testing.T, d *Disk, path string) {
	t.Helper()
	d.Fail(func(op Op) syscall.Errno {
		if op.Kind == Sync {
			return syscall.EIO
		}
		return 0
	})
	use(t, filepath.Join(path, "draft"), func(f *os.File) error {
		if err := f.Sync(); err == nil {
			t.Error("fsync succeeds")
		}
		return nil
	})
	d.Fail(nil)
}

func rename(t *testing.T, _ *Disk, path string) {
	t.Helper()
	must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(path, "draft"), unix.AT_FDCWD, filepath.Join(path, "final"), unix.RENAME_NOREPLACE))
}

func syncDir(t *testing.T, _ *Disk, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, f.Sync())
}

func use(t *testing.T, path string, do func(*os.File) error) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, do(f))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
