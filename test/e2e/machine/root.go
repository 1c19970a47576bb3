package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	rootFolder = "root"
	diskFolder = "disk"

	// As the node sees them.
	programFolder = "/opt/kubernetes"
	configFolder  = "/opt/config"
	logFolder     = "/opt/log"
	searchPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// enterRoot makes the node's root folder and leaves this machine's behind.
func enterRoot(spec Spec) error {
	root := filepath.Join(spec.Dir, rootFolder)
	// What is mounted here must not show up on this machine, nor the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := mount("tmpfs", root, "tmpfs", 0); err != nil {
		return err
	}
	if err := linkSystem(root); err != nil {
		return err
	}
	at := func(path string) string { return filepath.Join(root, path) }
	for _, step := range []func() error{
		func() error { return bind(filepath.Join(spec.Dir, diskFolder), at("/var"), 0) },
		func() error { return bind(spec.Programs, at(programFolder), unix.MS_RDONLY) },
		func() error { return bind(filepath.Join(spec.Dir, "config"), at(configFolder), unix.MS_RDONLY) },
		func() error { return bind(filepath.Join(spec.Dir, "logs"), at(logFolder), 0) },
		func() error { return bind("/dev", at("/dev"), unix.MS_REC) },
		func() error { return bind("/sys", at("/sys"), unix.MS_REC) }, // with the cgroups
		func() error { return mount("proc", at("/proc"), "proc", 0) },
		func() error { return mount("tmpfs", at("/run"), "tmpfs", 0) },
		func() error { return mount("tmpfs", at("/tmp"), "tmpfs", 0) },
		func() error { return layDisk(root) },
		func() error { return pivot(root) },
		// As systemd does: the kubelet's mounts must be seen by the containers that ask for it.
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("make the root folder of %s: %w", spec.Name, err)
		}
	}
	return nil
}

// linkSystem shows the programs and the settings of this machine. On systems of today /bin and its like are links into /usr.
func linkSystem(root string) error {
	for _, path := range []string{"/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		info, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		if info.IsDir() {
			if err := bind(path, filepath.Join(root, path), unix.MS_RDONLY); err != nil {
				return err
			}
			continue
		}
		target, err := os.Readlink(path)
		if err == nil {
			err = os.Symlink(target, filepath.Join(root, path))
		}
		if err != nil {
			return fmt.Errorf("copy the link %s: %w", path, err)
		}
	}
	return nil
}

// layDisk makes what every system has on its disk.
func layDisk(root string) error {
	for _, dir := range []string{"/var/lib", "/var/log", "/var/tmp", "/root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	err := os.Symlink("/run", filepath.Join(root, "var", "run"))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("link /var/run: %w", err)
	}
	return nil
}

// pivot is what runc does, too: the old root is mounted over the new one and then taken off.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("enter the root folder: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return os.Chdir("/")
}

func mount(source, target, kind string, flags uintptr) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make the mount point %s: %w", target, err)
	}
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// bind needs a second call for read-only: the first one ignores the flag.
func bind(source, target string, flags uintptr) error {
	if err := mount(source, target, "", unix.MS_BIND|flags&unix.MS_REC); err != nil {
		return err
	}
	if flags&unix.MS_RDONLY == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}
