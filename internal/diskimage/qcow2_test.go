package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// qcow2Case is an image, and what is to be said of it.
type qcow2Case struct {
	name    string
	image   []byte
	virtual int64  // bytes, if it is taken; 0 is 64 KiB
	say     string // in the refusal; "" is success
	// opens: QEMU opens it all the same. What is missing of a file reads as zeros to
	// it, and other files it follows.
	opens bool
}

// headerCases are what a header alone shows.
func headerCases() []qcow2Case {
	const extensions = 112
	crypto := func(offset, length uint64) change {
		return func(p []byte) {
			for _, set := range []change{put32(32, 2), put32(extensions, extensionCrypto), put32(extensions+4, 16), put64(extensions+8, offset), put64(extensions+16, length)} {
				set(p)
			}
		}
	}
	return []qcow2Case{
		{name: "as it is made", image: smallQcow2()},
		{name: "version 2", image: smallQcow2(put32(4, 2), put32(96, 0), put32(100, 0))},
		{name: "header of 104 bytes", image: smallQcow2(put32(100, 104))},
		{name: "dirty", image: smallQcow2(put64(72, 1)), opens: true},
		{name: "zstd", image: smallQcow2(put64(72, 8), func(p []byte) { p[104] = 1 })},
		{name: "unknown compatible features", image: smallQcow2(put64(80, 1<<40), put64(88, 1<<40))},
		{name: "a part of a sector more", image: smallQcow2(put64(24, 64<<10-200)), virtual: 64<<10 - 512},
		{name: "unknown extension", image: smallQcow2(put32(extensions, 0x12345678), put32(extensions+4, 13), puts(extensions+8, "something new"))},
		{name: "version 1", image: smallQcow2(put32(4, 1)), say: "version is 1"},
		{name: "version 4", image: smallQcow2(put32(4, 4)), say: "version is 4"},
		{name: "no size", image: smallQcow2(put64(24, 0)), say: "virtual size", opens: true},
		{name: "not a sector", image: smallQcow2(put64(24, 511)), say: "virtual size", opens: true},
		{name: "size above INT64_MAX", image: smallQcow2(put64(24, 1<<63)), say: "virtual size"},
		{name: "a disk of 2 EiB", image: smallQcow2(put32(20, 21), put64(24, 1<<61)), say: "at most"},
		{name: "cluster bits 63", image: smallQcow2(put32(20, 63)), say: "cluster size"},
		{name: "cluster bits 8", image: smallQcow2(put32(20, 8)), say: "cluster size"},
		{name: "encryption 3", image: smallQcow2(put32(32, 3)), say: "encryption"},
		{name: "AES and a LUKS header", image: smallQcow2(crypto(dataAt, 592), put32(32, 1)), say: "another encryption"},
		{name: "LUKS without a header", image: smallQcow2(put32(32, 2)), say: "no LUKS header", opens: true},
		{name: "LUKS header of nothing", image: smallQcow2(crypto(dataAt, 600)), say: "no LUKS1 header"},
		{name: "LUKS header unaligned", image: smallQcow2(crypto(dataAt+8, 600)), say: "invalid offset"},
		{name: "LUKS header far away", image: smallQcow2(crypto(1<<40, 600)), say: "truncated"},
		{name: "LUKS header extension too short", image: smallQcow2(crypto(dataAt, 600), put32(extensions+4, 8)), say: "8 bytes"},
		{name: "header length 72", image: smallQcow2(put32(100, 72)), say: "header length"},
		{name: "header longer than a cluster", image: smallQcow2(put32(100, 520)), say: "more than a cluster"},
		{name: "oversized extension", image: smallQcow2(put32(extensions, 0x12345678), put32(extensions+4, 0x7fffffff)), say: "header extension"},
		{name: "extension beyond the cluster", image: smallQcow2(put32(extensions, 0x12345678), put32(extensions+4, 400)), say: "header extension"},
		{name: "long backing format", image: smallQcow2(put32(extensions, extensionBackingFormat), put32(extensions+4, 16)), say: "backing format"},
		{name: "bitmaps of a wrong length", image: smallQcow2(put32(extensions, extensionBitmaps), put32(extensions+4, 16)), say: "bitmaps"},
		{name: "no bitmaps", image: smallQcow2(put64(88, 1), put32(extensions, extensionBitmaps), put32(extensions+4, 24)), say: "bitmaps"},
		{name: "refcount order 7", image: smallQcow2(put32(96, 7)), say: "refcounts"},
		{name: "no refcount table", image: smallQcow2(put32(56, 0)), say: "no refcount table"},
		{name: "refcount table too large", image: smallQcow2(put32(56, 1<<20)), say: "too large"},
		{name: "refcount table unaligned", image: smallQcow2(put64(48, refTable+8)), say: "invalid offset"},
		{name: "L1 too small", image: smallQcow2(put32(36, 1)), say: "too small"},
		{name: "L1 too large", image: smallQcow2(put32(36, 1<<30)), say: "too large"},
		{name: "L1 unaligned", image: smallQcow2(put64(40, 3)), say: "L1 table"},
		{name: "L1 far away", image: smallQcow2(put64(40, 1<<63)), say: "L1 table"},
		{name: "snapshot table too large", image: smallQcow2(put32(60, 70000)), say: "snapshot table is too large"},
		{name: "snapshot table unaligned", image: smallQcow2(put64(64, 5)), say: "snapshot table is at"},
		{name: "zstd without its feature", image: smallQcow2(func(p []byte) { p[104] = 1 }), say: "contradict"},
		{name: "the feature without zstd", image: smallQcow2(put64(72, 8)), say: "contradict"},
		{name: "the feature without a type", image: smallQcow2(put64(72, 8), put32(100, 104)), say: "contradict"},
		{name: "unknown compression", image: smallQcow2(put64(72, 8), func(p []byte) { p[104] = 2 }), say: "compression type"},
		{name: "extended L2 with 512-byte clusters", image: smallQcow2(put64(72, 16)), say: "extended L2"},
		{name: "unknown incompatible feature", image: smallQcow2(put64(72, 1<<40)), say: "0x10000000000"},
		{name: "corrupt", image: smallQcow2(put64(72, 2)), say: "marked corrupt", opens: true},
		{name: "also a VDI", image: smallQcow2(puts(64, "\x7f\x10\xda\xbe")), say: "VDI", opens: true},
		{name: "a data file that no feature tells of", image: smallQcow2(put32(extensions, extensionDataFile), put32(extensions+4, 8), puts(extensions+8, "/etc/foo")), say: "external file", opens: true},
		{name: "header cut short", image: smallQcow2()[:60], say: "ends after 60"},
		{name: "header of version 3 cut short", image: smallQcow2()[:80], say: "ends after 80"},
	}
}

