package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
)

// snapshot is what of this machine has no mark by which one could tell whose it is.
type snapshot struct{ interfaces, namespaces []string }

func look() (snapshot, error) {
	var s snapshot
	interfaces, err := net.Interfaces()
	if err != nil {
		return s, fmt.Errorf("list the network interfaces: %w", err)
	}
	for _, one := range interfaces {
		s.interfaces = append(s.interfaces, one.Name)
	}
	entries, err := os.ReadDir("/run/netns") // where `ip netns add` keeps them
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("list the network namespaces: %w", err)
	}
	for _, entry := range entries {
		s.namespaces = append(s.namespaces, entry.Name())
	}
	return s, nil
}

// Leftovers looks for what is left of the sandbox after Remove: processes, mounts, network interfaces and namespaces, cgroups and
// files. Processes and mounts are told by the name of the sandbox's folder.
func (s *Sandbox) Leftovers() ([]string, error) {
	mark := filepath.Base(s.Dir)
	found, err := processes(mark)
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, mark) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	after, err := look()
	if err != nil {
		return nil, err
	}
	for _, list := range []struct {
		kind          string
		before, after []string
	}{
		{"network interface ", s.before.interfaces, after.interfaces},
		{"network namespace ", s.before.namespaces, after.namespaces},
	} {
		for _, name := range list.after {
			if !slices.Contains(list.before, name) {
				found = append(found, list.kind+name)
			}
		}
	}
	cgroups, err := machine.Cgroups(s.Cgroup)
	if err != nil {
		return nil, err
	}
	for _, dir := range cgroups {
		found = append(found, "cgroup "+dir)
	}
	if _, err := os.Lstat(s.Dir); err == nil {
		found = append(found, "folder "+s.Dir)
	}
	return found, nil
}

// processes are those whose command line, environment, mounts or cgroup name the mark; not this one.
func processes(mark string) ([]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	var found []string
	for _, dir := range dirs {
		if dir == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		for _, name := range []string{"cmdline", "environ", "mountinfo", "cgroup"} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil { // it ended meanwhile, or is a kernel's thread
				break
			}
			if bytes.Contains(data, []byte(mark)) {
				command, _ := os.ReadFile(filepath.Join(dir, "comm"))
				found = append(found, fmt.Sprintf("process %s (%s)", filepath.Base(dir), bytes.TrimSpace(command)))
				break
			}
		}
	}
	return found, nil
}
