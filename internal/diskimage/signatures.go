package diskimage

import (
	"bytes"
	"strings"
)

// signature is a run of bytes at a fixed place that names a file format.
type signature struct {
	offset int
	magic  string
	name   string
}

// containers have to be unpacked before they are disks, if there is a disk in them.
var containers = []signature{
	{0, "\x1f\x8b\x08", "a gzip archive"},              // RFC 1952 §2.3.1
	{0, "\xfd7zXZ\x00", "an xz archive"},               // xz file format §2.1.1.1
	{0, "\x28\xb5\x2f\xfd", "a zstd archive"},          // RFC 8878 §3.1.1
	{0, "\x04\x22\x4d\x18", "an lz4 archive"},          // LZ4 frame format
	{0, "\x02\x21\x4c\x18", "an lz4 archive"},          // its legacy frame
	{0, "\x89LZO\x00\r\n\x1a\n", "a lzop archive"},     // lzop.c
	{0, "PK\x03\x04", "a zip archive"},                 // PKWARE APPNOTE §4.3.7
	{0, "PK\x05\x06", "a zip archive"},                 // an empty one, §4.3.16
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive"},          // 7zFormat.txt
	{0, "Rar!\x1a\x07", "a rar archive"},               // RAR 4 and 5
	{0, "LZIP", "a lzip archive"},                      // lzip manual, "File format"
	{0, "LRZI", "a lrzip archive"},                     // lrzip, doc/magic.header.txt
	{0, "\x1f\x9d", "a compress archive"},              // ncompress
	{257, "ustar", "a tar archive"},                    // POSIX pax, ustar header block
	{0, "070701", "a cpio archive"},                    // newc
	{0, "070702", "a cpio archive"},                    // newc with checksums
	{0, "070707", "a cpio archive"},                    // odc
	{0, "!<arch>\n", "an ar archive (a .deb?)"},        // deb(5)
	{0, "\xed\xab\xee\xdb", "an RPM package"},          // rpm, docs/manual/format_lead
	{0, "MSCF\x00\x00\x00\x00", "a cabinet archive"},   // MS-CAB §2.1
	{0, "xar!", "a xar archive"},                       // xar file format
	{0, "MSWIM\x00\x00\x00", "a WIM archive"},          // Windows imaging format
	{0, "WLPWM\x00\x00\x00", "a WIM archive"},          // its pipable form, wimlib
	{0, "\x3a\xff\x26\xed", "an Android sparse image"}, // sparse_format.h
	{0, "VMA\x00", "a VMA backup"},                     // Proxmox, vma_spec.txt
	{0, "EVF\x09\x0d\x0a\xff\x00", "an EWF image"},     // E01: libewf, EWF specification
	{0, "EVF2\r\n\x81\x00", "an EWF image"},            // Ex01
	{0, "partclone-image", "a partclone image"},        // partclone, IMAGE_FORMATS.md
	{0, "\x00ntfsclone-image", "an ntfsclone image"},   // ntfsclone.c
	{0, "PaRtImAgE-VoLuMe", "a partimage image"},       // partimage
	{0, "FsA0", "an FSArchiver archive"},               // fsarchiver, its first header
	{0, "btrfs-stream\x00", "a btrfs stream"},          // btrfs, send.h
	{0, "CISO", "a compressed ISO image"},              // ciso
	{0, "Salted__", "a file encrypted by openssl"},     // openssl enc
	{0, "age-encryption.org/", "a file encrypted by age"},
}

// documents are no disks, whatever is in them.
var documents = []signature{
	{0, "\x89PNG\r\n\x1a\n", "a PNG picture"}, // RFC 2083 §3.1
	{0, "\xff\xd8\xff", "a JPEG picture"},     // ITU-T T.81 annex B
	{0, "GIF8", "a GIF picture"},              // GIF89a
	{0, "%PDF-", "a PDF document"},            // ISO 32000-1 §7.5.2
	{0, "\x7fELF", "an ELF program"},          // System V ABI
	{0, "SQLite format 3\x00", "an SQLite database"},
	{0, "zsync: ", "a zsync file"}, // zsync's list of blocks of another file
	{0, "#!", "a script"},          // also those that carry an archive behind them, such as cloop's
}

