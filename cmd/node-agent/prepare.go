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
)

// runPrepare is the subcommand prepare: the kubelet makes the folder of a hostPath volume as root's, and the agent is not root.
func runPrepare(args []string, stderr io.Writer) int {
	var store, owner string
	flags := pflag.NewFlagSet("prepare", pflag.ContinueOnError)
	flags.StringVar(&store, "store", "/var/lib/cloudimage", "directory of the node's images")
	flags.StringVar(&owner, "owner", "65532:65532", "user and group that it shall belong to, as numbers")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Gives the store and all in it to a user. It needs to be root, with no capability but CAP_CHOWN.\n\nFlags:\n%s", flags.FlagUsages())
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
	if err := giveTo(store, uid, gid); err != nil {
		fmt.Fprintf(stderr, "node-agent prepare: %v\n", err)
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

// giveTo changes the owner of a folder and all below it, what is in a folder before the folder itself. So a folder that belongs to
// the user already needs no look inside, which would be forbidden without CAP_DAC_READ_SEARCH, and a store of a thousand blobs costs
// one system call. Symbolic links are changed, never followed.
func giveTo(path string, uid, gid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at the store: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == uid && int(stat.Gid) == gid {
		return nil
	}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the store: %w", err)
		}
		for _, entry := range entries {
			if err := giveTo(filepath.Join(path, entry.Name()), uid, gid); err != nil {
				return err
			}
		}
	}
	if err := os.Lchown(path, uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give the store to user %d: %w", uid, err)
	}
	return nil
}
