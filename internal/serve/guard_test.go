package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

// TestScrapesAreReviewedNowAndThen: a steady scraper must not cost an API call each time, and a revoked token must not count for long.
func TestScrapesAreReviewedNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reviews := map[string]int{}
		rights := map[string]int{"good": http.StatusOK, "poor": http.StatusForbidden, "forged": http.StatusUnauthorized}
		guard := guardOf(func(token string) (int, error) {
			reviews[token]++
			return rights[token], nil
		})
		for range 12 { // two minutes of scrapes
			for token, want := range rights {
				if got := scrapeWith(guard, "Bearer "+token); got != want {
					t.Errorf("scrape with a %s token: %d, want %d", token, got, want)
				}
			}
			time.Sleep(10 * time.Second)
		}
		if reviews["good"] != 2 || reviews["poor"] != 12 || reviews["forged"] != 12 {
			t.Errorf("reviews %v, want one a minute for a good token, one each 10 s for the others", reviews)
		}
		rights["good"], rights["poor"] = http.StatusUnauthorized, http.StatusOK
		if got := scrapeWith(guard, "Bearer good"); got != http.StatusUnauthorized {
			t.Errorf("a minute after its token was revoked a scraper gets %d", got)
		}
		if got := scrapeWith(guard, "Bearer poor"); got != http.StatusOK {
			t.Errorf("10 s after it was bound a scraper gets %d", got)
		}
	})
}

func TestGuardRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, authorization string
		status              int
		err                 error
		want                int
		asked               bool
	}{
		{"no token", "", http.StatusOK, nil, http.StatusUnauthorized, false},
		{"an empty token", "Bearer ", http.StatusOK, nil, http.StatusUnauthorized, false},
		{"a password", "Basic Ym9iOmJvYg==", http.StatusOK, nil, http.StatusUnauthorized, false},
		{"an unknown token", "Bearer x", http.StatusUnauthorized, nil, http.StatusUnauthorized, true},
		{"no right", "Bearer x", http.StatusForbidden, nil, http.StatusForbidden, true},
		{"no API server", "Bearer x", 0, errors.New("no route"), http.StatusServiceUnavailable, true},
		{"a reader", "bearer x", http.StatusOK, nil, http.StatusOK, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := false
			guard := guardOf(func(string) (int, error) { asked = true; return tt.status, tt.err })
			if got := scrapeWith(guard, tt.authorization); got != tt.want || asked != tt.asked {
				t.Errorf("status %d, API server asked %t; want %d, %t", got, asked, tt.want, tt.asked)
			}
		})
	}
}

// TestForgedTokensStarveNoScraper: ten minutes of twenty forged tokens a second, from the scraper's own address, cost the API
// server little and the scraper nothing.
func TestForgedTokensStarveNoScraper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, forged := 0, 0
		guard := guardOf(func(token string) (int, error) {
			if token == "good" {
				good++
				return http.StatusOK, nil
			}
			forged++
			return http.StatusUnauthorized, nil
		})
		const minutes = 10
		for i := range minutes * 1200 {
			if i%301 == 0 {
				if got := scrapeWith(guard, "Bearer good"); got != http.StatusOK {
					t.Errorf("after %d forged tokens the reader gets %d", i, got)
				}
			}
			if got := scrapeWith(guard, fmt.Sprintf("Bearer forged-%d", i)); got == http.StatusOK {
				t.Fatal("a forged token is let in")
			}
			time.Sleep(time.Second / 20)
		}
		if most := minutes*60*strangersPerSecond + strangeBurst; good != minutes || forged > most {
			t.Errorf("%d reviews of the reader and %d of forged tokens, want %d and at most %d", good, forged, minutes, most)
		}
		if kept := len(guard.judge.allowed.entries) + len(guard.judge.refused.entries); kept > maxAllowed+maxRefused {
			t.Errorf("%d answers are kept", kept)
		}
	})
}

