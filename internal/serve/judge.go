package serve

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// allowedFor is how long an answer counts that let a token in: a steady scraper
	// costs two calls a minute. A token that is revoked is refused that much later.
	allowedFor = time.Minute
	// staleFor is how long that answer counts while the API server cannot be asked.
	staleFor = 10 * time.Minute
	// refusedFor is how long a refusal counts: a new binding counts soon. While the API server cannot be asked, it is asked so
	// often about a token that was let in.
	refusedFor = 10 * time.Second
	// maxAllowed and maxRefused bound the answers that are kept, whatever is sent.
	maxAllowed, maxRefused = 64, 64
	// reviewTimeout is how long one scrape may wait for the API server.
	reviewTimeout = 5 * time.Second
)

// judge says who may scrape. It remembers the answers of the API server and asks about each token now and then. A token that was
// let in is asked about whatever strangers send: it is kept apart from what was refused, and costs nothing of their budget.
type judge struct {
	review review
	now    func() time.Time

	mu      sync.Mutex
	allowed *recent[scrape, allowance]
	refused *recent[scrape, refusal]
	budget  *budget
}

func newJudge(review review) *judge {
	return &judge{
		review: review, now: time.Now, budget: newBudget(),
		allowed: newRecent[scrape, allowance](maxAllowed), refused: newRecent[scrape, refusal](maxRefused),
	}
}

// peer is who sends a token.
type peer struct {
	address netip.Addr
	letIn   bool // over a connection that was let in with another token: what a scraper does whose token was renewed
}

// scrape is a hash over token, verb and path: no token stays in memory.
type scrape [sha256.Size]byte

// allowance lets a token in: until its next review, and until its last hour if the API server cannot be asked.
type allowance struct{ next, last time.Time }

// refusal is 401 or 403, and how long that counts.
type refusal struct {
	status int
	until  time.Time
}

// decide is 200, 401 or 403; 503 with the error if the API server could not be asked, which a token that was let in survives for
// a while with 200; or 429 if it is not asked, because too many unknown tokens came.
func (j *judge) decide(ctx context.Context, from peer, token, verb, path string) (int, error) {
	key := scrape(sha256.Sum256([]byte(verb + " " + path + " " + token)))
	status, known := j.recall(key, from)
	if status != 0 {
		return status, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	status, err := j.review(ctx, token, verb, path)
	switch {
	case err == nil:
		j.remember(key, from, status)
		return status, nil
	case known:
		return http.StatusOK, err
	}
	return http.StatusServiceUnavailable, err
}

// recall is an answer that needs no review, or 0, and whether the token was let in lately. Other scrapes with it do not wait for
// the review that follows.
func (j *judge) recall(key scrape, from peer) (status int, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	if is, ok := j.allowed.get(key); ok && now.Before(is.last) {
		if now.Before(is.next) {
			return http.StatusOK, true
		}
		j.allowed.put(key, allowance{next: now.Add(refusedFor), last: is.last})
		return 0, true
	}
	if was, ok := j.refused.get(key); ok && now.Before(was.until) {
		return was.status, false
	}
	if !from.letIn && !j.budget.take(from.address, now) {
		return http.StatusTooManyRequests, false
	}
	return 0, false
}

func (j *judge) remember(key scrape, from peer, status int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	if status != http.StatusOK {
		j.allowed.remove(key)
		j.refused.put(key, refusal{status: status, until: now.Add(refusedFor)})
		return
	}
	j.refused.remove(key)
	j.allowed.put(key, allowance{next: now.Add(allowedFor), last: now.Add(staleFor)})
	j.budget.trust(from.address, now)
}
