package diskimage

import (
	"archive/tar"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
)

// filling is what follows a header: bytes of which nothing can be told.
func filling(n int) []byte {
	p := make([]byte, n)
	var key [32]byte
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// containersAndDocuments returns the first bytes of files that are no disks, as the
// common tools write them.
func containersAndDocuments(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{
		"gzip": "\x1f\x8b\x08", "xz": "\xfd7zXZ\x00", "zstd": "\x28\xb5\x2f\xfd", "bzip2": "BZh91AY&SY", "zip": "PK\x03\x04",
		"7z": "7z\xbc\xaf\x27\x1c", "lz4": "\x04\x22\x4d\x18", "pzstd": "\x50\x2a\x4d\x18\x04\x00\x00\x00\x10\x27\x00\x00\x28\xb5\x2f\xfd",
		"lzma": "\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00", "lzma of a known size": "\x5d\x00\x00\x10\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00",
		"lzop": "\x89LZO\x00\r\n\x1a\n\x10\x40", "lz4 legacy": "\x02\x21\x4c\x18\x9b\x9a\x2d\x00",
		"cpio newc": "070701" + strings.Repeat("0", 104), "cpio crc": "070702" + strings.Repeat("0", 104), "cpio odc": "070707" + strings.Repeat("0", 70),
		"deb": "!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n", "pipable WIM": "WLPWM\x00\x00\x00\xd0\x00\x00\x00",
		"WIM": "MSWIM\x00\x00\x00\xd0\x00\x00\x00", "VMA": "VMA\x00\x00\x00\x00\x01", "E01": "EVF\x09\x0d\x0a\xff\x00\x01", "partclone": "partclone-image\x000.3.20",
		"cloop":   "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n" + strings.Repeat("\x00", 40) + "\x00\x01\x00\x00",
		"zsync":   "zsync: 0.6.2\nFilename: disk.raw\nBlocksize: 2048\nLength: 1048576\n\n\x8a\x01\x99",
		"torrent": "d8:announce32:udp://tracker.example.org:80/ann4:infod6:lengthi1048576e6:pieces20:\x01\x02\x8f\x00",
		"PNG":     "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "PDF": "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "ELF": "\x7fELF\x02\x01\x01",
		"OpenPGP signature of version 4": "\x89\x02\x33\x04\x00\x01\x0a\x00\x1d\x16\x21\x04", "and of version 3": "\x88\x5e\x03\x05\x00\x65\x00\x00\x00",
		"tar without a checksum": strings.Repeat("\x01", 257) + "ustar\x0000",
	}
	for _, level := range []int{zlib.NoCompression, zlib.BestSpeed, zlib.DefaultCompression, zlib.BestCompression} {
		var b bytes.Buffer
		w, err := zlib.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(append(filling(8<<10), make([]byte, 8<<10)...))
		_ = w.Close()
		files[fmt.Sprintf("zlib %d", level)] = b.String()
	}
	files["arj"], files["tar v7"] = arjHeader(), tarV7(t)
	for name, order := range map[string]binary.AppendByteOrder{"cpio binary": binary.LittleEndian, "cpio binary, swapped": binary.BigEndian} {
		var p []byte
		for _, v := range []uint16{0o70707, 0xfe01, 0x1234, 0o100644, 0, 0, 1, 0, 0x6500, 0x1234, 9, 0, 1024} {
			p = order.AppendUint16(p, v)
		}
		files[name] = string(p) + "disk.raw\x00"
	}
	return files
}

// arjHeader returns the main header of an arj archive.
func arjHeader() string {
	body := "\x1e\x0b\x01\x00\x10\x00\x02" + strings.Repeat("\x00", 23) + "disk.arj\x00\x00"
	p := append([]byte("\x60\xea"), byte(len(body)), 0)
	p = append(p, body...)
	return string(binary.LittleEndian.AppendUint32(p, crc32.ChecksumIEEE([]byte(body))))
}

// tarV7 returns the header of an archive as Unix version 7 wrote it, without "ustar".
func tarV7(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "disk.raw", Size: 1 << 20, Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	header := b.Bytes()
	clear(header[257:])
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header[:512] {
		sum += int(c)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(header[:512])
}

// TestContainers: what has to be unpacked, and what is no disk at all, is refused at any
// size, by its first bytes and as a file; and taken if the person says that it is a disk.
func TestContainers(t *testing.T) {
	t.Parallel()
	for name, start := range containersAndDocuments(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := append([]byte(start), filling(64<<10)...)
			object = object[:64<<10]
			d, err := File(bytes.NewReader(object), int64(len(object)))
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range []Description{d, Head(object[:HeadSize], -1), Head(object[:HeadSize], int64(len(object)))} {
				for _, format := range []Format{FormatAuto, FormatQcow2} {
					got, err := found.As(format)
					check(t, got, err, Image{}, "the object is a")
				}
			}
			got, err := d.As(FormatRaw)
			check(t, got, err, Image{Format: FormatRaw, VirtualSize: int64(len(object))}, "")
		})
	}
	t.Run("DER", func(t *testing.T) {
		t.Parallel()
		object := append([]byte("\x30\x82\x0d\xfc"), filling(3580)...)
		got, err := Head(object, int64(len(object))).As(FormatAuto)
		check(t, got, err, Image{}, "a signature")
	})
}

