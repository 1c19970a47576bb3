package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

const (
	keepAlive = 15 * time.Second
	// backstop is by how much a connection may outlast the stall time-out of the
	// request that it is for, which says better what happened.
	backstop = 5 * time.Second
	// attemptDelay is the time between attempts at the addresses of one name, the
	// Connection Attempt Delay that RFC 8305 §8 recommends.
	attemptDelay = 250 * time.Millisecond
)

// newTransport returns the HTTP/1.1 transport of one pull. HTTP/2 is off: it
// would put every range onto one TCP connection.
func newTransport(j *job) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:       j.Proxy,
		DialContext: newDialer(j).dial,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, asked *http.Request, answer *http.Response) error {
			if e := proxyRefusal(asked.Host, answer); e != nil {
				return e
			}
			return nil
		},
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{RootCAs: j.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    j.StallTimeout + backstop,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    j.Connections,
		MaxConnsPerHost:        j.Connections,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// dialer connects to the first address of a name that answers. Go's own tries the
// addresses of one family one after another, so that one that swallows packets
// takes most of the time that there is.
type dialer struct {
	one    net.Dialer // connects to one address
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func newDialer(j *job) *dialer {
	return &dialer{
		one: net.Dialer{
			Timeout:   j.StallTimeout + backstop,
			KeepAlive: keepAlive,
			ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
				return checkDial(j.Addresses, network, address)
			},
		},
		lookup: net.DefaultResolver.LookupNetIP,
	}
}

// dial connects to a host and port.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := d.lookup(ctx, "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err} // as net.Dialer says it
	}
	var addresses []string
	for _, ip := range alternate(found) {
		addresses = append(addresses, net.JoinHostPort(ip.String(), port))
	}
	return d.race(ctx, network, addresses)
}

// alternate orders addresses as RFC 8305 §4 does: as the resolver sorted them, but
// with the families in turn, so that a family without a route costs one attempt.
func alternate(found []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr // the first one's, and the other
	for _, ip := range found {
		ip = ip.Unmap()
		family := 0
		if len(families[0]) > 0 && families[0][0].Is4() != ip.Is4() {
			family = 1
		}
		families[family] = append(families[family], ip)
	}
	var ordered []netip.Addr
	for i := range found {
		for _, family := range families {
			if i < len(family) {
				ordered = append(ordered, family[i])
			}
		}
	}
	return ordered
}

// race begins an attempt at each address in turn, attemptDelay after the one before
// or once that has failed, and returns the first connection.
func (d *dialer) race(ctx context.Context, network string, addresses []string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	attempt := func(address string) {
		conn, err := d.one.DialContext(ctx, network, address)
		select {
		case outcomes <- outcome{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close()
			}
		}
	}
	var failure error
	turn := time.NewTimer(0)
	defer turn.Stop()
	for begun, ended := 0, 0; ended < len(addresses); {
		select {
		case <-turn.C:
			if begun < len(addresses) {
				address := addresses[begun]
				attempts.Go(func() { attempt(address) })
				begun++
				turn.Reset(attemptDelay)
			}
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			ended++
			failure = worse(failure, o.err)
			turn.Reset(0)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if failure == nil {
		failure = errNoAddress
	}
	return nil, failure
}

var errNoAddress = errors.New("the name has no address")

// worse is the error to tell of two attempts: the first, but that an address is
// denied only if all are.
func worse(first, second error) error {
	if first == nil || reasonOf(first) == PolicyDenied {
		return second
	}
	return first
}

// checkDial applies the policy to the resolved address of a connection that is
// about to be made.
func checkDial(policy AddressPolicy, network, address string) error {
	endpoint, err := netip.ParseAddrPort(address)
	if err != nil {
		return fail(PolicyDenied, "cannot judge the %s address %.80q", network, address)
	}
	return policy.Check(endpoint.Addr())
}
