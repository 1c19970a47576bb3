package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rank is the order in which things give way.
type rank int

const (
	quarantined rank = iota // wrong bytes
	idlePartial             // an unfinished pull that nobody works on
	unusedBlob              // a blob that no image names
)

// candidate is something that the store can do without.
type candidate struct {
	rank  rank
	name  string
	since time.Time // when it was last of use
	cost  int64     // what it counts against the budget, in bytes
	frees int64     // what of the filesystem goes free with it, in bytes
}

// planEviction chooses what gives way to end a shortage: lowest rank first, least
// recently used first, and no more than is needed. When everything together would
// not do, nothing gives way.
func planEviction(candidates []candidate, short shortage) []candidate {
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), a.since.Compare(b.since), strings.Compare(a.name, b.name))
	})
	var chosen []candidate
	for _, c := range candidates {
		if short.fits() {
			break
		}
		if short.budget > 0 && c.cost > 0 || short.free > 0 && c.frees > 0 {
			chosen = append(chosen, c)
			short.free -= c.frees
			short.budget -= c.cost
		}
	}
	if !short.fits() {
		return nil
	}
	return chosen
}

const (
	// roomWait is how long an eviction that was enough may take to show:
	// btrfs and ZFS free what was removed later.
	roomWait = 5 * time.Second
	// roomPoll is how often the store looks meanwhile.
	roomPoll = 250 * time.Millisecond
)

// makeRoom extends a reservation to size bytes, and evicts what it must for that.
func (s *Store) makeRoom(ctx context.Context, r *reservation, size int64) error {
	s.making.Lock()
	defer s.making.Unlock()
	for {
		short, err := r.grow(size)
		if err != nil || short.fits() {
			return err
		}
		candidates, err := s.candidates()
		if err != nil {
			return err
		}
		chosen := planEviction(candidates, short)
		switch s.evict(chosen) {
		case 0:
			return short.error(costOfAll(candidates))
		case len(chosen):
			return s.awaitRoom(ctx, r, size, costOfAll(candidates)-costOfAll(chosen))
		}
	}
}

// awaitRoom extends a reservation to size bytes once what was evicted for it is
// free. Where that does not come in time nothing more is evicted: it may be on its
// way, and the next pull sees it.
func (s *Store) awaitRoom(ctx context.Context, r *reservation, size, removable int64) error {
	for waited := time.Duration(0); ; waited += roomPoll {
		short, err := r.grow(size)
		switch {
		case err != nil || short.fits():
			return err
		case waited == 0:
			_ = unix.Syncfs(s.root.fd()) // has some filesystems free at once
		case waited >= roomWait:
			return short.error(removable)
		}
		if err := pause(ctx, roomPoll); err != nil {
			return err
		}
	}
}

func costOfAll(candidates []candidate) (bytes int64) {
	for _, c := range candidates {
		bytes += c.cost
	}
	return bytes
}

// evict removes what was chosen, and returns how much of it went.
func (s *Store) evict(chosen []candidate) (went int) {
	for _, c := range chosen {
		gone := false
		var err error
		switch c.rank {
		case quarantined:
			err = errors.Join(s.quarantine.remove(c.name), s.quarantine.sync())
			gone = err == nil
		case idlePartial:
			var freed int64
			freed, err = s.discardPartial(c.name, time.Time{})
			gone = freed > 0
		case unusedBlob:
			gone, err = s.evictBlob(c.name)
		}
		if err != nil {
			s.log.Warn("it could not be evicted", "name", c.name, "error", err)
			continue
		}
		if gone {
			went++
		}
	}
	return went
}

// candidates returns what may be evicted now.
func (s *Store) candidates() (all []candidate, err error) {
	names, err := s.quarantine.names()
	if err != nil {
		return nil, storageError(err, "list the quarantine")
	}
	for _, name := range names {
		st, _ := s.quarantine.stat(name)
		bytes, err := s.quarantine.costOf(name)
		if err != nil {
			s.log.Warn("what is in quarantine cannot be measured", "name", name, "error", err)
			continue
		}
		c := candidate{rank: quarantined, name: name, since: time.Unix(st.Ctim.Unix()), cost: bytes, frees: bytes}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
			c.frees = 0
		}
		all = append(all, c)
	}
	if names, err = s.partial.names(); err != nil {
		return nil, storageError(err, "list the partial data")
	}
	for _, name := range names {
		unlock := s.keys.tryLock(name)
		if unlock == nil {
			continue
		}
		c := candidate{rank: idlePartial, name: name}
		c.since, _, _ = s.lookAtPartial(name) // what cannot be looked at goes first
		c.cost, c.frees, err = s.partialCost(name)
		unlock()
		if err != nil {
			s.log.Warn("an unfinished pull cannot be measured", "key", name, "error", err)
			continue
		}
		all = append(all, c)
	}
	return s.unusedBlobs(all)
}

// unusedBlobs appends the blobs that may be evicted now.
func (s *Store) unusedBlobs(all []candidate) ([]candidate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.noteUnused(); err != nil {
		return nil, err
	}
	for name, since := range s.since {
		if s.now().Sub(since) < unusedGrace || s.isKept(name) {
			continue
		}
		unlock := s.keys.tryLock(name)
		if unlock == nil { // a pull or an adoption is about to name it
			continue
		}
		st, err := s.blobs.stat(name)
		if err == nil && s.blobIsFree(name, nil) == nil {
			all = append(all, candidate{rank: unusedBlob, name: name, since: since, cost: cost(st), frees: st.Blocks * 512})
		}
		unlock()
	}
	return all, nil
}

// errInUse: the store can not do without a blob.
var errInUse = errors.New("it is in use")

// blobIsFree calls do, unless that is nil, while the blob is in nobody's use, and
// keeps others from locking it meanwhile. What is no file of this store is free.
func (s *Store) blobIsFree(name string, do func() error) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	f, _, err := s.blobs.openFile(name, 0)
	switch {
	case errors.Is(err, errIrregular):
	case err != nil:
		return err
	default:
		defer func() { _ = f.Close() }()
		if why := inUse(f); why != "" {
			return fmt.Errorf("%w: %s", errInUse, why)
		}
	}
	if do == nil {
		return nil
	}
	return do()
}

// evictBlob deletes an unused blob, if that is still what it is.
func (s *Store) evictBlob(name string) (bool, error) {
	unlock := s.keys.tryLock(name)
	if unlock == nil {
		return false, nil
	}
	defer unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.noteUnused(); err != nil {
		return false, err
	}
	since, unused := s.since[name]
	if !unused || s.isKept(name) || s.now().Sub(since) < unusedGrace {
		return false, nil
	}
	st, err := s.blobs.stat(name)
	if err != nil {
		return false, storageError(err, "look at an unused blob")
	}
	if err := s.blobIsFree(name, func() error { return s.deleteBlob(name) }); err != nil {
		if errors.Is(err, errInUse) {
			err = nil
		}
		return false, err
	}
	s.counts.evicted.Add(1)
	s.log.Info("an unused blob was evicted", "blob", name, "bytes", st.Size, "unusedSince", since)
	return true, nil
}
