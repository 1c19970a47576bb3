// Command equalranges downloads the way that most parallel downloaders do, for comparison: N equal ranges at once, then the hash.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	connections := flag.Int("n", 8, "number of ranges")
	output := flag.String("o", "", "file to write")
	flag.Parse()
	if err := run(flag.Arg(0), *output, *connections); err != nil {
		fmt.Fprintf(os.Stderr, "equalranges: %v\n", err)
		os.Exit(1)
	}
}

func run(url, path string, connections int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, ForceAttemptHTTP2: true}}
	size, err := sizeOf(ctx, client, url)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create the file: %w", err)
	}
	defer file.Close()
	results := make(chan error, connections)
	part := (size + int64(connections) - 1) / int64(connections)
	for i := range int64(connections) {
		go func() { results <- fetch(ctx, client, url, file, i*part, min((i+1)*part, size)) }()
	}
	for range connections {
		if failed := <-results; failed != nil {
			cancel()
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		return err
	}
	return hashAndSync(file)
}

func sizeOf(ctx context.Context, client *http.Client, url string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the size: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("ask for the size: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK || response.ContentLength <= 0 {
		return 0, fmt.Errorf("ask for the size: %s, %d bytes", response.Status, response.ContentLength)
	}
	return response.ContentLength, nil
}

func fetch(ctx context.Context, client *http.Client, url string, file *os.File, start, end int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("fetch a range: %w", err)
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("fetch a range: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("fetch a range: %s", response.Status)
	}
	n, err := io.CopyBuffer(io.NewOffsetWriter(file, start), response.Body, make([]byte, 1<<20))
	if err == nil && n != end-start {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("fetch a range: %w", err)
	}
	return nil
}

// hashAndSync prints the digest of the finished file and puts it on stable storage.
func hashAndSync(file *os.File) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("hash the file: %w", err)
	}
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, struct{ io.Reader }{file}, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("hash the file: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync the file: %w", err)
	}
	_, err := fmt.Fprintf(os.Stdout, "%x\n", hash.Sum(nil))
	return err
}
