package origin

import (
	"crypto/sha256"
	"encoding/hex"
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
func NewObject(size int64, seed byte) (Object, error) {
	fd, err := unix.MemfdCreate("bench-object", unix.MFD_CLOEXEC)
	if err != nil {
		return Object{}, fmt.Errorf("make an object: %w", err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	o := Object{Size: size, file: os.NewFile(uintptr(fd), path), path: path, modified: time.Now().Truncate(time.Second)}
	hash := sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
	if _, err := io.CopyBuffer(io.MultiWriter(struct{ io.Writer }{o.file}, hash), source, make([]byte, 1<<20)); err != nil {
		return Object{}, fmt.Errorf("make an object of %d bytes: %w", size, err)
	}
	o.Digest = hex.EncodeToString(hash.Sum(nil))
	return o, nil
}

// Reader reads the bytes from the start.
func (o Object) Reader() io.Reader { return io.NewSectionReader(o.file, 0, o.Size) }

// Close frees the memory.
func (o Object) Close() error { return o.file.Close() }

// silent drops what net/http says of clients that went away.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }
