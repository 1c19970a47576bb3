package charttest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

// uninstallBound is how long an uninstall may take.
const uninstallBound = 60 * time.Second

const image = `
apiVersion: prefetch.cloudimage.dev/v1alpha1
kind: CloudImage
metadata: {name: debian, finalizers: [prefetch.cloudimage.dev/blobs]}
spec: {source: {http: {url: "https://images.example.com/debian.qcow2"}}}
`

// TestUpgradeAndUninstall installs an earlier chart, whose CustomResourceDefinition lacks a field, upgrades it and uninstalls it.
// There are no controllers here, so the test plays the kubelet for the Job and the Deployment controller for a manager's Pod.
func TestUpgradeAndUninstall(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint("crds.keep=", keep), func(t *testing.T) {
			t.Parallel()
			c := startControlPlane(t)
			helmOK := func(args ...string) string {
				out, err := helm(t.Context(), t, c.KubeconfigPath, append(args, "--namespace", namespace)...)
				if err != nil {
					t.Fatalf("helm %v: %v\n%s", args, err, out)
				}
				return out
			}
			helmOK("install", release, earlierChart(t), "--create-namespace")
			kubectl(t, c, "", "wait", "--for=condition=Established", "crd/cloudimages.prefetch.cloudimage.dev")
			kubectl(t, c, image, "apply", "-f", "-")
			uid := kubectl(t, c, "", "get", "cimg", "debian", "-o", "jsonpath={.metadata.uid}")

			helmOK("upgrade", release, built.chart, "--set", fmt.Sprint("crds.keep=", keep))
			kubectl(t, c, "", "patch", "cimg", "debian", "--type=merge", "-p", `{"spec":{"suspend":true}}`)
			got := kubectl(t, c, "", "get", "cimg", "debian", "-o", "jsonpath={.metadata.uid} {.spec.suspend}")
			if got != uid+" true" {
				t.Errorf("after the upgrade the image is %q, want %q: the same object, with the new field", got, uid+" true")
			}
			kubectl(t, c, `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one", "labels": {"prefetch.cloudimage.dev/debian": "0123456789ab", "pool": "vms"}}}`, "create", "-f", "-")
			kubectl(t, c, managerPod, "create", "-f", "-")
			createEnded(t, c, "evicted", keep)

			played := make(chan error, 1)
			start := time.Now()
			go func() { played <- playControllers(t, c) }()
			out := helmOK("uninstall", release, "--timeout", uninstallBound.String())
			if err := <-played; err != nil {
				t.Fatal(err)
			}
			if taken := time.Since(start); taken > uninstallBound {
				t.Errorf("helm uninstall took %s", taken)
			}
			t.Logf("helm uninstall took %s and said:\n%s", time.Since(start).Round(time.Second), out)
			kubectl(t, c, "", "delete", "pod", "evicted", "-n", namespace, "--force", "--grace-period=0") // it is there still
			checkUninstalled(t, c, keep)
		})
	}
}

const managerPod = `
apiVersion: v1
kind: Pod
metadata:
  name: manager
  namespace: cloudimage-system
  labels: {app.kubernetes.io/name: cloudimage-operator, app.kubernetes.io/component: manager}
spec:
  serviceAccountName: cloudimage-manager
  containers: [{name: manager, image: none}]
`

