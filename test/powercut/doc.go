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
// disk.go and names.go are the file system, cut.go and choice.go the power cuts,
// mount.go and handlers.go the way through the kernel.
package powercut
