package pull

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// storeLayout is the first line of STORE; another layout is another number.
	storeLayout = "cloudimage-store 1"
	storeFile   = "STORE"
	dataFile    = "data"
	tempPrefix  = ".tmp-"
)

// OpenOptions say how a store is opened.
type OpenOptions struct {
	// Wait until another process lets go of the store, instead of StoreBusy.
	Wait bool
	// Waiting is told why Open still waits, from 10 s on and every 10 s: an error of
	// reason StoreBusy that names the other process if it is known. Nil tells nobody.
	Waiting func(error)
	// Logger receives retries, restarts and quarantined blobs; nil is silence.
	Logger *slog.Logger
	// MaxBytesPerSecond over all pulls of the store; 0 is no limit.
	MaxBytesPerSecond int64
	// MaxConnections over all pulls of the store, and MaxConnectionsPerHost of
	// them to one origin; 0 is no limit. Pulls share them equally.
	MaxConnections        int
	MaxConnectionsPerHost int
	// CheckpointBytes is how much may be committed before the journal vouches for
	// it, which is what a kill costs; 0 is a 64th of the object, at least 16 and at
	// most 256 MiB.
	CheckpointBytes int64
	// Limits of the room that the store takes.
	Limits Limits
	// Random returns a number in [0,1) for jitter; nil is math/rand.
	Random func() float64
}

// Store is a directory of verified blobs, held by this process alone. Its
// methods are safe for concurrent use.
//
//	STORE                 layout version and store id
//	LOCK                  mode 0600; flock: one process a store
//	blobs/sha256/<hex>    mode 0444, immutable; the name is the digest of the bytes
//	images/<name>         relative symlink to a blob, replaced atomically
//	partial/<key>/data    one pull, running or waiting to go on
//	partial/<key>/journal what of it is on stable storage
//	quarantine/           blobs that were found wrong
//	unused/<hex>          empty; its mtime is when the last image let go of a blob
type Store struct {
	root, blobs, images, partial, quarantine, unused *dir

	id string // of STORE
	// unseenWrites: the filesystem does not show every write in a file's times, so
	// a blob is hashed each time that it is asked for.
	unseenWrites bool

	lock   *os.File
	log    *slog.Logger
	random func() float64
	now    func() time.Time
	counts counts
	space  *space
	budget connectionBudget
	keys   keyedLock

	limiter *rate.Limiter // over all pulls; nil: no limit
	// checkpointInterval returns how many bytes of an object of total bytes may be
	// committed before the journal has to vouch for them.
	checkpointInterval func(total int64) int64
	checkpointRest     int

	// delay is the wait before a retry, and endurance how long a source may fail;
	// tests shorten them.
	delay     func(attempt int, wish time.Duration) time.Duration
	endurance time.Duration
	// step is told after each step that leaves another state on disk; it does
	// nothing, but in tests that stop the process there.
	step func(name string)

	// patience is how long a lease must still take for another connection to
	// help it, suspicion how long a connection must be slow to be replaced; tests
	// change them.
	patience, suspicion time.Duration

	// making is held while room is made for one pull, so that no other takes it.
	making sync.Mutex
	// reading is held while the scrub has a blob open, which would look like use.
	reading sync.Mutex

	// mu makes one step of: see what is there, then link or remove it.
	mu       sync.Mutex
	verified map[string]verification // blobs that this process hashed
	since    map[string]time.Time    // when blobs lost their last image

	// kept are blobs that are not evicted although no image names them.
	kept atomic.Pointer[map[string]bool]
}