// tableCases are what only the tables show.
func tableCases() []qcow2Case {
	return []qcow2Case{
		{name: "reserved bits of an L2 entry", image: smallQcow2(put64(l2Table, dataAt+8))},
		{name: "zeros that have a place behind the end", image: smallQcow2(put64(l2Table, 1<<40|1))},
		{name: "compressed", image: smallQcow2(put64(l2Table, 1<<62|dataAt+3))},
		{name: "compressed, more sectors than there are", image: smallQcow2(put64(l2Table, 1<<62|1<<61|smallSize-512)), say: "compressed data ends", opens: true},
		{name: "data behind the end", image: smallQcow2(put64(l2Table+8, 1<<63|smallSize)), say: "truncated", opens: true},
		{name: "L2 table behind the end", image: smallQcow2(put64(l1Table+8, 1<<63|smallSize)), say: "truncated", opens: true},
		{name: "L2 table at the last byte", image: smallQcow2(put64(l1Table+8, 0x00fffffffffffe00)), say: "truncated", opens: true},
		{name: "refcount block behind the end", image: smallQcow2(put64(refTable+8, 1<<40)), say: "truncated", opens: true},
		{name: "a snapshot behind the end", image: smallQcow2(put32(60, 1), put64(64, smallSize)), say: "truncated", opens: true},
		{name: "a snapshot", image: smallQcow2(put32(60, 1), put64(64, dataAt+cluster), put32(dataAt+cluster+36, 16), put16(dataAt+cluster+12, 1))},
		{name: "a snapshot of too much", image: smallQcow2(put32(60, 1), put64(64, dataAt+cluster), put32(dataAt+cluster+36, 1025)), say: "extra data"},
		{name: "the same L2 table again and again", image: manyTables(), say: "more tables", opens: true},
		{name: "cut in half", image: smallQcow2()[:smallSize/2], say: "truncated; compare its size and checksum", opens: true},
		{name: "cut before the last cluster", image: smallQcow2()[:smallSize-cluster], say: "truncated", opens: true},
		{name: "cut within the last cluster", image: smallQcow2()[:smallSize-cluster+8], opens: true}, // as writers leave it
	}
}

// manyTables returns an image of 16 KiB whose L1 table names one L2 table 1,000 times.
func manyTables() []byte {
	p := append(smallQcow2(put64(24, 1000*32<<10), put32(36, 1000), put64(40, smallSize)), make([]byte, 16<<10)...)
	for i := range 1000 {
		put64(smallSize+8*i, 1<<63|l2Table)(p)
	}
	return p
}

func TestQcow2(t *testing.T) {
	t.Parallel()
	for _, tt := range append(headerCases(), tableCases()...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, err := File(bytes.NewReader(tt.image), int64(len(tt.image)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.As(FormatAuto)
			check(t, got, err, Image{Format: FormatQcow2, VirtualSize: virtualOf(tt)}, tt.say)
			if _, err := d.As(FormatRaw); err == nil {
				t.Error("it is taken as raw")
			}
		})
	}
}

func virtualOf(tt qcow2Case) int64 {
	if tt.virtual == 0 {
		return 64 << 10
	}
	return tt.virtual
}

