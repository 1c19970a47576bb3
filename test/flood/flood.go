// Package flood opens many connections that never complete a request, as whoever wants to exhaust a server would.
// It connects to loopback addresses only, and ends by itself.
package flood

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// pause is how long a connection that was dropped waits before it comes again.
const pause = 20 * time.Millisecond

// Options say how much of a flood it is.
type Options struct {
	// Address is the server's, host:port on loopback.
	Address string
	// TLS makes a handshake first; the certificate is not verified.
	TLS bool
	// Peers are the loopback addresses that the connections come from, in turn.
	Peers []netip.Addr
	// Connections are kept open at the same time, as far as the server lets them.
	Connections int
	// Head is how each connection begins; more of the last header follows until the server hangs up or Bytes were sent.
	Head string
	// Bytes are what a connection sends at most.
	Bytes int
}

// Flood is under way.
type Flood struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	// Opened counts the connections that the server took, Sent the bytes that were written into them.
	Opened, Sent atomic.Int64
}

// Start begins a flood that lasts until Stop is called or the context ends.
func Start(ctx context.Context, options Options) (*Flood, error) {
	server, err := netip.ParseAddrPort(options.Address)
	if err != nil || !server.Addr().IsLoopback() {
		return nil, fmt.Errorf("flood %s: only a loopback address is flooded: %w", options.Address, errors.Join(err, errors.ErrUnsupported))
	}
	f := &Flood{}
	ctx, f.cancel = context.WithCancel(ctx)
	for i := range options.Connections {
		f.done.Go(func() {
			from := &net.TCPAddr{IP: options.Peers[i%len(options.Peers)].AsSlice()}
			for ctx.Err() == nil {
				f.connect(ctx, from, options)
				wait(ctx, pause)
			}
		})
	}
	return f, nil
}

// Stop ends the flood and returns when its last connection is closed.
func (f *Flood) Stop() {
	f.cancel()
	f.done.Wait()
}

// connect sends an unfinished request and returns when the server hung up, or the flood ended.
func (f *Flood) connect(ctx context.Context, from net.Addr, options Options) {
	dialer := net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}
	below, err := dialer.DialContext(ctx, "tcp", options.Address)
	if err != nil {
		return
	}
	defer below.Close()
	defer context.AfterFunc(ctx, func() { below.Close() })()
	conn := below
	if options.TLS {
		conn = tls.Client(below, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // G402: the certificate is made at each start
	}
	f.Opened.Add(1)
	chunk := bytes.Repeat([]byte{'x'}, 16<<10)
	next := []byte(options.Head)
	for sent := 0; sent < options.Bytes; {
		n, err := conn.Write(next)
		sent += n
		f.Sent.Add(int64(n))
		if err != nil {
			return
		}
		next = chunk[:min(len(chunk), options.Bytes-sent)]
	}
	_, _ = conn.Read(make([]byte, 1)) // until it is over
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
