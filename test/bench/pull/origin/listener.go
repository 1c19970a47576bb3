package origin

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
)

// listener paces and counts the connections that it accepts.
type listener struct {
	*net.TCPListener

	pace *Pace

	mu       sync.Mutex
	accepted int // ever, for Pace
	sockets  int // since reset
	closed   int64
	live     map[*conn]struct{}
	tasks    sync.WaitGroup // that pace, and that close

	// ended cuts what lingers.
	ended context.Context //nolint:containedctx // of the whole listener
	end   context.CancelFunc
}

func newListener(tcp *net.TCPListener, pace *Pace) *listener {
	ended, end := context.WithCancel(context.Background())
	return &listener{TCPListener: tcp, pace: pace, live: map[*conn]struct{}{}, ended: ended, end: end}
}

// Accept returns a connection that is paced already.
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(l.ended)
	c := &conn{TCPConn: tcp, owner: l, stop: cancel}
	l.mu.Lock()
	number := l.accepted
	l.accepted++
	l.sockets++
	l.live[c] = struct{}{}
	l.mu.Unlock()
	if err := l.pace.start(ctx, tcp, number, &l.tasks); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// cut ends every connection, what lingers and all pacing; nothing is accepted any more.
func (l *listener) cut() {
	l.end()
	l.mu.Lock()
	live := slices.Collect(maps.Keys(l.live))
	l.mu.Unlock()
	for _, c := range live {
		// The HTTP server may still be about to close one that it no longer counts: a task that began during Wait would be waited for by luck.
		_ = c.Close()
	}
	l.tasks.Wait()
}

func (l *listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.live)
}

func (l *listener) count() Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := Count{Sockets: l.sockets, Bytes: l.closed}
	for c := range l.live {
		count.Bytes += c.info().sent
	}
	return count
}

func (l *listener) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets, l.closed = len(l.live), 0
}
