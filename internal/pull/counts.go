package pull

import (
	"sync/atomic"
	"time"
)

// counts are what the store did since it was opened.
type counts struct {
	scrubbed   atomic.Uint64 // bytes
	corrupt    atomic.Uint64 // blobs
	evicted    atomic.Uint64 // blobs
	scrubbedAt atomic.Int64  // seconds since 1970
}

// Totals are what the store did since it was opened.
type Totals struct {
	// ScrubbedBytes were read again, CorruptBlobs found wrong, EvictedBlobs deleted
	// to make room.
	ScrubbedBytes, CorruptBlobs, EvictedBlobs uint64
	// Scrubbed is when every blob had been verified within the interval of the
	// scrub; the zero time before that.
	Scrubbed time.Time
}

// Totals returns what the store did since it was opened.
func (s *Store) Totals() Totals {
	t := Totals{ScrubbedBytes: s.counts.scrubbed.Load(), CorruptBlobs: s.counts.corrupt.Load(), EvictedBlobs: s.counts.evicted.Load()}
	if at := s.counts.scrubbedAt.Load(); at > 0 {
		t.Scrubbed = time.Unix(at, 0)
	}
	return t
}
