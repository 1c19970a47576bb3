package origin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pace tells how fast each connection may be. Connections are numbered from 0 in the order of their arrival.
type Pace struct {
	// rate is in bytes a second; steps count from 0.
	rate func(connection, step int) int64
	// every is the length of a step; 0 is one step for ever.
	every time.Duration
}

// Constant holds every connection to the same rate.
func Constant(bytesPerSecond int64) *Pace {
	return &Pace{rate: func(int, int) int64 { return bytesPerSecond }}
}

// OneSlow is Constant but for one connection among the first eight, which gets a hundredth; one that replaces it does not.
func OneSlow(bytesPerSecond int64) *Pace {
	const slow = 3 // not the first, with which tools look at the object
	return &Pace{rate: func(connection, _ int) int64 {
		if connection == slow {
			return bytesPerSecond / 100
		}
		return bytesPerSecond
	}}
}

// Varying draws a new rate for each connection twice a second, between a twentieth and 39 twentieths of the mean. Every second draw
// makes up for the one before, so that any second carries the mean, and a run is as fast as the next.
func Varying(mean int64) *Pace {
	rate := func(connection, step int) int64 {
		share := 0.05 + 1.9*rand.New(rand.NewPCG(uint64(connection), uint64(step/2))).Float64() //nolint:gosec // not a secret
		if step%2 == 1 {
			share = 2 - share
		}
		return int64(share * float64(mean))
	}
	return &Pace{rate: rate, every: 500 * time.Millisecond}
}

// start sets the first rate of a connection at once, and the later ones until ctx ends.
func (p *Pace) start(ctx context.Context, conn *net.TCPConn, number int, later *sync.WaitGroup) error {
	if p == nil {
		return nil
	}
	if err := conn.SetWriteBuffer(sendBuffer); err != nil {
		return fmt.Errorf("set the send buffer: %w", err)
	}
	if err := setRate(conn, p.rate(number, 0)); err != nil {
		return err
	}
	if p.every == 0 {
		return nil
	}
	later.Go(func() {
		ticker := time.NewTicker(p.every)
		defer ticker.Stop()
		for step := 1; ; step++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := setRate(conn, p.rate(number, step)); err != nil {
				return // it has just been closed
			}
		}
	})
	return nil
}

// setRate has the kernel pace a connection, exactly and for any size of request; pauses in a handler would let the start of every
// range run free.
func setRate(conn *net.TCPConn, bytesPerSecond int64) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("pace a connection: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, uint64(bytesPerSecond))
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("pace a connection: %w", err)
	}
	return nil
}
