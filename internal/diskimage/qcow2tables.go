package diskimage

import (
	"bytes"
	"encoding/binary"
	"io"
)

const (
	// offsetMask takes the offset out of an entry of an L1 or L2 table: bits 9 to 55.
	offsetMask = 0x00fffffffffffe00
	// refcountMask takes it out of an entry of the refcount table: bits 9 to 63.
	refcountMask = ^uint64(sectorSize - 1)

	l2Compressed = 1 << 62
	l2Zero       = 1 << 0 // the cluster reads as zeros, whatever is in the file

	// minLUKSHeader is the size of the fixed part of a LUKS1 header, in bytes:
	// cryptsetup, on-disk format of LUKS1 §2.1.
	minLUKSHeader = 592

	chunkSize = 64 << 10 // what is read of a table at once, in bytes
)

// readQcow2 parses the header of a complete image of size bytes, and checks that all
// its tables point into the file: an image that was cut still has a header that is
// right. What is read is the metadata alone, and never more than the file's size.
func readQcow2(r io.ReaderAt, size int64) (qcow2Header, error) {
	head, err := readAt(r, 0, min(size, HeadSize))
	if err != nil {
		return qcow2Header{}, err
	}
	h, err := parseQcow2(head, size)
	if err != nil {
		return h, err
	}
	if head, err = readAt(r, 0, min(size, int64(h.cluster()))); err != nil {
		return h, err
	}
	if h, err = parseQcow2(padded(head, size, h.cluster()), size); err != nil || h.backingFile || h.externalData {
		return h, err
	}
	f := qcow2File{&h, r, uint64(size)}
	for _, check := range []func() error{f.checkLUKS, f.checkRefcounts, f.checkL1, f.checkSnapshots} {
		if err := check(); err != nil {
			return h, err
		}
	}
	return h, nil
}

// padded adds the zeros that QEMU reads behind the end of a file to its first cluster.
func padded(head []byte, size int64, cluster uint64) []byte {
	if uint64(size) < cluster {
		head = append(head, make([]byte, cluster-uint64(size))...)
	}
	return head
}

// qcow2File is an image whose tables are checked.
type qcow2File struct {
	*qcow2Header
	io.ReaderAt
	size uint64 // bytes of the file
}

// each calls visit for each eight bytes of a part of the file that is known to be in it.
func (f qcow2File) each(offset, length uint64, visit func(i int, entry uint64) error) error {
	for done := uint64(0); done < length; {
		chunk, err := readAt(f, int64(offset+done), int64(min(chunkSize, length-done)))
		if err != nil {
			return err
		}
		for i := 0; i+8 <= len(chunk); i += 8 {
			if err := visit(int(done)/8+i/8, binary.BigEndian.Uint64(chunk[i:])); err != nil {
				return err
			}
		}
		done += uint64(len(chunk))
	}
	return nil
}

// inside checks that a table of one cluster is aligned and in the file, and that there
// are no more of them than fit into it, so that a small file cannot have the same table
// read a million times.
func (f qcow2File) inside(name string, offset uint64, nth uint64) error {
	switch {
	case offset%f.cluster() != 0:
		return flawed("its %s is at the invalid offset %d", name, offset)
	case offset > f.size || f.size-offset < f.cluster():
		return cut(name, offset+f.cluster(), int64(f.size))
	case nth > f.size/f.cluster():
		return flawed("it has more tables than fit into its %d bytes", f.size)
	}
	return nil
}

func (f qcow2File) checkRefcounts() error {
	blocks := uint64(0)
	return f.each(f.refcounts.offset, f.refcounts.entries*f.refcounts.size, func(_ int, entry uint64) error {
		if entry&refcountMask == 0 {
			return nil
		}
		blocks++
		return f.inside("refcount block", entry&refcountMask, blocks)
	})
}

func (f qcow2File) checkL1() error {
	tables := uint64(0)
	return f.each(f.l1.offset, f.l1.entries*f.l1.size, func(_ int, entry uint64) error {
		offset := entry & offsetMask
		if offset == 0 {
			return nil
		}
		tables++
		if err := f.inside("L2 table", offset, tables); err != nil {
			return err
		}
		return f.checkL2(offset)
	})
}

// checkL2 checks that every cluster of data begins inside the file. The last one may end
// behind it: what is missing there reads as zeros.
func (f qcow2File) checkL2(offset uint64) error {
	extended, previous := f.entrySize() == 16, uint64(0)
	return f.each(offset, f.cluster(), func(i int, entry uint64) error {
		switch {
		case !extended:
			return f.checkCluster(entry, entry&l2Zero == 0)
		case i%2 == 0:
			previous = entry
			return nil
		}
		return f.checkCluster(previous, uint32(entry) != 0) // which of its parts are there
	})
}

// checkCluster checks an entry of an L2 table; read says whether the guest's data is
// read from where it points.
func (f qcow2File) checkCluster(entry uint64, read bool) error {
	if entry&l2Compressed != 0 {
		shift := 62 - (f.clusterBits - 8)
		offset := entry & (1<<shift - 1)
		sectors := entry>>shift&(1<<(f.clusterBits-8)-1) + 1
		if end := offset&^(sectorSize-1) + sectors*sectorSize; end > (f.size+sectorSize-1)&^(sectorSize-1) {
			return cut("compressed data", end, int64(f.size))
		}
		return nil
	}
	offset := entry & offsetMask
	switch {
	case offset == 0 || !read:
		return nil
	case offset%f.cluster() != 0:
		return flawed("its data is at the invalid offset %d", offset)
	case offset >= f.size:
		return cut("data", offset+f.cluster(), int64(f.size))
	}
	return nil
}

// checkSnapshots walks the table of snapshots as QEMU does when it opens the image:
// docs/interop/qcow2.txt, "Snapshots".
func (f qcow2File) checkSnapshots() error {
	const fixed, maxExtra = 40, 1024
	at := f.snapshots.offset
	for range f.snapshots.entries {
		at = (at + 7) &^ 7
		if at+fixed > f.size {
			return cut(f.snapshots.name, at+fixed, int64(f.size))
		}
		entry, err := readAt(f, int64(at), fixed)
		if err != nil {
			return err
		}
		id, name := binary.BigEndian.Uint16(entry[12:]), binary.BigEndian.Uint16(entry[14:])
		extra := binary.BigEndian.Uint32(entry[36:])
		if extra > maxExtra {
			return flawed("its snapshot table has an entry with %d bytes of extra data; %d are valid", extra, maxExtra)
		}
		if at += fixed + uint64(extra) + uint64(id) + uint64(name); at > f.size {
			return cut(f.snapshots.name, at, int64(f.size))
		}
	}
	return nil
}

// checkLUKS checks that there is a header of version 1 where one should be.
func (f qcow2File) checkLUKS() error {
	if f.encryption != EncryptionLUKS {
		return nil
	}
	start, err := readAt(f, int64(f.luks.offset), minLUKSHeader)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(start, []byte(luksMagic+"\x00\x01")) {
		return flawed("it is encrypted with LUKS but has no LUKS1 header at %d", f.luks.offset)
	}
	return nil
}
