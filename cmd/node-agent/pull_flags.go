package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/source"
)

const defaultStore = "/var/lib/cloudimage"

// pullConfig is what the command line asks for.
type pullConfig struct {
	store   string
	json    bool
	request pull.Request
}

// pullFlags are the flags as they are written.
type pullFlags struct {
	store, digest, maxSize, format, verify, rate, cacert, output string
	headers, deny, allow                                         []string
	connections                                                  int
	stall                                                        time.Duration
}

func (f *pullFlags) set() *pflag.FlagSet {
	set := pflag.NewFlagSet("pull", pflag.ContinueOnError)
	set.SortFlags = false
	set.Usage = func() {}
	set.StringVar(&f.store, "store", defaultStore, "`directory` of the store; it is made when missing")
	set.StringVar(&f.digest, "digest", "", "`sha256:HEX` that the bytes must have; any other is refused")
	set.IntVar(&f.connections, "connections", pull.DefaultConnections, "most connections to the server at once, 1 to 64")
	set.StringVar(&f.maxSize, "max-size", "20Gi", "refuse anything larger than this `quantity` of bytes")
	set.StringVar(&f.format, "format", "Auto", "what the object may be: Auto, Qcow2, Raw or Opaque; Auto takes qcow2 and raw")
	set.StringVar(&f.verify, "verify", "cache", "cache: hash the file as the page cache returns it, then sync it; media: also drop the cache and hash what the medium returns")
	set.StringVar(&f.rate, "max-bytes-per-second", "", "limit over all connections together, a `quantity` of bytes")
	set.DurationVar(&f.stall, "stall-timeout", pull.DefaultStallTimeout, "how long the server may send nothing, also before its first byte; raise it for one that takes long to begin")
	set.StringArrayVar(&f.headers, "header", nil, "`'Name: value'` to send to the URL's own host and port, or @FILE with one a line, which keeps secrets out of the process list; repeatable")
	set.StringVar(&f.cacert, "cacert", "", "PEM `file` of authorities to trust for https instead of the system's")
	set.StringArrayVar(&f.deny, "deny-cidr", nil, "`network` that may not be connected to; repeatable")
	set.StringArrayVar(&f.allow, "allow-cidr", nil, "`network` that may, although --deny-cidr covers it; repeatable")
	set.StringVar(&f.output, "output", "text", "text, or json for one object on standard output")
	return set
}

// parsePullFlags turns arguments into a checked configuration. Its errors are
// usage errors.
func parsePullFlags(args []string) (pullConfig, error) {
	var f pullFlags
	set := f.set()
	if err := set.Parse(args); err != nil {
		return pullConfig{}, err
	}
	if set.NArg() != 1 {
		return pullConfig{}, fmt.Errorf("give exactly one URL (there are %d arguments)", set.NArg())
	}
	return f.config(set.Arg(0))
}

func (f *pullFlags) config(url string) (config pullConfig, err error) {
	config.store = f.store
	config.request = pull.Request{URL: url, Digest: f.digest, Connections: f.connections, StallTimeout: f.stall}
	if f.store == "" {
		return config, errors.New("--store is empty: name a directory")
	}
	if config.json, err = choice("output", f.output, map[string]bool{"text": false, "json": true}); err != nil {
		return config, err
	}
	r := &config.request
	if r.Format, err = choice("format", strings.ToLower(f.format), map[string]pull.Format{
		"auto": pull.FormatAuto, "qcow2": pull.FormatQcow2, "raw": pull.FormatRaw, "opaque": pull.FormatOpaque,
	}); err != nil {
		return config, err
	}
	if r.Verify, err = choice("verify", f.verify, map[string]pull.Verify{"cache": pull.VerifyCache, "media": pull.VerifyMedia}); err != nil {
		return config, err
	}
	if r.MaxSize, err = parseQuantity("max-size", f.maxSize); err != nil {
		return config, err
	}
	if f.rate != "" {
		if r.MaxBytesPerSecond, err = parseQuantity("max-bytes-per-second", f.rate); err != nil {
			return config, err
		}
	}
	if f.connections == 0 { // which the engine would take for the default
		return config, fmt.Errorf("--connections is 0: use 1 to %d", pull.MaxConnections)
	}
	if f.stall <= 0 {
		return config, fmt.Errorf("--stall-timeout is %s: use a positive duration such as 90s", f.stall)
	}
	if err := f.files(r); err != nil {
		return config, err
	}
	return config, r.Check()
}

// files fills in what the flags have to read from files or parse from lists, and what
// the environment says.
func (f *pullFlags) files(r *pull.Request) (err error) {
	if r.Proxy, err = source.ProxyFromEnvironment(); err != nil {
		return err
	}
	if r.Header, err = parseHeaders(f.headers); err != nil {
		return err
	}
	if f.cacert != "" {
		pem, err := os.ReadFile(f.cacert)
		if err != nil {
			return fmt.Errorf("--cacert: %w", err)
		}
		r.RootCAs = x509.NewCertPool()
		if !r.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--cacert: %s holds no PEM certificate", f.cacert)
		}
	}
	if r.Addresses.Deny, err = parseNetworks("deny-cidr", f.deny); err != nil {
		return err
	}
	r.Addresses.Allow, err = parseNetworks("allow-cidr", f.allow)
	return err
}

