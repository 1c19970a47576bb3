package pull

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// DiscardPartial removes what an unfinished pull of r's object left, so that it
// takes no more room. A pull that runs is left alone, and nothing to remove is no
// error. r names its object as it did in Pull: by its digest, or else by its URL.
func (s *Store) DiscardPartial(r Request) error {
	j, err := newJob(r)
	if err != nil {
		return err
	}
	_, err = s.discardPartial(workKey(j), time.Time{})
	return err
}

// DiscardPartials removes what unfinished pulls left and none has touched since
// before. It leaves pulls that run alone, and returns the bytes that it freed.
func (s *Store) DiscardPartials(before time.Time) (freed int64, err error) {
	names, err := s.partial.names()
	if err != nil {
		return 0, storageError(err, "list the partial data")
	}
	var errs []error
	for _, name := range names {
		bytes, err := s.discardPartial(name, before)
		freed += bytes
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

// discardPartial removes one that none has touched since before, or any if that
// is zero: clocks are set back, too.
func (s *Store) discardPartial(key string, before time.Time) (freed int64, err error) {
	unlock := s.keys.tryLock(key)
	if unlock == nil {
		return 0, nil
	}
	defer unlock()
	touched, freed, err := s.lookAtPartial(key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, storageError(err, "look at partial data")
	case !before.IsZero() && touched.After(before):
		return 0, nil
	}
	if err := errors.Join(s.partial.remove(key), s.partial.sync()); err != nil {
		return 0, storageError(err, "remove partial data")
	}
	s.log.Info("an unfinished pull was discarded", "key", key, "bytes", freed)
	return freed, nil
}

// lookAtPartial returns when partial data was last written to, and the bytes that
// it occupies.
func (s *Store) lookAtPartial(key string) (touched time.Time, occupied int64, err error) {
	folder, err := s.partial.stat(key)
	if err != nil {
		return time.Time{}, 0, err
	}
	touched = time.Unix(folder.Mtim.Unix())
	d, err := s.partial.open(key, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return touched, 0, nil // no folder, or one of somebody else: it is as old as it says
	}
	below := &dir{file: d, path: s.partial.join(key)}
	defer func() { _ = below.close() }()
	for _, name := range []string{dataFile, journalFile} {
		if st, err := below.stat(name); err == nil {
			occupied += st.Blocks * 512
			if at := time.Unix(st.Mtim.Unix()); at.After(touched) {
				touched = at
			}
		}
	}
	return touched, occupied, nil
}
