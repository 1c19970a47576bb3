package diskimage

import "fmt"

// doubts says what speaks against an object being a raw disk, or returns "". It goes
// by the object's first bytes and its size, -1 while unknown.
func doubts(head []byte, size int64) string {
	if name := container(head); name != "" {
		return fmt.Sprintf("the object is %s (its first bytes are % x): unpack it and serve the disk image, or ask for format Opaque",
			name, head[:min(len(head), 4)])
	}
	if kind := textKind(head); kind != "" {
		// Never what it says: the URL may lead to a service whose answers the reader of
		// a status is not to see.
		return fmt.Sprintf("the object is %s, not a disk image: check that the URL needs no login and names the image itself", kind)
	}
	if name := document(head, size); name != "" {
		return fmt.Sprintf("the object is %s, not a disk image: check that the URL names the image itself, or ask for format Opaque", name)
	}
	if why := cutShort(head, size); why != "" {
		return why
	}
	if size > 0 && size%sectorSize != 0 {
		return fmt.Sprintf("the object has %d bytes, which is no multiple of 512, so that it is no raw disk: check that the URL names the image itself, unpacked; if it is right, ask for format Raw, or Opaque for what is no disk", size)
	}
	return ""
}

// container names the archive or the like that head begins, or returns "".
func container(head []byte) string {
	if name := find(containers, head); name != "" {
		return name
	}
	for _, structure := range []struct {
		name string
		is   func([]byte) bool
	}{
		{"a tar archive", isTar},
		{"a cpio archive", isBinaryCpio},
		{"a bzip2 archive", isBzip2},
		{"a zstd or lz4 archive", isSkippable},
		{"an lzma archive", isLzma},
		{"a zlib stream", isZlib},
		{"an arj archive", isArj},
	} {
		if structure.is(head) {
			return structure.name
		}
	}
	return ""
}

// document names what else head begins that is no disk, or returns "".
func document(head []byte, size int64) string {
	switch {
	case isTorrent(head):
		return "a torrent file"
	case isSignature(head, size):
		return "a signature"
	}
	return find(documents, head)
}
