package proc

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dirtyBytes is what the page cache holds of the files below dir and has not brought to the disk yet. It asks for those files alone:
// /proc/meminfo would count what the rest of the machine writes.
func dirtyBytes(dir string) int64 {
	var pages uint64
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			pages += dirtyPages(path)
		}
		return nil // files come and go while a tool works
	})
	return int64(pages) * int64(os.Getpagesize())
}

func dirtyPages(path string) uint64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(file.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		return 0
	}
	return stat.Dirty + stat.Writeback
}
