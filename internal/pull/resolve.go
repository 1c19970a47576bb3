package pull

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// again asks for a later span of the same representation. Where a redirect led to
// may be signed for a time, or fail in any other way: the original may then lead
// elsewhere. It is asked by one request at a time.
func (s *source) again(ctx context.Context, asked span, v validator) (r *response, err error) {
	for {
		at := s.current()
		if at.rejection != nil {
			r.giveUp()
			return nil, at.rejection
		}
		if !at.doubted {
			r, _, err = s.get(ctx, at.at, &asked, v)
			if !at.at.redirected {
				s.heed(r)
				return r, err
			}
			if !failed(r, err) {
				return r, err
			}
		}
		select {
		case s.resolving <- struct{}{}:
		case <-ctx.Done():
			r.giveUp()
			return nil, ended(ctx)
		}
		now := s.current()
		if now.times == at.times || at.doubted && !now.found {
			return s.resolve(ctx, r, asked, v)
		}
		<-s.resolving
		if !now.found {
			return r, err // somebody else found no more
		}
		r.giveUp()
		r = nil
	}
}

// giveUp ends an answer that is of no use; there may be none.
func (r *response) giveUp() {
	if r != nil {
		r.drain()
	}
}

// resolve asks the original URL again, after the answer r, or none, from where it
// led before. The caller holds resolving, which resolve gives back.
func (s *source) resolve(ctx context.Context, r *response, asked span, v validator) (*response, error) {
	defer func() { <-s.resolving }()
	r.giveUp()
	r, at, err := s.get(ctx, s.original(), &asked, v)
	if ctx.Err() == nil {
		s.settle(at, failed(r, err))
		s.heed(r)
	}
	return r, err
}

// heed notes that an answer rejects who asks, which no other request is to try again.
func (s *source) heed(r *response) {
	if r == nil || !rejects(r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejection = refusal(r.reply.status, r.reply.header, time.Time{})
}

// failed reports whether an answer, or the lack of one, says nothing of the object:
// another server may. Stores of objects refuse signatures that have expired with
// one of many statuses.
func failed(r *response, err error) bool {
	if _, ok := errors.AsType[*Error](err); ok || r == nil {
		return ok
	}
	switch r.reply.status {
	case http.StatusOK, http.StatusPartialContent, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return false
	default:
		return true
	}
}

// ended is why a request was ended before it was made.
func ended(ctx context.Context) error {
	for _, cause := range []error{errTaken, errSlow} {
		if errors.Is(context.Cause(ctx), cause) {
			return cause
		}
	}
	return ctx.Err()
}
