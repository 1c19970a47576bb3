package pull

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// qcow2With returns a plausible qcow2 header of 4 KiB with changes made to it.
func qcow2With(changes ...func([]byte)) []byte {
	p := make([]byte, inspectSize)
	copy(p, qcowMagic)
	binary.BigEndian.PutUint32(p[4:], 3)
	binary.BigEndian.PutUint32(p[20:], 16)
	binary.BigEndian.PutUint64(p[24:], 10<<30)
	binary.BigEndian.PutUint32(p[36:], 20)
	binary.BigEndian.PutUint64(p[40:], 3<<16)
	binary.BigEndian.PutUint64(p[48:], 1<<16)
	binary.BigEndian.PutUint32(p[56:], 1)
	binary.BigEndian.PutUint32(p[100:], 104)
	for _, change := range changes {
		change(p)
	}
	return p
}

func put32(at int, v uint32) func([]byte) {
	return func(p []byte) { binary.BigEndian.PutUint32(p[at:], v) }
}
func put64(at int, v uint64) func([]byte) {
	return func(p []byte) { binary.BigEndian.PutUint64(p[at:], v) }
}

func at(offset int, magic string) []byte {
	p := make([]byte, inspectSize)
	p[600] = 0x80 // no text
	copy(p[offset:], magic)
	return p
}

