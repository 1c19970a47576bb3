package controller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// allowedFor is how long an answer counts that let a token in: a steady scraper
	// costs two calls a minute. A token that is revoked is refused that much later.
	allowedFor = time.Minute
	// refusedFor is the same for a refusal: a new binding counts soon.
	refusedFor = 10 * time.Second
	// maxAnswers bounds the answers that are kept, whatever is sent.
	maxAnswers = 64
	// reviewTimeout is how long one scrape may wait for the API server.
	reviewTimeout = 10 * time.Second
	// Forged tokens must cost the API server little, and the process's other
	// requests nothing: reviews have a limit of their own.
	reviewsPerSecond = 2
	reviewsBurst     = 10
)

// NewScrapeFilter lets those requests through whose bearer token the API server
// knows (TokenReview) and whose user it lets read the path (SubjectAccessReview
// of a non-resource URL). It does what controller-runtime's filters package does,
// without k8s.io/apiserver, which would make the agent's binary 30 MB larger.
func NewScrapeFilter(config *rest.Config, httpClient *http.Client) (metricsserver.Filter, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst, config.RateLimiter = reviewsPerSecond, reviewsBurst, nil
	tokens, errTokens := authenticationclient.NewForConfigAndClient(config, httpClient)
	access, errAccess := authorizationclient.NewForConfigAndClient(config, httpClient)
	if err := errors.Join(errTokens, errAccess); err != nil {
		return nil, fmt.Errorf("make the clients that ask who may scrape: %w", err)
	}
	return func(log logr.Logger, handler http.Handler) (http.Handler, error) {
		guard := &scrapeGuard{
			next: handler, log: log, now: time.Now, known: map[scrape]scrapeAnswer{},
			review: func(ctx context.Context, token, verb, path string) (int, error) {
				return review(ctx, tokens.TokenReviews(), access.SubjectAccessReviews(), token, verb, path)
			},
		}
		return guard, nil
	}, nil
}

// scrapeGuard refuses requests of those who may not read metrics.
type scrapeGuard struct {
	next   http.Handler
	log    logr.Logger
	now    func() time.Time
	review func(ctx context.Context, token, verb, path string) (status int, err error)

	mu    sync.Mutex
	known map[scrape]scrapeAnswer
}

// scrape is a hash over token, verb and path: no token stays in memory.
type scrape [sha256.Size]byte

// scrapeAnswer is 200, 401 or 403, and how long that counts.
type scrapeAnswer struct {
	status int
	until  time.Time
}

// ServeHTTP implements http.Handler.
func (g *scrapeGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, err := http.StatusUnauthorized, error(nil)
	if token := bearerToken(r); token != "" {
		status, err = g.judge(r.Context(), token, strings.ToLower(r.Method), r.URL.Path)
	}
	switch {
	case err != nil:
		g.log.Error(err, "it is not known whether a scrape is allowed")
		http.Error(w, "the API server could not be asked", http.StatusServiceUnavailable)
	case status == http.StatusOK:
		g.next.ServeHTTP(w, r)
	default:
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750 §3
		}
		http.Error(w, http.StatusText(status), status)
	}
}

func (g *scrapeGuard) judge(ctx context.Context, token, verb, path string) (int, error) {
	key := scrape(sha256.Sum256([]byte(verb + " " + path + " " + token)))
	g.mu.Lock()
	v, ok := g.known[key]
	g.mu.Unlock()
	if ok && g.now().Before(v.until) {
		return v.status, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	status, err := g.review(ctx, token, verb, path)
	if err == nil {
		g.remember(key, status)
	}
	return status, err
}

// remember keeps an answer. When there are too many, refusals make room: they are
// what a flood of forged tokens consists of.
func (g *scrapeGuard) remember(key scrape, status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if len(g.known) >= maxAnswers {
		maps.DeleteFunc(g.known, func(_ scrape, v scrapeAnswer) bool {
			return v.status != http.StatusOK || !now.Before(v.until)
		})
	}
	if len(g.known) >= maxAnswers {
		return // it is asked again each time
	}
	v := scrapeAnswer{status: status, until: now.Add(refusedFor)}
	if status == http.StatusOK {
		v.until = now.Add(allowedFor)
	}
	g.known[key] = v
}

// review asks the API server whose token it is and what that user may.
func review(
	ctx context.Context, tokens authenticationclient.TokenReviewInterface, access authorizationclient.SubjectAccessReviewInterface,
	token, verb, path string,
) (int, error) {
	who, err := tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("review a token: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := who.Status.User
	extra := map[string]authorizationv1.ExtraValue{}
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := access.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: verb, Path: path},
	}}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return 0, fmt.Errorf("review whether %s may %s %s: %w", user.Username, verb, path, err)
	case !may.Status.Allowed:
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}

// bearerToken is the token of the request's Authorization header (RFC 6750 §2.1); empty if it carries none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
