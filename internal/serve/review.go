package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
)

// review asks whether the holder of a token may use a verb on a path: 200, 401 or 403. An error says that it is not known.
type review func(ctx context.Context, token, verb, path string) (status int, err error)

// newReview asks the API server whether it knows the token (TokenReview) and lets its user read the path (SubjectAccessReview
// of a non-resource URL). It does what controller-runtime's filters package does,
// without k8s.io/apiserver, which would make the agent's binary 30 MB larger.
func newReview(config *rest.Config, httpClient *http.Client) (review, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.RateLimiter = -1, nil // the judge has limits of its own, which keep forged tokens and scrapers apart
	tokens, errTokens := authenticationclient.NewForConfigAndClient(config, httpClient)
	access, errAccess := authorizationclient.NewForConfigAndClient(config, httpClient)
	if err := errors.Join(errTokens, errAccess); err != nil {
		return nil, fmt.Errorf("make the clients that ask who may scrape: %w", err)
	}
	return func(ctx context.Context, token, verb, path string) (int, error) {
		return ask(ctx, tokens.TokenReviews(), access.SubjectAccessReviews(), token, verb, path)
	}, nil
}

func ask(
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
