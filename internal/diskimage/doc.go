// Package diskimage says what bytes are: whether they are a disk image, of which
// format, how large the guest's disk is, whether it is encrypted, and why they are
// refused if they are. It reads through io.ReaderAt and knows nothing of where the
// bytes come from or where they are kept.
//
// Head judges an object by its first bytes, before the rest of it is fetched.
// WithTail adds its last bytes. File judges the complete object and follows the
// tables of a qcow2 image. Each gives a Description, and Description.As says what
// the object is under a wanted format.
//
// What a hypervisor would take for an image of another format is refused in every
// format but Opaque: opening it may lead the hypervisor to other files of the host.
// Everything else that speaks against a raw disk (text, archives, an odd size) is a
// guess, and whoever asks for format Raw knows better.
package diskimage
