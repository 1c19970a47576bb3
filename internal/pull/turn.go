package pull

import (
	"context"
	"time"
)

// AskOnce is the Patience of a caller that waits by itself.
const AskOnce time.Duration = -1

// Turn is a pull's place among the pulls that its caller runs at a time. A caller
// may give it to another pull for as long as the source does not answer.
type Turn interface {
	// Answered says that the source has answered. From then on the pull keeps its
	// place; it reports whether it has it still.
	Answered() bool
	// Wait waits for a place, for a pull that has none.
	Wait(ctx context.Context) error
}

// awaitTurn waits until the caller lets the pull fetch. Meanwhile it holds no
// connection of the budgets: whoever has the turn may need it to end.
func (p *run) awaitTurn(ctx context.Context, o *opened) (err error) {
	turn := p.job.Turn
	if turn == nil || turn.Answered() {
		return nil
	}
	o.slot.release()
	if err := turn.Wait(ctx); err != nil {
		return err
	}
	o.slot, err = p.store.budget.wait(ctx, p, p.source.origin())
	return err
}
