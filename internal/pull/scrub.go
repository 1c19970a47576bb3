package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// scrubPiece is how much of a blob is read at once. In between, the file is closed.
	scrubPiece = 1 << 20
	// scrubLook is how often the scrub looks for something to do.
	scrubLook = 10 * time.Second
)

// ScrubOptions say how blobs are read again.
type ScrubOptions struct {
	// Interval is within what time each blob is read again. 0: only blobs that
	// this process has not verified are read, once.
	Interval time.Duration
	// BytesPerSecond is the rate of reading; 0 is no limit. A blob that was
	// changed since this process verified it is read at full speed.
	BytesPerSecond int64
	// Wrong is told the digest of a blob that was found wrong, and why. It must
	// not wait for anything.
	Wrong func(digest string, why error)
}

// Scrub reads blobs again and again until ctx ends: those first that were changed
// since this process verified them, then those that it has not verified, then
// those that it verified longest ago. What is wrong or cannot be read goes to
// quarantine. It reads past the page cache where the filesystem can, which proves
// what the medium holds and leaves the cache to the workloads.
func (s *Store) Scrub(ctx context.Context, options ScrubOptions) error {
	// The priority belongs to the thread, which ends with this goroutine.
	runtime.LockOSThread()
	const idle, process, self = 3 << 13, 1, 0 // ioprio_set(2)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, process, self, idle)
	buf, err := unix.Mmap(-1, 0, scrubPiece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned for O_DIRECT
	if err != nil {
		return fmt.Errorf("scrub: get memory: %w", err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	failed := map[string]bool{} // for a reason of this machine's; others go first
	for {
		next, wait, err := s.nextToScrub(options.Interval, failed)
		if err != nil {
			s.log.Warn("the blobs could not be listed for the scrub", "error", err)
		}
		if next.name == "" {
			if err := pause(ctx, wait); err != nil {
				return err
			}
			continue
		}
		err = s.scrubNext(ctx, next, buf, options)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		delete(failed, next.name)
		if err != nil {
			failed[next.name] = !errors.Is(err, errWrong)
			s.log.Warn("a blob could not be verified", "blob", next.name, "error", err)
			if err := pause(ctx, scrubLook); err != nil { // what stays wrong must not keep a core busy
				return err
			}
		}
	}
}

// scrubNext reads one blob and tells of it if it is wrong.
func (s *Store) scrubNext(ctx context.Context, next scrubState, buf []byte, options ScrubOptions) error {
	rate := options.BytesPerSecond
	if next.doubt == changed {
		rate = 0
	}
	err := s.scrubBlob(ctx, next.name, buf, rate)
	if errors.Is(err, errWrong) && options.Wrong != nil {
		options.Wrong(digestPrefix+next.name, err)
	}
	return err
}

// doubt is how much a blob deserves to be read again.
type doubt int

const (
	verified doubt = iota // by this process, and not changed since
	unknown               // never verified by this process
	changed               // verified, but it is not the same file any more
)

// scrubState is what decides when a blob is read again.
type scrubState struct {
	name   string
	doubt  doubt
	at     time.Time // when it was verified
	failed bool      // it could not be read the last time
}

// before tells whether a blob is to be read before another one.
func (b scrubState) before(other scrubState) bool {
	if b.failed != other.failed {
		return other.failed
	}
	return b.doubt > other.doubt || b.doubt == other.doubt && b.at.Before(other.at)
}

// pickToScrub returns the blob to read now, or an empty state and how long there
// is nothing to do.
func pickToScrub(blobs []scrubState, interval time.Duration, now time.Time) (scrubState, time.Duration) {
	var best scrubState
	wait := scrubLook
	for _, b := range blobs {
		if b.doubt == verified {
			due := b.at.Add(interval).Sub(now)
			if interval == 0 {
				continue
			}
			if due > 0 {
				wait = min(wait, due)
				continue
			}
		}
		if best.name == "" || b.before(best) {
			best = b
		}
	}
	return best, wait
}

func (s *Store) nextToScrub(interval time.Duration, failed map[string]bool) (scrubState, time.Duration, error) {
	names, err := s.blobs.names()
	if err != nil {
		return scrubState{}, scrubLook, storageError(err, "list the blobs")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	blobs := make([]scrubState, 0, len(names))
	for _, name := range names {
		st, err := s.blobs.stat(name)
		known, ok := s.verified[name]
		if err != nil || known.wrong || !isBlobName(name) { // a pull deals with what is wrong
			continue
		}
		b := scrubState{name: name, at: known.at, failed: failed[name]}
		switch {
		case !ok:
			b.doubt = unknown
		case known.id != identityOf(st):
			b.doubt = changed
		}
		blobs = append(blobs, b)
	}
	next, wait := pickToScrub(blobs, interval, s.now())
	if next.name == "" {
		s.counts.scrubbedAt.Store(s.now().Unix())
	}
	return next, wait, nil
}

// errWrong: the bytes of a blob are not those that its name says, or cannot be read.
var errWrong = errors.New("the blob is wrong")

// scrubBlob reads a blob and compares its digest. It returns errWrong for a blob
// that is wrong, wherever that one is then; a blob that vanishes is no error.
func (s *Store) scrubBlob(ctx context.Context, name string, buf []byte, rate int64) error {
	sum := sha256.New()
	var id identity
	for at := int64(0); ; {
		began := time.Now()
		n, st, err := s.readPiece(name, buf, at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, errIrregular), unreadable(err):
			return s.foundWrong(name, st, err)
		case err != nil:
			return storageError(err, "scrub")
		}
		if at == 0 {
			id = identityOf(st)
		} else if identityOf(st) != id {
			return nil // the next look sees what it is now
		}
		_, _ = sum.Write(buf[:n]) // a hash never fails to write
		s.counts.scrubbed.Add(uint64(n))
		if at += int64(n); at >= id.size {
			return s.scrubbed(name, st, hex.EncodeToString(sum.Sum(nil)))
		}
		if rate > 0 {
			err = pause(ctx, time.Duration(n)*time.Second/time.Duration(rate)-time.Since(began))
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
}

// readPiece reads a piece of a blob, as far as it goes.
func (s *Store) readPiece(name string, buf []byte, at int64) (n int, st unix.Stat_t, err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	f, st, err := s.openBlob(name, unix.O_DIRECT)
	direct := true
	if errors.Is(err, unix.EINVAL) {
		direct = false
		f, st, err = s.openBlob(name, 0)
	}
	if err != nil {
		st, _ = s.blobs.stat(name)
		return 0, st, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if at == 0 && st.Mode&0o7777 != blobMode {
		if st, err = s.protect(f, st); err != nil {
			return 0, st, err
		}
	}
	want := min(int64(len(buf)), st.Size-at)
	n, err = readPieceOf(f, buf, at, want)
	if err == nil && int64(n) < want {
		err = io.ErrUnexpectedEOF
	}
	if !direct {
		// A hint. It may cost a workload its cache, which is why it is not the first way.
		_ = unix.Fadvise(int(f.Fd()), at, want, unix.FADV_DONTNEED)
	}
	return n, st, err
}

// readPieceOf reads whole buffers, because a direct read must be aligned, and
// returns how much of what is wanted came.
func readPieceOf(f *os.File, buf []byte, at, want int64) (int, error) {
	n := 0
	for int64(n) < want {
		m, err := f.ReadAt(buf[n:], at+int64(n))
		n += m
		if err == io.EOF || err == nil && m == 0 {
			break
		}
		if err != nil {
			return n, err
		}
	}
	return int(min(int64(n), want)), nil
}

// scrubbed takes the digest of a blob that was read to its end.
func (s *Store) scrubbed(name string, st unix.Stat_t, sum string) error {
	if sum != name {
		return s.foundWrong(name, st, fmt.Errorf("its bytes have the digest sha256:%s", sum))
	}
	s.mu.Lock()
	_, known := s.verified[name]
	s.mu.Unlock()
	if !known { // the process that left it may have died before it synced
		f, _, err := s.openBlob(name, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return storageError(err, "sync a blob")
		}
		err = f.Sync()
		_ = f.Close()
		if err != nil { // the next one may succeed and mean nothing
			return s.foundWrong(name, st, fmt.Errorf("it cannot be synced: %w", err))
		}
		if err := s.blobs.sync(); err != nil {
			return storageError(err, "sync the directory of blobs")
		}
	}
	s.remember(name, identityOf(st))
	return nil
}

// foundWrong puts a wrong blob away, if its name still leads to the same file.
func (s *Store) foundWrong(name string, st unix.Stat_t, why error) error {
	now, err := s.blobs.stat(name)
	if err != nil || now.Ino != st.Ino || now.Dev != st.Dev || identityOf(now) != identityOf(st) {
		return nil //nolint:nilerr // somebody was faster; the next look sees what is there now
	}
	if err := s.setAside(name, why.Error()); !errors.Is(err, ErrNotPresent) {
		why = fmt.Errorf("%w, and %w", why, err)
	}
	return fmt.Errorf("%w: %w", errWrong, why)
}
