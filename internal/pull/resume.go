package pull

import (
	"context"
	"errors"
	"hash/crc32"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
)

// gapMost is the longest part that one connection is given of what is missing
// between the units of an earlier pull, in bytes.
const gapMost = 32 << 20

// leftover is an unfinished pull on disk, and what its journal vouches for.
type leftover struct {
	work    *workFile
	journal *journal
}

// leftover opens what an earlier pull left under a key. Its error says that there
// is nothing, or nothing that can be relied on: no complete journal of this
// version, or another data file than it vouches for.
func (s *Store) leftover(key string) (*leftover, error) {
	f, err := s.partial.open(key, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	w := &workFile{store: s, key: key, dir: &dir{file: f, path: s.partial.join(key)}}
	j, err := w.reopen()
	if err != nil {
		err = errors.Join(err, w.dir.close())
		if w.journal != nil {
			err = errors.Join(err, w.journal.Close())
		}
		return nil, err
	}
	return &leftover{w, j}, nil
}

// reopen opens journal and data for writing, if they belong together.
func (w *workFile) reopen() (j *journal, err error) {
	if j, w.journal, err = readJournal(w.dir); err != nil {
		return nil, err
	}
	if j.key != w.key || j.vouched() == 0 {
		return nil, errNoJournal
	}
	data, st, err := w.dir.openRegular(dataFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = data.Close() }()
	if fileIDOf(st) != j.file {
		return nil, errNoJournal
	}
	if st.Mode&0o200 == 0 { // stopped when it was about to be published
		if err := data.Chmod(0o600); err != nil {
			return nil, err
		}
	}
	if w.file, err = reopen(w.dir, dataFile, st); err != nil {
		return nil, err
	}
	w.generation = j.generation
	w.room = &reservation{space: w.store.space, file: w.file, size: min(st.Blocks*512, j.total), kept: j.total}
	return j, nil
}

// keeps reports whether what a pull that failed with err left is of use to the
// next one: it is, unless the failure speaks against the bytes or the disk. A
// server may come back, and a person may mend a signature, a URL or a limit.
func keeps(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if _, ok := errors.AsType[*refusalError](err); ok {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.contradiction {
		return false
	}
	if e.mixture {
		return true
	}
	switch e.Kind {
	case DigestMismatch, SourceChanged, UnsupportedContent, StorageError:
		return false
	default:
		return true
	}
}

// leftover returns what an earlier pull of the job left, or nil. What is asked for
// as one stream cannot be combined with anything.
func (p *run) leftover(stream bool) *leftover {
	if stream {
		return nil
	}
	l, err := p.store.leftover(workKey(p.job))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			p.log("what an earlier pull left is of no use", err)
		}
		return nil
	}
	return l
}

// workFor returns the file to write the object to, with room for it.
func (p *run) workFor(ctx context.Context, o *opened, left *leftover) (work *workFile, err error) {
	switch {
	case o.left != nil:
		work = o.left.work
	case left != nil: // of another object, by now
		if err := left.work.close(); err != nil {
			return nil, storageError(err, "close old partial data")
		}
		fallthrough
	default:
		if work, err = p.store.newWork(workKey(p.job)); err != nil {
			return nil, err
		}
	}
	if o.object.total >= 0 {
		if err := work.reserve(ctx, o.object.total); err != nil {
			p.end(work, o.left != nil && keeps(err))
			return nil, err
		}
	}
	return work, nil
}

// end lets go of a file, and keeps or removes it.
func (p *run) end(work *workFile, keep bool) {
	end := work.discard
	if keep && !work.published {
		end = work.close
	}
	if err := end(); err != nil {
		p.log("partial data could not be put away", err)
	}
}

// first is what the first request asks for. At least one unit is asked for even
// when none is missing: only the server can say that the object is still there
// and still the same.
func (l *leftover) first() span {
	if l.journal.vouched() == l.journal.total {
		l.journal.forget(len(l.journal.crcs) - 1)
	}
	return l.journal.gaps(probeSize)[0]
}

// fits reports whether the object that the server has now may be combined with
// the bytes on disk: under one strong validator (RFC 9110 §15.3.7.3), or under an
// expected digest, which decides in the end. A whole response may leave the
// object's size open.
func (l *leftover) fits(o object, digest bool) bool {
	sized := o.total < 0 || o.total == l.journal.total
	return sized && (digest || o.validator.strong() && o.validator == l.journal.validator)
}

// inspect judges the object by its first bytes on disk, if they are there and
// still those that arrived.
func (l *leftover) inspect(want Format) error {
	if !l.journal.has(0) {
		return nil // they are on their way
	}
	buf := make([]byte, l.journal.unitSpan(0).len())
	n, _ := l.work.file.ReadAt(buf, 0)
	if n < len(buf) || crc32.Checksum(buf, castagnoli) != l.journal.crcs[0] {
		return nil // the hasher will find that too
	}
	return inspectHead(buf[:min(len(buf), diskimage.HeadSize)], l.journal.total, want)
}
