// Package guest makes a small virtual machine: a disk that boots Debian's kernel, and QEMU to run it.
package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/debian"
)

// init is all of the guest's user space: it says what it was told on the kernel's command line, which only this disk knows, and ends.
const initScript = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in
  greeting=*) echo "${word#greeting=}: Linux $(/bin/busybox uname -r) booted from the warm image" ;;
  esac
done
/bin/busybox reboot -f
`

const bootConfig = `DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd
  APPEND console=ttyS0 quiet panic=-1 greeting=%s
`

// MakeDisk writes a qcow2 image whose guest prints the greeting, one word, on its serial console. dir is for what is needed on the way,
// and kernels keeps the kernel for the next time.
func MakeDisk(ctx context.Context, dir, kernels, path, greeting string) error {
	kernel, err := debianKernel(ctx, dir, kernels)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "init"), []byte(initScript), 0o755); err != nil {
		return fmt.Errorf("write the guest's init: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "syslinux.cfg"), fmt.Appendf(nil, bootConfig, greeting), 0o600); err != nil {
		return fmt.Errorf("write the guest's boot configuration: %w", err)
	}
	for _, line := range []string{
		`mkdir -p root/bin root/dev && cp init root/init && cp /bin/busybox root/bin/busybox && mknod root/dev/console c 5 1`,
		`cd root && find . | cpio --quiet -o -H newc | gzip -1 >../initrd`,
		`truncate -s 64M disk.raw && mformat -i disk.raw -h 16 -s 63 -T 131072 -H 0 -c 4 ::`,
		`mcopy -i disk.raw '` + kernel + `' ::vmlinuz && mcopy -i disk.raw initrd syslinux.cfg ::`,
		`syslinux --install disk.raw`,
		`qemu-img convert -q -f raw -O qcow2 disk.raw '` + path + `'`,
		`rm -r root disk.raw`,
	} {
		cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make the guest's disk: `%s`: %w: %s", line, err, out)
		}
	}
	return nil
}

// debianKernel is the kernel that Debian makes for virtual machines. Its package is not installed: this machine boots another.
func debianKernel(ctx context.Context, dir, kernels string) (string, error) {
	name, err := debian.Depends(ctx, "linux-image-cloud-amd64")
	if err != nil {
		return "", err
	}
	kept := filepath.Join(kernels, name)
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := debian.Unpack(ctx, name, dir); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("find the kernel in the package %s: %q (%w)", name, found, err)
	}
	if err := os.MkdirAll(kernels, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for the kernel: %w", err)
	}
	if err := os.Rename(found[0], kept); err != nil { // for example because it lies on another disk
		return found[0], nil //nolint:nilerr // it is only not kept for the next time
	}
	return kept, nil
}

// Command runs a guest whose serial console is standard output, until it ends. It is emulated, because nested virtualization is not to
// be relied on.
func Command(disk string) string {
	return "timeout 120 qemu-system-x86_64 -accel tcg -m 256 -nodefaults -no-user-config -display none" +
		" -serial stdio -no-reboot -drive file=" + disk + ",format=qcow2,if=ide"
}
