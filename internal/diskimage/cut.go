package diskimage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// startSize is how many of a disk's first bytes say how large it is: two sectors of the
// largest size in use.
const startSize = 2 * 4096

// cutShort says that a raw disk of size bytes, -1 while unknown, is shorter than it says
// itself, or returns "". start holds its first bytes. A disk that is larger than it says
// is no fault: images are made larger before use. What a partition table of the older
// kind (MBR) says is not held against an image, for some end with the data of their last
// partition.
func cutShort(start []byte, size int64) string {
	for _, claim := range []struct {
		by   string
		size uint64 // bytes
	}{
		{"partition table", gptSize(start, sectorSize)},
		{"partition table", gptSize(start, 4096)},
		{"ext filesystem", extSize(start)},
		{"XFS filesystem", xfsSize(start)},
		{"squashfs filesystem", squashfsSize(start)},
	} {
		if size >= 0 && claim.size > uint64(size) {
			return fmt.Sprintf("the object has %d bytes but its %s says %d: it is truncated; if that is all there is, ask for format Raw", size, claim.by, claim.size)
		}
	}
	return ""
}

// gptSize is what a GUID partition table in the second sector says: its header has a
// checksum, and the number of the disk's last sector (UEFI specification §5.3.2).
func gptSize(start []byte, sector int) uint64 {
	const magic, shortest = "EFI PART", 92
	if len(start) < 2*sector {
		return 0
	}
	header := start[sector : 2*sector]
	length := binary.LittleEndian.Uint32(header[12:])
	if string(header[:len(magic)]) != magic || length < shortest || int64(length) > int64(sector) {
		return 0
	}
	sum := crc32.ChecksumIEEE(header[:16])
	sum = crc32.Update(sum, crc32.IEEETable, make([]byte, 4)) // the checksum's own field
	sum = crc32.Update(sum, crc32.IEEETable, header[20:length])
	last := binary.LittleEndian.Uint64(header[32:])
	if sum != binary.LittleEndian.Uint32(header[16:]) || last >= math.MaxInt64/uint64(sector) {
		return 0
	}
	return (last + 1) * uint64(sector)
}

// extSize is what the superblock of ext2, ext3 or ext4 says, if the whole disk is one:
// Linux, Documentation/filesystems/ext4/super.rst.
func extSize(start []byte) uint64 {
	const at, length, with64Bit = 1024, 1024, 0x80
	if len(start) < at+length {
		return 0
	}
	block := start[at : at+length]
	little := binary.LittleEndian
	log, state, errors, revision := little.Uint32(block[24:]), little.Uint16(block[58:]), little.Uint16(block[60:]), little.Uint32(block[76:])
	first := uint32(0)
	if log == 0 {
		first = 1 // the superblock fills block 1
	}
	if little.Uint16(block[56:]) != 0xef53 || log > 6 || state > 7 || errors > 3 || revision > 1 || little.Uint32(block[20:]) != first {
		return 0
	}
	blocks := uint64(little.Uint32(block[4:]))
	if little.Uint32(block[96:])&with64Bit != 0 {
		blocks |= uint64(little.Uint32(block[336:])) << 32
	}
	if blocks > math.MaxInt64>>(10+log) {
		return 0
	}
	return blocks << (10 + log)
}

// xfsSize is what the superblock of XFS says: XFS algorithms and data structures, "Superblocks".
func xfsSize(start []byte) uint64 {
	if len(start) < sectorSize || string(start[:4]) != "XFSB" {
		return 0
	}
	size, blocks := uint64(binary.BigEndian.Uint32(start[4:])), binary.BigEndian.Uint64(start[8:])
	if size < sectorSize || size > 64<<10 || size&(size-1) != 0 || blocks > math.MaxInt64/size {
		return 0
	}
	return size * blocks
}

// squashfsSize is what the superblock of squashfs 4.0 says: Linux,
// Documentation/filesystems/squashfs.rst.
func squashfsSize(start []byte) uint64 {
	if len(start) < 96 || string(start[:4]) != "hsqs" || binary.LittleEndian.Uint16(start[28:]) != 4 {
		return 0
	}
	if used := binary.LittleEndian.Uint64(start[40:]); used <= math.MaxInt64 {
		return used
	}
	return 0
}
