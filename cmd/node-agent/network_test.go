package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

type testEnvironment map[string]string

// parse reads flags as in a Pod with this environment.
func (env testEnvironment) parse(t *testing.T, args ...string) (opts networkOptions, err error) {
	t.Helper()
	for _, name := range []string{"NODE_IPS", "POD_IPS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		t.Setenv(name, env[name])
	}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	opts.addFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	err = opts.parse()
	return opts, err
}

func TestTheNodesOwnAddressesAreDenied(t *testing.T) {
	opts, err := testEnvironment{"NODE_IPS": "198.51.100.7,2001:db8::7", "POD_IPS": "10.244.1.7"}.parse(t)
	if err != nil {
		t.Fatal(err)
	}
	for address, denied := range map[string]bool{
		"198.51.100.7": true, "::ffff:198.51.100.7": true, "64:ff9b::198.51.100.7": true, "2001:db8::7": true, "10.244.1.7": true, "127.0.0.1": true,
		"198.51.100.8": false, "2001:db8::8": false, "10.244.1.8": false,
	} {
		if err := opts.addresses.Check(netip.MustParseAddr(address)); (err != nil) != denied {
			t.Errorf("%s: %v, want denied %t", address, err, denied)
		} else if denied && !strings.Contains(err.Error(), "--allow-cidr") {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
	opts, err = testEnvironment{"NODE_IPS": "198.51.100.7"}.parse(t, "--allow-cidr=198.51.100.0/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := opts.addresses.Check(netip.MustParseAddr("198.51.100.7")); err != nil {
		t.Errorf("an origin behind a NodePort, allowed: %v", err)
	}
	if _, err := (testEnvironment{}).parse(t); err != nil {
		t.Errorf("a manifest of an earlier version, without the variables: %v", err)
	}
}

// TestWhatCannotBeReadIsFatal: going on without it would allow what it was to refuse.
func TestWhatCannotBeReadIsFatal(t *testing.T) {
	for name, env := range map[string]testEnvironment{
		"address of the node": {"NODE_IPS": "$(NODE_IPS)"},
		"address of the Pod":  {"POD_IPS": "10.244.1.7;10.244.1.8"},
		"proxy":               {"HTTP_PROXY": "http://user:SECRET%@proxy.example:3128"},
		"proxy of https":      {"https_proxy": "http://proxy.example:99999"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := env.parse(t); err == nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("error %v", err)
			}
			if strings.HasPrefix(name, "proxy") {
				if _, err := parsePullFlags([]string{"https://images.example/x"}); err == nil || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("the command line: error %v", err)
				}
			}
		})
	}
}
