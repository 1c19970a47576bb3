package pull

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The fixed header of a qcow2 image, big-endian throughout: QEMU,
// docs/interop/qcow2.txt, section "Header".
const (
	qcowMagic      = "QFI\xfb"
	qcow2HeaderV2  = 72
	qcow2HeaderV3  = 104 // the least header_length of version 3
	minClusterBits = 9
	maxClusterBits = 21 // what QEMU opens; the format would allow more

	incompatCorrupt      = 1 << 1
	incompatExternalData = 1 << 2
	incompatKnown        = 1<<5 - 1 // dirty, corrupt, external data, compression type, extended L2
)

// qcow2Header is what the header of a qcow2 image says about it.
type qcow2Header struct {
	version      uint32
	virtualSize  int64
	backingFile  bool // names a file that the guest's reads fall through to
	externalData bool // keeps the guest's data in another file
}

var errNotQcow2 = errors.New("no qcow2 magic")

// parseQcow2 parses and checks the header at the start of an image. total is the
// size of the whole file in bytes, or -1 while unknown. errNotQcow2 means that
// these bytes are something else; any other error, a qcow2 that is not usable.
func parseQcow2(head []byte, total int64) (qcow2Header, error) {
	if len(head) < len(qcowMagic) || string(head[:len(qcowMagic)]) != qcowMagic {
		return qcow2Header{}, errNotQcow2
	}
	if len(head) < qcow2HeaderV2 {
		return qcow2Header{}, fmt.Errorf("its header ends after %d bytes", len(head))
	}
	h := qcow2Header{version: binary.BigEndian.Uint32(head[4:])}
	if h.version != 2 && h.version != 3 {
		return h, fmt.Errorf("its version is %d; versions 2 and 3 are supported", h.version)
	}
	size := binary.BigEndian.Uint64(head[24:])
	if size == 0 || size > math.MaxInt64 {
		return h, fmt.Errorf("its virtual size is %d bytes", size)
	}
	h.virtualSize = int64(size)
	h.backingFile = binary.BigEndian.Uint64(head[8:]) != 0
	if bits := binary.BigEndian.Uint32(head[20:]); bits < minClusterBits || bits > maxClusterBits {
		return h, fmt.Errorf("its cluster size is 2^%d bytes; 2^%d to 2^%d are valid", bits, minClusterBits, maxClusterBits)
	}
	if crypt := binary.BigEndian.Uint32(head[32:]); crypt > 2 {
		return h, fmt.Errorf("its encryption method is %d; 0 to 2 are known", crypt)
	}
	if err := checkTables(head, total); err != nil {
		return h, err
	}
	err := h.parseFeatures(head)
	return h, err
}

// parseFeatures reads the part of the header that version 3 added.
func (h *qcow2Header) parseFeatures(head []byte) error {
	if h.version < 3 {
		return nil
	}
	if len(head) < qcow2HeaderV3 {
		return fmt.Errorf("its header ends after %d bytes", len(head))
	}
	if length := binary.BigEndian.Uint32(head[100:]); length < qcow2HeaderV3 {
		return fmt.Errorf("its header length is %d; at least %d is valid", length, qcow2HeaderV3)
	}
	incompatible := binary.BigEndian.Uint64(head[72:])
	h.externalData = incompatible&incompatExternalData != 0
	if incompatible&incompatCorrupt != 0 {
		return errors.New("it is marked corrupt; repair it with qemu-img check -r all")
	}
	if unknown := incompatible &^ incompatKnown; unknown != 0 {
		return fmt.Errorf("it needs unknown incompatible features %#x", unknown)
	}
	return nil
}

// checkTables checks that the L1 and refcount tables are aligned and inside the file.
func checkTables(head []byte, total int64) error {
	cluster := int64(1) << binary.BigEndian.Uint32(head[20:])
	tables := []struct {
		name         string
		offset, size uint64
	}{
		{"L1", binary.BigEndian.Uint64(head[40:]), 8 * uint64(binary.BigEndian.Uint32(head[36:]))},
		{"refcount", binary.BigEndian.Uint64(head[48:]), uint64(binary.BigEndian.Uint32(head[56:])) * uint64(cluster)},
	}
	for _, table := range tables {
		if table.offset > math.MaxInt64/2 || table.offset%uint64(cluster) != 0 {
			return fmt.Errorf("its %s table is at the invalid offset %d", table.name, table.offset)
		}
		if end := table.offset + table.size; total >= 0 && table.size > 0 && end > uint64(total) {
			return fmt.Errorf("its %s table ends at byte %d but the file has %d: it is truncated", table.name, end, total)
		}
	}
	return nil
}
