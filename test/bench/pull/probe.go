package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// line is what a network can do.
type line struct {
	bytesPerSecond float64 // all connections together
	cpuPerByte     float64 // seconds, of sending and receiving both: loopback has both ends on this machine
	setUp          float64 // seconds from the start to the first byte
}

// measureLine reads over all connections and throws the bytes away, for long enough to even out what varies.
func (b *bench) measureLine(ctx context.Context, s scenario) (l line, err error) {
	_, url, stop, err := b.network(s, s.probePace())
	if err != nil {
		return line{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	url += objectPath
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.setUp, err = b.setUp(ctx, url); err != nil {
		return line{}, err
	}
	var received atomic.Int64
	var readers sync.WaitGroup
	failures := make(chan error, connections)
	for range connections {
		readers.Go(func() { failures <- b.read(ctx, url, b.object(s).Size, &received) })
	}
	defer readers.Wait()
	defer cancel()
	const warmUp, window = time.Second, 3 * time.Second // whole seconds, of which each carries the mean of what varies
	if err := pause(ctx, warmUp, failures); err != nil {
		return line{}, err
	}
	began, bytes, cpu := time.Now(), received.Load(), ownCPU()
	if err := pause(ctx, window, failures); err != nil {
		return line{}, err
	}
	moved := float64(received.Load() - bytes)
	l.bytesPerSecond, l.cpuPerByte = moved/time.Since(began).Seconds(), (ownCPU()-cpu)/moved
	return l, nil
}

func pause(ctx context.Context, d time.Duration, failures <-chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-failures:
		return fmt.Errorf("measure the network: %w", err)
	case <-timer.C:
		return nil
	}
}

// client has connections of its own.
func (b *bench) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.caPEM)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Protocols: protocols, ReadBufferSize: 64 << 10,
	}}
}

// setUp is the time of a new connection's first byte.
func (b *bench) setUp(ctx context.Context, url string) (float64, error) {
	var seconds []float64
	for range 3 {
		client := b.client()
		began := time.Now()
		err := get(ctx, client, url, 0, io.Discard)
		seconds = append(seconds, time.Since(began).Seconds())
		client.CloseIdleConnections()
		if err != nil {
			return 0, err
		}
	}
	return median(seconds), nil
}

// read takes the object again and again until ctx ends.
func (b *bench) read(ctx context.Context, url string, size int64, received *atomic.Int64) error {
	client := b.client()
	defer client.CloseIdleConnections()
	for {
		if err := get(ctx, client, url, size-1, counter{received}); err != nil {
			return err
		}
	}
}

// get takes the bytes up to and with last.
func get(ctx context.Context, client *http.Client, url string, last int64, to io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask the origin: %w", err)
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=0-%d", last))
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the origin: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("ask the origin: %s", response.Status)
	}
	_, err = io.CopyBuffer(to, struct{ io.Reader }{response.Body}, make([]byte, 256<<10))
	return err
}

type counter struct{ sum *atomic.Int64 }

func (c counter) Write(data []byte) (int, error) {
	c.sum.Add(int64(len(data)))
	return len(data), nil
}

// ownCPU is what this process has used so far, in seconds.
func ownCPU() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