func TestInspect(t *testing.T) {
	t.Parallel()
	const total = 1 << 30
	all := []Format{FormatAuto, FormatQcow2, FormatRaw}
	tests := []struct {
		name  string
		head  []byte
		total int64 // 0 is 1 GiB
		wants []Format
		want  content
		say   string // in the error; "" is success
	}{
		{name: "raw zeros", head: make([]byte, inspectSize), wants: []Format{FormatAuto, FormatRaw}, want: content{FormatRaw, total}},
		{name: "raw of unknown size", head: make([]byte, inspectSize), total: -1, wants: []Format{FormatAuto}, want: content{FormatRaw, 0}},
		{name: "tiny raw", head: []byte{0}, total: 1, wants: []Format{FormatAuto}, want: content{FormatRaw, 1}},
		{name: "boot sector", head: at(510, "\x55\xaa"), wants: []Format{FormatAuto, FormatRaw}, want: content{FormatRaw, total}},
		{name: "raw is not qcow2", head: at(510, "\x55\xaa"), wants: []Format{FormatQcow2}, say: "not a qcow2"},
		{name: "qcow2 v3", head: qcow2With(), wants: []Format{FormatAuto, FormatQcow2}, want: content{FormatQcow2, 10 << 30}},
		{name: "qcow2 v2", head: qcow2With(put32(4, 2), put32(100, 0), put64(72, 99)), wants: []Format{FormatAuto}, want: content{FormatQcow2, 10 << 30}},
		{name: "qcow2 as raw", head: qcow2With(), wants: []Format{FormatRaw}, say: "ask for Auto or Qcow2"},
		{name: "dirty, extended L2 and zstd clusters", head: qcow2With(put64(72, 1|8|16)), wants: []Format{FormatAuto}, want: content{FormatQcow2, 10 << 30}},
		{name: "backing file", head: qcow2With(put64(8, 512), put32(16, 11)), wants: []Format{FormatAuto, FormatQcow2}, say: "backing file"},
		{name: "backing file as raw", head: qcow2With(put64(8, 512)), wants: []Format{FormatRaw}, say: "format Raw"},
		{name: "external data", head: qcow2With(put64(72, 4)), wants: []Format{FormatAuto, FormatQcow2}, say: "external file"},
		{name: "corrupt", head: qcow2With(put64(72, 2)), wants: []Format{FormatAuto}, say: "marked corrupt"},
		{name: "unknown feature", head: qcow2With(put64(72, 1<<40)), wants: []Format{FormatAuto}, say: "0x10000000000"},
		{name: "version 1", head: qcow2With(put32(4, 1)), wants: []Format{FormatAuto}, say: "version is 1"},
		{name: "version 4", head: qcow2With(put32(4, 4)), wants: []Format{FormatAuto}, say: "version is 4"},
		{name: "no size", head: qcow2With(put64(24, 0)), wants: []Format{FormatAuto}, say: "virtual size"},
		{name: "negative size", head: qcow2With(put64(24, 1<<63)), wants: []Format{FormatAuto}, say: "virtual size"},
		{name: "cluster bits", head: qcow2With(put32(20, 63)), wants: []Format{FormatAuto}, say: "cluster size"},
		{name: "encryption", head: qcow2With(put32(32, 3)), wants: []Format{FormatAuto}, say: "encryption"},
		{name: "header length", head: qcow2With(put32(100, 72)), wants: []Format{FormatAuto}, say: "header length"},
		{name: "L1 unaligned", head: qcow2With(put64(40, 3)), wants: []Format{FormatAuto}, say: "L1 table"},
		{name: "L1 far away", head: qcow2With(put64(40, 1<<63)), wants: []Format{FormatAuto}, say: "L1 table"},
		{name: "truncated before L1", head: qcow2With(), total: 3 << 16, wants: []Format{FormatAuto}, say: "truncated"},
		{name: "header cut short", head: qcow2With()[:60], total: 60, wants: []Format{FormatAuto}, say: "ends after 60"},
		{name: "v3 header cut short", head: qcow2With()[:80], total: 80, wants: []Format{FormatAuto}, say: "truncated"},
		{name: "gzip", head: at(0, "\x1f\x8b\x08"), wants: all, say: "gzip"},
		{name: "xz", head: at(0, "\xfd7zXZ\x00"), wants: all, say: "xz"},
		{name: "zstd", head: at(0, "\x28\xb5\x2f\xfd"), wants: all, say: "zstd"},
		{name: "bzip2", head: at(0, "BZh91AY&SY"), wants: all, say: "bzip2"},
		{name: "zip", head: at(0, "PK\x03\x04"), wants: all, say: "zip"},
		{name: "7z", head: at(0, "7z\xbc\xaf\x27\x1c"), wants: all, say: "7z"},
		{name: "lz4", head: at(0, "\x04\x22\x4d\x18"), wants: all, say: "lz4"},
		{name: "tar", head: at(257, "ustar"), wants: all, say: "tar"},
		{name: "vmdk", head: at(0, "KDMV"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor", head: []byte("# Disk DescriptorFile\nversion=1\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor and zeros", head: at(0, "# Disk DescriptorFile\nversion=1\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, version only", head: at(0, "version=1\nCID=fffffffe\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, version 2", head: at(0, "#\nversion=2\nCID=fffffffe\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, blank lines", head: at(0, " \n# x\nversion=3\r\nCID=fffffffe\r\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, blank lines of Windows", head: at(0, "  \r\nversion=1\r\n"), wants: all, say: "VMDK"},
		{name: "no version of a vmdk", head: at(0, "# x\nversion=4\n"), wants: []Format{FormatAuto}, want: content{FormatRaw, total}},
		{name: "no line of a vmdk", head: at(0, "# x\nversion=1"), wants: []Format{FormatAuto}, want: content{FormatRaw, total}},
		{name: "vhdx", head: at(0, "vhdxfile"), wants: all, say: "VHDX"},
		{name: "vhd", head: at(0, "conectix"), wants: all, say: "VHD"},
		{name: "vdi", head: at(64, "\x7f\x10\xda\xbe"), wants: all, say: "VDI"},
		{name: "qed", head: at(0, "QED\x00"), wants: all, say: "QED"},
		{name: "html", head: []byte("\n <!DOCTYPE HTML><p>log in"), wants: all, say: "HTML"},
		{name: "html with binary", head: []byte("<html>\x00\x01"), wants: all, say: "HTML"},
		{name: "json", head: []byte(`{"error":"denied"}`), wants: all, say: "JSON"},
		{name: "xml", head: []byte(`<?xml version="1.0"?><Error/>`), wants: all, say: "XML"},
		{name: "utf-8 cut in a rune", head: []byte("stra\u00dfe stra\u00dfe")[:14], wants: all, say: "text"},
		{name: "utf-16", head: []byte("\xff\xfe<\x00h\x00t\x00m\x00l\x00>\x00"), wants: all, say: "UTF-16"},
		{name: "byte order mark and binary", head: at(0, "\xff\xfe"), wants: []Format{FormatAuto}, want: content{FormatRaw, total}},
		{name: "empty", head: nil, wants: append(all, FormatOpaque), say: "empty"},
		{name: "opaque gzip", head: at(0, "\x1f\x8b\x08"), wants: []Format{FormatOpaque}, want: content{FormatOpaque, 0}},
		{name: "opaque backing file", head: qcow2With(put64(8, 512)), wants: []Format{FormatOpaque}, want: content{FormatOpaque, 0}},
	}
	for _, tt := range tests {
		for _, format := range tt.wants {
			t.Run(tt.name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				size := tt.total
				if size == 0 && len(tt.head) > 0 {
					size = total
				}
				got, err := inspect(tt.head, size, format)
				if tt.say == "" {
					if err != nil || got != tt.want {
						t.Fatalf("inspect = %v, %v; want %v", got, err, tt.want)
					}
					return
				}
				if reasonOf(err) != UnsupportedContent || !strings.Contains(err.Error(), tt.say) {
					t.Fatalf("inspect = %v, %v; want UnsupportedContent saying %q", got, err, tt.say)
				}
			})
		}
	}
}

// TestInspectQuotesNothing: what an object says is not for whoever may read a status.
func TestInspectQuotesNothing(t *testing.T) {
	t.Parallel()
	const secret = "SECRETS"
	for name, head := range map[string]string{
		"json":   `{"` + secret + `":1}`,
		"xml":    "<?xml?>" + secret,
		"html":   "<html>" + secret,
		"text":   secret,
		"utf-16": "\xff\xfe" + strings.Join(strings.Split(secret, ""), "\x00") + "\x00",
		"binary": secret + "\x00\x80",
		"gzip":   "\x1f\x8b\x08" + secret,
		"vmdk":   "#" + secret + "\nversion=1\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := inspect([]byte(head), int64(len(head)), FormatQcow2)
			wantReason(t, err, UnsupportedContent)
			for _, quoted := range []string{secret, fmt.Sprintf("% x", secret[:5]), fmt.Sprintf("% x", secret[2:])} {
				if strings.Contains(err.Error(), quoted) {
					t.Errorf("error %q quotes the object", err)
				}
			}
		})
	}
}

