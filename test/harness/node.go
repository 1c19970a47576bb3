package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

const (
	containerName  = "node-agent"
	containerImage = "node-agent:harness"
)

// Node is a Node object, the Pod of its agent, and the agent.
type Node struct {
	*Program
	// Name is that of the Node, the Program's is longer.
	Name string
	// Store is the folder of the agent's store.
	Store string

	podName   string
	lostSince time.Time // zero unless the machine is lost; guarded by the Program's mu
}

// Lose ends the agent for good, as a machine that is cut off does for everybody else, and has its Pod say that it is not ready
// since a time in the past, as if the kubelet had written that then. Start brings the machine back.
func (n *Node) Lose(since time.Time) error {
	n.mu.Lock()
	n.lostSince = since
	n.mu.Unlock()
	return n.Stop()
}

// Another is the same agent once more, which the Pod does not know of. Start begins it, Stop has to end it.
func (n *Node) Another(name string) *Program {
	return &Program{
		Name: n.Program.Name + ", " + name, LogPath: strings.TrimSuffix(n.LogPath, ".log") + "-" + name + ".log",
		path: n.path, client: n.client, args: n.args,
	}
}

// AddNode creates a Ready Node and its agent's Pod, as the kubelet and the DaemonSet controller would, and starts the agent with a
// token bound to that Pod. It does not wait for the agent.
func (c *Cluster) AddNode(ctx context.Context, name string, labels map[string]string) (*Node, error) {
	if err := c.createNode(ctx, name, labels); err != nil {
		return nil, err
	}
	pod, err := c.Client.CoreV1().Pods(Namespace).Create(ctx, agentPod(name), metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create the agent's Pod of node %s: %w", name, err)
	}
	dir := filepath.Join(c.options.Dir, "nodes", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the folder of node %s: %w", name, err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	binding := &controlplane.Binding{PodName: pod.Name, PodUID: pod.UID}
	err = c.options.ControlPlane.WriteServiceAccountKubeconfig(ctx, kubeconfig, Namespace, "cloudimage-agent", binding)
	if err != nil {
		return nil, err
	}
	node := &Node{Name: name, Store: filepath.Join(dir, "store"), podName: pod.Name}
	node.Program = &Program{
		Name: "node-agent on " + name, LogPath: filepath.Join(c.options.Dir, "logs", "node-agent-"+name+".log"),
		path: c.options.Binaries.NodeAgent, client: &http.Client{Transport: &http.Transport{}},
		args: func(metrics, health string) []string {
			return []string{
				"run", "--kubeconfig", kubeconfig, "--node-name", name, "--store", node.Store,
				"--source-namespace", SourceNamespace, "--allow-cidr", "127.0.0.0/8", "--min-free-space", "0",
				"--metrics-bind-address", metrics, "--health-probe-bind-address", health,
			}
		},
		onReady: func(ctx context.Context, ready bool) error { return c.mirror(ctx, node, ready) },
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, node)
	if err := node.Start(); err != nil {
		return nil, err
	}
	return node, nil
}

// RemoveNode deletes a Node, and then what the Node owned, as the garbage collector would.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	err := c.DeleteNode(ctx, name)
	_, errCache := c.Kubectl(ctx, nil, "delete", "nodeimagecache", name, "--ignore-not-found")
	return errors.Join(err, errCache)
}

// DeleteNode stops the agent and deletes the Pod and the Node, if they are still there; what the Node owned stays, as before the
// garbage collector came by. The store's folder stays, as the disk of a machine does that is added again.
func (c *Cluster) DeleteNode(ctx context.Context, name string) error {
	c.mu.Lock()
	at := slices.IndexFunc(c.nodes, func(node *Node) bool { return node.Name == name })
	if at < 0 {
		c.mu.Unlock()
		return fmt.Errorf("remove node %s: there is none of that name", name)
	}
	node := c.nodes[at]
	c.nodes = slices.Delete(slices.Clone(c.nodes), at, at+1)
	c.mu.Unlock()

	err := node.Stop()
	_, errPod := c.Kubectl(ctx, nil, "delete", "pod", "-n", Namespace, node.podName, "--grace-period=0", "--force", "--ignore-not-found")
	_, errNode := c.Kubectl(ctx, nil, "delete", "node", name, "--ignore-not-found")
	return errors.Join(err, errPod, errNode)
}

func (c *Cluster) createNode(ctx context.Context, name string, labels map[string]string) error {
	all := map[string]string{controlplane.NodeLabel: "true", corev1.LabelHostname: name, corev1.LabelOSStable: "linux"}
	maps.Copy(all, labels)
	nodes := c.Client.CoreV1().Nodes()
	_, err := nodes.Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "HarnessSaysSo", LastTransitionTime: metav1.Now()},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create node %s: %w", name, err)
	}
	// Admission taints each new Node as not ready, and the controller that would take the taint off does not run.
	_, err = nodes.Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("remove the not-ready taint of node %s: %w", name, err)
	}
	return nil
}

func agentPod(node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "cloudimage-node-agent-" + node, Namespace: Namespace,
			Labels: map[string]string{
				"app.kubernetes.io/name": "cloudimage-operator", "app.kubernetes.io/component": "node-agent",
			},
		},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "cloudimage-agent",
			Containers: []corev1.Container{{Name: containerName, Image: containerImage}},
		},
	}
}

// mirror writes what a kubelet would say about the Pod of an agent.
func (c *Cluster) mirror(ctx context.Context, node *Node, ready bool) error {
	now := metav1.Now()
	condition, state := corev1.ConditionFalse, corev1.ContainerState{}
	node.mu.Lock()
	switch {
	case ready:
		condition, state.Running = corev1.ConditionTrue, &corev1.ContainerStateRunning{StartedAt: now}
		node.lostSince = time.Time{}
	case !node.lostSince.IsZero():
		now = metav1.NewTime(node.lostSince)
	}
	node.mu.Unlock()
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase: corev1.PodRunning,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: condition, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: condition, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: containerName, Image: containerImage, Ready: ready, State: state, RestartCount: int32(max(0, node.Starts()-1))},
		},
	}})
	if err != nil {
		return fmt.Errorf("encode the status of Pod %s: %w", node.podName, err)
	}
	pods := c.Client.CoreV1().Pods(Namespace)
	if _, err = pods.Patch(ctx, node.podName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("mirror the readiness of Pod %s: %w", node.podName, err)
	}
	return nil
}
