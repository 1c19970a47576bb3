package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const cgroups = "/sys/fs/cgroup"

// MakeCgroup makes a cgroup, with its parents, in every hierarchy of this machine.
func MakeCgroup(path string) error {
	hierarchies, err := hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		at := hierarchy
		for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			parent := at
			at = filepath.Join(at, part)
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("make a cgroup: %w", err)
			}
			if err := inherit(parent, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit lets the child use what its parent may: in version 2 the controllers, in version 1 the processors and memory nodes.
func inherit(parent, child string) error {
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err == nil {
		for controller := range strings.FieldsSeq(string(controllers)) {
			// Some cannot be given away, and the kubelet says which of them it misses.
			_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(child, name), value, 0)
		}
		if err != nil {
			return fmt.Errorf("set up a cgroup: %w", err)
		}
	}
	return nil
}

// hierarchies are the one of version 2, or those of version 1, each a folder of its own.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{cgroups}, nil
	}
	entries, err := os.ReadDir(cgroups)
	if err != nil {
		return nil, fmt.Errorf("list the cgroups: %w", err)
	}
	var all []string
	for _, entry := range entries {
		if entry.IsDir() { // the others are links to them
			all = append(all, filepath.Join(cgroups, entry.Name()))
		}
	}
	return all, nil
}

// Cgroups are the folders of a cgroup and of all below it, the deepest first.
func Cgroups(path string) ([]string, error) {
	hierarchies, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, hierarchy := range hierarchies {
		err := filepath.WalkDir(filepath.Join(hierarchy, path), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list the cgroups of %s: %w", path, err)
		}
	}
	slices.Reverse(all)
	return all, nil
}

// FindCgroups are the names of the topmost cgroups that begin with a prefix.
func FindCgroups(prefix string) ([]string, error) {
	hierarchies, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, hierarchy := range hierarchies {
		found, _ := filepath.Glob(filepath.Join(hierarchy, prefix+"*")) // the pattern is well-formed
		for _, path := range found {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// RemoveCgroup removes a cgroup with all below it, again until the kernel has forgotten the processes that were in there.
func RemoveCgroup(path string, limit time.Duration) error {
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		all, err := Cgroups(path)
		if err != nil || len(all) == 0 {
			return err
		}
		var errs []error
		for _, dir := range all {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil && time.Since(begin) > limit {
			return fmt.Errorf("remove the cgroup %s: %w", path, err)
		}
	}
}