func TestInspectTail(t *testing.T) {
	t.Parallel()
	vhd := append([]byte("conectix"), make([]byte, tailSize-8)...)
	if err := inspectTail(vhd, FormatRaw); reasonOf(err) != UnsupportedContent {
		t.Errorf("a fixed VHD as raw: %v", err)
	}
	for _, format := range []Format{FormatQcow2, FormatOpaque} {
		if err := inspectTail(vhd, format); err != nil {
			t.Errorf("as %s: %v", format, err)
		}
	}
	if err := inspectTail(bytes.Repeat([]byte{7}, 20), FormatRaw); err != nil {
		t.Errorf("a short file: %v", err)
	}
}

// FuzzInspect checks that no header makes the inspection panic, and that what it
// admits as qcow2 refers to no other file.
func FuzzInspect(f *testing.F) {
	f.Add(qcow2With()[:120], int64(1<<30))
	f.Add(qcow2With(put64(8, 512))[:120], int64(1<<30))
	f.Add(qcow2With(put64(72, 4))[:120], int64(-1))
	f.Add(qcow2With(put32(20, 0xffffffff))[:120], int64(1))
	f.Add([]byte("QFI\xfb"), int64(4))
	f.Fuzz(func(t *testing.T, head []byte, total int64) {
		for _, want := range []Format{FormatAuto, FormatQcow2, FormatRaw, FormatOpaque} {
			got, err := inspect(head, total, want)
			if err != nil {
				if reasonOf(err) != UnsupportedContent {
					t.Fatalf("inspect: %v", err)
				}
				continue
			}
			if got.virtualSize < 0 {
				t.Fatalf("virtual size %d", got.virtualSize)
			}
			if got.format == FormatQcow2 && (binary.BigEndian.Uint64(head[8:]) != 0 || head[7] == 3 && head[79]&4 != 0) {
				t.Fatalf("a qcow2 that refers to another file was admitted: % x", head)
			}
		}
	})
}
