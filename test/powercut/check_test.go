package powercut

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sumsOf returns the sums that a file of these bytes has.
func sumsOf(p []byte) []uint64 {
	var i image
	i.write(bytes.Clone(p), 0)
	return i.sums()
}

// same reports whether a file has the bytes of these sums.
func same(f File, sums []uint64) bool { return sums != nil && slices.Equal(f.image.sums(), sums) }

// violations returns what is wrong on a disk at any time: names under blobs/ over
// other bytes than their digest's, or that can be written to, and images that lead
// to anything but a right blob. Bytes that were wrong from the start may be where
// they were.
func (r *recording) violations(tree map[string]File) (wrong []string) {
	blobs, images := blobsDir, path.Join(storeDir, "images")
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		f := tree[name]
		switch path.Dir(name) {
		case blobs:
			if why := r.wanted.judge(path.Base(name), f); why != "" && !same(f, r.rot) {
				wrong = append(wrong, why)
			}
		case images:
			// While a wrong blob is replaced, its images lead nowhere.
			if _, ok := tree[path.Join(images, f.Target)]; f.Mode&unix.S_IFMT != unix.S_IFLNK || !ok && r.rot == nil {
				wrong = append(wrong, fmt.Sprintf("%s leads to %q, where nothing is", name, f.Target))
			}
		}
	}
	return wrong
}

// judge says what is wrong with a blob. That w needs no hashing saves most of the time.
func (w wanted) judge(hexDigest string, f File) string {
	sum := sha256.Sum256(nil)
	right := hexDigest == w.hex() && same(f, w.sums)
	if !right {
		sum = sha256.Sum256(f.image.bytes())
		right = hexDigest == hex.EncodeToString(sum[:])
	}
	switch {
	case !f.IsRegular():
		return fmt.Sprintf("blob %.8s is no file (mode %o)", hexDigest, f.Mode)
	case !right:
		return fmt.Sprintf("blob %.8s is over bytes of digest %.8x (%d of them)", hexDigest, sum, f.Size)
	case f.Mode&0o7777 != 0o444:
		return fmt.Sprintf("blob %.8s has mode %o", hexDigest, f.Mode&0o7777)
	}
	return ""
}

// missing returns what is not on a disk although a pull said that it is.
func (w wanted) missing(tree map[string]File) (wrong []string) {
	if _, ok := tree[w.blobPath()]; !ok {
		wrong = append(wrong, "the blob is lost, although the pull succeeded")
	}
	link := tree[path.Join(storeDir, "images", w.name)]
	if link.Target != "../blobs/sha256/"+w.hex() {
		wrong = append(wrong, fmt.Sprintf("the image's link is lost or older (%q), although the pull succeeded", link.Target))
	}
	return wrong
}

// unfinished returns what no store has after a pull that ended: partial data, and links
// that have not got their name.
func unfinished(tree map[string]File) (wrong []string) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if path.Dir(name) == path.Join(storeDir, "partial") || strings.HasPrefix(path.Base(name), ".tmp-") {
			wrong = append(wrong, name+" is left")
		}
	}
	return wrong
}

var fingerprintSeed = maphash.MakeSeed()

// fingerprint tells apart what a new process could tell apart. Temporary names
// are all one. It is blind for the bytes of files that a filter leaves out.
func fingerprint(tree map[string]File, blind func(name string) bool) uint64 {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		f := tree[name]
		if strings.HasPrefix(path.Base(name), ".tmp-") {
			name = path.Join(path.Dir(name), ".tmp-")
		}
		fmt.Fprintln(&h, name, f.Ino, f.Mode, f.Links, f.Size, f.Target)
		if !blind(name) {
			fmt.Fprintln(&h, f.image.sums())
		}
	}
	return h.Sum64()
}

func nothing(string) bool { return false }

// isPartialData reports whether a name is that of the bytes of an unfinished pull.
func isPartialData(name string) bool {
	return strings.HasPrefix(name, storeDir+"/partial/") && path.Base(name) == "data"
}

// partialBytes is how many bytes of an image lie, right and in their place, in
// some file of unfinished data: the most that a resume can have trusted.
func (w wanted) partialBytes(tree map[string]File) (right int64) {
	for name, f := range tree {
		if !isPartialData(name) {
			continue
		}
		var here int64
		sums := f.image.sums()
		for n := range min(len(sums), len(w.sums)) {
			if sums[n] == w.sums[n] {
				here += min(chunkSize, int64(len(w.bytes))-int64(n)*chunkSize)
			}
		}
		right = max(right, here)
	}
	return right
}

// describe lists a disk for a message.
func describe(tree map[string]File) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		f := tree[name]
		fmt.Fprintf(&b, "    %v %d %s", fs.FileMode(f.Mode&0o777), f.Size, name)
		if f.Target != "" {
			fmt.Fprintf(&b, " -> %s", f.Target)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
