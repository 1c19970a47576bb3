package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// bad are orders for images of which nothing comes.
func bad(count int) (orders []v1alpha1.AssignedImage) {
	for i := range count {
		orders = append(orders, order(fmt.Sprintf("a%d", i), fmt.Sprintf("sha256:%064d", i), fetch))
	}
	return orders
}

// TestWaitingHoldsNoTurn has images whose servers swallow packets, before one whose
// server answers.
func TestWaitingHoldsNoTurn(t *testing.T) {
	t.Parallel()
	for _, count := range []int{2, 8} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			t.Parallel()
			withImages(t, 1, func(im *Images, m *memoryStore) {
				m.silent = map[string]time.Duration{}
				orders := bad(count)
				for _, o := range orders {
					m.silent[o.Name] = -1
				}
				im.Sync(orders, nil)
				time.Sleep(time.Millisecond)
				im.Sync(append(orders, order("good", digestA, fetch)), nil)
				time.Sleep(time.Duration(count)*2*time.Second + time.Minute) // which the good one takes
				synctest.Wait()
				if got := im.statusOf("good"); got.State != v1alpha1.StateReady {
					t.Errorf("the good one is %s after %d pulls", got.State, m.pulled())
				}
			})
		})
	}
}

// TestNoMoreFetchThanMay: those whose servers answer late wait for their turn then.
func TestNoMoreFetchThanMay(t *testing.T) {
	t.Parallel()
	withImages(t, 2, func(im *Images, m *memoryStore) {
		m.silent = map[string]time.Duration{}
		orders := bad(6)
		for i, o := range orders {
			m.silent[o.Name] = time.Duration(5+i) * time.Second
		}
		im.Sync(orders, nil)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if m.most != 2 || len(im.pulls) != 2 || m.pulled() != 6 {
			t.Errorf("%d fetched at the same time, %d turns are taken, %d asked", m.most, len(im.pulls), m.pulled())
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		for _, s := range im.Statuses() {
			if s.State != v1alpha1.StateReady {
				t.Errorf("%s is %s", s.Name, s.State)
			}
		}
		if m.most != 2 || len(im.pulls) != 0 || m.pulled() != 6 {
			t.Errorf("%d fetched at the same time, %d turns are taken, %d asked", m.most, len(im.pulls), m.pulled())
		}
	})
}

// TestATurnEndsWithItsPull whatever became of it.
func TestATurnEndsWithItsPull(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*testing.T, *Turn){
		"nothing":  func(*testing.T, *Turn) {},
		"lent":     func(*testing.T, *Turn) { time.Sleep(2 * lendAfter) },
		"answered": func(_ *testing.T, turn *Turn) { turn.Answered(); time.Sleep(2 * lendAfter) },
		"taken back": func(t *testing.T, turn *Turn) {
			t.Helper()
			time.Sleep(2 * lendAfter)
			if turn.Answered() {
				t.Error("the turn was not lent")
			}
			if err := turn.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if !turn.Answered() {
				t.Error("the turn was not taken back")
			}
			time.Sleep(2 * lendAfter)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				places := make(chan struct{}, 1)
				turn, ok := takeTurn(t.Context(), places)
				if !ok || len(places) != 1 {
					t.Fatal("no turn")
				}
				use(t, turn)
				if lent := name == "lent"; (len(places) == 0) != lent {
					t.Errorf("%d places are taken", len(places))
				}
				turn.end()
				time.Sleep(2 * lendAfter)
				synctest.Wait()
				if len(places) != 0 {
					t.Errorf("%d places are taken afterwards", len(places))
				}
			})
		})
	}
}
