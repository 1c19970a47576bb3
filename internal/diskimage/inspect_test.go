package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestHead(t *testing.T) {
	t.Parallel()
	const total = gib
	all := []Format{FormatAuto, FormatQcow2, FormatRaw}
	guessed := []Format{FormatAuto, FormatQcow2} // refused by what may be wrong, so that Raw overrules it
	auto, raw := []Format{FormatAuto}, []Format{FormatRaw}
	tests := []struct {
		name  string
		head  []byte
		total int64 // 0 is 1 GiB
		wants []Format
		want  Image
		say   string // in the refusal; "" is success
	}{
		{name: "raw zeros", head: make([]byte, HeadSize), wants: []Format{FormatAuto, FormatRaw}, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "raw of unknown size", head: make([]byte, HeadSize), total: -1, wants: auto, want: Image{Format: FormatRaw}},
		{name: "one byte", head: []byte{0}, total: 1, wants: auto, say: "no multiple of 512"},
		{name: "one byte as raw", head: []byte{0}, total: 1, wants: raw, want: Image{Format: FormatRaw, VirtualSize: 512}},
		{name: "a byte too many", head: binaryHead(0, ""), total: total + 1, wants: guessed, say: "ask for format Raw"},
		{name: "a byte too many, as raw", head: binaryHead(0, ""), total: total + 1, wants: raw, want: Image{Format: FormatRaw, VirtualSize: total + 512}},
		{name: "boot sector", head: binaryHead(510, "\x55\xaa"), wants: []Format{FormatAuto, FormatRaw}, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "raw is not qcow2", head: binaryHead(510, "\x55\xaa"), wants: []Format{FormatQcow2}, say: "ask for format Auto"},
		{name: "qcow2 v3", head: qcow2Head(), wants: guessed, want: Image{Format: FormatQcow2, VirtualSize: 10 * gib}},
		{name: "qcow2 v2", head: qcow2Head(put32(4, 2), put32(100, 0), put64(72, 0)), wants: auto, want: Image{Format: FormatQcow2, VirtualSize: 10 * gib}},
		{name: "qcow2 as raw", head: qcow2Head(), wants: raw, say: "ask for Auto or Qcow2"},
		{name: "qcow2 AES", head: qcow2Head(put32(32, 1)), wants: auto, want: Image{FormatQcow2, 10 * gib, EncryptionAES}},
		{name: "raw LUKS1", head: binaryHead(0, "LUKS\xba\xbe\x00\x01"), wants: auto, want: Image{FormatRaw, total, EncryptionLUKS}},
		{name: "raw LUKS2", head: binaryHead(0, "LUKS\xba\xbe\x00\x02"), wants: raw, want: Image{FormatRaw, total, EncryptionLUKS}},
		{name: "backing file", head: qcow2Head(put64(8, 512), put32(16, 11)), wants: guessed, say: "backing file"},
		{name: "backing file as raw", head: qcow2Head(put64(8, 512)), wants: raw, say: "format Raw"},
		{name: "external data", head: qcow2Head(put64(72, 4)), wants: guessed, say: "external file"},
		{name: "gzip", head: binaryHead(0, "\x1f\x8b\x08"), wants: guessed, say: "gzip"},
		{name: "gzip magic as raw", head: binaryHead(0, "\x1f\x8b\x08"), wants: raw, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "ustar as raw", head: binaryHead(257, "ustar"), wants: raw, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "a sector of text as raw", head: binaryHead(0, strings.Repeat("rescue ", 80)), wants: raw, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "a sector of text", head: binaryHead(0, strings.Repeat("rescue ", 80)), wants: guessed, say: "text"},
		{name: "text in a sector of zeros", head: append([]byte("# x\nversion=4\n"), make([]byte, 4000)...), wants: guessed, say: "text"},
		{name: "gpt", head: gptDisk(512, 8, gib/512), wants: auto, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "gpt of a larger disk", head: gptDisk(512, 8, gib/512+1), wants: guessed, say: "truncated"},
		{name: "gpt of a larger disk, as raw", head: gptDisk(512, 8, gib/512+1), wants: raw, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "gpt of a smaller disk", head: gptDisk(512, 8, 5000), wants: auto, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "vmdk", head: binaryHead(0, "KDMV"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor", head: []byte("# Disk DescriptorFile\nversion=1\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor and zeros", head: binaryHead(0, "# Disk DescriptorFile\nversion=1\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, version only", head: binaryHead(0, "version=1\nCID=fffffffe\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, version 2", head: binaryHead(0, "#\nversion=2\nCID=fffffffe\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, blank lines", head: binaryHead(0, " \n# x\nversion=3\r\nCID=fffffffe\r\n"), wants: all, say: "VMDK"},
		{name: "vmdk descriptor, blank lines of Windows", head: binaryHead(0, "  \r\nversion=1\r\n"), wants: all, say: "VMDK"},
		{name: "no version of a vmdk", head: binaryHead(0, "# x\nversion=4\n"), wants: auto, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "no line of a vmdk", head: binaryHead(0, "# x\nversion=1"), wants: auto, want: Image{Format: FormatRaw, VirtualSize: total}},
		{name: "vhdx", head: binaryHead(0, "vhdxfile"), wants: all, say: "-f vhdx"},
		{name: "vhd", head: binaryHead(0, "conectix"), wants: all, say: "-f vpc"},
		{name: "vdi", head: binaryHead(64, "\x7f\x10\xda\xbe"), wants: all, say: "-f vdi"},
		{name: "qed", head: binaryHead(0, "QED\x00"), wants: all, say: "-f qed"},
		{name: "empty", head: nil, wants: append(all, FormatOpaque), say: "empty"},
		{name: "opaque gzip", head: binaryHead(0, "\x1f\x8b\x08"), wants: []Format{FormatOpaque}, want: Image{Format: FormatOpaque}},
		{name: "opaque backing file", head: qcow2Head(put64(8, 512)), wants: []Format{FormatOpaque}, want: Image{Format: FormatOpaque}},
	}
	for _, tt := range tests {
		for _, format := range tt.wants {
			t.Run(tt.name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				size := tt.total
				if size == 0 && len(tt.head) > 0 {
					size = total
				}
				got, err := Head(tt.head, size).As(format)
				check(t, got, err, tt.want, tt.say)
			})
		}
	}
}

// check compares an image, or the refusal if say is set.
func check(t *testing.T, got Image, err error, want Image, say string) {
	t.Helper()
	if say == "" {
		if err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
		return
	}
	if !errors.As(err, new(RefusalError)) || !strings.Contains(err.Error(), say) {
		t.Fatalf("got %+v, %v; want a refusal that says %q", got, err, say)
	}
	checkAdvice(t, err.Error())
}

// checkAdvice checks what holds for every refusal: it fits into a status, and whoever
// does what it says is not attacked by it.
func checkAdvice(t *testing.T, text string) {
	t.Helper()
	if len(text) > 256 {
		t.Errorf("%q has %d bytes, and a status takes 256", text, len(text))
	}
	for _, command := range strings.Split(text, "qemu-img")[1:] {
		if !strings.HasPrefix(command, " convert -f ") || !strings.Contains(text, "if you trust") {
			t.Errorf("%q lets qemu-img guess, or says no condition", text)
		}
	}
	if strings.Contains(text, "flatten") && !strings.Contains(text, "only if you trust") {
		t.Errorf("%q says no condition", text)
	}
}

// TestQuotesNothing: what an object says is not for whoever may read a status.
func TestQuotesNothing(t *testing.T) {
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
			_, err := Head([]byte(head), int64(len(head))).As(FormatQcow2)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, quoted := range []string{secret, fmt.Sprintf("% x", secret[:5]), fmt.Sprintf("% x", secret[2:])} {
				if strings.Contains(err.Error(), quoted) {
					t.Errorf("error %q quotes the object", err)
				}
			}
		})
	}
}

