package origin

import (
	"context"
	"errors"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// sendBuffer bounds what a server has handed over and the client has not taken, in bytes.
const sendBuffer = 1 << 20

// listener paces and counts the connections that it accepts.
type listener struct {
	*net.TCPListener

	pace *Pace

	mu       sync.Mutex
	accepted int // ever, for Pace
	sockets  int // since reset
	closed   int64
	live     map[*conn]struct{}
	pacing   sync.WaitGroup
}

func newListener(tcp *net.TCPListener, pace *Pace) *listener {
	return &listener{TCPListener: tcp, pace: pace, live: map[*conn]struct{}{}}
}

// Accept returns a connection that is paced already.
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{TCPConn: tcp, owner: l, stop: cancel}
	l.mu.Lock()
	number := l.accepted
	l.accepted++
	l.sockets++
	l.live[c] = struct{}{}
	l.mu.Unlock()
	if err := l.pace.start(ctx, tcp, number, &l.pacing); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (l *listener) wait() { l.pacing.Wait() }

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
		count.Bytes += c.sent()
	}
	return count
}

func (l *listener) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets, l.closed = len(l.live), 0
}

// conn is a connection that leaves its count behind. It keeps TCPConn's ReadFrom, which is sendfile.
type conn struct {
	*net.TCPConn

	owner *listener
	stop  context.CancelFunc
	once  sync.Once
}

// Close ends the connection and its pacing.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.stop()
		c.owner.mu.Lock()
		defer c.owner.mu.Unlock()
		c.owner.closed += c.sent()
		delete(c.owner.live, c)
	})
	return c.TCPConn.Close()
}

// sent asks the kernel how many bytes left. Acknowledgements would not do: what a client takes and drops, it need not acknowledge.
func (c *conn) sent() int64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var bytes int64
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = int64(info.Bytes_sent - info.Bytes_retrans)
		}
	})
	return bytes
}
