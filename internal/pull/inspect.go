package pull

import (
	"errors"
	"fmt"
)

// inspectSize is how many of an object's first bytes the inspection looks at,
// and tailSize how many of its last.
const (
	inspectSize = 4096
	tailSize    = 512
)

// content is what the bytes of an object were found to be.
type content struct {
	format      Format // Qcow2, Raw or Opaque
	virtualSize int64  // bytes of the guest's disk; 0 for Opaque
}

// inspect judges an object by its first bytes. total is the size of the object,
// -1 while unknown; head holds min(total, inspectSize) bytes. Every error of it
// is UnsupportedContent.
func inspect(head []byte, total int64, want Format) (content, error) {
	if total == 0 || len(head) == 0 {
		return content{}, fail(UnsupportedContent, "the object is empty")
	}
	if want == FormatOpaque {
		return content{format: FormatOpaque}, nil
	}
	header, err := parseQcow2(head, total)
	if !errors.Is(err, errNotQcow2) {
		return inspectQcow2(header, err, want)
	}
	if name := match(archives, head); name != "" {
		return content{}, fail(UnsupportedContent, "the object is a %s (its first bytes are %s): unpack it and serve the disk image, or ask for format Opaque",
			name, firstBytes(head))
	}
	if name := otherDisk(head); name != "" {
		return content{}, fail(UnsupportedContent, "the object is a %s: convert it with qemu-img convert -O qcow2, or ask for format Opaque", name)
	}
	if kind := textKind(head); kind != "" {
		// Never what it says: the URL may lead to a service whose answers the reader of
		// a status is not to see.
		return content{}, fail(UnsupportedContent, "the object is %s, not a disk image: check that the URL needs no login and names the image itself", kind)
	}
	if want == FormatQcow2 {
		return content{}, fail(UnsupportedContent, "the object is not a qcow2 image (its first bytes are %s, a qcow2 begins 51 46 49 fb)", firstBytes(head))
	}
	return content{format: FormatRaw, virtualSize: max(total, 0)}, nil
}

// inspectQcow2 decides over an object that bears the qcow2 magic; err is what
// parsing its header gave.
func inspectQcow2(header qcow2Header, err error, want Format) (content, error) {
	switch {
	case want == FormatRaw:
		return content{}, fail(UnsupportedContent, "the object is a qcow2 image but format Raw was asked for: ask for Auto or Qcow2")
	case err != nil:
		return content{}, fail(UnsupportedContent, "the object is a qcow2 image that cannot be used: %v", err)
	case header.backingFile:
		return content{}, fail(UnsupportedContent,
			"the qcow2 image names a backing file, which would make a hypervisor read other files of the host: flatten it with qemu-img convert -O qcow2")
	case header.externalData:
		return content{}, fail(UnsupportedContent,
			"the qcow2 image keeps its data in an external file, which would make a hypervisor read other files of the host: convert it with qemu-img convert -O qcow2")
	}
	return content{format: FormatQcow2, virtualSize: header.virtualSize}, nil
}

// inspectTail judges a complete object by its last bytes, for the formats that
// show only there. found is what its first bytes showed; only what may be raw
// can turn out to be something else.
func inspectTail(tail []byte, found Format) error {
	if found != FormatRaw {
		return nil
	}
	if name := match(footers, tail); name != "" {
		return fail(UnsupportedContent, "the object is a %s (by its last %d bytes): convert it with qemu-img convert -O qcow2, or ask for format Opaque", name, tailSize)
	}
	return nil
}

// firstBytes prints the start of head in hex, for messages: enough for a magic
// number, and too little to read anything of somebody else's by.
func firstBytes(head []byte) string { return fmt.Sprintf("% x", head[:min(len(head), 4)]) }
