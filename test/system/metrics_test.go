package system

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestMetricsAreForThoseWhoMayReadThem scrapes both programs with real tokens.
func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "metrics", 1)
	reader, nobody := scraper(t, "metrics-reader", true), scraper(t, "metrics-nobody", false)
	f := g.serve(t, 2*mib, 1, origin.File{})
	g.apply(t, "metrics-image", f, nil)
	waitCondition(t, "metrics-image", v1alpha1.ConditionReady)
	for name, tt := range map[string]struct {
		program *harness.Program
		holds   []string
	}{
		"manager": {suite.cluster.Manager(), []string{
			`cloudimage_plan_duration_seconds_count `, `cloudimage_images{state="ready"} `,
			`cloudimage_write_duration_seconds_count{resource="nodeimagecaches",result="success"} `,
			`cloudimage_write_duration_seconds_count{resource="cloudimages/status",result="success"} `,
		}},
		"agent": {g.nodes[0].Program, []string{
			`cloudimage_pulls_total{result="Ready"} 1`, fmt.Sprintf("cloudimage_pulled_bytes_total %v\n", float64(f.size)),
			fmt.Sprintf("cloudimage_downloaded_bytes_total %v\n", float64(f.size)), "cloudimage_active_connections 0\n",
			"cloudimage_pull_bytes_per_second_count 1\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := tt.program.MetricsAddress()
			eventually(t, "a scrape by a reader", func(ctx context.Context) error {
				status, body, err := scrape(ctx, "https://"+address, reader)
				if err != nil || status != http.StatusOK {
					return fmt.Errorf("status %d, error %w", status, err)
				}
				for _, line := range tt.holds {
					if !strings.Contains(body, line) {
						return fmt.Errorf("no %q in:\n%s", line, body)
					}
				}
				return nil
			})
			for _, refused := range []struct {
				name, url, token string
				want             int
			}{
				{"without a token", "https://", "", http.StatusUnauthorized},
				{"with a forged token", "https://", reader + "x", http.StatusUnauthorized},
				{"with a token that has no right", "https://", nobody, http.StatusForbidden},
				{"without TLS", "http://", reader, http.StatusBadRequest},
			} {
				status, body, err := scrape(t.Context(), refused.url+address, refused.token)
				if err != nil || status != refused.want || strings.Contains(body, "cloudimage_") {
					t.Errorf("%s: status %d, error %v, want %d and no metrics; body %.200q", refused.name, status, err, refused.want, body)
				}
			}
		})
	}
}

// scraper returns the token of a new ServiceAccount, bound to the role of readers or to nothing.
func scraper(t *testing.T, name string, bound bool) string {
	t.Helper()
	create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: harness.Namespace, Name: name}})
	if bound {
		bindings := suite.cluster.Client.RbacV1().ClusterRoleBindings()
		_, err := bindings.Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cloudimage-metrics-reader"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: harness.Namespace, Name: name}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = bindings.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	}
	token, err := suite.plane.ServiceAccountToken(t.Context(), harness.Namespace, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func scrape(ctx context.Context, origin, token string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/metrics", nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the certificate is the program's own
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		err = nil // who refuses may hang up before all is read
	}
	return response.StatusCode, string(content), err
}
