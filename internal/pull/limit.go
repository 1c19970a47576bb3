package pull

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// newLimiter returns an empty token bucket of so many bytes per second. A
// twentieth of a second's bytes at a time keeps the flow even.
func newLimiter(bytesPerSecond int64) *rate.Limiter {
	burst := int(min(max(bytesPerSecond/20, 4<<10), readSize))
	l := rate.NewLimiter(rate.Limit(bytesPerSecond), burst)
	l.AllowN(time.Now(), burst)
	return l
}

// turn is one pull's place at a token bucket that it shares with others. Only
// one connection of a pull waits there at a time, so that a pull of many
// connections gets no more than a pull of one.
type turn struct {
	limiter *rate.Limiter
	waiting chan struct{} // holds one
}

func newTurn(l *rate.Limiter) *turn { return &turn{l, make(chan struct{}, 1)} }

// wait waits until n bytes may have come, at most a burst.
func (t *turn) wait(ctx context.Context, n int) error {
	select {
	case t.waiting <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.waiting }()
	return t.limiter.WaitN(ctx, n)
}

// burst is how many bytes may be read at once.
func (s *source) burst() int {
	most := readSize
	if s.limiter != nil {
		most = min(most, s.limiter.Burst())
	}
	if s.node != nil {
		most = min(most, s.node.limiter.Burst())
	}
	return most
}

// limit holds a connection that has read n bytes at the rates of its pull and its node.
func (s *source) limit(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	if s.limiter != nil {
		if err := s.limiter.WaitN(ctx, n); err != nil {
			return err
		}
	}
	if s.node != nil {
		return s.node.wait(ctx, n)
	}
	return nil
}
