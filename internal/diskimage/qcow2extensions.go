package diskimage

import (
	"encoding/binary"
	"math"
)

// The header extensions that matter here: QEMU, docs/interop/qcow2.txt, "Header
// extensions".
const (
	extensionEnd           = 0
	extensionBackingFormat = 0xe2792aca
	extensionCrypto        = 0x0537be77
	extensionBitmaps       = 0x23852875
	extensionDataFile      = 0x44415441

	maxBackingFormat   = 15       // characters
	maxBitmapDirectory = 64 << 20 // bytes
	autoclearBitmaps   = 1        // feature bit: the bitmaps are valid
)

// parseExtensions reads the extensions behind the header as far as head goes. What
// follows the end of a file reads as zeros, which end the list.
func (h *qcow2Header) parseExtensions(head []byte) error {
	end := h.cluster()
	if name := binary.BigEndian.Uint64(head[8:]); name > end {
		return flawed("its backing file's name is at the invalid offset %d", name)
	} else if name != 0 {
		end = name
	}
	at := uint64(h.headerLength)
	for at < end {
		if at+8 > uint64(len(head)) && at+8 <= end {
			return nil // it is read again once the whole cluster is there
		}
		if at+8 > end {
			return flawed("its header extensions end behind the header")
		}
		kind := binary.BigEndian.Uint32(head[at:])
		length := uint64(binary.BigEndian.Uint32(head[at+4:]))
		at += 8
		if length > end-at {
			return flawed("its header extension %#x has %d bytes, and the header %d in all", kind, length, end)
		}
		if kind == extensionEnd {
			break
		}
		if err := h.parseExtension(head, kind, span{at, length}); err != nil {
			return err
		}
		at += (length + 7) &^ 7
	}
	if h.encryption == EncryptionLUKS && h.luks.length == 0 {
		return flawed("it is encrypted with LUKS but has no LUKS header")
	}
	return nil
}

func (h *qcow2Header) parseExtension(head []byte, kind uint32, at span) error {
	switch kind {
	case extensionBackingFormat:
		if at.length > maxBackingFormat {
			return flawed("its backing format has %d characters", at.length)
		}
	case extensionDataFile:
		h.externalData = true // named, even if no feature says so
	case extensionCrypto:
		return h.parseLUKS(head, at)
	case extensionBitmaps:
		return h.parseBitmaps(head, at)
	}
	return nil
}

// field returns the bytes of an extension, or nil if head ends before it does.
func field(head []byte, at span) []byte {
	if at.offset+at.length > uint64(len(head)) {
		return nil
	}
	return head[at.offset : at.offset+at.length]
}

// parseLUKS reads where the LUKS header is.
func (h *qcow2Header) parseLUKS(head []byte, at span) error {
	if h.encryption != EncryptionLUKS {
		return flawed("it has a LUKS header and another encryption")
	}
	if at.length != 16 {
		return flawed("its encryption header extension has %d bytes; 16 are valid", at.length)
	}
	data := field(head, at)
	if data == nil {
		return nil
	}
	h.luks = span{binary.BigEndian.Uint64(data), binary.BigEndian.Uint64(data[8:])}
	if h.luks.offset%h.cluster() != 0 || h.luks.length < minLUKSHeader || h.luks.offset > math.MaxInt64-min(h.luks.length, math.MaxInt64) {
		return flawed("its LUKS header is at the invalid offset %d, length %d", h.luks.offset, h.luks.length)
	}
	return nil
}

// parseBitmaps checks what QEMU checks of the bitmaps extension before it opens the image.
func (h *qcow2Header) parseBitmaps(head []byte, at span) error {
	if at.length != 24 {
		return flawed("its bitmaps extension has %d bytes; 24 are valid", at.length)
	}
	data := field(head, at)
	if data == nil || h.version < 3 || binary.BigEndian.Uint64(head[88:])&autoclearBitmaps == 0 {
		return nil
	}
	count, reserved := binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:])
	size, offset := binary.BigEndian.Uint64(data[8:]), binary.BigEndian.Uint64(data[16:])
	if count == 0 || count > math.MaxUint16 || reserved != 0 || size > maxBitmapDirectory || offset%h.cluster() != 0 {
		return flawed("its bitmaps extension is invalid: %d bitmaps, directory of %d bytes at %d", count, size, offset)
	}
	return nil
}
