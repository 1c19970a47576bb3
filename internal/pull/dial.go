package pull

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	dialTimeout = 30 * time.Second
	keepAlive   = 15 * time.Second
)

// newTransport returns the HTTP/1.1 transport of one pull. HTTP/2 is off: it
// would put every range onto one TCP connection.
func newTransport(j *job) *http.Transport {
	dialer := &net.Dialer{
		Timeout:   dialTimeout,
		KeepAlive: keepAlive,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return checkDial(j.Addresses, network, address)
		},
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:       j.Proxy,
		DialContext: dialer.DialContext,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, asked *http.Request, answer *http.Response) error {
			if e := proxyRefusal(asked.Host, answer); e != nil {
				return e
			}
			return nil
		},
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{RootCAs: j.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    j.Connections,
		MaxConnsPerHost:        j.Connections,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
	}
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
