package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dirtyEvery is after how many samples the page cache is looked at, which takes longer.
const dirtyEvery = 5

// sampleInterval is how often memory is looked at. The kernel keeps each process's peak, so only what a process does in its last
// interval can be missed. (rusage has the peak, too, but a child inherits its parent's.)
const sampleInterval = 50 * time.Millisecond

// sampler watches a process and its descendants.
type sampler struct {
	done   chan struct{}
	worker sync.WaitGroup
	usage  Usage
}

func startSampler(pid int, dir string) *sampler {
	s := &sampler{done: make(chan struct{})}
	s.worker.Go(func() {
		ticker := time.NewTicker(sampleInterval)
		defer ticker.Stop()
		for count := 0; ; count++ {
			s.usage.PeakRSS = max(s.usage.PeakRSS, treeRSS(pid))
			if dir != "" && count%dirtyEvery == 0 {
				s.usage.PeakDirty = max(s.usage.PeakDirty, dirtyBytes(dir))
			}
			select {
			case <-s.done:
				return
			case <-ticker.C:
			}
		}
	})
	return s
}

func (s *sampler) stop() Usage {
	close(s.done)
	s.worker.Wait()
	return s.usage
}

// treeRSS sums up the peaks of a process and its living descendants, in bytes.
func treeRSS(pid int) int64 {
	sum := field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		children, _ := os.ReadFile(list) // the thread may have ended
		for child := range strings.FieldsSeq(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				sum += treeRSS(pid)
			}
		}
	}
	return sum
}

// field reads a line "name: 123 kB" of a file of /proc, in bytes; 0 when it is not there.
func field(path, name string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == name {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
