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
	hashSeconds, hashCPU float64 // openssl dgst -sha256, from the page cache
	diskSeconds, diskCPU float64 // write and fsync
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
	output, err := r.step(ctx, "openssl", "dgst", "-sha256", path)
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

// writeAndSync allocates the file first and keeps the disk busy from the start, as a download can.
func writeAndSync(path string, object origin.Object) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("measure the disk: %w", err)
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, object.Size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("measure the disk: %w", err)
	}
	from, piece := object.Reader(), make([]byte, 4<<20)
	for written := int64(0); err == nil; {
		var n int
		if n, err = io.ReadFull(from, piece); n > 0 {
			_, writeErr := file.Write(piece[:n])
			err = errors.Join(err, writeErr, unix.SyncFileRange(int(file.Fd()), written, int64(n), unix.SYNC_FILE_RANGE_WRITE))
		}
		written += int64(n)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("measure the disk: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("measure the disk: %w", err)
	}
	return nil
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
