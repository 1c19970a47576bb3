package controlplane_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs two control planes at once, as two test binaries would, because each test calls it in parallel.
func start(t *testing.T) *controlplane.ControlPlane {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // the first run ever builds Kubernetes
	defer cancel()
	c, err := controlplane.Start(ctx, controlplane.Options{Output: t.Output(), IgnoreEnvironment: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestKubectlAndStop(t *testing.T) {
	t.Parallel()
	c := start(t)
	out, err := exec.Command(c.KubectlPath, "--kubeconfig", c.KubeconfigPath, "version").CombinedOutput()
	if err != nil || strings.Count(string(out), "v1.36") != 2 {
		t.Fatalf("kubectl version: %v\n%s", err, out)
	}
	pids, dir := c.PIDs(), filepath.Dir(c.KubeconfigPath)
	if len(pids) != 2 {
		t.Fatalf("process ids %v, want those of etcd and of the API server", pids)
	}
	start := time.Now()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %s", time.Since(start))
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d still runs", pid)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder %s is still there: %v", dir, err)
	}
}

// TestBoundTokenNamesItsNode holds the ground under the admission policy, which tells agents apart by that name.
func TestBoundTokenNamesItsNode(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	client := kubernetes.NewForConfigOrDie(c.Config)
	const namespace = "default"
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec: corev1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "agent",
			Containers: []corev1.Container{{Name: "agent", Image: "agent"}},
		},
	}
	_, errNode := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, metav1.CreateOptions{})
	_, errAccount := client.CoreV1().ServiceAccounts(namespace).Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "agent"}}, metav1.CreateOptions{})
	pod, errPod := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err := errors.Join(errNode, errAccount, errPod); err != nil {
		t.Fatal(err)
	}
	token, err := c.ServiceAccountToken(ctx, namespace, "agent", &controlplane.Binding{PodName: pod.Name, PodUID: pod.UID})
	if err != nil {
		t.Fatal(err)
	}
	review, err := client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := review.Status.User.Extra["authentication.kubernetes.io/node-name"]; !slices.Equal(got, []string{"node-1"}) {
		t.Errorf("token carries node name %q, want node-1; user %+v", got, review.Status.User)
	}
}

func TestExternal(t *testing.T) {
	c, ctx := start(t), t.Context()
	client := kubernetes.NewForConfigOrDie(c.Config)
	t.Setenv("KUBECONFIG", c.KubeconfigPath)

	var output bytes.Buffer
	external, err := controlplane.Start(ctx, controlplane.Options{Output: &output})
	if err != nil {
		t.Fatal(err)
	}
	if !external.External || len(external.PIDs()) != 0 || !strings.Contains(output.String(), c.Config.Host) {
		t.Errorf("an API server of its own was started; output %s", &output)
	}
	if err := external.Stop(); err != nil {
		t.Fatal(err)
	}
	ours := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "ours", Labels: map[string]string{controlplane.NodeLabel: "true"}}}
	if _, err := client.CoreV1().Nodes().Create(ctx, ours, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if external, err = controlplane.Start(ctx, controlplane.Options{}); err != nil {
		t.Fatalf("a cluster with our own nodes: %v", err)
	}
	if err := external.Stop(); err != nil {
		t.Fatal(err)
	}
	worker := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}}
	if _, err := client.CoreV1().Nodes().Create(ctx, worker, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = controlplane.Start(ctx, controlplane.Options{})
	if got := fmt.Sprint(err); !strings.Contains(got, `"worker-1"`) || !strings.Contains(got, "unset KUBECONFIG") {
		t.Errorf("a cluster with a real node: error %q does not say what to do", got)
	}
}
