package pull

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// unusedGrace is how long a blob stays after its last image let go of it.
const unusedGrace = time.Hour

// Keep names the digests that are wanted here although no image may name them
// yet: their blobs are not evicted. It replaces what was said before.
func (s *Store) Keep(digests []string) {
	kept := make(map[string]bool, len(digests))
	for _, digest := range digests {
		if name, err := parseDigest(digest); err == nil {
			kept[name] = true
		}
	}
	s.kept.Store(&kept)
}

func (s *Store) isKept(name string) bool {
	kept := s.kept.Load()
	return kept != nil && (*kept)[name]
}

// letGo notes that the link of an image is about to name its blob no more. The
// caller holds s.mu. The note comes first: dying in between leaves a note on a blob
// that is named, which means nothing.
func (s *Store) letGo(image string) {
	blob, ok := s.readLink(image)
	if !ok {
		return
	}
	images, err := s.Images()
	if err != nil {
		return // noteUnused will see it
	}
	for other, digest := range images {
		if other != image && digest == digestPrefix+blob {
			return
		}
	}
	now := s.now()
	s.since[blob] = now
	s.writeUnused(blob, now)
	s.step("blob let go")
}

// noteUnused brings the notes in line with what is there: links may come and go
// by hand. A blob that is found without a link and a note counts as let go of now.
// The caller holds s.mu, or is alone.
func (s *Store) noteUnused() error {
	images, err := s.Images()
	if err != nil {
		return err
	}
	named := make(map[string]bool, len(images))
	for _, digest := range images {
		named[digest[len(digestPrefix):]] = true
	}
	blobs, err := s.blobs.names()
	if err != nil {
		return storageError(err, "list the blobs")
	}
	there := make(map[string]bool, len(blobs))
	for _, name := range blobs {
		there[name] = true
		if named[name] {
			s.forgetUnused(name)
		} else if _, known := s.since[name]; !known {
			s.since[name] = s.readUnused(name, s.now())
		}
	}
	notes, err := s.unused.names()
	if err != nil {
		return storageError(err, "list the notes of unused blobs")
	}
	for _, name := range notes {
		if !there[name] {
			s.forgetUnused(name)
		}
	}
	return nil
}

// readUnused returns when a blob was let go of, by its note; without one, or with
// one from the future, as a clock that was off leaves it, that is now.
func (s *Store) readUnused(name string, now time.Time) time.Time {
	if st, err := s.unused.stat(name); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		if at := time.Unix(st.Mtim.Unix()); !at.After(now) {
			return at
		}
	}
	s.writeUnused(name, now)
	return now
}

// writeUnused writes a note into a file of its own. On a disk that is full or
// read-only there is none, which only keeps the blob for longer.
func (s *Store) writeUnused(name string, at time.Time) {
	err := s.unused.remove(name)
	var f *os.File
	if err == nil {
		f, err = s.unused.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	}
	if err == nil {
		stamp := unix.NsecToTimeval(at.UnixNano())
		err = errors.Join(unix.Futimes(int(f.Fd()), []unix.Timeval{stamp, stamp}), f.Sync(), f.Close(), s.unused.sync())
	}
	if err != nil {
		s.log.Info("it could not be noted since when a blob is unused", "blob", name, "error", err)
	}
}

// forgetUnused removes the note of a blob that is named again, or gone.
func (s *Store) forgetUnused(name string) {
	delete(s.since, name)
	if _, err := s.unused.stat(name); err != nil {
		return
	}
	if err := s.unused.remove(name); err != nil {
		s.log.Info("the note on a blob could not be removed", "blob", name, "error", err)
	}
}
