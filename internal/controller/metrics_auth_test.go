package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
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
		guard := newGuard(func(token string) (int, error) {
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

func TestScrapeGuardRefuses(t *testing.T) {
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
		{"a token without the right", "Bearer x", http.StatusForbidden, nil, http.StatusForbidden, true},
		{"while the API server is away", "Bearer x", 0, errors.New("no route"), http.StatusServiceUnavailable, true},
		{"a reader", "bearer x", http.StatusOK, nil, http.StatusOK, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := false
			guard := newGuard(func(string) (int, error) { asked = true; return tt.status, tt.err })
			if got := scrapeWith(guard, tt.authorization); got != tt.want || asked != tt.asked {
				t.Errorf("status %d, API server asked %t; want %d, %t", got, asked, tt.want, tt.asked)
			}
		})
	}
}

// TestForgedTokensDoNotPushReadersOut floods the guard, whose memory must stay bounded.
func TestForgedTokensDoNotPushReadersOut(t *testing.T) {
	t.Parallel()
	readers := 0
	guard := newGuard(func(token string) (int, error) {
		if token == "good" {
			readers++
			return http.StatusOK, nil
		}
		return http.StatusUnauthorized, nil
	})
	for i := range 10 * maxAnswers {
		if got := scrapeWith(guard, "Bearer good"); got != http.StatusOK {
			t.Fatalf("the reader gets %d", got)
		}
		if got := scrapeWith(guard, fmt.Sprintf("Bearer forged-%d", i)); got != http.StatusUnauthorized {
			t.Fatalf("a forged token gets %d", got)
		}
	}
	if readers != 1 || len(guard.known) > maxAnswers {
		t.Errorf("the reader was reviewed %d times, %d answers are kept; want 1, at most %d", readers, len(guard.known), maxAnswers)
	}
	guard.review = func(context.Context, string, string, string) (int, error) { return http.StatusOK, nil }
	for i := range 2 * maxAnswers { // more readers than places
		if got := scrapeWith(guard, fmt.Sprintf("Bearer reader-%d", i)); got != http.StatusOK {
			t.Fatalf("a reader gets %d", got)
		}
	}
	if len(guard.known) > maxAnswers {
		t.Errorf("%d answers are kept, want at most %d", len(guard.known), maxAnswers)
	}
}

// TestAnAnswerIsForOnePathAndVerb: a token that may read the metrics is asked about again for anything else.
func TestAnAnswerIsForOnePathAndVerb(t *testing.T) {
	t.Parallel()
	guard := newGuard(nil)
	guard.review = func(_ context.Context, _, verb, path string) (int, error) {
		if verb == "get" && path == "/metrics" {
			return http.StatusOK, nil
		}
		return http.StatusForbidden, nil
	}
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

func newGuard(review func(token string) (int, error)) *scrapeGuard {
	return &scrapeGuard{
		next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		log:  logr.Discard(), now: time.Now, known: map[scrape]scrapeAnswer{},
		review: func(_ context.Context, token, _, _ string) (int, error) { return review(token) },
	}
}

func scrapeWith(guard *scrapeGuard, authorization string) int {
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	recorder := httptest.NewRecorder()
	guard.ServeHTTP(recorder, request)
	return recorder.Code
}

func TestMetricsServerOptions(t *testing.T) {
	t.Parallel()
	withoutKey, complete := t.TempDir(), t.TempDir()
	for _, path := range []string{withoutKey + "/tls.crt", complete + "/tls.crt", complete + "/tls.key"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		server         MetricsServer
		guarded, fails bool
	}{
		"default":                      {MetricsServer{Address: ":1", Secure: true}, true, false},
		"plain":                        {MetricsServer{Address: ":1"}, false, false},
		"plain with a certificate":     {MetricsServer{Address: ":1", CertDir: complete}, false, true},
		"own certificate":              {MetricsServer{Address: ":1", Secure: true, CertDir: complete}, true, false},
		"own certificate without key":  {MetricsServer{Address: ":1", Secure: true, CertDir: withoutKey}, true, true},
		"own certificate from nowhere": {MetricsServer{Address: ":1", Secure: true, CertDir: complete + "/none"}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options, err := tt.server.Options()
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %t", err, tt.fails)
			}
			if guarded := options.FilterProvider != nil && options.SecureServing; guarded != tt.guarded {
				t.Errorf("guarded %t, want %t", guarded, tt.guarded)
			}
		})
	}
}
