package serve

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// Forged tokens must cost the API server little. Each is reviewed, so reviews of unknown tokens have limits: one for each
// address, so that no address takes the reviews of another, and one for all addresses that sent no good token lately.
const (
	addressPerSecond, addressBurst   = 0.5, 5
	strangersPerSecond, strangeBurst = 2, 10
	maxAddresses                     = 128
	// trustedFor is how long an address is no stranger after a token from it was let in. Scrapers change their tokens each hour.
	trustedFor = 10 * time.Minute
)

// budget says whether the API server is asked about an unknown token.
type budget struct {
	strangers *rate.Limiter
	addresses *recent[netip.Addr, *rate.Limiter]
	trusted   *recent[netip.Addr, time.Time] // until when
}

func newBudget() *budget {
	return &budget{
		strangers: rate.NewLimiter(strangersPerSecond, strangeBurst),
		addresses: newRecent[netip.Addr, *rate.Limiter](maxAddresses),
		trusted:   newRecent[netip.Addr, time.Time](maxAllowed),
	}
}

// take uses up one review for an address; false if there is none left now.
func (b *budget) take(from netip.Addr, now time.Time) bool {
	own, ok := b.addresses.get(from)
	if !ok {
		own = rate.NewLimiter(addressPerSecond, addressBurst)
		b.addresses.put(from, own)
	}
	if !own.AllowN(now, 1) {
		return false
	}
	if until, ok := b.trusted.get(from); ok && now.Before(until) {
		return true
	}
	return b.strangers.AllowN(now, 1)
}

// trust is called when a token from an address was let in.
func (b *budget) trust(from netip.Addr, now time.Time) { b.trusted.put(from, now.Add(trustedFor)) }
