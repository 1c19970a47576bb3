package pull

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
)

// tailPatience is how long the last bytes of an object are waited for before the rest
// of it is fetched. They are looked at again on the finished file.
const tailPatience = 5 * time.Second

// inspectHead judges an object by its first bytes. total is the size of the object, -1
// while unknown; head holds min(total, diskimage.HeadSize) bytes. Every error of it is
// UnsupportedContent.
func inspectHead(head []byte, total int64, want Format) error {
	_, err := admit(diskimage.Head(head, total), want)
	return err
}

// inspectFile judges a complete file. Its errors are UnsupportedContent, those of ctx
// and those of reading.
func inspectFile(ctx context.Context, f *os.File, size int64, want Format) (diskimage.Image, error) {
	if want == FormatOpaque { // nothing of it is to be read
		_, err := admit(diskimage.Head([]byte{0}, size), want)
		return diskimage.Image{Format: want}, err
	}
	found, err := diskimage.File(interruptible{ctx, f}, size)
	if ctx.Err() != nil {
		return diskimage.Image{}, ctx.Err()
	}
	if err != nil {
		return diskimage.Image{}, storageError(err, "inspect %s", f.Name())
	}
	return admit(found, want)
}

// admit gives a refusal its reason.
func admit(found diskimage.Description, want Format) (diskimage.Image, error) {
	image, err := found.As(want)
	if err != nil {
		return image, fail(UnsupportedContent, "%s", err)
	}
	return image, nil
}

// interruptible ends what reads a file with its context.
type interruptible struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has no room for it
	file io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (r interruptible) ReadAt(p []byte, offset int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.file.ReadAt(p, offset)
}

// inspectTail judges an object by its last bytes before space is taken for it, if
// they may show what the first ones do not and the server sends ranges: one small
// request instead of all bytes of, say, a fixed VHD. If it brings nothing in time, or
// there is no connection for it, the pull goes on: the finished file is inspected in any case.
func (p *run) inspectTail(ctx context.Context, o *opened, head []byte) error {
	total := o.object.total
	found := diskimage.Head(head, total)
	if p.job.Format == FormatOpaque || o.how != openRanges || o.body.end >= total || !found.MayEndOtherwise(total) {
		return nil
	}
	if p.job.Connections == 1 {
		return nil // it is that of the first answer
	}
	slot, ok := p.store.budget.try(p, p.source.origin())
	if !ok {
		return nil
	}
	defer slot.release()
	tail, err := p.tail(ctx, o.object)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.log("the object's last bytes are not known yet", err)
		return nil
	}
	_, err = admit(found.WithTail(tail), p.job.Format)
	return err
}

// tail asks for an object's last bytes, once.
func (p *run) tail(ctx context.Context, of object) ([]byte, error) {
	asked := span{max(0, of.total-diskimage.TailSize), of.total}
	ctx, cancel := context.WithTimeoutCause(ctx, min(tailPatience, p.job.StallTimeout), errSilent)
	defer cancel()
	at := p.source.current().at
	r, _, err := p.source.get(ctx, at, &asked, of.validator)
	if err != nil {
		return nil, err
	}
	defer r.close()
	given, err := judgeLater(r.reply, asked, of, p.terms())
	if err == nil && given != asked {
		err = errors.New("the server sent a part of them")
	}
	if err != nil {
		return nil, err
	}
	tail := make([]byte, asked.len())
	if n, err := readFull(r, tail); n < len(tail) {
		return nil, err
	}
	return tail, nil
}
