package diskimage

// Format says what an object may be, or what it was found to be.
type Format string

// The formats. An Image is Qcow2, Raw or Opaque, never Auto.
const (
	// FormatAuto takes qcow2 and raw images, and refuses everything that seems to be neither.
	FormatAuto Format = "Auto"
	// FormatQcow2 takes qcow2 versions 2 and 3 without backing or external data file.
	FormatQcow2 Format = "Qcow2"
	// FormatRaw takes a disk's plain bytes (ISO images are such), also where they
	// look like something else, but no image of another format.
	FormatRaw Format = "Raw"
	// FormatOpaque takes any bytes, uninspected.
	FormatOpaque Format = "Opaque"
)

// Encryption says how the guest's data is encrypted. More values may follow.
type Encryption string

// The kinds of encryption.
const (
	// EncryptionNone: not encrypted by the image's format; what a guest encrypts
	// in a partition of its own is not looked for.
	EncryptionNone Encryption = ""
	// EncryptionLUKS: a qcow2 image with LUKS, or a raw disk that begins with a
	// LUKS1 or LUKS2 header.
	EncryptionLUKS Encryption = "LUKS"
	// EncryptionAES: a qcow2 image with the old AES encryption, which QEMU's system
	// emulators do not open any more.
	EncryptionAES Encryption = "AES"
)

const (
	// HeadSize is how many of an object's first bytes Head looks at.
	HeadSize = 4096
	// TailSize is how many of an object's last bytes WithTail looks at.
	TailSize = sectorSize

	// MaxVirtualSize is the largest disk of a guest that is taken, in bytes: that of
	// the largest VHDX (MS-VHDX §1.3) and of the largest disk that a cloud sells. The
	// header of a small file may claim 2 EiB, and volumes are made as large as it says.
	MaxVirtualSize int64 = 64 << 40

	// sectorSize is what the size of a disk is a multiple of, in bytes.
	sectorSize = 512
)

// Image is an object that was taken.
type Image struct {
	// Format is Qcow2, Raw or Opaque.
	Format Format
	// VirtualSize is the size of the disk that a guest sees, in bytes, as QEMU has
	// it: a multiple of 512; 0 for Opaque, and while the size of a raw disk is unknown.
	VirtualSize int64
	// Encryption of the guest's data; EncryptionNone for Opaque.
	Encryption Encryption
}
