package hollow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// nodeImages is how many container images a kubelet lists at most, unless it is told otherwise.
	nodeImages = 50
	// tokenSeconds is longer than any bench, so that nobody has to renew tokens.
	tokenSeconds = 24 * 60 * 60
)

// Machines create what a kubelet and the DaemonSet controller would.
type Machines struct {
	Client    kubernetes.Interface
	Namespace string
	// Account is the ServiceAccount of the agents.
	Account string
	// NodeLabels come on top of those of every Node.
	NodeLabels map[string]string
}

// AddNode creates a Node.
func (m *Machines) AddNode(ctx context.Context, name string) error {
	if _, err := m.Client.CoreV1().Nodes().Create(ctx, NodeObject(name, m.NodeLabels), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create node %s: %w", name, err)
	}
	return nil
}

// AddPod creates the agent's Pod on a Node, and returns a token that is bound to it. The manager does not see the Pod before Reveal:
// thousands of agents that start share the machine with the manager here, and would not do so elsewhere.
func (m *Machines) AddPod(ctx context.Context, node string) (token string, err error) {
	pod, err := m.Client.CoreV1().Pods(m.Namespace).Create(ctx, m.pod(node), metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create the Pod of node %s: %w", node, err)
	}
	return m.token(ctx, pod)
}

// Token returns another token of the agent's Pod on a Node.
func (m *Machines) Token(ctx context.Context, node string) (string, error) {
	pod, err := m.Client.CoreV1().Pods(m.Namespace).Get(ctx, podName(node), metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("look up the Pod of node %s: %w", node, err)
	}
	return m.token(ctx, pod)
}

// token is bound to the Pod and so carries the name of its Node.
func (m *Machines) token(ctx context.Context, pod *corev1.Pod) (string, error) {
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	answer, err := m.Client.CoreV1().ServiceAccounts(m.Namespace).CreateToken(ctx, m.Account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request the token of Pod %s: %w", pod.Name, err)
	}
	return answer.Status.Token, nil
}

// Reveal lets the manager see the agent's Pod, bound to its Node.
func (m *Machines) Reveal(ctx context.Context, node string) error {
	label := []byte(`{"metadata":{"labels":{"app.kubernetes.io/component":"node-agent"}}}`)
	_, err := m.Client.CoreV1().Pods(m.Namespace).Patch(ctx, podName(node), types.MergePatchType, label, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("label the Pod of node %s: %w", node, err)
	}
	return nil
}

// SetReady says that the agent's Pod is Ready, as a kubelet does after the first good probe.
func (m *Machines) SetReady(ctx context.Context, node string) error {
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase: corev1.PodRunning,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
	}})
	if err != nil {
		return fmt.Errorf("encode the status of the Pod of node %s: %w", node, err)
	}
	pods := m.Client.CoreV1().Pods(m.Namespace)
	if _, err := pods.Patch(ctx, podName(node), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("set the Pod of node %s ready: %w", node, err)
	}
	return nil
}

func podName(node string) string { return "cloudimage-node-agent-" + node }

func (m *Machines) pod(node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: podName(node), Namespace: m.Namespace,
			Labels: map[string]string{"app.kubernetes.io/name": "cloudimage-operator"},
		},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: m.Account,
			Containers: []corev1.Container{{Name: "node-agent", Image: "node-agent:bench"}},
		},
	}
}

// NodeObject is a Node as large as a real one: most of that is the list of container images.
func NodeObject(name string, labels map[string]string) *corev1.Node {
	all := map[string]string{
		corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		corev1.LabelInstanceTypeStable: "m7i.8xlarge", corev1.LabelTopologyRegion: "eu-central-1", corev1.LabelTopologyZone: "eu-central-1a",
	}
	maps.Copy(all, labels)
	size := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("128Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all},
		Status: corev1.NodeStatus{
			Capacity: size, Allocatable: size, Conditions: nodeConditions(), Images: containerImages(),
			NodeInfo: corev1.NodeSystemInfo{
				KernelVersion: "6.8.0-1031-aws", OSImage: "Ubuntu 24.04.3 LTS", ContainerRuntimeVersion: "containerd://2.1.4",
				KubeletVersion: "v1.36.3", OperatingSystem: "linux", Architecture: "amd64", MachineID: name, SystemUUID: name, BootID: name,
			},
		},
	}
}

func nodeConditions() []corev1.NodeCondition {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	var conditions []corev1.NodeCondition
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady} {
		status := corev1.ConditionFalse
		if kind == corev1.NodeReady {
			status = corev1.ConditionTrue
		}
		conditions = append(conditions, corev1.NodeCondition{
			Type: kind, Status: status, Reason: "KubeletHasSufficientResources", Message: "kubelet has sufficient resources available",
			LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	return conditions
}

func containerImages() []corev1.ContainerImage {
	var images []corev1.ContainerImage
	for i := range nodeImages {
		repository := fmt.Sprintf("012345678901.dkr.ecr.eu-central-1.amazonaws.com/platform/team-%02d/some-service-with-a-usual-name-%02d", i%7, i)
		sum := sha256.Sum256([]byte(repository))
		images = append(images, corev1.ContainerImage{
			Names: []string{repository + "@sha256:" + hex.EncodeToString(sum[:]), fmt.Sprintf("%s:v1.%d.0-build.20260102-0a1b2c3d4e5f", repository, i)}, SizeBytes: 123456789,
		})
	}
	return images
}