// TestQcow2Early: what the header shows is refused before the rest is fetched, and so is
// what lies behind the end, once the size is known.
func TestQcow2Early(t *testing.T) {
	t.Parallel()
	for _, tt := range headerCases() {
		if tt.say == "no LUKS1 header" { // it is in the file
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Head(tt.image, int64(len(tt.image))).As(FormatAuto)
			check(t, got, err, Image{Format: FormatQcow2, VirtualSize: virtualOf(tt)}, tt.say)
		})
	}
	for name, size := range map[string]int64{"the L1 table": 3<<16 + 100, "the refcount table": 1<<16 + 1} {
		t.Run("cut within "+name, func(t *testing.T) {
			t.Parallel()
			got, err := Head(qcow2Head(), size).As(FormatAuto)
			check(t, got, err, Image{}, "truncated")
		})
	}
}

// TestQcow2Clusters walks the tables of an image with larger clusters, in both forms of L2
// entries, a header of more than HeadSize bytes and a LUKS header.
func TestQcow2Clusters(t *testing.T) {
	t.Parallel()
	const size = 16 << 10
	image := func(changes ...change) []byte {
		p := make([]byte, 8*size)
		copy(p, qcow2Head(append([]change{put32(20, 14), put64(24, 1<<20), put32(36, 1), put64(40, 3*size), put64(48, size)}, changes...)...))
		for _, set := range []change{
			put32(112, 0x6803f857), put32(116, 5000), put32(112+8+5000, extensionCrypto), put32(112+8+5000+4, 16),
			put64(112+8+5000+8, 6*size), put64(112+8+5000+16, 1024),
			put64(size, 2*size), put64(3*size, 1<<63|4*size), put64(4*size, 1<<63|5*size), put64(4*size+8, 7), // seven parts of it
			put64(4*size+16, 1<<63|100*size), // no part of it
			puts(6*size, "LUKS\xba\xbe\x00\x01"),
		} {
			set(p)
		}
		return p
	}
	encrypted := Image{FormatQcow2, 1 << 20, EncryptionLUKS}
	for name, tt := range map[string]struct {
		image []byte
		want  Image
		say   string
	}{
		"extended": {image(put64(72, 16), put32(32, 2)), encrypted, ""},
		"plain":    {image(put32(32, 2)), encrypted, "its data"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := File(bytes.NewReader(tt.image), int64(len(tt.image)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.As(FormatQcow2)
			check(t, got, err, tt.want, tt.say)
			got, err = Head(tt.image[:HeadSize], int64(len(tt.image))).As(FormatQcow2)
			check(t, got, err, tt.want, "")
		})
	}
}

// FuzzFile checks that no bytes make the inspection panic or read without end, and what
// holds for everything that it takes.
func FuzzFile(f *testing.F) {
	for _, tt := range append(headerCases(), tableCases()...) {
		f.Add(tt.image)
	}
	for _, head := range [][]byte{gptDisk(512, 4, 4), binaryHead(0, ""), binaryHead(0, "LUKS\xba\xbe\x00\x02"), qcow2Head()} {
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		reads := &countingReader{Reader: bytes.NewReader(object)}
		d, err := File(reads, int64(len(object)))
		if err != nil {
			t.Fatalf("reading: %v", err)
		}
		if most := 8*int64(len(object)) + 32*HeadSize; reads.bytes > most {
			t.Fatalf("%d bytes were read of %d", reads.bytes, len(object))
		}
		for _, head := range []Description{d, Head(object[:min(len(object), HeadSize)], int64(len(object))), Head(object[:min(len(object), HeadSize)], -1)} {
			for _, want := range []Format{FormatAuto, FormatQcow2, FormatRaw, FormatOpaque} {
				got, err := head.As(want)
				if err != nil {
					if !errors.As(err, new(RefusalError)) {
						t.Fatalf("refused with %T", err)
					}
					checkAdvice(t, err.Error())
					continue
				}
				checkTaken(t, object, got, want)
			}
		}
	})
}

// checkTaken checks what holds for every object that is taken: above all that it leads a
// hypervisor to no other file.
func checkTaken(t *testing.T, object []byte, got Image, want Format) {
	t.Helper()
	if got.VirtualSize < 0 || got.VirtualSize%512 != 0 || got.VirtualSize > MaxVirtualSize {
		t.Fatalf("virtual size %d", got.VirtualSize)
	}
	if want != FormatAuto && got.Format != want {
		t.Fatalf("format %s instead of %s", got.Format, want)
	}
	qcow2 := bytes.HasPrefix(object, []byte(qcowMagic))
	if got.Format != FormatOpaque && qcow2 != (got.Format == FormatQcow2) {
		t.Fatalf("%s for % x", got.Format, object[:4])
	}
	if got.Format == FormatQcow2 && (binary.BigEndian.Uint64(object[8:]) != 0 || object[7] == 3 && object[79]&4 != 0) {
		t.Fatalf("a qcow2 that refers to another file was taken: % x", object[:112])
	}
}

// countingReader counts the bytes that are asked for.
type countingReader struct {
	*bytes.Reader
	bytes int64
}

func (c *countingReader) ReadAt(p []byte, offset int64) (int, error) {
	c.bytes += int64(len(p))
	return c.Reader.ReadAt(p, offset)
}
