package origin

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sendBuffer bounds what a server has handed over and a paced connection has not taken, in bytes.
const sendBuffer = 1 << 20

const (
	// linger is how long a closed connection may take to send the rest.
	linger     = 10 * time.Second
	lingerPoll = 5 * time.Millisecond
)

// conn is a connection that leaves its count behind. It keeps TCPConn's ReadFrom, which is sendfile.
type conn struct {
	*net.TCPConn

	owner *listener
	stop  context.CancelFunc
	once  sync.Once
}

// Close returns at once. The connection goes on until all that was written is sent, and only then counts.
func (c *conn) Close() error {
	c.once.Do(func() {
		_ = c.CloseWrite() // it may be closed from the other end
		c.owner.tasks.Go(c.finish)
	})
	return nil
}

func (c *conn) finish() {
	defer c.stop()
	deadline, cancel := context.WithTimeout(c.owner.ended, linger)
	defer cancel()
	ticker := time.NewTicker(lingerPoll)
	defer ticker.Stop()
	for !c.info().drained && deadline.Err() == nil {
		select {
		case <-deadline.Done():
		case <-ticker.C:
		}
	}
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	c.owner.closed += c.info().sent
	delete(c.owner.live, c)
	_ = c.TCPConn.Close()
}

// info is what the kernel knows of a connection.
type info struct {
	// sent are the bytes that left. Acknowledgements would not do: what a client takes and drops, it need not acknowledge.
	sent int64
	// drained: nothing is left to be sent, or nobody is left to send it to.
	drained bool
}

func (c *conn) info() info {
	raw, err := c.SyscallConn()
	if err != nil {
		return info{drained: true}
	}
	result := info{drained: true}
	_ = raw.Control(func(fd uintptr) {
		tcp, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		const closed = 7 // TCP_CLOSE
		result.sent = int64(tcp.Bytes_sent - tcp.Bytes_retrans)
		result.drained = tcp.State == closed || tcp.Notsent_bytes == 0
	})
	return result
}
