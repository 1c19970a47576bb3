package qcow2

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// Summary is what a writer of an image knows about it.
type Summary struct {
	// SizeBytes is the size of the file: the virtual size and some metadata.
	SizeBytes int64
	// Digest is that of the file, like sha256:<64 hex>.
	Digest string
}

// Write streams an image whose every cluster is allocated. virtualSize, in bytes, must be a multiple of 64 KiB. The same size and
// seed give the same bytes on every machine and with every Go version: ChaCha8 is specified.
func Write(w io.Writer, virtualSize int64, seed uint64) (Summary, error) {
	l, err := newLayout(virtualSize)
	if err != nil {
		return Summary{}, err
	}
	hash := sha256.New()
	both := io.MultiWriter(w, hash)
	if _, err := both.Write(l.metadata()); err != nil {
		return Summary{}, fmt.Errorf("write the metadata of a qcow2 image: %w", err)
	}
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	random := rand.NewChaCha8(key)
	buffer := make([]byte, 4*clusterSize)
	for left := virtualSize; left > 0; {
		piece := buffer[:min(left, int64(len(buffer)))]
		_, _ = random.Read(piece) // it is documented to fill the buffer and never to fail
		if _, err := both.Write(piece); err != nil {
			return Summary{}, fmt.Errorf("write the data of a qcow2 image: %w", err)
		}
		left -= int64(len(piece))
	}
	return Summary{SizeBytes: l.clusters() * clusterSize, Digest: "sha256:" + hex.EncodeToString(hash.Sum(nil))}, nil
}

// WriteFile writes an image into a new file.
func WriteFile(path string, virtualSize int64, seed uint64) (Summary, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return Summary{}, fmt.Errorf("create a qcow2 image: %w", err)
	}
	summary, err := Write(file, virtualSize, seed)
	if closeErr := file.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close a qcow2 image: %w", closeErr)
	}
	return summary, err
}
