package pull

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// budgetPoll is how often a pull that waits for its first connection asks again.
	budgetPoll = 20 * time.Millisecond
	// budgetPatience is for how long after it asked a pull counts as one that waits.
	budgetPatience = 10 * budgetPoll
)

// connectionBudget shares connections among the pulls of a store: so many in
// all, and so many to one origin. 0 is no limit.
type connectionBudget struct {
	perNode, perHost int

	mu     sync.Mutex
	users  []*budgetUser
	served uint64 // connections given so far
}

// budgetUser is what one pull holds at one origin.
type budgetUser struct {
	owner   any
	host    string
	held    int
	wanting bool // was refused, and has got nothing since
	asked   time.Time
	served  uint64 // the number of the last connection that it got; 0 for none yet
}

// slot is one connection of a budget; the zero value holds none.
type slot struct {
	budget *connectionBudget
	user   *budgetUser
}

// try takes a connection for a pull, if there is one left that no other pull
// has a better claim to.
func (b *connectionBudget) try(owner any, host string) (slot, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	user := b.user(owner, host)
	user.asked = time.Now()
	if !b.admits(user) || b.yields(user) {
		user.wanting = true
		return slot{}, false
	}
	user.held++
	b.served++
	user.wanting, user.served = false, b.served
	return slot{b, user}, true
}

// admits reports whether a user may take one more connection. The caller holds mu.
func (b *connectionBudget) admits(user *budgetUser) bool {
	all := func(*budgetUser) bool { return true }
	here := func(u *budgetUser) bool { return u.host == user.host }
	return fair(b.users, user, b.perNode, all) && fair(b.users, user, b.perHost, here)
}

// yields reports whether a user has to leave a connection to another one, which has
// none, waits for longer and could take it now. Where there are more pulls than
// connections, a pull that gives its own back and asks at once would always be first.
// Who has stopped asking holds nobody up for long. The caller holds mu.
func (b *connectionBudget) yields(user *budgetUser) bool {
	return slices.ContainsFunc(b.users, func(u *budgetUser) bool {
		waits := u.wanting && u.held == 0 && user.asked.Sub(u.asked) < budgetPatience
		return waits && u.served < user.served && b.admits(u)
	})
}

func (b *connectionBudget) user(owner any, host string) *budgetUser {
	for _, u := range b.users {
		if u.owner == owner && u.host == host {
			return u
		}
	}
	u := &budgetUser{owner: owner, host: host}
	b.users = append(b.users, u)
	return u
}

// fair reports whether a user may take one more of limit connections, among the
// users that count: one is free, and it stays free for nobody who is short of
// an equal share.
func fair(users []*budgetUser, user *budgetUser, limit int, counts func(*budgetUser) bool) bool {
	if limit <= 0 {
		return true
	}
	free, sharing := limit, 0
	for _, u := range users {
		if !counts(u) {
			continue
		}
		free -= u.held
		if u == user || u.held > 0 || u.wanting {
			sharing++
		}
	}
	if free <= 0 {
		return false
	}
	share := max(1, limit/sharing)
	if user.held < share {
		return true
	}
	for _, u := range users {
		if u != user && counts(u) && u.wanting {
			free -= max(0, share-u.held)
		}
	}
	return free > 0
}

// wait is try for a pull's first connection.
func (b *connectionBudget) wait(ctx context.Context, owner any, host string) (slot, error) {
	for {
		if s, ok := b.try(owner, host); ok {
			return s, nil
		}
		if err := pause(ctx, budgetPoll); err != nil {
			return slot{}, err
		}
	}
}

// forget ends a pull's part in the budget.
func (b *connectionBudget) forget(owner any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.users[:0]
	for _, u := range b.users {
		if u.owner != owner {
			kept = append(kept, u)
		}
	}
	clear(b.users[len(kept):])
	b.users = kept
}

// release gives a connection back. It may be called again.
func (s *slot) release() {
	if s.budget == nil {
		return
	}
	s.budget.mu.Lock()
	s.user.held--
	s.budget.mu.Unlock()
	*s = slot{}
}
