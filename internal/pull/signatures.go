package pull

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// signature is a run of bytes at a fixed place that names a file format.
type signature struct {
	offset int
	magic  string
	name   string
}

// archives are containers that have to be unpacked before they are disks.
var archives = []signature{
	{0, "\x1f\x8b\x08", "gzip archive"},             // RFC 1952 §2.3.1
	{0, "\xfd7zXZ\x00", "xz archive"},               // xz file format §2.1.1.1
	{0, "\x28\xb5\x2f\xfd", "zstd archive"},         // RFC 8878 §3.1.1
	{0, "\x04\x22\x4d\x18", "lz4 archive"},          // LZ4 frame format
	{0, "PK\x03\x04", "zip archive"},                // PKWARE APPNOTE §4.3.7
	{0, "PK\x05\x06", "zip archive"},                // an empty one, §4.3.16
	{0, "7z\xbc\xaf\x27\x1c", "7z archive"},         // 7zFormat.txt
	{0, "Rar!\x1a\x07", "rar archive"},              // RAR 4 and 5
	{0, "LZIP", "lzip archive"},                     // lzip manual, "File format"
	{0, "\x1f\x9d", "compress archive"},             // ncompress
	{257, "ustar", "tar archive"},                   // POSIX pax, ustar header block
	{0, "070701", "cpio archive"},                   // newc
	{0, "MSWIM\x00\x00\x00", "WIM archive"},         // Windows imaging format
	{0, "\x3a\xff\x26\xed", "Android sparse image"}, // sparse_format.h
}

// disks are image formats that this project does not serve. As raw bytes they
// would give a guest a broken disk, and some of them name other files.
var disks = []signature{
	{0, "KDMV", "VMDK image"},                    // VMware Virtual Disk Format 5.0, sparse extent
	{0, "COWD", "VMDK image"},                    // ESX server sparse extent
	{0, "# Disk DescriptorFile", "VMDK image"},   // text descriptor
	{0, "vhdxfile", "VHDX image"},                // MS-VHDX §2.2.1
	{0, "conectix", "VHD image"},                 // dynamic: copy of the footer at the start
	{64, "\x7f\x10\xda\xbe", "VDI image"},        // VirtualBox VDICore.h, little-endian 0xbeda107f
	{0, "QED\x00", "QED image"},                  // QEMU docs/interop/qed_spec
	{0, "WithoutFreeSpace", "Parallels image"},   // QEMU docs/interop/parallels
	{0, "WithouFreSpacExt", "Parallels image"},   // its extended form
	{0, "Bochs Virtual HD Image", "Bochs image"}, // QEMU block/bochs.c
}

// footers are formats that show only at the end of the file.
var footers = []signature{
	{-512, "conectix", "VHD image"}, // a fixed VHD: Virtual Hard Disk Image Format Specification
	{-512, "koly", "DMG image"},     // Apple UDIF trailer
}

// match returns the name of the first signature that data bears. Negative
// offsets count from the end of data.
func match(table []signature, data []byte) string {
	for _, s := range table {
		at := s.offset
		if at < 0 {
			at += len(data)
		}
		if at >= 0 && len(data) >= at && bytes.HasPrefix(data[at:], []byte(s.magic)) {
			return s.name
		}
	}
	if isBzip2(data) {
		return "bzip2 archive"
	}
	return ""
}

// otherDisk names the format that this project does not serve and that head
// begins, or returns "".
func otherDisk(head []byte) string {
	if isVMDKDescriptor(head) {
		return "VMDK image"
	}
	return match(disks, head)
}

// isVMDKDescriptor reports whether QEMU would take head for the text descriptor of a
// VMDK, which names other files: comments and blank lines, then a version (vmdk_probe
// in block/vmdk.c). What follows may be binary.
func isVMDKDescriptor(head []byte) bool {
	for line := range strings.Lines(string(head)) {
		text, ended := strings.CutSuffix(line, "\n")
		text = strings.TrimSuffix(text, "\r")
		switch {
		case !ended:
			return false
		case text == "version=1", text == "version=2", text == "version=3":
			return true
		case !strings.HasPrefix(text, "#") && strings.Trim(text, " ") != "":
			return false
		}
	}
	return false
}

// isBzip2 wants the block magic too: "BZh" alone is three letters.
func isBzip2(data []byte) bool {
	if len(data) < 10 || string(data[:3]) != "BZh" || data[3] < '1' || data[3] > '9' {
		return false
	}
	block := string(data[4:10])
	return block == "\x31\x41\x59\x26\x53\x59" || block == "\x17\x72\x45\x38\x50\x90"
}

// textKind names the kind of text that head is, or returns "" for binary data.
// The bytes decide, not the Content-Type: login pages come with any.
func textKind(head []byte) string {
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		if isUTF16(head[2:]) {
			return "text (UTF-16)"
		}
		return ""
	}
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	trimmed := bytes.TrimLeft(head, " \t\r\n\f")
	if len(trimmed) > 0 && isHTML(strings.ToLower(string(trimmed[:min(len(trimmed), 32)]))) {
		return "an HTML page"
	}
	if !isPlainText(head) {
		return ""
	}
	switch {
	case len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '['):
		return "text (JSON?)"
	case bytes.HasPrefix(trimmed, []byte("<?xml")):
		return "text (XML)"
	}
	return "text"
}

func isHTML(start string) bool {
	for _, tag := range []string{"<!doctype html", "<html", "<head", "<body", "<script", "<title", "<meta", "<!--"} {
		if strings.HasPrefix(start, tag) {
			return true
		}
	}
	return false
}

// isPlainText reports whether every byte of head can occur in a UTF-8 text. A
// rune cut off by the end of head is no objection.
func isPlainText(head []byte) bool {
	for i := 0; i < len(head); {
		r, size := utf8.DecodeRune(head[i:])
		if r == utf8.RuneError && size <= 1 {
			return len(head)-i < utf8.UTFMax && !utf8.FullRune(head[i:])
		}
		if r < ' ' && !strings.ContainsRune("\t\n\r\f\x1b", r) || r == 0x7f {
			return false
		}
		i += size
	}
	return len(head) > 0
}

// isUTF16 reports whether data looks like UTF-16 of mostly Latin text: one byte
// of nearly every pair is zero, and never both.
func isUTF16(data []byte) bool {
	pairs, latin := 0, 0
	for i := 0; i+1 < len(data); i += 2 {
		pairs++
		if data[i] == 0 && data[i+1] == 0 {
			return false
		}
		if data[i] == 0 || data[i+1] == 0 {
			latin++
		}
	}
	return pairs > 0 && latin*10 >= pairs*8
}
