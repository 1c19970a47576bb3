package pull

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// lockHolder names the process that holds a flock on a file: "process 123 (qemu)".
// It is empty if the kernel does not tell, as of a process outside this container.
func lockHolder(st unix.Stat_t) string {
	f, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		pid, ok := flockOn(lines.Text(), st)
		if !ok {
			continue
		}
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("process %d (%s)", pid, redact.Printable(strings.TrimSpace(string(name))))
	}
	return ""
}

// flockOn reads one line of /proc/locks, proc_locks(5), and returns the process that
// holds the flock on a file, if the line speaks of that file:
//
//	1: FLOCK  ADVISORY  WRITE 1234 08:01:131090 0 EOF
//
// A line of a process that waits has "->" behind the number.
func flockOn(line string, st unix.Stat_t) (pid int, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "FLOCK" {
		return 0, false
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino)
	pid, err := strconv.Atoi(fields[4])
	return pid, err == nil && pid > 0 && fields[5] == file
}
