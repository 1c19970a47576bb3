package powercut

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

// recording is a pull that succeeded on a disk that remembers how.
type recording struct {
	mount   *Mount
	wanted  wanted
	rot     []uint64 // sums of what the blob held before, if it was wrong
	options pull.OpenOptions
	request pull.Request
	disk    *Disk
	done    int              // operations until Pull returned
	cut     int              // operations before the power cut that is looked at
	last    int64            // bytes that the pull after it did not fetch again
	resumed int64            // most bytes that a later pull did not fetch again
	trusted map[uint64]int64 // how many they were, by all but the bytes themselves
}

// record pulls onto a disk.
func (r *recording) record(t *testing.T, d *Disk) {
	t.Helper()
	_, done, err := r.pullOnce(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	r.disk, r.done = d, done
}

// open opens the store of a disk, making it, and closes it.
func open(t *testing.T, m *Mount, d *Disk) {
	t.Helper()
	path := m.Insert(d)
	defer m.Eject(d)
	s, err := pull.Open(t.Context(), filepath.Join(path, storeDir), pull.OpenOptions{})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// settled returns what a disk holds, with all of it durable.
func settled(d *Disk) *Disk {
	return d.Cut(len(d.Log()), Choice{names: newest, data: always(Kept)})
}

// judge returns what is wrong with what a power cut left after so many operations.
func (r *recording) judge(tree map[string]File, at int) []string {
	wrong := r.violations(tree)
	if at >= r.done {
		wrong = append(wrong, r.wanted.missing(tree)...)
	}
	return wrong
}

// cuts makes every power cut from an operation on, and every choice of it, and
// hands on what is left the first time that it looks like this.
func (r *recording) cuts(t *testing.T, from, random int, next func(t *testing.T, where string, left *Disk)) {
	t.Helper()
	states, seen := 0, map[uint64]bool{}
	for at := from; at <= len(r.disk.Log()); at++ {
		for _, c := range r.disk.Choices(at, seed, random) {
			left := r.disk.Cut(at, c)
			tree := left.Tree()
			states++
			if wrong := r.judge(tree, at); len(wrong) > 0 {
				t.Fatalf("seed %d: %s: %q\n%s", seed, r.where(at, c.Label), wrong, describe(tree))
			}
			if next == nil {
				continue
			}
			if mark := fingerprint(tree, nothing); !seen[mark] {
				seen[mark], r.cut = true, at
				next(t, r.where(at, c.Label), left)
			}
		}
	}
	if next == nil {
		return
	}
	t.Logf("seed %d: %d operations, %d power cuts, %d different disks", seed, len(r.disk.Log()), states, len(seen))
}

func (r *recording) where(at int, label string) string {
	if at == 0 {
		return "power cut before all, " + label
	}
	return "power cut after " + r.disk.Log()[at-1].String() + ", " + label
}

// recover runs the engine on what a power cut left: it has to find what is there,
// fetch what is not, and end as durable as ever.
func (r *recording) recover(t *testing.T, where string, left *Disk) {
	t.Helper()
	before := left.Tree()
	path := r.mount.Insert(left)
	defer r.mount.Eject(left)
	s, err := pull.Open(t.Context(), filepath.Join(path, storeDir), r.options)
	if err != nil {
		t.Fatalf("%s: then open: %v\n%s", where, err, describe(before))
	}
	wrong := r.use(t, s, left, before)
	if err := s.Close(); err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) > 0 {
		t.Fatalf("seed %d: %s: then: %q\nbefore:\n%safter:\n%s", seed, where, wrong, describe(before), describe(left.Tree()))
	}
}

// use adopts and pulls, and returns what is wrong with that.
func (r *recording) use(t *testing.T, s *pull.Store, left *Disk, before map[string]File) (wrong []string) {
	t.Helper()
	_, err := s.Adopt(t.Context(), r.request)
	_, there := before[r.wanted.blobPath()]
	there = there && len(r.violations(before)) == 0 && !r.rotten(before)
	switch {
	case there && err != nil:
		wrong = append(wrong, "the blob is there, and Adopt says: "+err.Error())
	case !there && !errors.Is(err, pull.ErrNotPresent):
		wrong = append(wrong, "no blob is there, and Adopt does not say so")
	}
	if there {
		wrong = append(wrong, r.again(left)...)
	}
	result, err := s.Pull(t.Context(), r.request, nil)
	switch {
	case err != nil:
		return append(wrong, err.Error())
	case result.Digest != r.wanted.digest:
		wrong = append(wrong, "the digest is "+result.Digest)
	case there && result.TransferredBytes != 0:
		wrong = append(wrong, "bytes were fetched that were there")
	case result.ResumedBytes > r.wanted.partialBytes(before):
		wrong = append(wrong, "the pull resumed from more bytes than are right")
	}
	wrong = append(wrong, r.resumes(before, result.ResumedBytes)...)
	after := left.Tree()
	wrong = append(wrong, r.violations(after)...)
	wrong = append(wrong, unfinished(after)...)
	return append(wrong, r.again(left)...)
}

// resumes notes how many bytes were resumed. That must depend on what the store
// wrote about them, and not on what a power cut left of them: else it vouched for
// bytes that it had not synced.
func (r *recording) resumes(before map[string]File, bytes int64) (wrong []string) {
	mark := fingerprint(before, isPartialData)
	if other, ok := r.trusted[mark]; ok && other != bytes {
		wrong = append(wrong, fmt.Sprintf("%d bytes are resumed here, and %d where more or less of them was left", bytes, other))
	}
	if r.trusted == nil {
		r.trusted = map[uint64]int64{}
	}
	r.trusted[mark] = bytes
	r.last, r.resumed = bytes, max(r.resumed, bytes)
	return wrong
}

// again is another power cut, now: it must leave what was just said to be there.
func (r *recording) again(d *Disk) (wrong []string) {
	at := len(d.Log())
	for _, c := range d.Choices(at, seed, 1) {
		tree := d.Cut(at, c).Tree()
		for _, what := range append(r.violations(tree), r.wanted.missing(tree)...) {
			wrong = append(wrong, "another power cut, "+c.Label+": "+what)
		}
	}
	return wrong
}

// rotten reports whether the blob is what was wrong from the start.
func (r *recording) rotten(tree map[string]File) bool {
	f, ok := tree[r.wanted.blobPath()]
	return ok && same(f, r.rot)
}
