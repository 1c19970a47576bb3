package diskimage

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The formats of this file have no magic number, or one so short that a disk may begin
// with it. Their structure is checked instead.

// isTar checks the checksum of the first header, which every tar has since version 7
// of Unix (POSIX pax, "ustar Interchange Format"): the sum of its bytes, with
// spaces in the checksum's own field.
func isTar(head []byte) bool {
	if len(head) < sectorSize || head[0] == 0 {
		return false
	}
	field := strings.Trim(string(head[148:156]), " \x00")
	want, err := strconv.ParseUint(field, 8, 32)
	if err != nil {
		return false
	}
	sum := uint64(8 * ' ')
	for i, b := range head[:sectorSize] {
		if i < 148 || i >= 156 {
			sum += uint64(b)
		}
	}
	return sum == want
}

// isBinaryCpio checks the old binary header in either byte order: cpio(5), "Old Binary
// Format". Its magic has 16 bits, so the type of the file and its name count too.
func isBinaryCpio(head []byte) bool {
	const size = 26
	if len(head) < size {
		return false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 0x71 {
		order = binary.BigEndian
	}
	length := int(order.Uint16(head[20:]))
	fileType := order.Uint16(head[6:]) >> 12
	if order.Uint16(head) != 0o70707 || length < 2 || size+length > len(head) || fileType == 0 || fileType > 12 {
		return false
	}
	name := head[size : size+length]
	return bytes.IndexByte(name, 0) == length-1
}

// isBzip2 wants the block magic too: "BZh" alone is three letters.
func isBzip2(data []byte) bool {
	if len(data) < 10 || string(data[:3]) != "BZh" || data[3] < '1' || data[3] > '9' {
		return false
	}
	block := string(data[4:10])
	return block == "\x31\x41\x59\x26\x53\x59" || block == "\x17\x72\x45\x38\x50\x90"
}

// isSkippable: a skippable frame of zstd (RFC 8878 §3.1.2) or LZ4, with which pzstd
// begins its archives.
func isSkippable(head []byte) bool {
	return len(head) >= 8 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18"
}

// isLzma checks what the lzma tools themselves check, since the format has no magic
// (lzma-file-format.txt of xz §1.1): valid properties, a dictionary of 2^n or 2^n + 2^(n-1)
// bytes, a size that is unknown or below 256 GiB, and the first byte of the range coder.
func isLzma(head []byte) bool {
	if len(head) < 14 || head[0] >= 9*5*5 || head[13] != 0 {
		return false
	}
	dictionary := binary.LittleEndian.Uint32(head[1:])
	for dictionary > 0 && dictionary&1 == 0 {
		dictionary >>= 1
	}
	size := binary.LittleEndian.Uint64(head[5:])
	large := binary.LittleEndian.Uint32(head[1:]) >= 1<<12
	return large && (dictionary == 1 || dictionary == 3) && (size == 1<<64-1 || size > 0 && size < 1<<38)
}

// isZlib unpacks what there is of a zlib stream (RFC 1950 §2.2): two bytes that are
// divisible by 31 prove little, some hundred bytes that unpack without an error do.
func isZlib(head []byte) bool {
	r, err := zlib.NewReader(bytes.NewReader(head))
	if err != nil {
		return false
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	return n > 0 && (err == nil || errors.Is(err, io.ErrUnexpectedEOF))
}

// isArj checks the checksum of the main header (ARJ technical information, "ARJ main header").
func isArj(head []byte) bool {
	if len(head) < 4 || string(head[:2]) != "\x60\xea" {
		return false
	}
	size := int(binary.LittleEndian.Uint16(head[2:]))
	if size == 0 || size > 2600 || len(head) < 4+size+4 {
		return false
	}
	return crc32.ChecksumIEEE(head[4:4+size]) == binary.LittleEndian.Uint32(head[4+size:])
}

// isTorrent: a bencoded dictionary (BEP 3), which begins with a key of printable
// characters and a value.
func isTorrent(head []byte) bool {
	rest, ok := bytes.CutPrefix(head, []byte("d"))
	digits, rest, found := bytes.Cut(rest[:min(len(rest), 64)], []byte(":"))
	length, err := strconv.ParseUint(string(digits), 10, 8)
	if !ok || !found || err != nil || int(length)+1 > len(rest) || length == 0 {
		return false
	}
	key, value := rest[:length], rest[length]
	printable := !slices.ContainsFunc(key, func(b byte) bool { return b < ' ' || b > '~' })
	return printable && strings.IndexByte("dli0123456789", value) >= 0
}

// isSignature: an OpenPGP signature packet (RFC 9580 §5.2), or one DER structure that is
// the whole object, as certificates and CMS signatures are (ITU-T X.690 §8.1).
func isSignature(head []byte, size int64) bool {
	if len(head) < 16 {
		return false
	}
	var body []byte
	switch {
	case head[0] == 0x88: // old format, one byte of length
		body = head[2:]
	case head[0] == 0x89: // two bytes
		body = head[3:]
	case head[0] == 0xc2 && head[1] < 192: // new format
		body = head[2:]
	case head[0] == 0xc2 && head[1] < 224:
		body = head[3:]
	case head[0] == 0x30 && head[1] == 0x82:
		return size == 4+int64(binary.BigEndian.Uint16(head[2:]))
	default:
		return false
	}
	if body[0] == 3 { // five bytes that are hashed, then the kind, the time and the key
		return body[1] == 5 && body[2] <= 0x50
	}
	// A version, a kind of signature, and algorithms that are assigned.
	version, kind, key, hash := body[0], body[1], body[2], body[3]
	return version >= 4 && version <= 6 && kind <= 0x50 && key > 0 && key <= 28 && hash > 0 && hash <= 14
}
