package pull

import (
	"net/netip"
	"testing"
)

// TestDefaultDeny goes through every way that is known to write an address which
// a service must not fetch from for somebody else.
func TestDefaultDeny(t *testing.T) {
	t.Parallel()
	policy := AddressPolicy{Deny: DefaultDeny()}
	for _, tt := range []struct {
		name, addr string
		denied     bool
	}{
		{"a public address", "203.0.113.7", false},
		{"a public IPv6 address", "2001:db8::7", false},
		{"a private address", "10.1.2.3", false},
		{"a unique local address", "fd12:3456::7", false},
		{"shared address space", "100.64.1.1", false},

		{"unspecified", "0.0.0.0", true},
		{"this network", "0.1.2.3", true},
		{"unspecified IPv6", "::", true},
		{"loopback", "127.0.0.1", true},
		{"the end of loopback", "127.255.255.254", true},
		{"loopback IPv6", "::1", true},
		{"link-local", "169.254.0.1", true},
		{"link-local IPv6", "fe80::1", true},
		{"the end of link-local IPv6", "febf:ffff::1", true},
		{"link-local with a zone", "fe80::1%eth0", true},
		{"metadata with a zone", "fd00:ec2::254%eth0", true},
		{"multicast", "224.0.0.1", true},
		{"the end of multicast", "239.255.255.255", true},
		{"multicast IPv6", "ff02::1", true},
		{"broadcast", "255.255.255.255", true},

		{"metadata", "169.254.169.254", true},
		{"metadata of Alibaba", "100.100.100.200", true},
		{"the neighbour of Alibaba's", "100.100.100.201", false},
		{"metadata of Alibaba, IPv6", "fd00:100::100:200", true},
		{"wire server of Azure", "168.63.129.16", true},
		{"metadata of Oracle", "192.0.0.192", true},
		{"metadata of Oracle, IPv6", "fd00:c1::a9fe:a9fe", true},
		{"metadata of AWS, IPv6", "fd00:ec2::254", true},
		{"credentials of EKS Pods, IPv6", "fd00:ec2::23", true},
		{"metadata of Google, IPv6", "fd20:ce::254", true},
		{"metadata of Scaleway, IPv6", "fd00:42::42", true},
		{"metadata of Akamai, IPv6", "fd00:a9fe:a9fe::1", true},

		{"IPv4-mapped public", "::ffff:203.0.113.7", false},
		{"IPv4-mapped loopback", "::ffff:127.0.0.1", true},
		{"IPv4-mapped metadata", "::ffff:169.254.169.254", true},
		{"IPv4-compatible metadata", "::169.254.169.254", true},
		{"IPv4-compatible public", "::203.0.113.7", false},
		{"IPv4-translated metadata", "::ffff:0:169.254.169.254", true},
		{"IPv4-translated public", "::ffff:0:203.0.113.7", false},
		{"NAT64 metadata", "64:ff9b::169.254.169.254", true},
		{"NAT64 Azure", "64:ff9b::a83f:8110", true},
		{"NAT64 public", "64:ff9b::203.0.113.7", false},
		{"local NAT64, 96 bits", "64:ff9b:1::169.254.169.254", true},
		{"local NAT64, 48 bits", "64:ff9b:1:a9fe:a9:fe00::", true},
		{"local NAT64, public", "64:ff9b:1::203.0.113.7", true},
		{"6to4 loopback", "2002:7f00:1::1", true},
		{"6to4 metadata", "2002:a9fe:a9fe::1", true},
		{"6to4 public", "2002:cb00:7107::1", false},
		{"Teredo client at loopback", "2001:0:cb00:7107:0:ffff:80ff:fffe", true},
		{"Teredo server at metadata", "2001:0:a9fe:a9fe:0:ffff:34ff:8ef8", true},
		{"Teredo between public ones", "2001:0:cb00:7107:0:ffff:34ff:8ef8", false},
		{"ISATAP metadata", "2001:db8::5efe:169.254.169.254", true},
		{"ISATAP metadata, universal bit", "2001:db8::200:5efe:169.254.169.254", true},
		{"ISATAP public", "2001:db8::5efe:203.0.113.7", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := policy.Check(netip.MustParseAddr(tt.addr))
			if (err != nil) != tt.denied || tt.denied && reasonOf(err) != PolicyDenied {
				t.Errorf("Check(%s) = %v, want denied %t", tt.addr, err, tt.denied)
			}
			if err := (AddressPolicy{}).Check(netip.MustParseAddr(tt.addr)); err != nil {
				t.Errorf("the zero policy: %v", err)
			}
		})
	}
}

// TestAllowIsNoDetour: an address that stands for several is allowed only if all of them are.
func TestAllowIsNoDetour(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, allow, addr string
		denied            bool
	}{
		{"loopback", "::1/128", "::1", false},
		{"one address, not its neighbour", "127.0.0.1/32", "127.0.0.2", true},
		{"a network written in the mapped form", "::ffff:169.254.0.0/112", "169.254.3.4", false},
		{"an IPv4 network, also mapped", "127.0.0.0/8", "::ffff:127.0.0.1", false},
		{"an IPv4 network, also translated", "127.0.0.0/8", "64:ff9b::127.0.0.1", false},
		{"the local translator", "64:ff9b:1::/96", "64:ff9b:1::203.0.113.7", false},
		{"the local translator, but not what is behind it", "64:ff9b:1::/96", "64:ff9b:1::169.254.169.254", true},
		{"6to4, but not what is behind it", "2002::/16", "2002:a9fe:a9fe::1", true},
		{"a Teredo server, but not its client", "127.0.0.0/8", "2001:0:7f00:1:0:ffff:5601:5601", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy := AddressPolicy{Deny: DefaultDeny(), Allow: []netip.Prefix{netip.MustParsePrefix(tt.allow)}}
			if err := policy.Check(netip.MustParseAddr(tt.addr)); (err != nil) != tt.denied {
				t.Errorf("Check(%s) with %s allowed = %v, want denied %t", tt.addr, tt.allow, err, tt.denied)
			}
		})
	}
}
