// Command release writes every artefact of a release into one folder: the programs, their container images without a container
// engine, software bills of materials, the chart, the manifest for those without Helm, and the signed checksums of all. The same commit
// and version, built by the same Go, give the same bytes, on any machine and in any folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	repository string
	out        string
	version    string
	platforms  []platform
	imagesOnly bool
	signingKey string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	opts, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, opts)
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// versionPattern is Semantic Versioning 2.0 with a leading v and without build metadata, which a tag of an image cannot hold.
var versionPattern = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func parse(args []string) (options, error) {
	var opts options
	var platforms string
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&opts.repository, "repository", ".", "folder of the project's go.mod")
	flags.StringVar(&opts.out, "out", "dist", "folder that receives the artefacts")
	flags.StringVar(&opts.version, "version", "", "version of the release, like v0.1.0")
	flags.StringVar(&platforms, "platforms", "linux/amd64,linux/arm64", "platforms of the images")
	flags.BoolVar(&opts.imagesOnly, "images-only", false, "write no more than the images")
	flags.StringVar(&opts.signingKey, "signing-key", "", "SSH key that signs the checksums, or the public half of one in an agent or on a token; empty signs nothing")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !versionPattern.MatchString(opts.version) {
		return opts, fmt.Errorf("-version must be like v0.1.0 or v0.1.0-rc.1, not %q", opts.version)
	}
	for text := range strings.SplitSeq(platforms, ",") {
		system, architecture, found := strings.Cut(text, "/")
		if !found {
			return opts, fmt.Errorf("-platforms: %q is not like linux/amd64", text)
		}
		opts.platforms = append(opts.platforms, platform{system, architecture})
	}
	return opts, nil
}

// run writes the artefacts in the order in which they need each other.
func run(ctx context.Context, opts options) error {
	if opts.signingKey != "" {
		if err := requireSigner(opts.repository, opts.signingKey); err != nil { // before minutes of work
			return err
		}
	}
	if err := os.MkdirAll(opts.out, 0o755); err != nil {
		return fmt.Errorf("create the folder of the artefacts: %w", err)
	}
	if err := removeEarlier(opts.out); err != nil {
		return err
	}
	source, err := describeSource(ctx, opts.repository)
	if err != nil {
		return err
	}
	b := builder{repository: opts.repository, out: opts.out, version: opts.version, source: source}
	for _, program := range images {
		if err := b.image(ctx, program, opts.platforms); err != nil {
			return err
		}
	}
	if !opts.imagesOnly {
		if err := b.rest(ctx, opts.platforms); err != nil {
			return err
		}
	}
	if err := writeChecksums(opts.out); err != nil || opts.signingKey == "" {
		return err
	}
	return sign(ctx, opts.repository, opts.out, opts.signingKey)
}

// rest writes what is no image.
func (b *builder) rest(ctx context.Context, platforms []platform) error {
	for _, platform := range platforms {
		for _, program := range images {
			if err := b.bill(b.binaryPath(program.program, platform)); err != nil {
				return err
			}
		}
	}
	if err := b.plugin(ctx, platforms); err != nil {
		return err
	}
	if err := b.chart(filepath.Join(b.repository, "charts", "cloudimage-operator")); err != nil {
		return err
	}
	return b.manifest(filepath.Join(b.repository, "config", "default"))
}
