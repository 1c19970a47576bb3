// Package qcow2 writes valid qcow2 images of pseudo-random data: what the demo and the tests download, made on the spot, always
// the same for the same size and seed, and impossible to compress or deduplicate on the way.
//
// The format is documented in docs/interop/qcow2.rst of QEMU.
package qcow2

import (
	"encoding/binary"
	"fmt"
)

const (
	clusterBits = 16
	clusterSize = 1 << clusterBits
	// An L2 table fills one cluster with 8-byte entries, a refcount block fills one with 2-byte entries.
	l2Entries       = clusterSize / 8
	refcountOrder   = 4 // 2^4 bits a counter
	refcountEntries = clusterSize / 2
	headerLength    = 104
	// copied marks an entry whose cluster has a reference count of exactly one, as all have here.
	copied = 1 << 63
)

// layout counts the clusters of each part of an image; the parts follow each other in the order of the fields.
type layout struct {
	virtualSize    int64
	refcountTable  int64
	refcountBlocks int64
	l1             int64
	l2             int64
	data           int64
}

func newLayout(virtualSize int64) (layout, error) {
	if virtualSize <= 0 || virtualSize%clusterSize != 0 {
		return layout{}, fmt.Errorf("lay out a qcow2 image: size %d is not a positive multiple of %d", virtualSize, clusterSize)
	}
	l := layout{virtualSize: virtualSize, data: virtualSize / clusterSize}
	l.l2 = ceil(l.data, l2Entries)
	l.l1 = ceil(l.l2*8, clusterSize)
	for { // the refcount structures count themselves too
		blocks := ceil(l.clusters(), refcountEntries)
		table := ceil(blocks*8, clusterSize)
		if blocks == l.refcountBlocks && table == l.refcountTable {
			return l, nil
		}
		l.refcountBlocks, l.refcountTable = blocks, table
	}
}

// clusters of the whole file; the header has the first.
func (l layout) clusters() int64 {
	return 1 + l.refcountTable + l.refcountBlocks + l.l1 + l.l2 + l.data
}

func (l layout) refcountTableAt() int64  { return clusterSize }
func (l layout) refcountBlocksAt() int64 { return l.refcountTableAt() + l.refcountTable*clusterSize }
func (l layout) l1At() int64             { return l.refcountBlocksAt() + l.refcountBlocks*clusterSize }
func (l layout) l2At() int64             { return l.l1At() + l.l1*clusterSize }
func (l layout) dataAt() int64           { return l.l2At() + l.l2*clusterSize }

// metadata is everything before the data: 1 MiB for each 4 GiB of image, and half a MiB.
func (l layout) metadata() []byte {
	file := make([]byte, l.dataAt())
	l.header(file)
	for i := range l.refcountBlocks {
		binary.BigEndian.PutUint64(file[l.refcountTableAt()+i*8:], uint64(l.refcountBlocksAt()+i*clusterSize))
	}
	for i := range l.clusters() {
		binary.BigEndian.PutUint16(file[l.refcountBlocksAt()+i*2:], 1)
	}
	for i := range l.l2 {
		binary.BigEndian.PutUint64(file[l.l1At()+i*8:], copied|uint64(l.l2At()+i*clusterSize))
	}
	for i := range l.data {
		binary.BigEndian.PutUint64(file[l.l2At()+i*8:], copied|uint64(l.dataAt()+i*clusterSize))
	}
	return file
}

func (l layout) header(file []byte) {
	copy(file, "QFI\xfb")
	put32 := func(at int, value int64) { binary.BigEndian.PutUint32(file[at:], uint32(value)) }
	put64 := func(at int, value int64) { binary.BigEndian.PutUint64(file[at:], uint64(value)) }
	put32(4, 3) // version
	put32(20, clusterBits)
	put64(24, l.virtualSize)
	put32(36, l.l2) // one L1 entry for each L2 table
	put64(40, l.l1At())
	put64(48, l.refcountTableAt())
	put32(56, l.refcountTable)
	put32(96, refcountOrder)
	put32(100, headerLength)
	// No backing file, no encryption, no snapshots, no features and no header extensions: all zero.
}

func ceil(value, by int64) int64 { return (value + by - 1) / by }
