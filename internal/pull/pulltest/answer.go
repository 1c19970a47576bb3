package pulltest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

var errCut = errors.New("the connection is cut on purpose")

// write sends the answer, and counts the bytes of its body before they go out.
func (x *Exchange) write(ctx context.Context, conn net.Conn, requests io.Reader) error {
	if x.Refuse {
		return errCut
	}
	if !x.wait(ctx) {
		return ctx.Err()
	}
	if _, err := io.WriteString(conn, x.head()); err != nil {
		return err
	}
	out := bufio.NewWriterSize(conn, 64<<10)
	err := x.send(ctx, conn, out)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if errors.Is(err, errStop) {
		err = x.misbehave(ctx, conn, requests)
	}
	return err
}

// errStop ends a body where its exchange stops it.
var errStop = errors.New("the body stops on purpose")

// send writes the body.
func (x *Exchange) send(ctx context.Context, conn net.Conn, out *bufio.Writer) error {
	body := x.body()
	buf := make([]byte, 32<<10)
	for {
		sent := x.sent.Load()
		if sent%pacingStep == 0 {
			if err := x.pacing(conn); err != nil {
				return err
			}
		}
		limit := x.limit(sent, int64(len(buf)))
		if limit == 0 {
			return errStop
		}
		n, err := body.Read(buf[:limit])
		if n == 0 && err == io.EOF {
			return x.end(out)
		}
		if err != nil && err != io.EOF {
			return err
		}
		x.sent.Add(int64(n))
		if err := x.piece(out, buf[:n]); err != nil {
			return err
		}
		if err := x.pace(ctx, out, n); err != nil {
			return err
		}
	}
}

// limit is how much may be sent at once after the first bytes of the body.
func (x *Exchange) limit(sent, most int64) int64 {
	if x.BytesPerSecond > 0 {
		most = max(1, min(most, x.BytesPerSecond/20))
	}
	for _, stop := range []int64{x.CutAfter, x.StallAfter} {
		if stop != Never {
			most = min(most, stop-sent)
		}
	}
	return most
}

// end marks the end of the body.
func (x *Exchange) end(out io.Writer) error {
	if x.Framing != Chunked {
		return nil
	}
	_, err := io.WriteString(out, "0\r\n\r\n")
	return err
}

// misbehave cuts the connection, or keeps it open and silent.
func (x *Exchange) misbehave(ctx context.Context, conn net.Conn, requests io.Reader) error {
	if x.CutAfter != Never {
		if tcp, ok := conn.(*net.TCPConn); ok && x.Reset {
			_ = tcp.SetLinger(0)
		}
		return errCut
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, requests) // until the client gives up
	return errCut
}

func (x *Exchange) piece(out io.Writer, p []byte) error {
	if x.Framing == Chunked {
		if _, err := fmt.Fprintf(out, "%x\r\n", len(p)); err != nil {
			return err
		}
		p = append(slices.Clip(p), "\r\n"...)
	}
	_, err := out.Write(p)
	return err
}

// pace holds the connection at its rate.
func (x *Exchange) pace(ctx context.Context, out *bufio.Writer, n int) error {
	if x.BytesPerSecond == 0 {
		return nil
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return sleep(ctx, time.Duration(float64(n)/float64(x.BytesPerSecond)*float64(time.Second)))
}

func (x *Exchange) wait(ctx context.Context) bool {
	if x.Gate != nil {
		select {
		case <-x.Gate:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// head is the status line and the header.
func (x *Exchange) head() string {
	var text strings.Builder
	fmt.Fprintf(&text, "HTTP/1.1 %d %s\r\n", x.Status, http.StatusText(x.Status))
	switch x.Framing {
	case Sized:
		if x.Header.Get("Content-Length") == "" {
			fmt.Fprintf(&text, "Content-Length: %d\r\n", x.bodySize())
		}
	case Chunked:
		text.WriteString("Transfer-Encoding: chunked\r\n")
	case UntilClose:
		x.Close = true
	}
	if x.Close {
		text.WriteString("Connection: close\r\n")
	}
	_ = x.Header.Write(&text)
	text.WriteString("\r\n")
	return text.String()
}
