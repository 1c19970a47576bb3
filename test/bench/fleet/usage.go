package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// sampleEvery is how often the memory of the processes is looked at.
	sampleEvery = 500 * time.Millisecond
	// clockTicks is the unit of CPU times in /proc, in 1/s: USER_HZ, which is 100 on every Linux.
	clockTicks = 100
)

// usage is what a program costs, all its processes one after the other.
type usage struct {
	cpuSeconds float64
	maxRSS     int64 // bytes
	// moved are the bytes that it read and wrote with system calls: for a program with nothing but connections and a log, its traffic.
	moved int64
}

// sampler watches programs by their names.
type sampler struct {
	pids map[string]func() int // 0 while there is none
	stop chan struct{}
	work sync.WaitGroup

	mu    sync.Mutex
	last  map[int]reading // of every process ever seen
	owner map[int]string
	peaks map[string]int64
}

// reading is one look at a process.
type reading struct {
	cpuSeconds float64
	rss, moved int64
}

func startSampler(pids map[string]func() int) *sampler {
	s := &sampler{pids: pids, stop: make(chan struct{}), last: map[int]reading{}, owner: map[int]string{}, peaks: map[string]int64{}}
	s.work.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		for {
			s.look()
			select {
			case <-s.stop:
				return
			case <-ticker.C:
			}
		}
	})
	return s
}

func (s *sampler) close() {
	close(s.stop)
	s.work.Wait()
}

func (s *sampler) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, find := range s.pids {
		pid := find()
		read, err := readProcess(pid)
		if pid == 0 || err != nil {
			continue // it was killed just now
		}
		s.last[pid], s.owner[pid] = read, name
		s.peaks[name] = max(s.peaks[name], read.rss)
	}
}

// take returns what each program has cost so far; its memory counts from the last call.
func (s *sampler) take() map[string]usage {
	s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]usage{}
	for name := range s.pids {
		all[name] = usage{maxRSS: s.peaks[name]}
	}
	for pid, read := range s.last {
		sum := all[s.owner[pid]]
		sum.cpuSeconds += read.cpuSeconds
		sum.moved += read.moved
		all[s.owner[pid]] = sum
	}
	s.peaks = map[string]int64{}
	return all
}

func readProcess(pid int) (reading, error) {
	var r reading
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return r, fmt.Errorf("look at process %d: %w", pid, err)
	}
	if r.cpuSeconds, err = parseStat(stat); err != nil {
		return r, fmt.Errorf("look at process %d: %w", pid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return r, fmt.Errorf("look at process %d: %w", pid, err)
	}
	r.rss = fieldOf(status, "VmRSS:") << 10
	if io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)); err == nil { // some containers hide it
		r.moved = fieldOf(io, "rchar:") + fieldOf(io, "wchar:")
	}
	return r, nil
}

// parseStat reads user and system time, the fields 14 and 15 of proc_pid_stat(5). The second is in brackets and may hold anything.
func parseStat(stat []byte) (cpuSeconds float64, err error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("unexpected stat %q", stat)
	}
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("unexpected stat %q: %w", stat, err)
		}
		cpuSeconds += float64(ticks) / clockTicks
	}
	return cpuSeconds, nil
}

// fieldOf is the number after a name at the start of a line, 0 if there is none.
func fieldOf(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				n, _ := strconv.ParseInt(fields[0], 10, 64)
				return n
			}
		}
	}
	return 0
}