// TestTail: a footer of 512 or 511 bytes behind a disk shows by the last bytes alone,
// and which sizes are worth asking for them.
func TestTail(t *testing.T) {
	t.Parallel()
	disk := binaryHead(510, "\x55\xaa")
	disk = append(disk, make([]byte, 1<<20-len(disk))...)
	footer := func(magic string, size int) []byte {
		return append(bytes.Clone(disk), append([]byte(magic), make([]byte, size-len(magic))...)...)
	}
	tests := map[string]struct {
		object []byte
		say    string
	}{
		"fixed VHD":                {footer("conectix", 512), "-f vpc"},
		"fixed VHD of 511 bytes":   {footer("conectix", 511), "-f vpc"},
		"DMG":                      {footer("koly", 512), "-f dmg"},
		"a sector more, no footer": {footer("something", 512), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			size := int64(len(tt.object))
			d := Head(tt.object[:HeadSize], size)
			if !d.MayEndOtherwise(size) {
				t.Errorf("its last bytes are not asked for")
			}
			d = d.WithTail(tt.object[size-TailSize:])
			for _, format := range []Format{FormatAuto, FormatRaw} {
				got, err := d.As(format)
				check(t, got, err, Image{Format: FormatRaw, VirtualSize: size}, tt.say)
				whole, err := File(bytes.NewReader(tt.object), size)
				if err != nil {
					t.Fatal(err)
				}
				got, err = whole.As(format)
				check(t, got, err, Image{Format: FormatRaw, VirtualSize: size}, tt.say)
			}
		})
	}
	if Head(disk[:HeadSize], 1<<20).MayEndOtherwise(1 << 20) {
		t.Error("the last bytes of a disk of 1 MiB are asked for")
	}
	if Head(qcow2Head(), 1<<20+512).MayEndOtherwise(1<<20 + 512) {
		t.Error("the last bytes of a qcow2 image are asked for")
	}
}

