package diskimage

import (
	"errors"
	"fmt"
	"io"
)

// Description is what an object seems to be.
type Description struct {
	kind      kind
	image     Image
	objection string // why it is not taken; "" for what is
	head      []byte // its first bytes, at most four
}

// kind is what decides which formats an object may be asked for as.
type kind int

const (
	kindEmpty    kind = iota
	kindRaw           // nothing speaks against a raw disk
	kindDoubtful      // something does, and may be wrong
	kindForeign       // an image of a format that is not served
	kindQcow2
)

// standsNotAlone names no command: what would make a hypervisor read other files makes
// qemu-img read those of whoever runs it, and copies them into its output.
const standsNotAlone = ", which would make a hypervisor read other files of the host: ask its publisher for an image that stands alone; " +
	"flatten it yourself only if you trust it, since that copies those files into it"

// RefusalError is that of an object that is not taken. Its text says why and what
// to do, and quotes nothing of the object but four bytes.
type RefusalError string

// Error implements error.
func (r RefusalError) Error() string { return string(r) }

// flaw is what is wrong with a qcow2 image, as opposed to an error of reading it.
type flaw string

func (f flaw) Error() string { return string(f) }

func flawed(format string, args ...any) error { return flaw(fmt.Sprintf(format, args...)) }

// Head describes an object by its first bytes. size is that of the whole object in
// bytes, -1 while unknown; head holds its first HeadSize bytes, or all if there are
// fewer.
func Head(head []byte, size int64) Description {
	d := Description{head: head[:min(len(head), 4)]}
	if size == 0 || len(head) == 0 {
		return d
	}
	if header, err := parseQcow2(head, size); !errors.Is(err, errNotQcow2) {
		return d.qcow2(header, err)
	}
	d.kind, d.image = kindRaw, Image{Format: FormatRaw, Encryption: rawEncryption(head)}
	if size > 0 {
		d.image.VirtualSize = (size + sectorSize - 1) / sectorSize * sectorSize
	}
	if other, ok := foreignDisk(head); ok {
		return d.foreign(other, "")
	}
	return d.doubt(doubts(head, size))
}

// MayEndOtherwise reports whether the last bytes of an object of size bytes may show
// that it is something else than its first ones say. The formats that do so put a
// footer of one sector, or a byte less, behind the disk. A disk itself is practically
// always a multiple of 4 KiB, and with such a footer it is none: where the size says
// enough, nobody has to ask for the tail before File sees it.
func (d Description) MayEndOtherwise(size int64) bool {
	return (d.kind == kindRaw || d.kind == kindDoubtful) && size > TailSize && size%(8*sectorSize) != 0
}

// WithTail adds what the last bytes of the object show: tail holds TailSize of them,
// or all if there are fewer. Only what may be raw can turn out to be something else.
func (d Description) WithTail(tail []byte) Description {
	if d.kind == kindRaw || d.kind == kindDoubtful {
		if other, ok := footer(tail); ok {
			return d.foreign(other, "by its last bytes")
		}
	}
	return d
}

// File describes a complete object of size bytes. Its errors are those of reading.
func File(r io.ReaderAt, size int64) (Description, error) {
	head, err := readAt(r, 0, min(size, HeadSize))
	if err != nil {
		return Description{}, err
	}
	d := Head(head, size)
	if d.kind == kindEmpty || d.kind == kindForeign || d.kind == kindQcow2 && d.objection != "" {
		return d, nil
	}
	if d.kind == kindQcow2 {
		header, err := readQcow2(r, size)
		if err != nil && !errors.As(err, new(flaw)) {
			return Description{}, err
		}
		return d.qcow2(header, err), nil
	}
	tail, err := readAt(r, max(0, size-TailSize), min(size, TailSize))
	if err != nil {
		return Description{}, err
	}
	if d = d.WithTail(tail); d.kind != kindRaw {
		return d, nil
	}
	start, err := readAt(r, 0, min(size, startSize))
	if err != nil {
		return Description{}, err
	}
	return d.doubt(cutShort(start, size)), nil
}

// As returns what the object is if it is asked for as a format. Its error is a RefusalError.
func (d Description) As(want Format) (Image, error) {
	switch {
	case d.kind == kindEmpty:
		return Image{}, RefusalError("the object is empty: check that the URL names the image itself")
	case want == FormatOpaque:
		return Image{Format: FormatOpaque}, nil
	case d.kind == kindQcow2 && want == FormatRaw:
		return Image{}, RefusalError("the object is a qcow2 image but format Raw was asked for: ask for Auto or Qcow2")
	case d.kind == kindDoubtful && want == FormatRaw:
		return d.image, nil
	case d.objection != "":
		return Image{}, RefusalError(d.objection)
	case d.kind == kindRaw && want == FormatQcow2:
		return Image{}, RefusalError(fmt.Sprintf("the object is not a qcow2 image (its first bytes are % x, a qcow2 begins 51 46 49 fb): check the URL, or ask for format Auto, which takes raw disks too", d.head))
	}
	return d.image, nil
}

// qcow2 describes an object with the magic of qcow2; err is what parsing gave.
func (d Description) qcow2(header qcow2Header, err error) Description {
	d.kind, d.objection = kindQcow2, ""
	d.image = Image{Format: FormatQcow2, VirtualSize: header.virtualSize, Encryption: header.encryption}
	switch {
	case header.backingFile:
		d.objection = "the qcow2 image names a backing file" + standsNotAlone
	case header.externalData:
		d.objection = "the qcow2 image keeps its data in an external file" + standsNotAlone
	case err != nil:
		d.objection = "the object is a qcow2 image that cannot be used: " + err.Error()
	}
	return d
}

// foreign describes an object as an image of a format that is not served.
func (d Description) foreign(other diskFormat, how string) Description {
	what := "the object is " + other.name
	if how != "" {
		what += " (" + how + ")"
	}
	d.kind, d.objection = kindForeign, what+": "+other.advice()+", or ask for format Opaque"
	return d
}

// doubt adds a reason why an object is no raw disk, unless it is "".
func (d Description) doubt(why string) Description {
	if why != "" {
		d.kind, d.objection = kindDoubtful, why
	}
	return d
}

// readAt reads n bytes. That there are fewer is io.EOF: the file became shorter.
func readAt(r io.ReaderAt, offset, n int64) ([]byte, error) {
	buf := make([]byte, n)
	got, err := r.ReadAt(buf, offset)
	if int64(got) == n {
		return buf, nil
	}
	return nil, fmt.Errorf("read %d bytes at %d: %w", n, offset, err)
}
