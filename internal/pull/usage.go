package pull

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Usage is the room on the store's filesystem and what the store takes of it, in
// bytes. A file counts as the larger of its length and its blocks.
type Usage struct {
	CapacityBytes   int64
	AvailableBytes  int64
	BlobBytes       int64
	ReservedBytes   int64 // of pulls that run or wait to go on
	QuarantineBytes int64
}

// total is what counts against the budget.
func (u Usage) total() int64 { return u.BlobBytes + u.ReservedBytes + u.QuarantineBytes }

// Usage measures the store.
func (s *Store) Usage() (usage Usage, err error) {
	if usage.CapacityBytes, usage.AvailableBytes, err = s.space.measure(); err != nil {
		return usage, err
	}
	if usage.BlobBytes, err = s.blobs.cost(); err == nil {
		usage.QuarantineBytes, err = s.quarantine.cost()
	}
	if err != nil {
		return usage, storageError(err, "measure the store")
	}
	keys, err := s.partial.names()
	if err != nil {
		return usage, storageError(err, "list the partial data")
	}
	for _, key := range keys {
		reserved, _, err := s.partialCost(key)
		if err != nil {
			return usage, err
		}
		usage.ReservedBytes += reserved
	}
	return usage, nil
}

// used is what counts against the budget now, in bytes.
func (s *Store) used() (int64, error) {
	usage, err := s.Usage()
	return usage.total(), err
}

// cost is what a file takes. Reserved and sparse files are as long as they will
// be, compressed ones as long as they may become.
func cost(st unix.Stat_t) int64 {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0
	}
	return max(st.Size, st.Blocks*512)
}

// cost is what all files below d take, in bytes. What vanishes meanwhile counts nothing.
func (d *dir) cost() (total int64, err error) {
	names, err := d.names()
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		bytes, err := d.costOf(name)
		if err != nil {
			return 0, err
		}
		total += bytes
	}
	return total, nil
}

// costOf is what an entry takes, with all that is below it, in bytes. What this
// process may not look into, as a folder that root left, counts as far as it shows.
func (d *dir) costOf(name string) (int64, error) {
	st, err := d.stat(name)
	if hidden(err) {
		return 0, nil
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return cost(st), err
	}
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if hidden(err) {
		return cost(st), nil
	}
	if err != nil {
		return 0, err
	}
	below := &dir{file: f, path: d.join(name)}
	defer func() { _ = below.close() }()
	bytes, err := below.cost()
	if hidden(err) {
		return cost(st), nil
	}
	return bytes, err
}

// hidden reports whether err says that there is nothing, or nothing to be seen.
func hidden(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// partialCost is what an unfinished pull counts against the budget, and what
// removing it would free, in bytes.
func (s *Store) partialCost(key string) (charged, frees int64, err error) {
	all, err := s.partial.costOf(key)
	if err != nil {
		return 0, 0, storageError(err, "measure partial data")
	}
	journal, _ := s.partial.stat(key + "/" + journalFile)
	data, errData := s.partial.stat(key + "/" + dataFile)
	if errData != nil { // published, or never made
		return all, all, nil //nolint:nilerr // what is not there takes no room
	}
	size := cost(data)
	frees = data.Blocks * 512
	if data.Nlink > 1 {
		frees = 0
	}
	return all - cost(journal) + max(cost(journal), charge(size)-size), frees, nil
}
