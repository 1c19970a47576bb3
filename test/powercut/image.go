package powercut

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
)

// The grains in which a write may be lost in part, in bytes.
const (
	chunkSize  = 64 << 10 // and in which images share what they have in common
	blockSize  = 4096
	sectorSize = 512
)

// image is the content and mode of an inode. Chunks never change, so that copies
// of an image cost nothing; nil is zeros.
type image struct {
	size   int64
	chunks []*chunk
	mode   uint32
}

// chunk is chunkSize bytes.
type chunk struct {
	data []byte
	sum  func() uint64
}

var (
	sumSeed = maphash.MakeSeed()
	// stale is what a block that was never written may hold: what was deleted before.
	stale = newChunk(bytes.Repeat([]byte{0xdb}, chunkSize))
)

func newChunk(p []byte) *chunk {
	return &chunk{p, sync.OnceValue(func() uint64 { return maphash.Bytes(sumSeed, p) })}
}

// clone returns an image that can be changed without changing i.
func (i *image) clone() image { return image{i.size, slices.Clone(i.chunks), i.mode} }

// grow makes the image at least size bytes, with zeros.
func (i *image) grow(size int64) {
	i.size = max(i.size, size)
	for int64(len(i.chunks))*chunkSize < i.size {
		i.chunks = append(i.chunks, nil)
	}
}

// cut makes the image at most size bytes.
func (i *image) cut(size int64) {
	if size >= i.size {
		return
	}
	i.size = size
	i.chunks = i.chunks[:(size+chunkSize-1)/chunkSize]
	if rest := size % chunkSize; rest != 0 && i.chunks[size/chunkSize] != nil {
		p := make([]byte, chunkSize)
		copy(p, i.chunks[size/chunkSize].data[:rest])
		i.chunks[size/chunkSize] = newChunk(p)
	}
}

// pieces calls do with the part of p that falls into each chunk.
func pieces(p []byte, offset int64, do func(chunk int, at int64, piece []byte)) {
	for len(p) > 0 {
		at := offset % chunkSize
		n := min(chunkSize-at, int64(len(p)))
		do(int(offset/chunkSize), at, p[:n:n])
		offset, p = offset+n, p[n:]
	}
}

// write puts bytes in, and keeps p where it is whole chunks.
func (i *image) write(p []byte, offset int64) {
	i.grow(offset + int64(len(p)))
	pieces(p, offset, func(c int, at int64, piece []byte) {
		if len(piece) < chunkSize {
			whole := make([]byte, chunkSize)
			if i.chunks[c] != nil {
				copy(whole, i.chunks[c].data)
			}
			copy(whole[at:], piece)
			piece = whole
		}
		i.chunks[c] = newChunk(piece)
	})
}

// read returns how many bytes it read; fewer than len(p) only at the end.
func (i *image) read(p []byte, offset int64) int {
	p = p[:max(0, min(int64(len(p)), i.size-offset))]
	pieces(p, offset, func(c int, at int64, piece []byte) {
		if i.chunks[c] == nil {
			clear(piece)
			return
		}
		copy(piece, i.chunks[c].data[at:])
	})
	return len(p)
}

// bytes returns all of the image.
func (i *image) bytes() []byte {
	p := make([]byte, i.size)
	i.read(p, 0)
	return p
}

// sums returns a hash of every chunk; 0 for zeros that nobody wrote.
func (i *image) sums() []uint64 {
	sums := make([]uint64, len(i.chunks))
	for n, c := range i.chunks {
		if c != nil {
			sums[n] = c.sum()
		}
	}
	return sums
}

// apply makes a change.
func (i *image) apply(c change) {
	switch c.kind {
	case Write:
		i.write(c.data, c.offset)
	case Truncate:
		i.cut(c.size)
		i.grow(c.size)
	case Allocate:
		i.grow(c.offset + c.size)
	case Chmod:
		i.mode = c.mode
	default:
		panic("no change of a file: " + string(c.kind))
	}
}

// suffer makes a change as far as its fate leaves it.
func (i *image) suffer(c change, fate Fate, random *rand.Rand) {
	switch {
	case fate == Lost:
	case fate == Kept || c.kind != Write:
		i.apply(c)
	default:
		i.grow(c.offset + int64(len(c.data)))
		if fate == Empty {
			return
		}
		pieces(c.data, c.offset, func(n int, at int64, piece []byte) {
			switch {
			case fate == Torn:
				i.tear(piece, int64(n)*chunkSize+at, random)
			case i.chunks[n] == nil:
				i.chunks[n] = stale
			}
		})
	}
}

// tear writes a piece, or nothing of it, or some of its blocks and of one of them
// only the first sectors.
func (i *image) tear(piece []byte, offset int64, random *rand.Rand) {
	switch random.IntN(3) {
	case 0:
		return
	case 1:
		i.write(piece, offset)
		return
	}
	p := make([]byte, len(piece))
	i.read(p, offset)
	for at := 0; at < len(piece); at += blockSize {
		if random.IntN(2) == 0 {
			copy(p[at:], piece[at:min(at+blockSize, len(piece))])
		}
	}
	at := random.IntN((len(piece)+blockSize-1)/blockSize) * blockSize
	copy(p[at:], piece[at:min(at+sectorSize*(1+random.IntN(blockSize/sectorSize-1)), len(piece))])
	i.write(p, offset)
}
