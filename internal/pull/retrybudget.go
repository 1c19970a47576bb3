package pull

import "sync"

// retryBudgetSize is how many requests of a pull may be made again without any
// progress in between, over all its connections.
const retryBudgetSize = 24

// retryBudget bounds what a pull asks of a server that fails: every retry costs
// one, and every progressBytes that are kept earn one back.
type retryBudget struct {
	mu   sync.Mutex
	used float64
	seen int64 // bytes at the last retry
}

// spend takes one retry, given how many bytes were kept so far, and reports
// whether there was one left.
func (b *retryBudget) spend(kept int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = max(0, b.used-float64(max(0, kept-b.seen))/progressBytes)
	b.seen = max(b.seen, kept)
	if b.used+1 > retryBudgetSize {
		return false
	}
	b.used++
	return true
}
