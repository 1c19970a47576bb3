package diskimage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const gptMagic = "EFI PART" // UEFI specification §5.3.2

// cutShort says that a raw disk of size bytes is shorter than it says itself, or
// returns "".
func cutShort(r io.ReaderAt, size int64) (string, error) {
	for _, sector := range []int64{sectorSize, 4096} {
		if size < 2*sector {
			continue
		}
		start, err := readAt(r, 0, 2*sector)
		if err != nil {
			return "", err
		}
		if why := cutShortGPT(start, sector, size); why != "" {
			return why, nil
		}
	}
	return "", nil
}

// cutShortGPT does so by a GUID partition table in the disk's second sector, whose
// header has a checksum and says where the last sector is (UEFI specification §5.3.2).
// A larger disk than it says is no fault: images are made larger before use.
func cutShortGPT(start []byte, sector, size int64) string {
	if size < 0 || int64(len(start)) < 2*sector {
		return ""
	}
	header := start[sector : 2*sector]
	length := binary.LittleEndian.Uint32(header[12:])
	if string(header[:len(gptMagic)]) != gptMagic || length < 92 || int64(length) > sector {
		return ""
	}
	sum := crc32.ChecksumIEEE(header[:16])
	sum = crc32.Update(sum, crc32.IEEETable, make([]byte, 4)) // the checksum's own field
	sum = crc32.Update(sum, crc32.IEEETable, header[20:length])
	last := binary.LittleEndian.Uint64(header[32:])
	if sum != binary.LittleEndian.Uint32(header[16:]) || last >= math.MaxInt64/uint64(sector) || (int64(last)+1)*sector <= size {
		return ""
	}
	return fmt.Sprintf("the object has %d bytes but its partition table is of a disk of %d: it is truncated; if that is all there is, ask for format Raw",
		size, (int64(last)+1)*sector)
}
