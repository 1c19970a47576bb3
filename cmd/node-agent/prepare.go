package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

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
