package origin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"

	"golang.org/x/sys/unix"
)

// sendBuffer is small where a rate is set, because the access log takes what the kernel has accepted for sent: with its usual
// 4 MiB, a small image would be on its way at once.
const sendBuffer = 64 << 10

// pace holds the request's connection to a rate. The kernel does it, exactly and for any size of request; a pause in the handler
// would let the start of every range run free.
func pace(ctx context.Context, bytesPerSecond int64) error {
	conn, ok := ctx.Value(connKey{}).(*net.TCPConn)
	if !ok && bytesPerSecond == 0 {
		return nil // behind TLS, say: nothing has set a rate that had to be lifted
	}
	if !ok {
		return errors.New("pace a connection: it is not TCP")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("pace a connection: %w", err)
	}
	rate := uint64(math.MaxUint64) // no limit: the connection may have had one for an earlier request
	if bytesPerSecond > 0 {
		rate = uint64(bytesPerSecond)
		if err := conn.SetWriteBuffer(sendBuffer); err != nil {
			return fmt.Errorf("pace a connection: %w", err)
		}
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
	})
	if err := errors.Join(err, setErr); err != nil {
		return fmt.Errorf("pace a connection: %w", err)
	}
	return nil
}
