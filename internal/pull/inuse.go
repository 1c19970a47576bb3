package pull

import (
	"os"

	"golang.org/x/sys/unix"
)

// inUse tells why a file of the store is in use by somebody, or "". Locks belong
// to the inode, so that a virtual machine in another container, or without any, is
// seen as well.
//
// It takes the file's flock as the test, which ends with f: nobody can take one
// while f is open.
func inUse(f *os.File) string {
	var st unix.Stat_t
	fd := int(f.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return err.Error()
	}
	if st.Nlink > 1 {
		return "it has another name"
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return "somebody holds its flock"
	}
	// Any record lock stands in the way of a lock for writing: those of a process,
	// and those of an open file (OFD), which qemu takes.
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err == nil && lock.Type != unix.F_UNLCK {
		return "somebody holds a lock on a part of it"
	}
	// A lease for writing is refused while anybody else has the file open. Not every
	// filesystem has leases, and not everybody may take them: other answers say nothing.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err == unix.EAGAIN {
		return "somebody has it open"
	} else if err == nil {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return ""
}
