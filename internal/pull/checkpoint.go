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
)

// checkpointInterval returns how many bytes of an object may be committed before
// the journal has to vouch for them.
func checkpointInterval(total int64) int64 { return min(max(total/64, checkpointMin), checkpointMax) }

// checkpoint makes the units that j vouches for durable, and then the journal
// that says so. j was copied before: what is committed meanwhile belongs to the
// next one. After an error the work is poisoned.
func (w *workFile) checkpoint(j *journal) (err error) {
	defer func() { w.poisoned = w.poisoned || err != nil }()
	if w.journal == nil {
		if err := w.createJournal(j.total); err != nil {
			return err
		}
	}
	if err := datasync(w.file); err != nil {
		return storageError(err, "sync the data file")
	}
	w.store.step("data synced")
	var st unix.Stat_t
	if err := unix.Fstat(int(w.file.Fd()), &st); err != nil {
		return storageError(err, "check the data file")
	}
	j.generation, j.key, j.file = w.generation+1, w.key, fileIDOf(st)
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
func (w *workFile) createJournal(total int64) (err error) {
	if w.journal, err = w.dir.open(journalFile, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600); err != nil {
		return storageError(err, "create the journal")
	}
	size := 2 * slotSize(total)
	if err = allocate(w.journal, 0, size); err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		err = w.journal.Truncate(size)
	}
	if err != nil {
		return storageError(err, "reserve %d bytes for the journal", size)
	}
	if err := errors.Join(w.journal.Sync(), w.dir.sync()); err != nil {
		return storageError(err, "sync the folder of the partial data")
	}
	w.store.step("journal made")
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
