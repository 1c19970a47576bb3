package diskimage

import (
	"encoding/binary"
	"hash/crc32"
)

const gib = 1 << 30

// change alters the bytes of an image.
type change func([]byte)

func put16(at int, v uint16) change { return func(p []byte) { binary.BigEndian.PutUint16(p[at:], v) } }
func put32(at int, v uint32) change { return func(p []byte) { binary.BigEndian.PutUint32(p[at:], v) } }
func put64(at int, v uint64) change { return func(p []byte) { binary.BigEndian.PutUint64(p[at:], v) } }
func puts(at int, s string) change  { return func(p []byte) { copy(p[at:], s) } }

// Where the clusters of smallQcow2 are.
const (
	cluster   = 512
	refTable  = 1 * cluster
	refBlock  = 2 * cluster
	l1Table   = 3 * cluster
	l2Table   = 4 * cluster
	dataAt    = 5 * cluster
	smallSize = 7 * cluster
)

// smallQcow2 returns a whole qcow2 image of version 3 with clusters of 512 bytes, two
// of which hold data of a disk of 64 KiB, with changes made to it.
func smallQcow2(changes ...change) []byte {
	p := make([]byte, smallSize)
	for _, set := range []change{
		puts(0, qcowMagic), put32(4, 3), put32(20, 9), put64(24, 64<<10), put32(36, 2), put64(40, l1Table),
		put64(48, refTable), put32(56, 1), put32(96, 4), put32(100, 112),
		put64(refTable, refBlock), put64(l1Table, 1<<63|l2Table), put64(l2Table, 1<<63|dataAt), put64(l2Table+8, 1<<63|(dataAt+cluster)),
		puts(dataAt, "data"),
	} {
		set(p)
	}
	for at := refBlock; at < refBlock+14; at += 2 {
		put16(at, 1)(p)
	}
	for _, set := range changes {
		set(p)
	}
	return p
}

// qcow2Head returns the first HeadSize bytes of a qcow2 image with clusters of 64 KiB
// and a disk of 10 GiB, with changes made to them.
func qcow2Head(changes ...change) []byte {
	p := make([]byte, HeadSize)
	for _, set := range []change{
		puts(0, qcowMagic), put32(4, 3), put32(20, 16), put64(24, 10*gib), put32(36, 20), put64(40, 3<<16),
		put64(48, 1<<16), put32(56, 1), put32(96, 4), put32(100, 112),
	} {
		set(p)
	}
	for _, set := range changes {
		set(p)
	}
	return p
}

// binaryHead returns the first bytes of a raw disk, with text at a place in them.
func binaryHead(at int, text string) []byte {
	p := make([]byte, HeadSize)
	for i := range p {
		p[i] = byte(i * 7)
	}
	copy(p[at:], text)
	return p
}

// gptDisk returns a disk of so many sectors whose partition table says another number.
func gptDisk(sector, sectors, says int) []byte {
	p := make([]byte, sector*sectors)
	header := p[sector : sector+92]
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint32(header[8:], 0x10000)
	binary.LittleEndian.PutUint32(header[12:], 92)
	binary.LittleEndian.PutUint64(header[24:], 1)
	binary.LittleEndian.PutUint64(header[32:], uint64(says-1))
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	p[510], p[511] = 0x55, 0xaa
	return p
}
