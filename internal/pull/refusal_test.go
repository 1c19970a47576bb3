package pull

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// page answers with the text that a server has for a client it is tired of.
func page(kind string) pulltest.Behaviour {
	return func(x *pulltest.Exchange) {
		pulltest.Page(kind, "<!doctype html><p>Too many connections")(x)
		x.Framing = pulltest.Chunked
	}
}

// coded answers as a proxy does that packs what it passes on.
func coded(x *pulltest.Exchange) {
	x.Header.Set("Content-Encoding", "gzip")
	x.Text = []byte("\x1f\x8b\x08")
}

// refusals are the ways of a server to say that it wants fewer requests.
func refusals() map[string]pulltest.Behaviour {
	all := map[string]pulltest.Behaviour{
		"page": pulltest.Page("text/html; charset=utf-8", "<!doctype html><p>Too many connections"), "page in chunks": page("text/html"),
		"coded": coded,
	}
	for _, status := range []int{400, 403, 404, 406, 409, 410, 418, 421, 505} {
		all[fmt.Sprint(status)] = pulltest.Status(status)
	}
	return all
}

// TestRefusalsAreAboutTheRequest has servers that serve, but not every request.
func TestRefusalsAreAboutTheRequest(t *testing.T) {
	t.Parallel()
	const size = 40<<20 + 4<<10
	object := pulltest.Random(1, size)
	for how, when := range map[string]func(...pulltest.Behaviour) pulltest.Behaviour{
		"every fourth": func(b ...pulltest.Behaviour) pulltest.Behaviour { return pulltest.When(every(4), b...) },
		"but two at once": func(b ...pulltest.Behaviour) pulltest.Behaviour {
			return pulltest.Later(pulltest.Paced(40<<20), pulltest.Crowded(2, b...))
		},
	} {
		for name, refuses := range refusals() {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				server := pulltest.New(t, object, when(refuses))
				result := mustPull(t, openStore(t), Request{URL: server.URL, Digest: pulltest.Digest(object)})
				if !result.Parallel {
					t.Error("the pull fell back to one response")
				}
				if sent := float64(server.BytesSent()) / size; sent > 1.05 {
					t.Errorf("the server sent %.2f objects", sent)
				}
				if result.Retries > 25 {
					t.Errorf("%d requests were refused", result.Retries)
				}
			})
		}
	}
}

// TestRefusalsEnd has a server that refuses everything after some of the object:
// three times over one connection, or once where credentials may be what it refuses.
func TestRefusalsEnd(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	secret := http.Header{"Authorization": {"Bearer SECRET"}}
	tests := []struct {
		name    string
		refuses pulltest.Behaviour
		header  http.Header
		want    Reason
		alone   int // refusals that a pull over one connection takes
	}{
		{"403", pulltest.Status(http.StatusForbidden), http.Header{"User-Agent": {"x"}}, Forbidden, maxRefusals},
		{"404", pulltest.Status(http.StatusNotFound), secret, NotFound, maxRefusals},
		{"421", pulltest.Status(http.StatusMisdirectedRequest), nil, InvalidSource, maxRefusals},
		{"coded", coded, nil, UnsupportedContent, maxRefusals},
		{"401", pulltest.Status(http.StatusUnauthorized), nil, Forbidden, 1},
		{"401 with a token", pulltest.Status(http.StatusUnauthorized), secret, Forbidden, 1},
		{"407", pulltest.Status(http.StatusProxyAuthRequired), nil, PolicyDenied, 1},
		{"403 with a token", pulltest.Status(http.StatusForbidden), secret, Forbidden, 1},
		{"403 with a header", pulltest.Status(http.StatusForbidden), http.Header{"Private-Token": {"SECRET"}}, Forbidden, 1},
	}
	for _, tt := range tests {
		for _, connections := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, connections), func(t *testing.T) {
				t.Parallel()
				var refusals atomic.Int32
				server := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool { return x.Asked.Start >= 20<<20 },
					tt.refuses, func(*pulltest.Exchange) { refusals.Add(1) }))
				s := openStore(t)
				_, err := s.Pull(t.Context(), Request{URL: server.URL, Digest: pulltest.Digest(object), Connections: connections, Header: tt.header}, nil)
				wantReason(t, err, tt.want)
				refused, most := int(refusals.Load()), tt.alone
				if connections > 1 && tt.alone > 1 { // some more, for as long as others bring bytes
					most += 4 * connections
				} else if connections > 1 { // those on their way when the first was refused
					most += connections
				}
				if refused < 1 || refused > most || connections == 1 && refused != tt.alone {
					t.Errorf("%d requests were refused, want at most %d", refused, most)
				}
				key := strings.TrimPrefix(pulltest.Digest(object), digestPrefix)
				if !slices.Contains(entries(t, s.partial.path), key) {
					t.Fatal("nothing is kept")
				}
				if j := journalOf(t, s.root.path, key); connections == 1 && j.vouched() < 20<<20 {
					t.Errorf("%d bytes are kept", j.vouched())
				}
			})
		}
	}
}

