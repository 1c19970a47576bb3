package pulltest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// soMaxPacingRate is SO_MAX_PACING_RATE of socket(7), which package syscall lacks.
const soMaxPacingRate = 47

// pacingStep is after how many bytes of a body its pace is asked for again.
const pacingStep = 1 << 20

// Paced has the kernel pace every connection at a rate in bytes per second, with
// SO_MAX_PACING_RATE. Unlike Pace it is exact at any rate, takes no processor
// time, and holds across the answers of a connection.
func Paced(bytesPerSecond int64) Behaviour {
	return func(x *Exchange) { x.Pacing = func() int64 { return bytesPerSecond } }
}

// Jittery is Paced with a rate that changes at random between two rates after
// every MiB, always in the same way for a seed.
func Jittery(seed uint64, least, most int64) Behaviour {
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test's jitter, the same in every run
	var mu sync.Mutex
	pace := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return least + random.Int64N(most-least+1)
	}
	return func(x *Exchange) { x.Pacing = pace }
}

// pacing sets the pace of what is sent next.
func (x *Exchange) pacing(conn net.Conn) error {
	if x.Pacing == nil {
		return nil
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("a %T cannot be paced", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soMaxPacingRate, int(x.Pacing()))
	})
	if err != nil {
		return err
	}
	return set
}
