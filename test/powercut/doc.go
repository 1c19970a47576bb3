// Package powercut is a disk that can lose power. It is a file system in memory,
// mounted through FUSE, that remembers every change and every sync, and can say
// what the disk may hold after a power cut at any moment: a file's bytes that were
// not synced are there, lost, torn or zeros; a name whose directory was not synced
// is there or it is not. It also fails on demand, with EIO or ENOSPC at any
// operation.
//
// The package is for tests: those in it run the real engine on such a disk. What
// it assumes of a disk is what POSIX promises and no more, except for two things
// that every journaling file system gives: the name that a rename makes and the
// name that it takes away are not both lost, and a name leads to an inode that
// exists.
//
// disk.go, names.go and content.go are the file system, cut.go and choice.go the
// power cuts, mount.go, handlers.go and files.go the way through the kernel.
//
// What the tests demand, of every disk that a cut may leave: a name under blobs/
// is over the bytes that it names, and read-only; an image leads to such a blob;
// once a pull has said that it succeeded, both are there; and the next process
// opens the store, uses what is right, fetches the rest, resumes from no byte that
// was not synced, and says so only when another cut could take nothing away.
package powercut