// TestWhatExpires has a signature or a token that is good for a part of the object.
// With another one, the next pull goes on.
func TestWhatExpires(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	for _, status := range []int{401, 403} {
		for name, by := range map[string]func(r *Request, lifetime string){
			"signature": func(r *Request, lifetime string) { r.URL += "?X-Amz-Signature=" + lifetime },
			"token":     func(r *Request, lifetime string) { r.Header = http.Header{"Authorization": {"Bearer " + lifetime}} },
		} {
			for _, digest := range []string{"", pulltest.Digest(object)} {
				t.Run(fmt.Sprintf("%s/%d/%.6s", name, status, digest), func(t *testing.T) {
					t.Parallel()
					var given [3]atomic.Int64 // bytes, by lifetime
					server := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool {
						shown := x.Request.Header.Get("Authorization") + x.Request.URL.RawQuery
						lifetime := &given[shown[len(shown)-1]-'0']
						return lifetime.Add(x.Body.End-x.Body.Start) > 20<<20
					}, pulltest.Status(status)))
					s := openStore(t)
					sent := int64(0)
					for lifetime := range 3 {
						r := Request{URL: server.URL, Digest: digest, ImageName: "disk", Connections: 2, Patience: AskOnce}
						by(&r, fmt.Sprint(lifetime))
						result, err := s.Pull(t.Context(), r, nil)
						sent += result.TransferredBytes
						if lifetime < 2 {
							wantReason(t, err, Forbidden)
							continue
						}
						if err != nil {
							t.Fatal(err)
						}
						checkResumed(t, s, result, object)
					}
					if objects := float64(sent) / resumeSize; objects > 1.1 {
						t.Errorf("%.2f objects were sent", objects)
					}
				})
			}
		}
	}
}

// TestARedirectsTargetDies has the mirror that a redirect led to fail in the middle
// of a pull, in every way, and the original URL lead to another one.
func TestARedirectsTargetDies(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	ways := refusals()
	for _, status := range []int{429, 500, 502, 503} {
		ways[fmt.Sprint(status)] = pulltest.Status(status)
	}
	ways["401"], ways["closed"], ways["reset"] = pulltest.Status(401), pulltest.Hang, pulltest.Reset(0)
	ways["silent"], ways["silent in the body"], ways["gone"] = pulltest.Hold(never()), pulltest.Stall(5), nil
	for name, dies := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mirror *pulltest.Server
			late := func(x *pulltest.Exchange) bool { return x.Asked.Start >= 16<<20 }
			if dies == nil {
				gone := make(chan struct{})
				dies = func(x *pulltest.Exchange) {
					select {
					case <-gone:
					default:
						close(gone)
					}
					x.Refuse = true
				}
				mirror = pulltest.New(t, object, pulltest.When(late, dies))
				go func() {
					<-gone
					mirror.Close()
				}()
			} else {
				mirror = pulltest.New(t, object, pulltest.When(late, dies))
			}
			other := pulltest.New(t, object)
			front := pulltest.New(t, object, pulltest.Redirect(http.StatusFound, func(x *pulltest.Exchange) string {
				if x.Number == 0 {
					return mirror.URL
				}
				return other.URL
			}))
			s := openStore(t)
			result := mustPull(t, s, Request{URL: front.URL, Digest: pulltest.Digest(object), Connections: 4, StallTimeout: 4 * time.Second})
			if asked := len(front.Log()); asked < 2 || asked > 3 {
				t.Errorf("the original URL was asked %d times, want twice", asked)
			}
			if sent := float64(mirror.BytesSent()+other.BytesSent()) / resumeSize; sent > 1.3 {
				t.Errorf("the servers sent %.2f objects", sent)
			}
			if !result.Parallel {
				t.Error("the pull fell back to one response")
			}
		})
	}
}

// TestTheOriginalDies: where it led to goes on serving.
func TestTheOriginalDies(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	mirror := pulltest.New(t, object, pulltest.When(every(5), pulltest.Status(http.StatusBadGateway)))
	front := pulltest.New(t, object, pulltest.Redirect(http.StatusFound, func(*pulltest.Exchange) string { return mirror.URL }),
		pulltest.Later(pulltest.Status(http.StatusServiceUnavailable)))
	result := mustPull(t, openStore(t), Request{URL: front.URL, Digest: pulltest.Digest(object)})
	if asked, refused := len(front.Log()), len(mirror.Log())/5; asked > 1+refused || result.Retries > refused {
		t.Errorf("the original URL was asked %d times, after %d failures of the mirror; %d retries", asked, refused, result.Retries)
	}
}
