package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"time"

	"golang.org/x/sync/errgroup"
)

// hashBuffers is how many units are on their way from the disk to the hasher.
const hashBuffers = 2

// hash follows the frontier: it reads the file itself back while the rest is
// still downloading, so that what is verified is what the disk was given. It
// returns the SHA-256 in hex. One goroutine reads and one hashes, because a hash
// is a sequence, and nothing but the hash itself should be part of it.
func (t *transfer) hash(ctx context.Context) (string, error) {
	group, ctx := errgroup.WithContext(ctx)
	free, full := make(chan []byte, hashBuffers), make(chan []byte, hashBuffers)
	for range hashBuffers {
		free <- make([]byte, unitSize)
	}
	sum := sha256.New()
	group.Go(func() error {
		defer close(full)
		return t.readBack(ctx, free, full)
	})
	group.Go(func() error {
		at := int64(0)
		for unit := range full {
			began := time.Now()
			_, _ = sum.Write(unit) // a hash never fails to write
			at += int64(len(unit))
			t.hashing.Add(int64(time.Since(began)))
			t.sched.setHashed(at)
			t.flush.hashedTo(at)
			free <- unit[:unitSize]
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// readBack sends the units of the file on, in order and as soon as they are
// whole and right.
func (t *transfer) readBack(ctx context.Context, free <-chan []byte, full chan<- []byte) error {
	buf := <-free
	for at := int64(0); ; {
		frontier, complete, err := t.sched.whole(ctx, at)
		if err != nil {
			return err
		}
		for at < frontier {
			unit := buf[:min(unitSize, frontier-at)]
			right, err := t.readUnit(unit, at)
			if err != nil {
				return err
			}
			if !right { // it is fetched again
				complete = false
				break
			}
			at += int64(len(unit))
			full <- unit
			select {
			case buf = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if complete {
			return nil
		}
	}
}

// readUnit fills a buffer with a unit of the file, and compares its checksum with
// that of the bytes as they arrived: a hole, a misplaced or a torn write shows at
// once, digest or not. It is false where an earlier pull's bytes have changed.
func (t *transfer) readUnit(unit []byte, at int64) (right bool, err error) {
	if n, err := t.work.file.ReadAt(unit, at); n < len(unit) {
		return false, storageError(err, "read byte %d back", at+int64(n))
	}
	switch t.sched.verify(int(at/unitSize), crc32.Checksum(unit, castagnoli)) {
	case unitAgain:
		return false, nil
	case unitBroken:
		return false, fail(StorageError, "the disk returns other bytes than were written between %d and %d: check the disk", at, at+int64(len(unit)))
	default:
		return true, nil
	}
}
