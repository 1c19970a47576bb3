package diskimage

import (
	"encoding/binary"
	"errors"
	"math"
)

// The fixed header of a qcow2 image, big-endian throughout: QEMU,
// docs/interop/qcow2.txt, section "Header". What is refused here is what QEMU refuses
// to open (qcow2_do_open in block/qcow2.c), and what would lead it to other files.
const (
	qcowMagic      = "QFI\xfb"
	qcow2HeaderV2  = 72
	qcow2HeaderV3  = 104 // the least header_length of version 3
	qcow2Known     = 112 // the header with every field that is assigned by now
	minClusterBits = 9
	maxClusterBits = 21 // what QEMU opens; the format would allow more
	// The largest tables that QEMU opens, in bytes.
	maxL1Table       = 32 << 20
	maxRefcountTable = 8 << 20
	maxSnapshots     = 65536

	incompatCorrupt      = 1 << 1
	incompatExternalData = 1 << 2
	incompatCompression  = 1 << 3
	incompatExtendedL2   = 1 << 4
	incompatKnown        = 1<<5 - 1 // those, and dirty

	cryptAES  = 1
	cryptLUKS = 2

	compressionZstd = 1
)

// qcow2Header is what the header of a qcow2 image says about it.
type qcow2Header struct {
	version      uint32
	clusterBits  uint32
	headerLength uint32
	incompatible uint64 // feature bits
	virtualSize  int64  // bytes
	encryption   Encryption
	backingFile  bool // names a file that the guest's reads fall through to
	externalData bool // keeps the guest's data in another file

	l1, refcounts, snapshots table
	luks                     span // of the LUKS header, if encryption says so
}

// table is a run of entries in the file.
type table struct {
	name    string
	offset  uint64 // bytes
	entries uint64
	size    uint64 // bytes of an entry
}

// span is a run of bytes of the file.
type span struct{ offset, length uint64 }

func (h *qcow2Header) cluster() uint64 { return 1 << h.clusterBits }

// entrySize is the size of an entry of an L2 table in bytes.
func (h *qcow2Header) entrySize() uint64 {
	if h.incompatible&incompatExtendedL2 != 0 {
		return 16
	}
	return 8
}

var errNotQcow2 = errors.New("no qcow2 magic")

// parseQcow2 parses and checks the header at the start of an image. total is the
// size of the whole file in bytes, or -1 while unknown; head may end within the first
// cluster. errNotQcow2 means that these bytes are something else; a flaw, that they are
// a qcow2 that is not usable.
func parseQcow2(head []byte, total int64) (qcow2Header, error) {
	if len(head) < len(qcowMagic) || string(head[:len(qcowMagic)]) != qcowMagic {
		return qcow2Header{}, errNotQcow2
	}
	h := qcow2Header{headerLength: qcow2HeaderV2}
	for _, parse := range []func([]byte) error{h.parseFixed, h.parseFeatures, h.parseSize, h.parseTables, h.parseExtensions} {
		if err := parse(head); err != nil {
			return h, err
		}
	}
	if other, ok := foreignDisk(head); ok {
		return h, flawed("it is %s as well, so that programs may disagree about what it holds", other.name)
	}
	err := h.checkEnds(total)
	return h, err
}

// parseFixed reads what both versions have and what decides how the rest is read.
func (h *qcow2Header) parseFixed(head []byte) error {
	if len(head) < qcow2HeaderV2 {
		return flawed("its header ends after %d bytes", len(head))
	}
	h.backingFile = binary.BigEndian.Uint64(head[8:]) != 0
	h.version = binary.BigEndian.Uint32(head[4:])
	if h.version != 2 && h.version != 3 {
		return flawed("its version is %d; versions 2 and 3 are supported", h.version)
	}
	h.clusterBits = binary.BigEndian.Uint32(head[20:])
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return flawed("its cluster size is 2^%d bytes; 2^%d to 2^%d are valid", h.clusterBits, minClusterBits, maxClusterBits)
	}
	switch crypt := binary.BigEndian.Uint32(head[32:]); crypt {
	case 0:
	case cryptAES:
		h.encryption = EncryptionAES
	case cryptLUKS:
		h.encryption = EncryptionLUKS
	default:
		return flawed("its encryption method is %d; 0 to 2 are known", crypt)
	}
	return nil
}

