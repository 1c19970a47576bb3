// Command kubectl-cloudimage is a plugin of kubectl that tells people how far their images are. It reads the objects that everybody
// can read, CloudImages and NodeImageCaches, and writes nothing but the annotation that asks for a new rollout.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// version is set by the build.
var version = "dev"

const usage = `kubectl cloudimage tells how far virtual-machine images are on the nodes.

Usage:
  kubectl cloudimage status IMAGE     each node's state, progress, rate, and why it is not ready
  kubectl cloudimage watch [IMAGE]    the same, live; without IMAGE all images, until Ctrl-C
  kubectl cloudimage why NODE IMAGE   why a node does not hold an image, and what to do
  kubectl cloudimage retry IMAGE      ask every node that failed to try again, as a new rollout
  kubectl cloudimage wait IMAGE       return once the image is ready, or with an error once it has stopped
  kubectl cloudimage version          print the version

Flags:
`

const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// errUsage is a command line that cannot be understood.
var errUsage = errors.New("run 'kubectl cloudimage --help' for the commands")

// options are the flags of every command.
type options struct {
	all       bool
	timeout   time.Duration
	overrides clientcmd.ConfigOverrides
	loading   *clientcmd.ClientConfigLoadingRules
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run does one command and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts := options{loading: clientcmd.NewDefaultClientConfigLoadingRules()}
	flags := opts.flags(stderr)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case err != nil:
		err = fmt.Errorf("%w: %w", err, errUsage)
	default:
		err = dispatch(ctx, flags.Args(), opts, stdout)
	}
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "kubectl cloudimage: %s\n", redact.Printable(err.Error()))
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitError
}

func (o *options) flags(stderr io.Writer) *pflag.FlagSet {
	flags := pflag.NewFlagSet("kubectl cloudimage", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.SortFlags = false
	flags.BoolVar(&o.all, "all", false, "list every node, also those that are ready")
	flags.DurationVar(&o.timeout, "timeout", 0, "how long wait waits; 0 is for good")
	flags.StringVar(&o.loading.ExplicitPath, "kubeconfig", "", "path of the kubeconfig; else KUBECONFIG, else ~/.kube/config")
	flags.StringVar(&o.overrides.CurrentContext, "context", "", "context of the kubeconfig")
	flags.Usage = func() { fmt.Fprint(stderr, usage, flags.FlagUsages()) }
	return flags
}

// config finds the API server as kubectl does.
func (o *options) config() (*rest.Config, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(o.loading, &o.overrides).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("no kubeconfig was found: name one with --kubeconfig or KUBECONFIG")
	case err != nil:
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	config.UserAgent = "kubectl-cloudimage/" + version
	return config, nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("build the scheme: %w", err)
	}
	return scheme, nil
}

// dispatch runs the command that the arguments name.
func dispatch(ctx context.Context, args []string, opts options, stdout io.Writer) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	var least, most int
	var takes string
	switch command {
	case "":
		return fmt.Errorf("a command is missing: %w", errUsage)
	case "version":
		fmt.Fprintln(stdout, version)
		return nil
	case "status", "retry", "wait":
		least, most, takes = 1, 1, "the name of one image"
	case "why":
		least, most, takes = 2, 2, "the names of a node and an image"
	case "watch":
		most, takes = 1, "the name of one image or none"
	default:
		return fmt.Errorf("unknown command %q: %w", command, errUsage)
	}
	if len(args) < least || len(args) > most {
		return fmt.Errorf("%s takes %s: %w", command, takes, errUsage)
	}
	config, err := opts.config()
	if err != nil {
		return err
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	if command == "watch" {
		return watch(ctx, config, scheme, args, opts.all, stdout)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	switch command {
	case "status":
		return status(ctx, c, apiPage, args[0], opts.all, stdout)
	case "retry":
		return retry(ctx, c, args[0], stdout)
	case "wait":
		return waitFor(ctx, c, args[0], opts.timeout, stdout)
	default:
		return why(ctx, c, args[0], args[1], stdout)
	}
}
