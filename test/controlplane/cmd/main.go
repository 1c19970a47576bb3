// Command cmd starts the local control plane for a person: `go run ./test/controlplane/cmd up`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

var errUsage = errors.New(`usage: go run ./test/controlplane/cmd build|up
  build   build etcd, kube-apiserver and kubectl into the user's cache folder, and print that folder's path
  up      start an API server on loopback, and stop it on Ctrl-C`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	switch args[0] {
	case "build":
		programs, err := controlplane.FindPrograms(ctx, controlplane.Options{Output: os.Stderr})
		if err != nil {
			return err
		}
		fmt.Println(filepath.Dir(programs.Kubectl))
		return nil
	case "up":
		return up(ctx)
	default:
		return errUsage
	}
}

func up(ctx context.Context) error {
	c, err := controlplane.Start(ctx, controlplane.Options{Output: os.Stderr, IgnoreEnvironment: true})
	if err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\nexport PATH=%s:$PATH\n", c.KubeconfigPath, filepath.Dir(c.KubectlPath))
	fmt.Fprintf(os.Stderr, "the API server %s is ready; Ctrl-C stops it\n", c.Config.Host)
	<-ctx.Done()
	return c.Stop()
}
