package system

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault10LeaderPausedPastItsLease runs alone, because it takes the manager from everybody. A leader that is stopped in
// mid-rollout wakes up while another one leads, and must not grant more slots than there are.
func TestFault10LeaderPausedPastItsLease(t *testing.T) {
	const nodes, slots = 6, 2
	g := newGroup(t, "paused", nodes)
	f := g.serve(t, 4*mib, 1, origin.File{})
	g.apply(t, "paused", f, func(spec *v1alpha1.CloudImageSpec) {
		limit(slots)(spec)
		spec.Download.MaxBytesPerSecond = resource.NewQuantity(mib/2, resource.BinarySI) // 8 s a node
	})
	eventually(t, "a rollout that is under way", func(context.Context) error {
		if asked := suite.origin.Nodes(f.urlPath); len(asked) < slots {
			return fmt.Errorf("only nodes %q have asked", asked)
		}
		return nil
	})
	leader := leaseHolder(t)
	second := startSecondManager(t)
	pid := suite.cluster.Manager().PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // does nothing once it has gone on
	eventually(t, "another leader", func(context.Context) error {
		if now := leaseHolder(t); now == leader || now == "" {
			return fmt.Errorf("the Lease is held by %q", now)
		}
		return nil
	})
	asked := len(suite.origin.Nodes(f.urlPath))
	eventually(t, "slots that the second manager granted", func(context.Context) error {
		if now := len(suite.origin.Nodes(f.urlPath)); now == asked {
			return fmt.Errorf("%d nodes have asked, as before", now)
		}
		return nil
	})
	if asked := len(suite.origin.Nodes(f.urlPath)); asked == nodes {
		t.Fatal("all nodes had asked before the first leader woke up, which therefore came too late")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	image := waitCondition(t, "paused", v1alpha1.ConditionReady)
	if image.Status.Nodes.Ready != nodes {
		t.Errorf("status %+v, want %d ready nodes", image.Status, nodes)
	}
	most := suite.origin.MaxConcurrentNodes(f.urlPath)
	t.Logf("at most %d nodes pulled at once, with a limit of %d", most, slots)
	if most > slots {
		t.Errorf("%d nodes pulled at once, the limit is %d; access log %+v", most, slots, suite.origin.Requests(f.urlPath))
	}
	g.requireOnly(t, f.digest)
	if err := second.Stop(5 * time.Second); err != nil { // and leave the Lease to the one that everybody knows
		t.Error(err)
	}
	eventually(t, "the first manager leads again", func(context.Context) error {
		if now := leaseHolder(t); now == "" {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
}

func leaseHolder(t *testing.T) string {
	t.Helper()
	lease, err := suite.cluster.Client.CoordinationV1().Leases(harness.Namespace).Get(t.Context(), "cloudimage-manager", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// startSecondManager starts a manager as the harness starts the first one, beside it.
func startSecondManager(t *testing.T) *process.Process {
	t.Helper()
	addresses := [2]string{}
	for i := range addresses {
		port, err := controlplane.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	}
	manager, err := process.Start(process.Command{
		Name: "second manager", Path: filepath.Join(suite.dir, "manager"), LogPath: filepath.Join(suite.dir, "logs", "manager-2.log"),
		Args: []string{
			"--kubeconfig", filepath.Join(suite.dir, "manager.kubeconfig"), "--namespace", harness.Namespace,
			"--metrics-bind-address", addresses[0], "--health-probe-bind-address", addresses[1],
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("second manager:\n%s", process.Tail(manager.LogPath(), 20))
		}
		if err := manager.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return manager
}

// TestFault25MoreImagesThanAnObjectMayList runs alone, because 600 images keep the manager busy. They are suspended: nothing is
// pulled, but every one of them is listed.
func TestFault25MoreImagesThanAnObjectMayList(t *testing.T) {
	const images, listed = 600, 500
	g := newGroup(t, "crowded", 1)
	padding := strings.Repeat("x", 950)
	name := func(i int) string { return fmt.Sprintf("crowded-%03d", i) }
	t.Cleanup(func() {
		err := suite.client.DeleteAllOf(context.WithoutCancel(t.Context()), &v1alpha1.CloudImage{}, client.MatchingLabels{groupLabel: g.name})
		if err != nil {
			t.Error(err)
		}
	})
	inParallel(t, images, func(ctx context.Context, i int) error {
		image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: name(i), Labels: map[string]string{groupLabel: g.name}}}
		image.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: suite.origin.URL + "/" + padding}
		image.Spec.Digest = fmt.Sprintf("sha256:%064d", i)
		image.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{groupLabel: g.name}}
		image.Spec.DeletionPolicy, image.Spec.Suspend = v1alpha1.DeletionRetain, true
		return suite.client.Create(ctx, image)
	})
	var left []string
	within(t, 5*patience, "500 listed images and 100 that are left out", func(ctx context.Context) error {
		left = nil
		var list v1alpha1.CloudImageList
		if err := suite.client.List(ctx, &list, client.MatchingLabels{groupLabel: g.name}); err != nil {
			return err
		}
		for _, image := range list.Items {
			if f := image.Status.Failures; len(f) == 1 && f[0].Reason == v1alpha1.ReasonNodeImageLimit && f[0].Node == g.nodes[0].Name {
				left = append(left, image.Name)
			}
		}
		cache := cacheNamed(g.nodes[0].Name)
		if err := suite.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
			return err
		}
		if len(cache.Spec.Images) != listed || len(left) != images-listed {
			return fmt.Errorf("%d images are listed, %d are left out", len(cache.Spec.Images), len(left))
		}
		return nil
	})
	out, err := suite.cluster.Kubectl(t.Context(), nil, "get", "cimg", left[0], "-o", "jsonpath={.status.failures[0].message}")
	if err != nil || !strings.Contains(out, "Delete images") {
		t.Errorf("the status does not say what to do: %q %v", out, err)
	}
	// One goes, and the first of those that wait takes its place.
	cache := cacheNamed(g.nodes[0].Name)
	if err := suite.client.Get(t.Context(), client.ObjectKeyFromObject(cache), cache); err != nil {
		t.Fatal(err)
	}
	remove(t, cache.Spec.Images[0].Name)
	eventually(t, "a place for one of those that wait", func(ctx context.Context) error {
		err := suite.client.Get(ctx, client.ObjectKeyFromObject(cache), cache)
		if err == nil && len(cache.Spec.Images) != listed {
			err = fmt.Errorf("%d images are listed", len(cache.Spec.Images))
		}
		return err
	})
}

// inParallel runs numbered work, two at a time: more would keep a slow machine's API server from renewing the manager's Lease.
func inParallel(t *testing.T, count int, do func(ctx context.Context, i int) error) {
	t.Helper()
	var all sync.WaitGroup
	tokens := make(chan struct{}, 2)
	for i := range count {
		all.Go(func() {
			tokens <- struct{}{}
			defer func() { <-tokens }()
			if err := do(t.Context(), i); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestFault27AdmissionPolicyIsMissing runs alone: while it does, agents are not confined.
func TestFault27AdmissionPolicyIsMissing(t *testing.T) {
	const name = "cloudimage-agent-confinement"
	admission := suite.cluster.Client.AdmissionregistrationV1()
	binding, err := admission.ValidatingAdmissionPolicyBindings().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	binding.ObjectMeta = metav1.ObjectMeta{Name: binding.Name}
	restore := func(ctx context.Context) error {
		if _, err := admission.ValidatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		_, err := admission.ValidatingAdmissionPolicies().Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"failurePolicy":"Fail"}}`), metav1.PatchOptions{})
		return err
	}
	t.Cleanup(func() {
		if err := restore(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})

	if err := admission.ValidatingAdmissionPolicyBindings().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitConfinementEvent(t, "AgentsNotConfined", "no ValidatingAdmissionPolicyBinding", 1)
	if err := restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitConfinementEvent(t, "AgentsConfined", "", 1)

	_, err = admission.ValidatingAdmissionPolicies().Patch(t.Context(), name, types.MergePatchType,
		[]byte(`{"spec":{"failurePolicy":"`+string(admissionv1.Ignore)+`"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitConfinementEvent(t, "AgentsNotConfined", "", 2) // counted in the first one, whose text stays; the log has the new one
	if err := restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitConfinementEvent(t, "AgentsConfined", "", 2)
}

// TestFault27PoliciesMayNotBeRead: a manager that cannot see whether the agents are confined warns, and works.
func TestFault27PoliciesMayNotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blind")
	roles := w.cluster.Client.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), "cloudimage-manager", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rules := len(role.Rules)
	role.Rules = slices.DeleteFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.APIGroups, admissionv1.GroupName)
	})
	if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil || len(role.Rules) != rules-1 {
		t.Fatalf("%d of %d rules are left, %v", len(role.Rules), rules, err)
	}
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "blind", 1)
	f := g.serve(t, 4*mib, 1, origin.File{})
	g.apply(t, "blind", f, nil)
	w.waitCondition(t, "blind", v1alpha1.ConditionReady)
	path := w.cluster.Manager().LogPath
	if log, err := os.ReadFile(path); err != nil || !strings.Contains(string(log), "cannot be read") {
		t.Errorf("the manager does not say that it cannot see the policy: %v, %s", err, process.Tail(path, 100))
	}
}

// waitConfinementEvent waits for as many events, and shorter than the manager waits between two looks without a watch.
func waitConfinementEvent(t *testing.T, reason, part string, count int) {
	t.Helper()
	began := time.Now()
	eventually(t, "event "+reason, func(ctx context.Context) error {
		list, err := suite.cluster.Client.EventsV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		found := 0
		for _, event := range list.Items {
			if event.Reason == reason && strings.Contains(event.Note, part) {
				found++
				if event.Series != nil {
					found += int(event.Series.Count) - 1
				}
			}
		}
		if found < count {
			return fmt.Errorf("%d of %d events, %s", found, count, process.Tail(suite.cluster.Manager().LogPath, 5))
		}
		return nil
	})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the change was noticed after %s: by looking now and then, not by the watch", took)
	}
}