// Open opens the store at path, making it when the directory is missing or
// empty. Unfinished pulls that a journal vouches for are kept, and everything
// else that killed processes left is discarded. Errors are of reason StoreBusy or
// StorageError, or the context's.
func Open(ctx context.Context, path string, options OpenOptions) (*Store, error) {
	s := &Store{
		log: options.Logger, random: options.Random, now: time.Now, step: func(string) {},
		verified: map[string]verification{}, since: map[string]time.Time{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.random == nil {
		s.random = mathrand.Float64
	}
	s.budget.perNode, s.budget.perHost = options.MaxConnections, options.MaxConnectionsPerHost
	if options.MaxBytesPerSecond > 0 {
		s.limiter = newLimiter(options.MaxBytesPerSecond)
	}
	s.patience, s.suspicion, s.endurance = stealTime, meterWindow, outagePatience
	s.checkpointInterval, s.checkpointRest = checkpointInterval, checkpointRest
	if options.CheckpointBytes > 0 {
		s.checkpointInterval, s.checkpointRest = func(int64) int64 { return options.CheckpointBytes }, 0
	}
	s.delay = func(attempt int, wish time.Duration) time.Duration { return backoff(attempt, wish, s.random()) }
	if err := s.open(ctx, path, options); err != nil {
		_ = s.Close()
		if _, ok := errors.AsType[*Error](err); ok || ctx.Err() != nil {
			return nil, err
		}
		return nil, storageError(err, "open the store")
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string, options OpenOptions) (err error) {
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := makeAll(path); err != nil {
		return err
	}
	if s.root, err = openRoot(path); err != nil {
		return err
	}
	if err := s.acquire(ctx, options); err != nil {
		return err
	}
	if err := s.identify(); err != nil {
		return err
	}
	if err := s.openDirs(); err != nil {
		return err
	}
	if err := s.lookAtFilesystem(); err != nil {
		return err
	}
	s.space = &space{limits: options.Limits, used: s.used, measure: s.root.measure}
	return s.sweep()
}

// identify reads STORE, or writes it when the directory holds nothing else.
func (s *Store) identify() error {
	// A power cut may have left both of its names, and two are one too many.
	if _, err := s.root.stat(storeFile); err == nil {
		if err := s.root.remove(storeFile + tempPrefix); err != nil {
			return err
		}
	}
	f, _, err := s.root.openFile(storeFile, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return s.initialize()
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return err
	}
	layout, id, _ := strings.Cut(string(text), "\n")
	if layout != storeLayout {
		return fail(StorageError, "%s says %.40q, this program reads %q: use the version that made the store, or another directory",
			f.Name(), layout, storeLayout)
	}
	s.id = id
	return nil
}

// lookAtFilesystem says what the filesystem cannot promise.
func (s *Store) lookAtFilesystem() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(s.root.fd(), &fs); err != nil {
		return err
	}
	if s.unseenWrites = hidesWrites(fs); s.unseenWrites {
		s.log.Warn("the store is on a filesystem in memory, which hides some changes of files: each blob is hashed again whenever an image asks for it, what changes in between is found by the scrub only, and a power cut takes everything",
			"path", s.root.path)
	}
	return nil
}

func (s *Store) initialize() error {
	names, err := s.root.names()
	if err != nil {
		return err
	}
	if err := checkNames(s.root.path, names); err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	s.id = "id " + hex.EncodeToString(id[:]) + "\n"
	text := storeLayout + "\n" + s.id
	if err := s.root.remove(storeFile + tempPrefix); err != nil {
		return err
	}
	f, err := s.root.open(storeFile+tempPrefix, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.root.moveNew(s.root, storeFile+tempPrefix, storeFile); err != nil {
		return err
	}
	return s.root.sync()
}

func (s *Store) openDirs() (err error) {
	parent, err := s.root.subdir("blobs")
	if err != nil {
		return err
	}
	defer func() { _ = parent.close() }()
	if s.blobs, err = parent.subdir("sha256"); err != nil {
		return err
	}
	if s.images, err = s.root.subdir("images"); err != nil {
		return err
	}
	if s.partial, err = s.root.subdir("partial"); err != nil {
		return err
	}
	if s.quarantine, err = s.root.subdir("quarantine"); err != nil {
		return err
	}
	s.unused, err = s.root.subdir("unused")
	return err
}

// sweep removes what earlier processes left unfinished and no journal vouches
// for. It writes to no data, because a power cut may have left a partial's name
// on the inode of a published blob.
func (s *Store) sweep() error {
	partials, err := s.partial.names()
	if err != nil {
		return err
	}
	for _, name := range partials {
		if l, err := s.leftover(name); err == nil {
			if err := l.work.close(); err != nil {
				return err
			}
			continue
		}
		if err := s.partial.remove(name); err != nil { // one of root's, perhaps: only its own pull needs it gone
			s.log.Warn("what an unfinished pull left cannot be removed", "key", name, "error", err)
		}
	}
	images, err := s.images.names()
	if err != nil {
		return err
	}
	for _, name := range images {
		if !strings.HasPrefix(name, tempPrefix) {
			continue
		}
		if err := s.images.remove(name); err != nil {
			return err
		}
	}
	return s.noteUnused()
}

// Close lets go of the store. Pulls must have ended.
func (s *Store) Close() error {
	var errs []error
	for _, d := range []*dir{s.unused, s.quarantine, s.partial, s.images, s.blobs, s.root} {
		if d != nil {
			errs = append(errs, d.close())
		}
	}
	if s.lock != nil {
		// Closing alone would leave the flock to a child that is being started, which
		// has a copy of every descriptor until it runs its program.
		_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