// parseFeatures reads the part of the header that version 3 added.
func (h *qcow2Header) parseFeatures(head []byte) error {
	if h.version < 3 {
		return nil
	}
	if len(head) < qcow2HeaderV3 {
		return flawed("its header ends after %d bytes", len(head))
	}
	h.headerLength = binary.BigEndian.Uint32(head[100:])
	if h.headerLength < qcow2HeaderV3 {
		return flawed("its header length is %d; at least %d is valid", h.headerLength, qcow2HeaderV3)
	}
	if uint64(h.headerLength) > h.cluster() {
		return flawed("its header has %d bytes, more than a cluster of %d", h.headerLength, h.cluster())
	}
	h.incompatible = binary.BigEndian.Uint64(head[72:])
	h.externalData = h.incompatible&incompatExternalData != 0
	if h.incompatible&incompatCorrupt != 0 {
		return flawed("it is marked corrupt: have its publisher repair it")
	}
	if unknown := h.incompatible &^ incompatKnown; unknown != 0 {
		return flawed("it needs unknown incompatible features %#x", unknown)
	}
	if order := binary.BigEndian.Uint32(head[96:]); order > 6 {
		return flawed("its refcounts have 2^%d bits; at most 2^6 are valid", order)
	}
	if h.incompatible&incompatExtendedL2 != 0 && h.clusterBits < 14 {
		return flawed("its extended L2 entries need clusters of 16384 bytes at least; it has %d", h.cluster())
	}
	return h.checkCompression(head)
}

// checkCompression wants the type and the feature bit to say the same. A header that
// ends before the type means zlib.
func (h *qcow2Header) checkCompression(head []byte) error {
	kind := byte(0)
	if h.headerLength > qcow2HeaderV3 && len(head) > qcow2HeaderV3 {
		kind = head[qcow2HeaderV3]
	}
	if kind > compressionZstd {
		return flawed("its compression type is %d; 0 and 1 are known", kind)
	}
	if marked := h.incompatible&incompatCompression != 0; marked != (kind != 0) {
		return flawed("its compression type %d and its incompatible features %#x contradict each other", kind, h.incompatible)
	}
	return nil
}

// parseSize reads the size of the guest's disk. QEMU counts whole sectors.
func (h *qcow2Header) parseSize(head []byte) error {
	size := binary.BigEndian.Uint64(head[24:])
	if size < sectorSize || size > math.MaxInt64 {
		return flawed("its virtual size is %d bytes", size)
	}
	if size > uint64(MaxVirtualSize) {
		return flawed("its virtual size is %d bytes; at most %d are taken", size, MaxVirtualSize)
	}
	h.virtualSize = int64(size) &^ (sectorSize - 1)
	return nil
}

// parseTables reads where the tables are, and how large.
func (h *qcow2Header) parseTables(head []byte) error {
	big := binary.BigEndian
	h.l1 = table{"L1 table", big.Uint64(head[40:]), uint64(big.Uint32(head[36:])), 8}
	h.refcounts = table{"refcount table", big.Uint64(head[48:]), uint64(big.Uint32(head[56:])), h.cluster()}
	h.snapshots = table{"snapshot table", big.Uint64(head[64:]), uint64(big.Uint32(head[60:])), 40}
	if h.refcounts.entries == 0 {
		return flawed("it has no refcount table")
	}
	for _, t := range []struct {
		table
		most uint64 // bytes
	}{{h.refcounts, maxRefcountTable}, {h.snapshots, maxSnapshots * 40}, {h.l1, maxL1Table}} {
		if t.entries > t.most/t.size {
			return flawed("its %s is too large: %d entries of %d bytes", t.name, t.entries, t.size)
		}
		if t.offset > math.MaxInt64-t.entries*t.size || t.offset%h.cluster() != 0 {
			return flawed("its %s is at the invalid offset %d", t.name, t.offset)
		}
	}
	covered := h.cluster() / h.entrySize() * h.cluster() // by one L2 table
	size := binary.BigEndian.Uint64(head[24:])
	if need := (size-1)/covered + 1; h.l1.entries < need {
		return flawed("its L1 table is too small: %d entries for a disk that needs %d", h.l1.entries, need)
	}
	return nil
}

// checkEnds checks that the tables end within a file of total bytes.
func (h *qcow2Header) checkEnds(total int64) error {
	if total < 0 {
		return nil
	}
	for _, t := range []table{h.l1, h.refcounts, h.snapshots} {
		if end := t.offset + t.entries*t.size; t.entries > 0 && end > uint64(total) {
			return cut(t.name, end, total)
		}
	}
	if end := h.luks.offset + h.luks.length; end > uint64(total) {
		return cut("LUKS header", end, total)
	}
	return nil
}

// cut is the flaw of an image that says that it is longer than it is.
func cut(what string, end uint64, total int64) error {
	return flawed("its %s ends at byte %d but the file has %d: it is truncated; compare its size and checksum with its publisher's", what, end, total)
}
