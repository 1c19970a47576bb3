package pulltest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"sync"
	"weak"
)

// Bytes wraps bytes as an object.
func Bytes(p []byte) Content { return bytes.NewReader(p) }

// Random returns an object of size random bytes, always the same for a seed. It
// passes for a raw disk. Tests that run at the same time share its memory: hundreds of
// objects of some 40 MiB would be gigabytes.
func Random(seed uint64, size int) Content {
	key := randomKey{seed, size}
	shared.Lock()
	defer shared.Unlock()
	if known := shared.objects[key].Value(); known != nil {
		return known
	}
	object := &random{Reader: bytes.NewReader(RandomBytes(seed, size))}
	object.digest = sync.OnceValue(func() string { return digestOf(object.Reader) })
	shared.objects[key] = weak.Make(object)
	return object
}

type randomKey struct {
	seed uint64
	size int
}

// random is an object whose digest is computed once.
type random struct {
	*bytes.Reader
	digest func() string
}

// shared are the objects that some test still uses.
var shared = struct {
	sync.Mutex
	objects map[randomKey]weak.Pointer[random]
}{objects: map[randomKey]weak.Pointer[random]{}}

// RandomBytes returns the bytes of Random.
func RandomBytes(seed uint64, size int) []byte {
	p := make([]byte, size)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails, by its documentation
	return p
}

// Qcow2 returns the bytes of a qcow2 image of size bytes, at least 256 KiB, whose guest
// sees an empty disk of virtual bytes: the header of version 3, tables, and random
// clusters behind them.
func Qcow2(seed uint64, size int, virtual uint64) []byte {
	p := RandomBytes(seed, size)
	header := p[:4<<16] // and the tables
	clear(header)
	copy(header, "QFI\xfb")
	big := binary.BigEndian
	big.PutUint32(header[4:], 3)                          // version
	big.PutUint32(header[20:], 16)                        // cluster bits
	big.PutUint64(header[24:], virtual)                   // virtual size
	big.PutUint32(header[36:], uint32((virtual-1)>>29+1)) // L1 entries: one for each 512 MiB
	big.PutUint64(header[40:], 3<<16)                     // L1 table
	big.PutUint64(header[48:], 1<<16)                     // refcount table
	big.PutUint32(header[56:], 1)                         // its clusters
	big.PutUint32(header[96:], 4)                         // refcount order
	big.PutUint32(header[100:], 104)                      // header length
	big.PutUint64(header[1<<16:], 2<<16)                  // the one refcount block
	return p
}

// Digest returns the digest of an object, "sha256:<hex>".
func Digest(c Content) string {
	if known, ok := c.(*random); ok {
		return known.digest()
	}
	return digestOf(c)
}

func digestOf(c Content) string {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(c, 0, c.Size())); err != nil {
		panic(err) // content in memory cannot fail to be read
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Generated is an object of any size that takes no memory: every eight bytes are
// a hash of their position.
type Generated int64

// Size returns the size in bytes.
func (g Generated) Size() int64 { return int64(g) }

// ReadAt implements io.ReaderAt.
func (g Generated) ReadAt(p []byte, offset int64) (int, error) {
	n := int(min(int64(len(p)), int64(g)-offset))
	if n <= 0 {
		return 0, io.EOF
	}
	var word [8]byte
	for i := 0; i < n; {
		at := offset + int64(i)
		binary.LittleEndian.PutUint64(word[:], mix(uint64(at/8)))
		i += copy(p[i:n], word[at%8:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Repeated is an object of any size made of one block of bytes, again and again:
// the cheapest to send.
func Repeated(block []byte, size int64) Content { return repeated{block, size} }

type repeated struct {
	block []byte
	size  int64
}

// Size returns the size in bytes.
func (r repeated) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r repeated) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) && offset < r.size {
		from := offset % int64(len(r.block))
		end := min(int64(len(r.block)), from+r.size-offset)
		got := copy(p[n:], r.block[from:end])
		n, offset = n+got, offset+int64(got)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
