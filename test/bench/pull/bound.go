package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/origin"
)

// machine is what the disk and the hash of this machine take for the whole object.
type machine struct {
	hashSeconds, hashCPU float64 // openssl dgst -sha256, from memory
	diskSeconds, diskCPU float64 // write past the page cache, and fsync
}

// measureMachine writes the object to the disk once and hashes it once.
func (b *bench) measureMachine(ctx context.Context) (m machine, err error) {
	dir, err := os.MkdirTemp(b.base, "disk-")
	if err != nil {
		return m, fmt.Errorf("measure the disk: %w", err)
	}
	defer func() { err = errors.Join(err, b.clean(dir)) }()
	path := filepath.Join(dir, "out")
	began, cpu := time.Now(), ownCPU()
	object := b.object(scenario{})
	if err := writeAndSync(path, object); err != nil {
		return m, err
	}
	m.diskSeconds, m.diskCPU = time.Since(began).Seconds(), ownCPU()-cpu
	r := &runner{job: job{dir: dir}}
	began = time.Now()
	output, err := r.step(ctx, "openssl", "dgst", "-sha256", object.Path())
	if err != nil {
		return m, fmt.Errorf("measure the hash: %w", err)
	}
	m.hashSeconds, m.hashCPU = time.Since(began).Seconds(), r.usage.CPUSeconds
	return m, checkDigest(output, object.Digest)
}

// scale tells what a part of the object takes.
func (m machine) scale(part float64) machine {
	return machine{hashSeconds: part * m.hashSeconds, hashCPU: part * m.hashCPU, diskSeconds: part * m.diskSeconds, diskCPU: part * m.diskCPU}
}

// writeAndSync allocates the file first, and writes past the page cache: the bound
// is what the disk takes, and not what it costs to find memory for a cache.
func writeAndSync(path string, object origin.Object) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("measure the disk: %w", err)
		}
	}()
	const pieceSize = 4 << 20
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) { // there is no such thing here
		file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, object.Size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	// A mapping begins where a page does, as such writes have to.
	piece, err := unix.Mmap(-1, 0, pieceSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(piece)) }()
	from := object.Reader()
	for written := int64(0); written < object.Size; written += pieceSize {
		// The last piece is written whole: sizes are multiples of a page, not of a piece.
		if _, err := io.ReadFull(from, piece); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if _, err := file.Write(piece); err != nil {
			return err
		}
	}
	return errors.Join(file.Truncate(object.Size), file.Sync())
}

// terms are the parts of the bound, in seconds: T* = setUp + max(the others).
type terms struct {
	setUp, network, lines, hash, disk, cpu float64
}

// bound is the least time that any tool can need.
func (t terms) bound() float64 {
	return t.setUp + max(t.network, t.lines, t.hash, t.disk, t.cpu)
}

// newTerms puts one round's measurements together: free is the network without a limit, limited the scenario's.
func newTerms(size int64, free, limited line, m machine) terms {
	return terms{
		setUp: limited.setUp, network: float64(size) / free.bytesPerSecond, lines: float64(size) / limited.bytesPerSecond,
		hash: m.hashSeconds, disk: m.diskSeconds,
		cpu: (float64(size)*limited.cpuPerByte + m.hashCPU + m.diskCPU) / float64(runtime.NumCPU()),
	}
}

// medianTerms takes the median of each term.
func medianTerms(all []terms) terms {
	of := func(get func(terms) float64) float64 {
		values := make([]float64, len(all))
		for i, t := range all {
			values[i] = get(t)
		}
		return median(values)
	}
	return terms{
		setUp: of(func(t terms) float64 { return t.setUp }), network: of(func(t terms) float64 { return t.network }),
		lines: of(func(t terms) float64 { return t.lines }), hash: of(func(t terms) float64 { return t.hash }),
		disk: of(func(t terms) float64 { return t.disk }), cpu: of(func(t terms) float64 { return t.cpu }),
	}
}
