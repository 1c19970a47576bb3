package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/source"
)

// networkOptions are what the agent may connect to, and through what.
type networkOptions struct {
	denyCIDRs    []string
	allowCIDRs   []string
	ownAddresses []string

	addresses pull.AddressPolicy
	proxy     source.Proxy
}

func (o *networkOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.denyCIDRs, "deny-cidr", nil, "network that no image may come from, besides loopback, link-local, multicast, cloud metadata and --own-address; repeatable")
	flags.StringSliceVar(&o.allowCIDRs, "allow-cidr", nil, "network that images may come from although it is denied; repeatable")
	flags.StringSliceVar(&o.ownAddresses, "own-address", addressesOf("NODE_IPS", "POD_IPS"), "IP address of this node or Pod, which no image may come from; repeatable; default $NODE_IPS and $POD_IPS")
}

// addressesOf reads environment variables as the downward API writes status.hostIPs
// and status.podIPs: addresses with commas between them.
func addressesOf(variables ...string) (addresses []string) {
	for _, variable := range variables {
		for text := range strings.SplitSeq(os.Getenv(variable), ",") {
			if text = strings.TrimSpace(text); text != "" {
				addresses = append(addresses, text)
			}
		}
	}
	return addresses
}

// parse reads the address policy and the proxy. What it cannot read is an error: to
// go on without would allow what somebody meant to refuse.
func (o *networkOptions) parse() (err error) {
	o.addresses.Deny = pull.DefaultDeny()
	for _, text := range o.ownAddresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--own-address, or $NODE_IPS or $POD_IPS, is %.60q: use an IP address", text)
		}
		addr = addr.WithZone("").Unmap()
		o.addresses.Deny = append(o.addresses.Deny, netip.PrefixFrom(addr, addr.BitLen()))
	}
	denied, err := parseNetworks("deny-cidr", o.denyCIDRs)
	if err != nil {
		return err
	}
	o.addresses.Deny = append(o.addresses.Deny, denied...)
	if o.addresses.Allow, err = parseNetworks("allow-cidr", o.allowCIDRs); err != nil {
		return err
	}
	o.proxy, err = source.ProxyFromEnvironment()
	return err
}