// TestCutDisk: a disk that says its own size is not taken if a part of it is missing.
func TestCutDisk(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	filesystem := func(magic int, text string, numbers map[int]uint32) []byte {
		p := make([]byte, size)
		copy(p[magic:], text)
		for at, v := range numbers {
			binary.LittleEndian.PutUint32(p[at:], v)
		}
		return p
	}
	for name, disk := range map[string][]byte{
		"GPT":                  gptDisk(512, size/512, size/512),
		"GPT, sectors of 4096": gptDisk(4096, size/4096, size/4096),
		"ext2":                 filesystem(1024+56, "\x53\xef\x01\x00\x01\x00", map[int]uint32{1024 + 4: size >> 10, 1024 + 20: 1}),
		"ext4, blocks of 4096": filesystem(1024+56, "\x53\xef\x01\x00\x01\x00", map[int]uint32{1024 + 4: size >> 12, 1024 + 24: 2, 1024 + 76: 1, 1024 + 96: 0x80}),
		"XFS":                  filesystem(0, "XFSB\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x40", nil),
		"squashfs":             filesystem(0, "hsqs", map[int]uint32{28: 4, 40: size - 100}),
	} {
		for _, missing := range []int64{-4096, 0, 512, size / 2} {
			t.Run(fmt.Sprintf("%s, %d bytes missing", name, missing), func(t *testing.T) {
				t.Parallel()
				left := size - missing
				object := append(bytes.Clone(disk), make([]byte, 4096)...)[:left]
				d, err := File(bytes.NewReader(object), left)
				if err != nil {
					t.Fatal(err)
				}
				say := ""
				if missing > 0 {
					say = "truncated"
				}
				got, err := d.As(FormatAuto)
				check(t, got, err, Image{Format: FormatRaw, VirtualSize: left}, say)
				got, err = d.As(FormatRaw)
				check(t, got, err, Image{Format: FormatRaw, VirtualSize: left}, "")
			})
		}
	}
}

// TestFileReads: that a file is shorter than it was is an error, and no refusal.
func TestFileReads(t *testing.T) {
	t.Parallel()
	if d, err := File(bytes.NewReader(smallQcow2()[:l2Table]), smallSize); !errors.Is(err, io.EOF) {
		t.Errorf("a file that became shorter: %+v, %v", d, err)
	}
}
