package pull

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const (
	journalFile = "journal"
	// checkpointMin and checkpointMax bound how many bytes are committed between
	// two checkpoints: what a kill can cost.
	checkpointMin = 16 << 20
	checkpointMax = 256 << 20
	// checkpointRest is how many times its own duration passes between two checkpoints.
	checkpointRest = 7
)

// checkpointInterval returns how many bytes of an object may be committed before
// the journal has to vouch for them.
func checkpointInterval(total int64) int64 { return min(max(total/64, checkpointMin), checkpointMax) }

// checkpoint makes the units that j vouches for durable, and then the journal
// that says so. j was copied before: what is committed meanwhile belongs to the
// next one. After an error the work is poisoned, unless only the journal had no
// room: then saved is false, the older slot stands, and whatever it vouches for
// is as durable as before.
func (w *workFile) checkpoint(j *journal) (saved bool, err error) {
	if err := w.syncData(j); err != nil {
		w.poisoned = true
		return false, err
	}
	err = w.writeJournal(j)
	if reasonOf(err) == InsufficientSpace {
		w.store.log.Info("pull goes on", "what", "the journal has no room", "key", w.key, "error", err)
		return false, nil
	}
	w.poisoned = w.poisoned || err != nil
	return err == nil, err
}

// syncData makes what is in the data file durable, and notes in j which file it is.
func (w *workFile) syncData(j *journal) error {
	if err := datasync(w.file); err != nil {
		return storageError(err, "sync the data file")
	}
	w.store.step("data synced")
	var st unix.Stat_t
	if err := unix.Fstat(int(w.file.Fd()), &st); err != nil {
		return storageError(err, "check the data file")
	}
	j.generation, j.key, j.file = w.generation+1, w.key, fileIDOf(st)
	return nil
}

// writeJournal writes j over the older slot and makes it durable. Until that is
// done the generation stays, so that the next checkpoint takes the same slot and
// never the one that stands.
func (w *workFile) writeJournal(j *journal) error {
	if w.journal == nil {
		if err := w.createJournal(j.total); err != nil {
			return err
		}
	}
	slot := j.encode()
	at := int64(j.generation%2) * int64(len(slot))
	const head = 256                                          // bytes
	for _, part := range [][]byte{slot[:head], slot[head:]} { // in two, for tests to stop between them
		if _, err := w.journal.WriteAt(part, at); err != nil {
			return storageError(err, "write the journal")
		}
		at += int64(len(part))
		w.store.step("part of a slot written")
	}
	if err := datasync(w.journal); err != nil {
		return storageError(err, "sync the journal")
	}
	w.generation = j.generation
	w.store.step("journal synced")
	return nil
}

// createJournal makes the journal's file with room for both slots, so that no
// checkpoint can fail for want of it, and both names durable.
func (w *workFile) createJournal(total int64) error {
	f, err := w.dir.open(journalFile, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return storageError(err, "create the journal")
	}
	size := 2 * slotSize(total)
	if err = allocate(f, 0, size); err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		err = writeZeros(f, size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = w.dir.sync()
	}
	if err != nil {
		// It vouches for nothing yet: the next checkpoint makes another one.
		_ = errors.Join(f.Close(), w.dir.remove(journalFile))
		return storageError(err, "reserve %d bytes for the journal", size)
	}
	w.journal = f
	w.store.step("journal made")
	return nil
}

// writeZeros takes room on a filesystem that cannot reserve it.
func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, min(size, readSize))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(size-at, int64(len(zeros)))], at); err != nil {
			return err
		}
	}
	return nil
}

// readJournal returns what the journal in a folder of partial/ vouches for, and
// its file, open for writing.
func readJournal(d *dir) (*journal, *os.File, error) {
	known, st, err := d.openRegular(journalFile)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = known.Close() }()
	if st.Size > 2*slotSize(journalMost) {
		return nil, nil, errNoJournal
	}
	text := make([]byte, st.Size)
	if n, err := known.ReadAt(text, 0); n < len(text) {
		return nil, nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	j, err := latestJournal(text)
	if err != nil {
		return nil, nil, err
	}
	f, err := reopen(d, journalFile, st)
	return j, f, err
}

// reopen opens for writing a file that was found regular, with one link, when it
// was opened for reading; it has to be the same one still.
func reopen(d *dir, name string, known unix.Stat_t) (*os.File, error) {
	f, err := d.open(name, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := statRegular(f)
	if err == nil && fileIDOf(st) != fileIDOf(known) {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: errIrregular}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func fileIDOf(st unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino, st.Size} }

// datasync is fdatasync, again when a signal interrupts it.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