// TestRenewedTokens: a scraper's token changes each hour. The new one is unknown, and is let in although others send forged ones.
func TestRenewedTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		guard := guardOf(func(token string) (int, error) {
			if token == "first" || token == "second" || token == "third" {
				return http.StatusOK, nil
			}
			return http.StatusUnauthorized, nil
		})
		if got := scrapeFrom(guard, "192.0.2.1:1", "Bearer first", nil); got != http.StatusOK {
			t.Fatalf("the reader gets %d", got)
		}
		flood := func(address string) {
			for i := range 100 {
				scrapeFrom(guard, address, fmt.Sprintf("Bearer forged-%s-%d", address, i), nil)
			}
		}
		for i := range 100 { // all that strangers have
			flood(fmt.Sprintf("192.0.2.%d:1", 100+i))
		}
		if got := scrapeFrom(guard, "192.0.2.2:1", "Bearer second", nil); got != http.StatusTooManyRequests {
			t.Errorf("a stranger gets %d, want 429: there is no flood", got)
		}
		if got := scrapeFrom(guard, "192.0.2.1:1", "Bearer second", nil); got != http.StatusOK {
			t.Errorf("from an address that is known a renewed token gets %d", got)
		}
		flood("192.0.2.1:1") // as behind one proxy
		own := &conn{}
		own.letIn.Store(true)
		if got := scrapeFrom(guard, "192.0.2.1:1", "Bearer third", own); got != http.StatusOK {
			t.Errorf("over a connection that was let in a renewed token gets %d", got)
		}
	})
}

// TestReadersOutliveTheAPIServer: monitoring is needed most while the API server is away.
func TestReadersOutliveTheAPIServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, answer := 0, error(nil)
		guard := guardOf(func(string) (int, error) { asked++; return http.StatusOK, answer })
		scrapes := func(d time.Duration, want int) {
			for range d / (time.Second) {
				time.Sleep(time.Second)
				if got := scrapeWith(guard, "Bearer good"); got != want {
					t.Errorf("status %d, want %d", got, want)
				}
			}
		}
		scrapes(time.Second, http.StatusOK)
		answer = context.DeadlineExceeded
		scrapes(staleFor-time.Second, http.StatusOK)
		if asked > 1+int(staleFor/refusedFor) {
			t.Errorf("an API server that does not answer was asked %d times", asked)
		}
		scrapes(2*time.Second, http.StatusServiceUnavailable)
		answer = nil
		time.Sleep(refusedFor)
		scrapes(time.Second, http.StatusOK)
	})
}

// TestAnAnswerIsForOnePathAndVerb: a token that may read the metrics is asked about again for anything else.
func TestAnAnswerIsForOnePathAndVerb(t *testing.T) {
	t.Parallel()
	guard := newGuard(answersOK(), func(_ context.Context, _, verb, path string) (int, error) {
		if verb == "get" && path == "/metrics" {
			return http.StatusOK, nil
		}
		return http.StatusForbidden, nil
	}, logr.Discard())
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/metrics", http.StatusOK},
		{http.MethodGet, "/debug/pprof", http.StatusForbidden},
		{http.MethodPost, "/metrics", http.StatusForbidden},
		{http.MethodGet, "/metrics", http.StatusOK},
	} {
		request := httptest.NewRequest(tt.method, tt.path, nil)
		request.Header.Set("Authorization", "Bearer x")
		recorder := httptest.NewRecorder()
		guard.ServeHTTP(recorder, request)
		if recorder.Code != tt.want {
			t.Errorf("%s %s is answered %d, want %d", tt.method, tt.path, recorder.Code, tt.want)
		}
	}
}

func guardOf(review func(token string) (int, error)) *guard {
	return newGuard(answersOK(), func(_ context.Context, token, _, _ string) (int, error) { return review(token) }, logr.Discard())
}

func answersOK() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}

func scrapeWith(guard *guard, authorization string) int {
	return scrapeFrom(guard, "192.0.2.1:1", authorization, nil)
}

// scrapeFrom scrapes from an address, and over a connection if there is one.
func scrapeFrom(guard *guard, address, authorization string, over *conn) int {
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.RemoteAddr = address
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	recorder := httptest.NewRecorder()
	if over != nil {
		over.listener = &listener{}
		request = request.WithContext(context.WithValue(request.Context(), connKey{}, over))
	}
	guard.ServeHTTP(recorder, request)
	return recorder.Code
}
