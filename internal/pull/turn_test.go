package pull

import (
	"context"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// lent is the turn of a pull that has to wait until a channel is closed.
type lent struct {
	answered chan struct{}
	until    chan struct{}
}

func (l *lent) Answered() bool {
	close(l.answered)
	return false
}

func (l *lent) Wait(ctx context.Context) error {
	select {
	case <-l.until:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestATurnIsWaitedForWithoutAConnection: the pull that has the turn needs the only one.
func TestATurnIsWaitedForWithoutAConnection(t *testing.T) {
	t.Parallel()
	s := openAt(t, t.TempDir(), OpenOptions{MaxConnections: 1})
	turn := &lent{make(chan struct{}), make(chan struct{})}
	first := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server := pulltest.New(t, pulltest.Random(1, objectSize))
	go func() {
		_, err := s.Pull(ctx, Request{URL: server.URL, Turn: turn}, nil)
		first <- err
	}()
	<-turn.answered
	if _, err := s.Pull(ctx, Request{URL: pulltest.New(t, pulltest.Random(2, objectSize)).URL}, nil); err != nil {
		t.Error(err)
	}
	if n := server.BytesSent(); n > probeSize {
		t.Errorf("%d bytes were sent before the turn came", n)
	}
	close(turn.until)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