// createEnded makes a manager's Pod that nobody is going to delete: evicted, or deleted on a node whose kubelet is gone.
func createEnded(t *testing.T, c *controlplane.ControlPlane, name string, evicted bool) {
	t.Helper()
	pod := strings.Replace(managerPod, "name: manager\n", "name: "+name+"\n", 1)
	if evicted {
		kubectl(t, c, pod, "create", "-f", "-")
		kubectl(t, c, "", "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Failed","reason":"Evicted"}}`)
		return
	}
	kubectl(t, c, strings.Replace(pod, "spec:\n", "spec:\n  nodeName: one\n  terminationGracePeriodSeconds: 1\n", 1), "create", "-f", "-")
	kubectl(t, c, "", "delete", "pod", name, "-n", namespace, "--wait=false")
}

// earlierChart is a copy of the chart with another version and without spec.suspend.
func earlierChart(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cloudimage-operator")
	if err := os.CopyFS(dir, os.DirFS(built.chart)); err != nil {
		t.Fatal(err)
	}
	edit := func(name, pattern, to string) {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		from := regexp.MustCompile(pattern)
		if !from.Match(data) {
			t.Fatalf("%s has nothing like %q", name, pattern)
		}
		if err := os.WriteFile(path, from.ReplaceAll(data, []byte(to)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("Chart.yaml", `(?m)^version: .*$`, "version: 0.0.9")
	edit("files/crds/prefetch.cloudimage.dev_cloudimages.yaml", "              suspend:\n", "              neverHeardOf:\n")
	return dir
}

// playControllers deletes the manager's Pod once the Deployment wants none, and runs the hook's Job.
func playControllers(t *testing.T, c *controlplane.ControlPlane) error {
	ctx, cancel := context.WithTimeout(t.Context(), uninstallBound)
	defer cancel()
	in := []string{"-n", namespace}
	if err := eventually(ctx, func() (bool, error) {
		_, err := tryKubectl(ctx, c, "", append(in, "get", "job", "cloudimage-uninstall")...)
		return err == nil, nil
	}); err != nil {
		return fmt.Errorf("wait for the Job: %w", err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteServiceAccountKubeconfig(ctx, kubeconfig, namespace, "cloudimage-manager", nil); err != nil {
		return err
	}
	var output bytes.Buffer
	job := exec.CommandContext(ctx, built.manager, "uninstall", "--namespace", namespace, "--kubeconfig", kubeconfig)
	job.Stderr = &output
	if err := job.Start(); err != nil {
		return err
	}
	if err := eventually(ctx, func() (bool, error) {
		replicas, err := tryKubectl(ctx, c, "", append(in, "get", "deployment", "cloudimage-manager", "-o", "jsonpath={.spec.replicas}")...)
		return replicas == "0", err
	}); err != nil {
		return fmt.Errorf("wait for the Deployment to want no manager: %w", err)
	}
	// The finalizer must still be there: a manager runs.
	if finalizers, err := tryKubectl(ctx, c, "", "get", "cimg", "debian", "-o", "jsonpath={.metadata.finalizers}"); err != nil || !strings.Contains(finalizers, "blobs") {
		return fmt.Errorf("while a manager runs the finalizers are %q: %w", finalizers, err)
	}
	if out, err := tryKubectl(ctx, c, "", append(in, "delete", "pod", "manager", "--force", "--grace-period=0")...); err != nil {
		return fmt.Errorf("delete the manager's Pod: %w: %s", err, out)
	}
	if err := job.Wait(); err != nil {
		return fmt.Errorf("manager uninstall: %w: %s", err, &output)
	}
	if !strings.Contains(output.String(), "The images stay on the nodes, in /var/lib/cloudimage") {
		return fmt.Errorf("the Job does not say that the images stay: %s", &output)
	}
	now := time.Now().UTC().Format(time.RFC3339)
	status := fmt.Sprintf(`{"status":{"startTime":%[1]q,"completionTime":%[1]q,"succeeded":1,"conditions":[`+
		`{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}]}}`, now)
	out, err := tryKubectl(ctx, c, "", append(in, "patch", "job", "cloudimage-uninstall", "--subresource=status", "--type=merge", "-p", status)...)
	if err != nil {
		return fmt.Errorf("complete the Job: %w: %s", err, out)
	}
	return nil
}

// eventually asks five times a second.
func eventually(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		ok, err := done()
		if ok && err == nil {
			return nil
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}

func checkUninstalled(t *testing.T, c *controlplane.ControlPlane, keep bool) {
	t.Helper()
	kinds := "deployments,daemonsets,jobs,pods,poddisruptionbudgets,networkpolicies,roles,rolebindings,clusterroles,clusterrolebindings," +
		"priorityclasses,validatingadmissionpolicies,validatingadmissionpolicybindings,serviceaccounts"
	if left := kubectl(t, c, "", "get", kinds, "-A", "-o", "name", "-l", "app.kubernetes.io/name=cloudimage-operator"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if labels := kubectl(t, c, "", "get", "node", "one", "-o", "jsonpath={.metadata.labels}"); labels != `{"pool":"vms"}` {
		t.Errorf("the labels of the node are %s", labels)
	}
	kubectl(t, c, "", "get", "namespace", "cloudimage-sources")
	if keep {
		if finalizers := kubectl(t, c, "", "get", "cimg", "debian", "-o", "jsonpath={.metadata.finalizers}"); finalizers != "" {
			t.Errorf("the finalizers of the image are %s", finalizers)
		}
		return
	}
	kubectl(t, c, "", "wait", "--for=delete", "crd/cloudimages.prefetch.cloudimage.dev", "crd/nodeimagecaches.prefetch.cloudimage.dev", "--timeout=20s")
}
