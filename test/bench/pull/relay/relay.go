// Package relay stands between clients and a server of this machine and makes the way long: a round trip takes time, and a connection
// has no more than a window of bytes under way, as TCP has over a distance.
package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// pieceSize is how much a relay moves at once, in bytes.
const pieceSize = 64 << 10

// Relay listens on a port of loopback.
type Relay struct {
	// Address is host:port.
	Address string

	listener  *net.TCPListener
	target    string
	roundTrip time.Duration
	pieces    int // of the window

	mu    sync.Mutex
	open  map[*net.TCPConn]struct{}
	ended bool
	tasks sync.WaitGroup
}

// Start relays to target, host:port. One connection carries window/roundTrip bytes a second at most.
func Start(target string, roundTrip time.Duration, window int) (*Relay, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("start the relay: %w", err)
	}
	r := &Relay{
		Address: listener.Addr().String(), listener: listener, target: target, roundTrip: roundTrip,
		pieces: max(window/pieceSize, 1), open: map[*net.TCPConn]struct{}{},
	}
	r.tasks.Go(r.accept)
	return r, nil
}

// Close cuts every connection and waits for what carried them.
func (r *Relay) Close() error {
	err := r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for conn := range r.open {
		err = errors.Join(err, ignoreClosed(conn.Close()))
	}
	r.mu.Unlock()
	r.tasks.Wait()
	if err != nil {
		return fmt.Errorf("close the relay: %w", err)
	}
	return nil
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.AcceptTCP()
		if err != nil {
			return
		}
		r.tasks.Go(func() { r.serve(client) })
	}
}

// serve carries one connection until both sides have ended it.
func (r *Relay) serve(client *net.TCPConn) {
	defer r.forget(client)
	if !r.keep(client) {
		return
	}
	conn, err := net.DialTimeout("tcp4", r.target, 10*time.Second) //nolint:noctx // loopback answers at once
	if err != nil {
		return
	}
	server, ok := conn.(*net.TCPConn)
	if !ok || !r.keep(server) {
		return
	}
	defer r.forget(server)
	// The kernel shook hands without a delay, so the first byte from the client makes up for that round trip.
	var both sync.WaitGroup
	both.Go(func() { r.carry(server, client, r.roundTrip) })
	both.Go(func() { r.carry(client, server, 0) })
	both.Wait()
}

func (r *Relay) keep(conn *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[conn] = struct{}{}
	return !r.ended
}

func (r *Relay) forget(conn *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, conn)
	_ = conn.Close()
}

// piece is bytes on their way, and the moment of their arrival.
type piece struct {
	data []byte
	due  time.Time
}

// carry moves bytes one way. A piece arrives half a round trip after it was read, and what it took of the window is free again
// half a round trip after it was taken. handshake delays the first.
func (r *Relay) carry(to, from *net.TCPConn, handshake time.Duration) {
	way := make(chan piece, r.pieces)
	acks := make(chan piece, r.pieces) // their data is free for the next
	for range r.pieces {
		acks <- piece{}
	}
	var deliver sync.WaitGroup
	deliver.Go(func() {
		for p := range way {
			sleepUntil(p.due)
			if _, err := to.Write(p.data); err != nil {
				_ = from.Close() // or it would be read for nobody
			}
			acks <- piece{p.data, time.Now().Add(r.roundTrip / 2)}
		}
		_ = to.CloseWrite()
	})
	for {
		free := <-acks
		sleepUntil(free.due)
		if free.data == nil {
			free.data = make([]byte, pieceSize)
		}
		n, err := io.ReadAtLeast(from, free.data[:pieceSize], 1)
		if err != nil {
			break
		}
		way <- piece{free.data[:n], time.Now().Add(handshake + r.roundTrip/2)}
		handshake = 0
	}
	close(way)
	deliver.Wait()
}

// sleepUntil may not select on a context: what it waits for is tens of milliseconds away.
func sleepUntil(at time.Time) {
	if wait := time.Until(at); wait > 0 {
		time.Sleep(wait)
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
