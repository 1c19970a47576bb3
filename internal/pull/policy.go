package pull

import "net/netip"

// AddressPolicy says which addresses the dialer may connect to. It is applied
// after name resolution, to every connection, so that neither a name nor a
// redirect leads around it. The zero value allows every address.
type AddressPolicy struct {
	// Deny refuses these networks, also where an IPv6 address embeds an IPv4
	// address that is in them.
	Deny []netip.Prefix
	// Allow takes precedence over Deny.
	Allow []netip.Prefix
}

// DefaultDeny returns the networks that a service should never fetch from on
// somebody else's behalf: the node itself, its link, and the metadata services
// of clouds that lie outside the link-local range (Alibaba, Azure, Oracle, AWS
// and Google).
func DefaultDeny() []netip.Prefix {
	var deny []netip.Prefix
	for _, network := range []string{
		"0.0.0.0/8", "::/128", // unspecified, "this network" (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2)
		"127.0.0.0/8", "::1/128", // loopback
		"169.254.0.0/16", "fe80::/10", // link-local, most metadata services
		"224.0.0.0/4", "ff00::/8", // multicast
		"255.255.255.255/32",                                       // limited broadcast
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", // metadata
		"fd00:ec2::254/128", "fd20:ce::254/128", // metadata over IPv6
	} {
		deny = append(deny, netip.MustParsePrefix(network))
	}
	return deny
}

// Check returns a PolicyDenied error when addr may not be connected to.
func (p AddressPolicy) Check(addr netip.Addr) error {
	forms := append([]netip.Addr{addr.WithZone("").Unmap()}, embedded(addr)...)
	for _, form := range forms {
		if contains(p.Allow, form) {
			return nil
		}
	}
	for _, form := range forms {
		if contains(p.Deny, form) {
			return fail(PolicyDenied, "address %s is denied: let the source's host resolve to another address, or allow this one", addr)
		}
	}
	return nil
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(addr) {
			return true
		}
		// A policy may itself be written in the IPv4-mapped form.
		if network.Addr().Is4In6() && network.Bits() >= 96 &&
			netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96).Contains(addr) {
			return true
		}
	}
	return false
}

// The IPv6 networks whose addresses carry an IPv4 address that a router of this
// side may translate to.
var (
	nat64Network      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
	compatibleNetwork = netip.MustParsePrefix("::/96")        // RFC 4291 §2.5.5.1
	sixToFourNetwork  = netip.MustParsePrefix("2002::/16")    // RFC 3056 §2
)

// embedded returns the IPv4 addresses that an IPv6 address stands for.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() || addr.Is4In6() {
		return nil
	}
	addr = addr.WithZone("")
	b := addr.As16()
	switch {
	case nat64Network.Contains(addr), compatibleNetwork.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:16]))}
	case sixToFourNetwork.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	}
	return nil
}