// diskFormat is an image format that this project does not serve.
type diskFormat struct {
	signature
	qemu  string // its name for qemu-img -f
	names bool   // may name other files, which a hypervisor or qemu-img then reads
}

// disks are image formats that hypervisors find out by their first bytes. As raw
// bytes they would give a guest a broken disk, and some of them name other files.
var disks = []diskFormat{
	{signature{0, "KDMV", "a VMDK image"}, "vmdk", true},                        // VMware Virtual Disk Format 5.0, sparse extent
	{signature{0, "COWD", "a VMDK image"}, "vmdk", true},                        // ESX server sparse extent
	{signature{0, "# Disk DescriptorFile", "a VMDK image"}, "vmdk", true},       // text descriptor
	{signature{0, "vhdxfile", "a VHDX image"}, "vhdx", true},                    // MS-VHDX §2.2.1
	{signature{0, "conectix", "a VHD image"}, "vpc", true},                      // dynamic: copy of the footer at the start
	{signature{64, "\x7f\x10\xda\xbe", "a VDI image"}, "vdi", false},            // VirtualBox VDICore.h, little-endian 0xbeda107f
	{signature{0, "QED\x00", "a QED image"}, "qed", true},                       // QEMU docs/interop/qed_spec
	{signature{0, "WithoutFreeSpace", "a Parallels image"}, "parallels", false}, // QEMU docs/interop/parallels
	{signature{0, "WithouFreSpacExt", "a Parallels image"}, "parallels", false}, // its extended form
	{signature{0, "Bochs Virtual HD Image", "a Bochs image"}, "bochs", false},   // QEMU block/bochs.c
}

// footers are formats that show only at the end of the file. Negative offsets count
// from there.
var footers = []diskFormat{
	{signature{-512, "conectix", "a VHD image"}, "vpc", false}, // fixed: Virtual Hard Disk Image Format Specification
	{signature{-511, "conectix", "a VHD image"}, "vpc", false}, // that of versions before Virtual PC 2004, ibid.
	{signature{-512, "koly", "a DMG image"}, "dmg", false},     // Apple UDIF trailer
}

// advice says how a person gets at the disk. Whoever made an image that can name other
// files decides what a conversion reads, on the machine of whoever converts it; and
// without -f, qemu-img guesses the format, which they decide too.
func (f diskFormat) advice() string {
	command := "qemu-img convert -f " + f.qemu + " -O qcow2"
	if f.names {
		return "convert it (" + command + ") only if you trust who made it, since it may copy other files of your machine into the result"
	}
	return "if you trust who made it, convert it with " + command
}

// foreignDisk returns the format that this project does not serve and that head begins.
func foreignDisk(head []byte) (diskFormat, bool) {
	if isVMDKDescriptor(head) {
		return disks[0], true
	}
	return findDisk(disks, head)
}

// footer returns the format that tail ends.
func footer(tail []byte) (diskFormat, bool) { return findDisk(footers, tail) }

func findDisk(table []diskFormat, data []byte) (diskFormat, bool) {
	for _, f := range table {
		if f.in(data) {
			return f, true
		}
	}
	return diskFormat{}, false
}

// find returns the name of the first signature that data bears, or "".
func find(table []signature, data []byte) string {
	for _, s := range table {
		if s.in(data) {
			return s.name
		}
	}
	return ""
}

// in reports whether data bears the signature.
func (s signature) in(data []byte) bool {
	at := s.offset
	if at < 0 {
		at += len(data)
	}
	return at >= 0 && at <= len(data) && bytes.HasPrefix(data[at:], []byte(s.magic))
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

// rawEncryption tells a raw disk that is a LUKS volume: cryptsetup,
// on-disk format of LUKS1 §2.1 and of LUKS2 §2.1.
func rawEncryption(head []byte) Encryption {
	for _, version := range []string{"\x00\x01", "\x00\x02"} {
		if bytes.HasPrefix(head, []byte(luksMagic+version)) {
			return EncryptionLUKS
		}
	}
	return EncryptionNone
}

const luksMagic = "LUKS\xba\xbe"
