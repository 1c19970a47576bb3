package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// workFile is the file that one attempt of a pull writes, partial/<key>/data,
// and the journal beside it.
type workFile struct {
	store *Store
	key   string
	dir   *dir
	file  *os.File
	room  *reservation

	journal    *os.File // nil before the first checkpoint
	generation uint64   // of the last slot written; 0 before
	// poisoned: a writeback or a sync failed. A later sync may succeed
	// and mean nothing, so nothing of the file can be kept.
	poisoned bool
	// published: the file is a blob now, and the work has no data any more.
	published bool
}

// workKey names the folder of a job's partial data: its digest, or a hash of the
// URL, which may hold what must not become a file name or be seen. Signatures are
// left out, so that an object whose URL was signed again is the same job.
func workKey(j *job) string {
	if j.digest != "" {
		return j.digest
	}
	sum := sha256.Sum256([]byte(j.Header.Get("Host") + "\n" + unsigned(j.written)))
	return "url-" + hex.EncodeToString(sum[:])
}

// newWork makes the folder and a fresh, empty data file in it.
func (s *Store) newWork(key string) (*workFile, error) {
	if err := s.partial.remove(key); err != nil {
		return nil, storageError(err, "discard old partial data")
	}
	d, err := s.partial.subdir(key)
	if err != nil {
		return nil, storageError(err, "make room for partial data")
	}
	w := &workFile{store: s, key: key, dir: d}
	// O_EXCL: always a new inode, never one that somebody else can have open.
	w.file, err = d.open(dataFile, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		_ = d.close()
		return nil, storageError(err, "create the data file")
	}
	s.step("data file made")
	return w, nil
}

// reserve makes room for size bytes in all. Where there is none, what the store
// can do without gives way.
func (w *workFile) reserve(ctx context.Context, size int64) error {
	if w.room == nil {
		w.room = &reservation{space: w.store.space, file: w.file}
	}
	if size <= w.room.size {
		return nil
	}
	return w.store.makeRoom(ctx, w.room, size)
}

// close ends the work and leaves the file and its journal where they are.
func (w *workFile) close() error {
	if w.room != nil {
		w.room.release()
	}
	err := errors.Join(w.file.Close(), w.dir.close())
	if w.journal != nil {
		err = errors.Join(err, w.journal.Close())
	}
	return err
}

// discard ends the work and removes what is left of it.
func (w *workFile) discard() error {
	return errors.Join(w.close(), w.store.partial.remove(w.key), w.store.partial.sync())
}
