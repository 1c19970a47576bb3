// Command nodepulls pulls several objects into one store at once under one limit, as an agent with ten images does.
// Each argument is URL#sha256:HEX.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "nodepulls: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	set := flag.NewFlagSet("nodepulls", flag.ContinueOnError)
	path := set.String("store", "", "directory of the store")
	connections := set.Int("connections", pull.DefaultConnections, "most connections of one pull")
	limit := set.Int64("bytes-per-second", 0, "limit over all pulls together; 0 is none")
	if err := set.Parse(args); err != nil {
		return err
	}
	store, err := pull.Open(ctx, *path, pull.OpenOptions{MaxBytesPerSecond: *limit})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	errs := make([]error, set.NArg())
	var pulls sync.WaitGroup
	for i, source := range set.Args() {
		pulls.Go(func() {
			url, digest, _ := strings.Cut(source, "#")
			_, errs[i] = store.Pull(ctx, pull.Request{URL: url, Digest: digest, Connections: *connections}, nil)
		})
	}
	pulls.Wait()
	return errors.Join(errs...)
}