// choice looks a flag's value up among those it may have.
func choice[T any](flag, value string, choices map[string]T) (T, error) {
	if chosen, ok := choices[value]; ok {
		return chosen, nil
	}
	var none T
	allowed := map[string]string{
		"output": "text or json", "format": "Auto, Qcow2, Raw or Opaque", "verify": "cache or media",
	}
	return none, fmt.Errorf("--%s is %.40q: use %s", flag, value, allowed[flag])
}

// parseQuantity parses a positive quantity of bytes as Kubernetes writes it.
func parseQuantity(flag, text string) (int64, error) {
	quantity, err := resource.ParseQuantity(text)
	if err != nil || quantity.Sign() <= 0 {
		return 0, fmt.Errorf("--%s is %.40q: use a positive quantity of bytes such as 500Mi or 20Gi", flag, text)
	}
	return quantity.Value(), nil
}

func parseNetworks(flag string, texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--%s is %.60q: use a network such as 10.0.0.0/8 or fd00::/8", flag, text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// parseHeaders reads header fields, each "Name: value", or "@FILE" with one a
// line. No error of it prints a value.
func parseHeaders(texts []string) (http.Header, error) {
	header := http.Header{}
	for _, text := range texts {
		path, isFile := strings.CutPrefix(text, "@")
		if !isFile {
			if err := addHeader(header, text); err != nil {
				return nil, fmt.Errorf("--header: %w", err)
			}
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--header: %w", err)
		}
		number := 0
		for line := range strings.Lines(string(content)) {
			number++
			if strings.TrimSpace(line) == "" {
				continue
			}
			if err := addHeader(header, line); err != nil {
				return nil, fmt.Errorf("--header: line %d of %s: %w", number, path, err)
			}
		}
	}
	return header, nil
}

func addHeader(header http.Header, line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || strings.TrimSpace(name) == "" {
		return errors.New("write 'Name: value'")
	}
	field := http.Header{strings.TrimSpace(name): {strings.TrimSpace(value)}}
	if err := pull.CheckHeader(field); err != nil {
		return err
	}
	header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	return nil
}

// pullHelp is the text of --help.
func pullHelp() string {
	var f pullFlags
	return `Fetch a virtual-machine disk image into a store on this machine: over several
connections, hashed while it downloads, and published only when every byte is
verified and on stable storage.

Usage:
  node-agent pull [flags] URL

Examples:
  # Fetch an image and pin its digest.
  node-agent pull --store /srv/images \
    --digest sha256:0123...cdef https://example.org/debian-13.qcow2

  # What a script needs: one JSON object, exit code 0, 1, 2 or 130.
  node-agent pull --store /srv/images --output json https://example.org/disk.raw

  # Credentials from a file, at most 50 MiB/s, no address of the private network.
  node-agent pull --header @/run/secrets/headers --max-bytes-per-second 50Mi \
    --deny-cidr 10.0.0.0/8 https://example.org/private.qcow2

Flags:
` + f.set().FlagUsagesWrapped(100) + `
Every server is asked for ranges; one that does not serve them, or serves them
wrongly, is read as one stream. Without --digest, ranges are used only under a
strong ETag or Last-Modified. Header fields are dropped when a redirect leaves
the URL's scheme, host or port, and redirects from https to http are refused.

A server or network that fails is asked again for half a minute without a new byte,
by one request at a time. A pull that was interrupted or killed, or that failed in a
way that may be mended, as by another token or signature, keeps what is on disk, and
the same command goes on from there: the bytes are read and compared again, and used
only under the same digest, or without --digest under the same strong ETag or
Last-Modified. From a server that serves no ranges an object is read from its start,
three times at most.

The URL is your own choice, so no address is denied unless --deny-cidr says so.
HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured; --deny-cidr then sees the
address of the proxy only. A proxy that cannot be read is wrong usage.

Refused: HTML and other text, archives and compressed images, what is no multiple of
512 bytes, disks and qcow2 images of which a part is missing, images of another
format such as VMDK, VHDX, VHD, VDI or QED, and qcow2 images with a backing or an
external data file. --format Raw takes a plain disk that only looks like something
else; --format Opaque takes anything.

Exit codes: 0 done (or present already), 1 failed, 2 wrong usage, 130 interrupted.
The reasons of a failure: SourceUnavailable, SourceThrottled, SourceStalled and
SourceChanged may pass; InsufficientSpace, StorageError and StoreBusy lie with the
store; DigestMismatch, NotFound, Forbidden, InvalidSource, TooLarge,
UnsupportedContent and PolicyDenied stay until the command or the source changes.
`
}
