package pull

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// errSilent cancels a request whose connection stayed silent too long.
var errSilent = errors.New("no byte came")

// response is the answer to one request. Reading its body is counted, limited to
// the pull's rate, and ended when the server stays silent.
type response struct {
	source *source
	ctx    context.Context //nolint:containedctx // the request's own, as http.Request holds it
	cancel context.CancelCauseFunc
	timer  *time.Timer

	at        target // that answered
	connected atomic.Bool
	reply     reply
	firstByte time.Duration // from the request to the response's head
	body      io.ReadCloser
	unread    []byte        // read already, to be read again
	arrived   *atomic.Int64 // counts the bytes too, unless nil
}

func newResponse(ctx context.Context, s *source) *response {
	r := &response{source: s}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	cancel := r.cancel
	r.timer = time.AfterFunc(s.job.StallTimeout, func() { cancel(errSilent) })
	r.timer.Stop()
	return r
}

// watch starts the time within which the server has to send something.
func (r *response) watch() {
	r.source.reading.Add(1)
	r.timer.Reset(r.source.job.StallTimeout)
}

func (r *response) unwatch() {
	r.timer.Stop()
	r.source.reading.Add(-1)
}

// Read reads from the body. Its errors are io.EOF at a clean end, an *Error, or
// that of the pull's context.
func (r *response) Read(p []byte) (int, error) {
	if len(r.unread) > 0 {
		n := copy(p, r.unread)
		r.unread = r.unread[n:]
		return n, nil
	}
	p = p[:min(len(p), r.source.burst())]
	r.watch()
	n, err := r.body.Read(p)
	r.unwatch()
	r.source.received.Add(int64(n))
	if r.arrived != nil {
		r.arrived.Add(int64(n))
	}
	if err := r.source.limit(r.ctx, n); err != nil {
		return n, r.explain(err)
	}
	if err != nil && err != io.EOF {
		err = r.explain(err)
	}
	return n, err
}

// peek reads the first n bytes, or all when there are fewer, and leaves them to
// be read.
func (r *response) peek(n int) ([]byte, error) {
	head := make([]byte, n)
	got, err := readFull(r, head)
	if err == io.EOF {
		err = nil
	}
	r.unread = head[:got]
	return r.unread, err
}

// readFull fills p as far as r goes. Unlike io.ReadFull it returns the reader's
// own error next to the bytes that came before it.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = r.Read(p[n:])
		n += got
	}
	if n == len(p) && err == io.EOF {
		err = nil
	}
	return n, err
}

// drain reads what little a refusal or a redirect says, so that its connection
// can be used again, and closes it.
func (r *response) drain() {
	const little = 4 << 10
	if r.reply.length <= little {
		_, _ = io.CopyN(io.Discard, r, little)
	}
	r.close()
}

// close ends the response; its connection lives on only if the body was read to
// its end.
func (r *response) close() {
	_ = r.body.Close()
	r.timer.Stop()
	r.cancel(nil)
}

// endWith ends the response with ctx too, until stop is called: what is under way
// is of no use once the hasher or the disk has failed.
func (r *response) endWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { r.cancel(ctx.Err()) })
}

// explain turns an error of the transport into one with a reason.
func (r *response) explain(err error) error {
	if denied, ok := errors.AsType[*Error](err); ok {
		return denied.through(err) // by the dialer, or by a proxy
	}
	switch {
	case errors.Is(context.Cause(r.ctx), errTaken):
		return errTaken
	case errors.Is(context.Cause(r.ctx), errSlow):
		return errSlow
	case errors.Is(context.Cause(r.ctx), errSilent) && !r.connected.Load():
		return fail(SourceUnavailable, "no connection to the server was made within %s", r.source.job.StallTimeout)
	case errors.Is(context.Cause(r.ctx), errSilent):
		return fail(SourceStalled, "the server sent nothing for %s", r.source.job.StallTimeout)
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	}
	return connectionError(err)
}