// TestText: a page is a page in every encoding, with a stray byte in it or zeros behind it.
func TestText(t *testing.T) {
	t.Parallel()
	const page = "Bitte melden Sie sich an, um diese Datei herunterzuladen. Ihre Sitzung ist abgelaufen.\r\n"
	latin1 := strings.Repeat("Zugriff verweigert f\xfcr \xdcbergr\xf6\xdfe. ", 9)
	shiftJIS := strings.Repeat("\x83\x8d\x83\x4f\x83\x43\x83\x93\x82\xb5\x82\xc4\x82\xad\x82\xbe\x82\xb3\x82\xa2\x81\x42\r\n", 20)
	for name, text := range map[string]string{
		"ASCII":                       strings.Repeat(page, 8),
		"UTF-8":                       strings.Repeat("stra\u00dfe stra\u00dfe ", 30),
		"UTF-8 cut in a rune":         strings.Repeat("stra\u00dfe", 80)[:511],
		"no spaces":                   `{"error":"` + strings.Repeat("denied", 100) + `"}`,
		"Latin-1":                     latin1,
		"Latin-1, zero at the end":    latin1[:239] + "\x00",
		"Latin-1, a stray byte":       latin1[:100] + "\x01" + latin1[100:],
		"zeros behind it":             latin1[:239] + strings.Repeat("\x00", 273),
		"Shift JIS":                   shiftJIS,
		"Shift JIS, zero at the end":  shiftJIS[:238] + "\x00\x00",
		"XML in Latin-1":              `<?xml version="1.0" encoding="iso-8859-1"?><Error>` + latin1,
		"XML and binary":              "<?xml version='1.0'?>\x00\x01\x02\x03" + strings.Repeat("\x05\xff", 200),
		"HTML":                        "\n <!DOCTYPE HTML><p>" + latin1,
		"HTML and binary":             "<html>\x00\x01",
		"byte order mark of UTF-8":    "\xef\xbb\xbf<html>",
		"UTF-16LE":                    string(utf16Bytes(binary.LittleEndian, "\ufeff<html>"+strings.Repeat("Zugriff f\u00fcr ", 40))),
		"UTF-16BE":                    string(utf16Bytes(binary.BigEndian, "\ufeff<html>"+strings.Repeat("Zugriff f\u00fcr ", 40))),
		"UTF-16, Japanese":            string(utf16Bytes(binary.LittleEndian, "\ufeff"+strings.Repeat("\u30ed\u30b0\u30a4\u30f3\u3057\u3066\u304f\u3060\u3055\u3044\u3002\r\n", 30))),
		"UTF-16 without a mark":       string(utf16Bytes(binary.LittleEndian, strings.Repeat(page, 5))),
		"UTF-16 without a mark, big":  string(utf16Bytes(binary.BigEndian, strings.Repeat(page, 5))),
		"a script with a tail behind": "#!/bin/sh\nexec tail -n +3 \"$0\" | tar x\n" + string(filling(400)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int64{int64(len(text)), gib} { // the size is not what decides
				got, err := Head([]byte(text)[:min(len(text), HeadSize)], size).As(FormatAuto)
				check(t, got, err, Image{}, "not a disk image")
			}
		})
	}
}

func utf16Bytes(order binary.AppendByteOrder, text string) (p []byte) {
	for _, unit := range utf16.Encode([]rune(text)) {
		p = order.AppendUint16(p, unit)
	}
	return p
}

// TestDisksPass: what is no text and no archive although a byte or two of it is.
func TestDisksPass(t *testing.T) {
	t.Parallel()
	for name, head := range map[string][]byte{
		"random":                 filling(HeadSize),
		"fill pattern":           bytes.Repeat([]byte{0xaa}, HeadSize),
		"blank flash":            bytes.Repeat([]byte{0xff}, HeadSize),
		"zeros":                  make([]byte, HeadSize),
		"byte order mark":        binaryHead(0, "\xff\xfe"),
		"FAT":                    binaryHead(0, "\xeb\x3c\x90mkfs.fat"),
		"GRUB":                   binaryHead(0, "\xeb\x63\x90\x10\x8e\xd0\xbc\x00\xb0\xb8\x00\x00\x8e\xd8\x8e\xc0\xfb"),
		"syslinux":               binaryHead(0, "\x33\xc0\x8e\xd0\xbc\x00\x7c\xfb\x50\x07\x50\x1f\xfc\xbe"),
		"the two bytes of zlib":  binaryHead(0, "\x78\x9c\xff\xff\xff\xff"),
		"two bytes of arj":       binaryHead(0, "\x60\xea\x10\x00"),
		"two bytes of cpio":      binaryHead(0, "\xc7\x71\xff\xff"),
		"squashfs":               binaryHead(0, "hsqs"),
		"XFS":                    binaryHead(0, "XFSB"),
		"a d and digits":         binaryHead(0, "d8:\x01\x02"),
		"the tag of a signature": binaryHead(0, "\x89\x02\x33\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Head(head, gib).As(FormatAuto)
			check(t, got, err, Image{Format: FormatRaw, VirtualSize: gib}, "")
		})
	}
}
