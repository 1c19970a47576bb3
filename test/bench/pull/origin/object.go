package origin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Object is a file in memory, so that reading it costs no disk and it is gone with the process.
type Object struct {
	Size int64
	// Digest is the SHA-256 in hexadecimal.
	Digest string

	file     *os.File
	path     string
	modified time.Time
}

// NewObject makes size bytes that do not compress; the same seed makes the same bytes.
func NewObject(ctx context.Context, size int64, seed byte) (Object, error) {
	fd, err := unix.MemfdCreate("bench-object", unix.MFD_CLOEXEC)
	if err != nil {
		return Object{}, fmt.Errorf("make an object: %w", err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	o := Object{Size: size, file: os.NewFile(uintptr(fd), path), path: path, modified: time.Now().Truncate(time.Second)}
	hash := sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
	to := io.MultiWriter(struct{ io.Writer }{o.file}, hash, cancelled{ctx})
	if _, err := io.CopyBuffer(to, source, make([]byte, 1<<20)); err != nil {
		return Object{}, errors.Join(fmt.Errorf("make an object of %d bytes: %w", size, err), o.file.Close())
	}
	o.Digest = hex.EncodeToString(hash.Sum(nil))
	return o, nil
}

// cancelled fails every write once its context has ended.
type cancelled struct{ ctx context.Context } //nolint:containedctx // io.Writer has none

func (c cancelled) Write(data []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return len(data), nil
}

// Reader reads the bytes from the start.
func (o Object) Reader() io.Reader { return io.NewSectionReader(o.file, 0, o.Size) }

// Path is where other programs find the object while this one runs.
func (o Object) Path() string { return o.path }

// Close frees the memory.
func (o Object) Close() error {
	if o.file == nil {
		return nil // it was never made
	}
	return o.file.Close()
}

// silent drops what net/http says of clients that went away.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }
