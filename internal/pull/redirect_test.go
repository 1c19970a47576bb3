package pull

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// redirectTo redirects every request to a URL.
func redirectTo(status int, url string) pulltest.Behaviour {
	return pulltest.Redirect(status, func(*pulltest.Exchange) string { return url })
}

func TestRedirectIsPaidOnceAndCredentialsStayBehind(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			target := pulltest.New(t, object)
			front := pulltest.New(t, object, redirectTo(status, target.URL+"?signature=SECRET"))
			result := mustPull(t, openStore(t), Request{
				URL: front.URL, Digest: pulltest.Digest(object),
				Header: http.Header{"Authorization": {"Bearer SECRET"}, "X-Token": {"SECRET"}, "Cookie": {"SECRET"}},
			})
			if !result.Parallel {
				t.Error("not in ranges")
			}
			log := front.Log()
			if len(log) != 1 || log[0].Header.Get("X-Token") == "" || log[0].Header.Get("Authorization") == "" {
				t.Errorf("the first server saw %+v, want one request with its credentials", log)
			}
			if sent := target.BytesSent(); sent != objectSize {
				t.Errorf("%d bytes of %d were sent", sent, objectSize)
			}
			for _, record := range target.Log() {
				for _, name := range []string{"Authorization", "X-Token", "Cookie"} {
					if record.Header.Get(name) != "" {
						t.Errorf("another port got %s", name)
					}
				}
			}
		})
	}
}

func TestCredentialsFollowWithinTheOrigin(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	server := pulltest.New(t, object, pulltest.Redirect(http.StatusFound, func(x *pulltest.Exchange) string {
		if x.Request.URL.Path == "/image" {
			return "elsewhere?x=1#f"
		}
		return ""
	}))
	mustPull(t, openStore(t), Request{URL: server.URL, Digest: pulltest.Digest(object), Header: http.Header{"Authorization": {"Bearer token"}}})
	for _, record := range server.Log() {
		if record.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("request %d to %s had no credentials", record.Number, record.Path)
		}
		if record.Number > 0 && record.Path != "/elsewhere" {
			t.Errorf("request %d went to %s: the redirect was followed again", record.Number, record.Path)
		}
	}
}

func TestCredentialsDoNotComeBack(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	var away string
	home := pulltest.New(t, object, pulltest.Redirect(http.StatusFound, func(x *pulltest.Exchange) string {
		if x.Request.URL.Path == "/image" {
			return away
		}
		return ""
	}))
	back := pulltest.New(t, object, redirectTo(http.StatusFound, strings.Replace(home.URL, "/image", "/final", 1)))
	away = back.URL
	mustPull(t, openStore(t), Request{URL: home.URL, Digest: pulltest.Digest(object), Header: http.Header{"X-Token": {"SECRET"}}})
	for _, record := range append(back.Log(), home.Log()[1:]...) {
		if record.Header.Get("X-Token") != "" {
			t.Errorf("%s%s got the credentials after a detour", record.Header.Get("Host"), record.Path)
		}
	}
}

func TestRefusedRedirects(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	plain := pulltest.New(t, object)
	hops := func(n int64) pulltest.Behaviour {
		var seen atomic.Int64
		return pulltest.Redirect(http.StatusFound, func(*pulltest.Exchange) string {
			if seen.Add(1) <= n {
				return "/again"
			}
			return ""
		})
	}
	tests := []struct {
		name      string
		tls       bool
		behaviour pulltest.Behaviour
		want      Reason
		say       string
	}{
		{"ten hops", false, hops(10), "", ""},
		{"eleven hops", false, hops(11), InvalidSource, "more than 10"},
		{"a loop", false, redirectTo(http.StatusFound, "/image"), InvalidSource, "more than 10"},
		{"https to http", true, redirectTo(http.StatusFound, plain.URL+"?SECRET"), PolicyDenied, "downgrade"},
		{"https to https", true, hops(2), "", ""},
		{"no Location", false, pulltest.Status(http.StatusFound), InvalidSource, "Location is missing or no URL"},
		{"unparseable Location", false, redirectTo(http.StatusFound, "http://[SECRET"), InvalidSource, "Location is missing or no URL"},
		{"another scheme", false, redirectTo(http.StatusFound, "file:///etc/passwd?SECRET"), InvalidSource, "only http and https"},
		{"to a denied address", false, redirectTo(http.StatusFound, "http://127.0.0.2:1/?SECRET"), PolicyDenied, "127.0.0.2 is denied"},
		{"to a denied name", false, redirectTo(http.StatusFound, "http://[::ffff:127.0.0.2]:1/?SECRET"), PolicyDenied, "is denied"},
		{"304", false, pulltest.Status(http.StatusNotModified), InvalidSource, "304"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := pulltest.New
			if tt.tls {
				start = pulltest.NewTLS
			}
			server := start(t, object, tt.behaviour)
			store := openStore(t)
			_, err := store.Pull(t.Context(), Request{
				URL: server.URL, RootCAs: server.RootCAs, Digest: pulltest.Digest(object),
				Addresses: AddressPolicy{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}},
			}, nil)
			wantReason(t, err, tt.want)
			if err != nil {
				checkFailure(t, store, err, tt.say)
				if sent := server.BytesSent(); sent > 100 {
					t.Errorf("%d bytes were sent", sent)
				}
			}
		})
	}
}

// TestExpiredRedirect has a redirect target that is refused after a while, as
// presigned URLs are; the original URL leads to a fresh one.
func TestExpiredRedirect(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 40<<20+4096)
	tests := []struct {
		name    string
		refuses func(signature, request int) bool // counted from 0, of those with that signature
		want    map[int]Reason                    // by the status of the refusal; nil is success
		asked   int                               // how often the original URL is
	}{
		{"once", func(signature, request int) bool { return signature == 0 && request > 0 }, nil, 2},
		{"again and again", func(_, request int) bool { return request >= 3 }, nil, 8},
		{"for good", func(signature, request int) bool { return signature > 0 || request > 0 }, map[int]Reason{
			http.StatusBadRequest: Forbidden, http.StatusUnauthorized: Forbidden, http.StatusForbidden: Forbidden,
			http.StatusNotFound: NotFound, http.StatusGone: NotFound,
		}, 1 + 4*startConnections + maxRefusals}, // those on their way may be refused again after what others brought
	}
	for _, tt := range tests {
		for _, status := range []int{400, 401, 403, 404, 410} {
			t.Run(tt.name+"/"+strconv.Itoa(status), func(t *testing.T) {
				t.Parallel()
				var seen [100]atomic.Int32
				target := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool {
					signature, err := strconv.Atoi(x.Request.URL.Query().Get("signature"))
					return err != nil || tt.refuses(signature, int(seen[signature].Add(1)-1))
				}, pulltest.Status(status)))
				front := pulltest.New(t, object, pulltest.Redirect(http.StatusFound, func(x *pulltest.Exchange) string {
					return target.URL + "?signature=" + strconv.Itoa(x.Number)
				}))
				s := openStore(t)
				result, err := s.Pull(t.Context(), Request{URL: front.URL, Digest: pulltest.Digest(object)}, nil)
				wantReason(t, err, tt.want[status])
				most := tt.asked
				if status == http.StatusUnauthorized && tt.want != nil {
					most = 2 // what is rejected twice is not shown a third time
				}
				if asked := len(front.Log()); asked < 2 || asked > most {
					t.Errorf("the original URL was asked %d times, want at most %d", asked, most)
				}
				if result.Retries != 0 && tt.want == nil {
					t.Errorf("%d retries: a URL that has expired is none", result.Retries)
				}
				if sent := float64(target.BytesSent()) / float64(object.Size()); sent > 1.01 {
					t.Errorf("the server sent %.2f objects", sent)
				}
			})
		}
	}
}

// TestOneResolutionForAll: while one request asks the original URL again, the others
// that the redirect's target refused wait, and take what comes of it.
func TestOneResolutionForAll(t *testing.T) {
	t.Parallel()
	const requests = 8
	object := pulltest.Random(1, objectSize)
	for name, again := range map[string]bool{"refused again": false, "served again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused := make(chan struct{})
			var left atomic.Int32
			left.Store(requests)
			target := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool {
				if x.Request.URL.RawQuery == "second" {
					return !again
				}
				return x.Number > 0
			}, pulltest.Status(http.StatusForbidden), func(*pulltest.Exchange) {
				if left.Add(-1) == 0 {
					close(refused)
				}
			}))
			front := pulltest.New(t, object, pulltest.Redirect(http.StatusFound, func(x *pulltest.Exchange) string {
				if x.Number == 0 {
					return target.URL
				}
				return target.URL + "?second"
			}), pulltest.After(1, pulltest.Hold(refused)))
			j, err := newJob(Request{URL: front.URL, Connections: requests})
			if err != nil {
				t.Fatal(err)
			}
			s := newSource(j, nil)
			defer s.close()
			asked := span{0, probeSize}
			r, err := s.first(t.Context(), &asked)
			if err != nil {
				t.Fatal(err)
			}
			r.close()
			var all sync.WaitGroup
			for range requests {
				all.Go(func() {
					r, err := s.again(t.Context(), span{probeSize, probeSize + 1}, validator{})
					if err != nil || (r.reply.status == http.StatusPartialContent) != again {
						t.Errorf("%+v, %v", r, err)
						return
					}
					r.close()
				})
			}
			all.Wait()
			if asked := len(front.Log()); asked != 2 {
				t.Errorf("the original URL was asked %d times, want twice", asked)
			}
		})
	}
}

// TestARejectionIsTheLastWord: once the original URL led to a rejection of who asks,
// nobody shows up there again, nor where it led.
func TestARejectionIsTheLastWord(t *testing.T) {
	t.Parallel()
	secret := http.Header{"Authorization": {"Bearer SECRET"}}
	for name, tt := range map[string]struct {
		status int
		itself bool // the original URL rejects, and leads nowhere
		header http.Header
		last   bool
	}{
		"401":                             {http.StatusUnauthorized, false, nil, true},
		"407":                             {http.StatusProxyAuthRequired, false, nil, true},
		"401 of the original":             {http.StatusUnauthorized, true, secret, true},
		"403 of the original, to a token": {http.StatusForbidden, true, secret, true},
		"403 of the original":             {http.StatusForbidden, true, nil, false},
		"403":                             {http.StatusForbidden, false, secret, false}, // which is not sent there
		"404":                             {http.StatusNotFound, false, secret, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rejects := pulltest.After(1, pulltest.Status(tt.status))
			target := pulltest.New(t, pulltest.Random(1, objectSize), rejects)
			behaviours := be(pulltest.Redirect(http.StatusFound, func(*pulltest.Exchange) string { return target.URL }))
			if tt.itself {
				behaviours = append(behaviours, rejects)
			}
			front := pulltest.New(t, pulltest.Random(1, objectSize), behaviours...)
			j, err := newJob(Request{URL: front.URL, Header: tt.header})
			if err != nil {
				t.Fatal(err)
			}
			s := newSource(j, nil)
			defer s.close()
			r, err := s.first(t.Context(), &span{0, probeSize})
			if err != nil {
				t.Fatal(err)
			}
			r.close()
			ask := func() (requests int) {
				t.Helper()
				before := len(front.Log()) + len(target.Log())
				r, err := s.again(t.Context(), span{probeSize, probeSize + 1}, validator{})
				if !failed(r, err) {
					t.Errorf("%+v, %v", r, err)
				}
				r.giveUp()
				return len(front.Log()) + len(target.Log()) - before
			}
			if first := ask(); first < 2 {
				t.Errorf("the original URL was not asked: %d requests", first)
			}
			if second := ask(); (second == 0) != tt.last {
				t.Errorf("%d requests after that", second)
			}
		})
	}
}

func TestUntrustedCertificate(t *testing.T) {
	t.Parallel()
	server := pulltest.NewTLS(t, pulltest.Random(1, 1<<20))
	_, err := openStore(t).Pull(t.Context(), Request{URL: server.URL}, nil)
	wantReason(t, err, SourceUnavailable)
	if !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %q", err)
	}
	if n := server.Connections(); n != 1 {
		t.Errorf("%d connections: a certificate does not change by asking again", n)
	}
}

// TestHTTP2IsNotUsed pulls from a server that would talk HTTP/2, which puts all
// ranges onto one connection.
func TestHTTP2IsNotUsed(t *testing.T) {
	t.Parallel()
	content := pulltest.RandomBytes(1, 40<<20)
	var mu sync.Mutex
	connections := map[string]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections[r.RemoteAddr] = true
		mu.Unlock()
		if r.ProtoMajor != 1 {
			t.Errorf("%s was spoken", r.Proto)
		}
		w.Header().Set("ETag", pulltest.DefaultETag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	result := mustPull(t, openStore(t), Request{URL: server.URL, RootCAs: roots, Connections: 4})
	mu.Lock()
	defer mu.Unlock()
	if len(connections) < 2 || len(connections) > 4 || result.Connections > 4 {
		t.Errorf("%d connections, result %+v", len(connections), result)
	}
}

func TestDialerPolicy(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 1<<20)
	server := pulltest.New(t, object)
	byName := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for _, url := range []string{server.URL, byName} {
		_, err := openStore(t).Pull(t.Context(), Request{URL: url, Addresses: AddressPolicy{Deny: DefaultDeny()}}, nil)
		wantReason(t, err, PolicyDenied)
	}
	if n := server.Connections(); n != 0 {
		t.Errorf("%d connections were made to a denied address", n)
	}
	allow := AddressPolicy{Deny: DefaultDeny(), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	mustPull(t, openStore(t), Request{URL: server.URL, Addresses: allow})
}
