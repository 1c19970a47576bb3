package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestPrepare needs root: nobody else may give files away.
func TestPrepare(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	store := filepath.Join(t.TempDir(), "store")
	outside := filepath.Join(t.TempDir(), "outside")
	for path, text := range map[string]string{outside: "", store + "/STORE": "", store + "/blobs/sha256/aa": "bytes", store + "/partial/p/journal": ""} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, store+"/link"); err != nil {
		t.Fatal(err)
	}
	// As after a run that was killed in its midst: one folder is done, all above is not.
	if err := os.Chown(store+"/partial/p", 65532, 65532); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var stderr bytes.Buffer
		if code := runPrepare([]string{"--store", store, "--owner", "65532:65532"}, &stderr); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &stderr)
		}
	}
	err := filepath.WalkDir(store, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && owner(t, path) != "65532:65532" && path != store+"/partial/p/journal" {
			t.Errorf("%s belongs to %s", path, owner(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if owner(t, outside) != "0:0" {
		t.Errorf("the file behind a symbolic link belongs to %s now", owner(t, outside))
	}
}

// TestPrepareLeavesWhatIsNoStoreAlone: a mistyped path must not give /var/lib to the agent.
func TestPrepareLeavesWhatIsNoStoreAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	empty, used := t.TempDir(), t.TempDir()
	file := filepath.Join(used, "kubelet", "config")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Mkdir(empty+"/lost+found", 0o700)); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := runPrepare([]string{"--store", empty}, &stderr); code != exitOK || owner(t, empty) != "65532:65532" {
		t.Errorf("an empty folder: exit code %d, owner %s: %s", code, owner(t, empty), &stderr)
	}
	if code := runPrepare([]string{"--store", used}, &stderr); code != exitError || !strings.Contains(stderr.String(), "neither empty nor a store") {
		t.Errorf("a folder of somebody else: exit code %d: %s", code, &stderr)
	}
	for _, path := range []string{used, filepath.Dir(file), file} {
		if owner(t, path) != "0:0" {
			t.Errorf("%s belongs to %s now", path, owner(t, path))
		}
	}
}

func owner(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner here")
	}
	return strconv.Itoa(int(stat.Uid)) + ":" + strconv.Itoa(int(stat.Gid))
}

func TestPrepareRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"--owner", "nobody"}, {"--owner", "1"}, {"--owner", "1:2:3"}, {"--owner", "-1:0"}, {"--unknown"}, {"rest"},
	} {
		var stderr bytes.Buffer
		if code := runPrepare(append([]string{"--store", t.TempDir()}, args...), &stderr); code != exitUsage || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, %q", args, code, &stderr)
		}
	}
	var stderr bytes.Buffer
	if code := runPrepare([]string{"--store", filepath.Join(t.TempDir(), "missing")}, &stderr); code != exitError {
		t.Errorf("a store that is not there: exit code %d", code)
	}
}

// TestPrepareNeverLeavesTheStore has somebody who may write to a folder of the store put a link to a folder of the node into its
// place, and back, while the owners change.
func TestPrepareNeverLeavesTheStore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	store, outside := t.TempDir(), t.TempDir()
	folder, link, spare := filepath.Join(store, "partial", "p"), filepath.Join(store, "link"), filepath.Join(store, "spare")
	for _, path := range []string{folder, outside} {
		for i := range 500 {
			file := filepath.Join(path, strconv.Itoa(i))
			if err := errors.Join(os.MkdirAll(path, 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(os.WriteFile(store+"/STORE", nil, 0o600), os.Symlink(outside, link)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		err := filepath.WalkDir(store, func(path string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(path, 0, 0)) })
		if err != nil {
			t.Fatal(err)
		}
		stop, swapped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(swapped)
			for {
				select {
				case <-stop:
					return
				default: // the folder goes, the link comes; then both go back
					_ = errors.Join(os.Rename(folder, spare), os.Rename(link, folder), os.Rename(folder, link), os.Rename(spare, folder))
				}
			}
		}()
		var stderr bytes.Buffer
		_ = runPrepare([]string{"--store", store}, &stderr) // may fail for what is swapped; it must not follow it
		close(stop)
		<-swapped
	}
	if got := ownersIn(t, outside); len(got) != 1 || got["0:0"] != 500 {
		t.Errorf("files outside of the store, by owner: %v", got)
	}
}

func ownersIn(t *testing.T, folder string) map[string]int {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]int{}
	for _, entry := range entries {
		owners[owner(t, filepath.Join(folder, entry.Name()))]++
	}
	return owners
}

// TestPrepareLeavesFilesWithTwoNames: the other name may be outside of the store.
func TestPrepareLeavesFilesWithTwoNames(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	parent := t.TempDir()
	store, outside := filepath.Join(parent, "store"), filepath.Join(parent, "secret")
	if err := errors.Join(os.Mkdir(store, 0o755), os.WriteFile(store+"/STORE", nil, 0o600), os.WriteFile(outside, nil, 0o600), os.Link(outside, store+"/planted")); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := runPrepare([]string{"--store", store}, &stderr); code != exitOK || owner(t, store+"/STORE") != "65532:65532" {
		t.Errorf("exit code %d, STORE belongs to %s: %s", code, owner(t, store+"/STORE"), &stderr)
	}
	if got := owner(t, outside); got != "0:0" {
		t.Errorf("a file of the node with a second name in the store belongs to %s now", got)
	}
}

// TestPrepareGivesTheLock that root's command line left in a store that is the agent's already.
func TestPrepareGivesTheLock(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	store := t.TempDir()
	if err := errors.Join(os.WriteFile(store+"/LOCK", nil, 0o644), os.Chown(store, 65532, 65532)); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := runPrepare([]string{"--store", store}, &stderr); code != exitOK || owner(t, store+"/LOCK") != "65532:65532" {
		t.Errorf("exit code %d, LOCK belongs to %s: %s", code, owner(t, store+"/LOCK"), &stderr)
	}
}
