package pull

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// workFile is the file that one attempt of a pull writes: partial/<key>/data.
type workFile struct {
	store *Store
	key   string
	dir   *dir
	file  *os.File
	room  *reservation
}

// workKey names the folder of a job's partial data: its digest, or a hash of the
// URL, which may hold what must not become a file name or be seen.
func workKey(j *job) string {
	if j.digest != "" {
		return j.digest
	}
	sum := sha256.Sum256([]byte(j.url.String()))
	return "url-" + hex.EncodeToString(sum[:16])
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
	return w, nil
}

// reserve makes room for size bytes in all.
func (w *workFile) reserve(size int64) (err error) {
	if w.room == nil {
		w.room, err = w.store.space.reserve(w.file, size)
		return err
	}
	return w.room.extend(size)
}

// discard ends the work and removes what is left of it.
func (w *workFile) discard() error {
	if w.room != nil {
		w.room.release()
	}
	return errors.Join(w.file.Close(), w.dir.close(), w.store.partial.remove(w.key), w.store.partial.sync())
}
