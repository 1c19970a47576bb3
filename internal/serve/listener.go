package serve

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// listener takes every connection that comes, and has at most as many open as its bounds say: an older one gives way.
type listener struct {
	net.Listener
	bounds bounds

	mu   sync.Mutex
	open []*conn // the oldest first
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := netip.Addr{}
		if address, ok := accepted.RemoteAddr().(*net.TCPAddr); ok {
			from = address.AddrPort().Addr().Unmap()
		}
		c := &conn{Conn: accepted, listener: l, from: from, ended: make(chan struct{})}
		c.left.Store(l.bounds.head)
		if l.admit(c) {
			return c, nil
		}
		reset(accepted)
	}
}

// admit makes room for a connection; false if all others are being answered. It waits until the one that gave way is gone, with
// all that it held: nothing there outlives its connection by more than the time of a thread's turn.
func (l *listener) admit(c *conn) bool {
	l.mu.Lock()
	gives, room := l.giveWay(c.from)
	l.mu.Unlock()
	if !room {
		return false
	}
	if gives != nil {
		gives.drop()
		<-gives.ended
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
	return true
}

// giveWay picks the connection that makes room for one from an address; nil where there is room already. It is the one that is
// the least far; of those, one of the address that holds the most, so that few addresses cannot push out the others; of those, the
// oldest. Where the newcomer's address holds all that it may, one of its own gives way.
func (l *listener) giveWay(from netip.Addr) (gives *conn, room bool) {
	held := map[netip.Addr]int{}
	for _, c := range l.open {
		held[c.from]++
	}
	own := held[from] >= l.bounds.perAddress
	if !own && len(l.open) < l.bounds.connections {
		return nil, true
	}
	for _, c := range l.open {
		if c.stage == answering || c.dropped || own && c.from != from {
			continue
		}
		if gives == nil || c.stage < gives.stage || c.stage == gives.stage && held[c.from] > held[gives.from] {
			gives = c
		}
	}
	return gives, gives != nil
}

// remove forgets a connection that ended.
func (l *listener) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = slices.DeleteFunc(l.open, func(other *conn) bool { return other == c })
}
