package serve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// stage is how far a connection is. The least far gives way first.
type stage int

const (
	unfinished stage = iota // its header is not complete
	asking                  // its header is complete; whether it is let in is not known
	idle                    // it was let in and answered, and asks nothing now
	answering               // it is let in, and never gives way
)

var errTooMuch = errors.New("more bytes than a request may have")

// conn is a connection that its listener can drop, and that reads no more than a header may have.
type conn struct {
	net.Conn
	listener *listener
	from     netip.Addr
	left     atomic.Int64 // bytes until the header has to be complete
	letIn    atomic.Bool  // once: its peer had a right to an answer
	close    sync.Once
	ended    chan struct{}

	// Guarded by the listener's lock.
	stage   stage
	dropped bool
	cancel  context.CancelFunc // ends what is done for its requests
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	left := c.left.Load()
	if left <= 0 {
		// net/http answers no other error than this kind by silence.
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: errTooMuch}
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), left)])
	c.left.Add(-int64(n))
	return n, err
}

// Close implements net.Conn. It is called when nobody uses the connection any more.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.close.Do(func() {
		c.listener.remove(c)
		close(c.ended)
	})
	return err
}

// moveOn sets how far it is. A header that is complete gives it the bytes of another.
func (c *conn) moveOn(to stage) {
	if to == asking {
		c.left.Store(c.listener.bounds.head)
	}
	if to == answering {
		c.letIn.Store(true)
	}
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.stage = to
}

// onDrop has a function called when the connection is dropped, at once if it is.
func (c *conn) onDrop(cancel context.CancelFunc) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.cancel = cancel; c.dropped {
		cancel()
	}
}

// drop ends every use of the connection; its server then closes it.
func (c *conn) drop() {
	reset(c.Conn)
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.dropped = true; c.cancel != nil {
		c.cancel()
	}
}

// reset closes a connection without waiting for the peer to take what was sent, so that the kernel holds nothing for it either.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it may have gone
	}
	_ = c.Close()
}
