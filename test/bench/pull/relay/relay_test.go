package relay_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/relay"
)

const (
	roundTrip = 40 * time.Millisecond
	window    = 256 << 10
	size      = 2 << 20
)

// answer sends size bytes for each byte that it is sent.
func answer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
						return
					}
					_, _ = conn.Write(make([]byte, size))
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func TestRelay(t *testing.T) {
	t.Parallel()
	far, err := relay.Start(answer(t), roundTrip, window)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := far.Close(); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	conn, err := net.Dial("tcp4", far.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func() (first, all time.Duration) {
		began := time.Now()
		if _, err := conn.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		first = time.Since(began)
		if _, err := io.ReadFull(conn, make([]byte, size-1)); err != nil {
			t.Fatal(err)
		}
		return first, time.Since(began)
	}
	ask()
	if took := time.Since(began); took < 2*roundTrip {
		t.Errorf("handshake and first answer took %s, want two round trips", took)
	}
	first, all := ask()
	if first < roundTrip {
		t.Errorf("the first byte took %s, want a round trip", first)
	}
	if least := roundTrip * (size/window - 1); all < least {
		t.Errorf("%d bytes took %s, want %s of one window a round trip", size, all, least)
	}
}
