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
// of clouds that lie outside the link-local range. Private networks are not among
// them, since most registries of images are there.
func DefaultDeny() []netip.Prefix {
	var deny []netip.Prefix
	for _, network := range []string{
		"0.0.0.0/8", "::/128", // unspecified, "this network" (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2)
		"127.0.0.0/8", "::1/128", // loopback
		"169.254.0.0/16", "fe80::/10", // link-local, most metadata services
		"224.0.0.0/4", "ff00::/8", // multicast
		"255.255.255.255/32", // limited broadcast
		// What a local translator makes of these is its own (RFC 8215): where in
		// the address the IPv4 address lies cannot be known.
		"64:ff9b:1::/48",
		"fd00:ec2::/32",                               // AWS: metadata, credentials of EKS Pods
		"fd20:ce::254/128",                            // Google Cloud
		"168.63.129.16/32",                            // Azure
		"100.100.100.200/32", "fd00:100::100:200/128", // Alibaba Cloud
		"192.0.0.192/32", "fd00:c1::a9fe:a9fe/128", // Oracle Cloud
		"fd00:42::42/128",       // Scaleway
		"fd00:a9fe:a9fe::1/128", // Akamai
	} {
		deny = append(deny, netip.MustParsePrefix(network))
	}
	return deny
}

// Check returns a PolicyDenied error when addr may not be connected to. Every
// address that it stands for must be allowed, so that one that may be reached
// does not carry another along.
func (p AddressPolicy) Check(addr netip.Addr) error {
	for _, form := range append(embedded(addr), addr.WithZone("").Unmap()) {
		if contains(p.Deny, form) && !contains(p.Allow, form) {
			return fail(PolicyDenied, "address %s is denied: let the source's host resolve to another address, or allow this one with --allow-cidr", addr)
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

// The IPv6 networks whose addresses carry an IPv4 address that a router or a tunnel
// of this side may translate to.
var (
	nat64Network      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052 §2.1
	localNAT64Network = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215, with the usual length of 96 bits
	translatedNetwork = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 §2.1
	compatibleNetwork = netip.MustParsePrefix("::/96")           // RFC 4291 §2.5.5.1
	sixToFourNetwork  = netip.MustParsePrefix("2002::/16")       // RFC 3056 §2
	teredoNetwork     = netip.MustParsePrefix("2001::/32")       // RFC 4380 §4
)

// embedded returns the IPv4 addresses that an IPv6 address stands for.
func embedded(addr netip.Addr) []netip.Addr {
	addr = addr.WithZone("")
	if !addr.Is6() || addr.Is4In6() || addr.IsUnspecified() || addr.IsLoopback() {
		return nil
	}
	b := addr.As16()
	last := [4]byte(b[12:])
	switch {
	case nat64Network.Contains(addr), localNAT64Network.Contains(addr), translatedNetwork.Contains(addr),
		compatibleNetwork.Contains(addr), isISATAP(b):
		return []netip.Addr{netip.AddrFrom4(last)}
	case sixToFourNetwork.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredoNetwork.Contains(addr):
		for i := range last {
			last[i] ^= 0xff // the client's address is written inverted
		}
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4(last)}
	}
	return nil
}

// isISATAP tells whether the interface identifier carries an IPv4 address (RFC 5214 §6.1).
func isISATAP(b [16]byte) bool {
	return b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
