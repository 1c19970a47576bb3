package pull

import (
	"context"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
)

// opened is a first response that leads somewhere.
type opened struct {
	how      opening // openRanges, openStream or openRest
	object   object
	body     span // what the response holds; its end is -1 for a stream of unknown size
	response *response
	slot     slot // of the budget of connections

	// Of a pull that goes on where an earlier one ended, else nil and empty.
	left  *leftover
	asked span // by the first request
}

// close gives up what was opened.
func (o *opened) close() {
	o.response.close()
	o.slot.release()
}

// open makes the first request until it leads somewhere. stream asks for the
// whole object in one response from the start. left is what an earlier pull left,
// or nil.
func (p *run) open(ctx context.Context, stream bool, left *leftover) (*opened, error) {
	next := opener{failing: p.patience(), stream: stream || p.plain}
	for {
		sent := time.Now()
		o, err := p.openOnce(ctx, next.stream, left)
		if err == nil {
			p.begun, p.plain = true, p.plain || next.stream && !stream
			return o, nil
		}
		wait, again := next.after(err, sent, time.Now())
		if !again {
			return nil, err
		}
		p.retried("the first request is made again", err)
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// patience is the request's for an object that nothing has come of, else that of
// a pull that runs.
func (p *run) patience() *outage {
	failing := outage{patience: p.store.endurance, delay: p.store.delay}
	if !p.begun && p.job.Patience != 0 {
		failing.patience = p.job.Patience
	}
	return &failing
}

// openOnce makes the first request once, over a connection of the budgets, and
// waits for the pull's turn to fetch.
func (p *run) openOnce(ctx context.Context, stream bool, left *leftover) (*opened, error) {
	s, err := p.store.budget.wait(ctx, p, p.source.origin())
	if err != nil {
		return nil, err
	}
	o, err := p.tryOpen(ctx, stream, left)
	if err != nil {
		s.release()
		return nil, err
	}
	o.slot = s
	if err := p.awaitTurn(ctx, o); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// tryOpen makes the first request once, and inspects the object's first bytes
// before anything is allocated for the rest.
func (p *run) tryOpen(ctx context.Context, stream bool, left *leftover) (*opened, error) {
	o, err := p.request(ctx, stream, left)
	if err != nil {
		return nil, err
	}
	if o.left != nil {
		err = o.left.inspect(p.job.Format)
	}
	if err == nil && o.body.start == 0 {
		err = p.inspectFirst(ctx, o)
	}
	if err != nil {
		o.response.close()
		return nil, err
	}
	return o, nil
}

func (p *run) request(ctx context.Context, stream bool, left *leftover) (*opened, error) {
	if stream {
		return p.requestWhole(ctx, left)
	}
	if left != nil {
		if o, err := p.requestRest(ctx, left); o != nil || err != nil {
			return o, err
		}
	}
	asked := span{0, probeSize}
	r, err := p.source.first(ctx, &asked)
	if err != nil {
		return nil, err
	}
	how, object, body, err := judgeFirst(r.reply, asked, p.terms())
	if err == nil && how == openRanges && body.len() < min(diskimage.HeadSize, object.total) {
		how = openAgain // too little to tell what the object is
	}
	if err != nil || how == openAgain {
		r.drain()
		if err != nil {
			return nil, err
		}
		p.said = object.total
		return p.requestWhole(ctx, left)
	}
	return &opened{how: how, object: object, body: body, response: r}, nil
}

// requestRest asks for the first bytes that an earlier pull left to be fetched. It
// returns nil when the answer is of no use with what is on disk.
func (p *run) requestRest(ctx context.Context, left *leftover) (*opened, error) {
	asked := left.first()
	r, err := p.source.first(ctx, &asked)
	if err != nil {
		return nil, err
	}
	how, object, body, err := judgeFirst(r.reply, asked, p.terms())
	switch {
	case err != nil || how == openAgain:
	case how == openStream:
		return p.whole(r, object, left), nil
	case left.fits(object, p.job.digest != ""):
		return &opened{how: how, object: object, body: body, response: r, left: left, asked: asked}, nil
	}
	r.drain()
	return nil, err
}

func (p *run) requestWhole(ctx context.Context, left *leftover) (*opened, error) {
	r, err := p.source.first(ctx, nil)
	if err != nil {
		return nil, err
	}
	object, err := judgeWhole(r.reply, p.said, p.terms())
	if err != nil {
		r.drain()
		return nil, err
	}
	return p.whole(r, object, left), nil
}

// whole opens the one response that holds the whole object. What an earlier pull
// left of the same object stays where it is, and is compared with it.
func (p *run) whole(r *response, o object, left *leftover) *opened {
	if left == nil || !left.fits(o, p.job.digest != "") {
		return &opened{how: openStream, object: o, body: span{0, o.total}, response: r}
	}
	o.total, o.perhaps = left.journal.total, 0
	return &opened{how: openRest, object: o, body: span{0, o.total}, response: r, left: left}
}

// inspectFirst judges the object by the first bytes of its response, and by its last
// ones if they may say something else.
func (p *run) inspectFirst(ctx context.Context, o *opened) error {
	want := int64(diskimage.HeadSize)
	if o.object.total >= 0 {
		want = min(want, o.object.total)
	}
	head, err := o.response.peek(int(want))
	if err != nil {
		return err
	}
	if int64(len(head)) < want && o.object.total >= 0 {
		return contradict("the first answer ends after %d bytes", len(head))
	}
	err = inspectHead(head, o.object.total, p.job.Format)
	if err != nil && o.object.unframed && int64(len(head)) < want {
		return failWith(SourceUnavailable, err, "the answer may have been cut after %d bytes", len(head))
	}
	if err == nil {
		err = p.inspectTail(ctx, o, head)
	}
	return err
}
