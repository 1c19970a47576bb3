package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// runPrepare is the subcommand prepare: the kubelet makes the folder of a hostPath volume as root's, and the agent is not root.
func runPrepare(args []string, stderr io.Writer) int {
	var store, owner string
	flags := pflag.NewFlagSet("prepare", pflag.ContinueOnError)
	flags.StringVar(&store, "store", "/var/lib/cloudimage", "directory of the node's images")
	flags.StringVar(&owner, "owner", "65532:65532", "user and group that it shall belong to, as numbers")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Gives the store and all in it to a user; a directory that is neither empty nor a store is left alone. It needs to be root, with no capability but CAP_CHOWN.\n\nFlags:\n%s", flags.FlagUsages())
	}
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	}
	var uid, gid int
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err == nil {
		uid, gid, err = parseOwner(owner)
	}
	if err != nil {
		fmt.Fprintf(stderr, "node-agent prepare: %v\nRun 'node-agent prepare --help' for the flags.\n", err)
		return exitUsage
	}
	if err := giveStore(store, uid, gid); err != nil {
		fmt.Fprintf(stderr, "node-agent prepare: %s\n", redact.Printable(err.Error()))
		return exitError
	}
	return exitOK
}

// parseOwner reads UID:GID.
func parseOwner(text string) (uid, gid int, err error) {
	user, group, _ := strings.Cut(text, ":")
	u, errUser := strconv.ParseUint(user, 10, 31)
	g, errGroup := strconv.ParseUint(group, 10, 31)
	if errors.Join(errUser, errGroup) != nil {
		return 0, 0, fmt.Errorf("--owner must be two numbers like 65532:65532, not %q", text)
	}
	return int(u), int(g), nil
}

// giver changes owners within one filesystem.
type giver struct {
	uid, gid int
	device   uint64
}

// giveStore gives a store to a user, and nothing else: a path that was mistyped may lead to a folder that the node lives by.
func giveStore(path string, uid, gid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at the store: %w", err)
	}
	g := giver{uid: uid, gid: gid, device: deviceOf(info)}
	if g.owns(info) {
		return nil
	}
	if err := pull.CheckDir(path); err != nil {
		return err
	}
	return g.give(path)
}

func (g giver) owns(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == g.uid && int(stat.Gid) == g.gid
}

// deviceOf is 0 where the system does not tell.
func deviceOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Dev) //nolint:unconvert // its type differs between platforms
	}
	return 0
}

// give changes the owner of a folder and all below it, what is in a folder before the folder itself. So a folder that belongs to
// the user already needs no look inside, which would be forbidden without CAP_DAC_READ_SEARCH, and a store of a thousand blobs costs
// one system call. Symbolic links are changed, never followed.
func (g giver) give(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at the store: %w", err)
	}
	if g.owns(info) {
		return nil
	}
	if deviceOf(info) != g.device {
		return fmt.Errorf("another filesystem is mounted at %s, inside the store: unmount it, or choose another directory", path)
	}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the store: %w", err)
		}
		for _, entry := range entries {
			if err := g.give(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Lchown(path, g.uid, g.gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give the store to user %d: %w", g.uid, err)
	}
	return nil
}
