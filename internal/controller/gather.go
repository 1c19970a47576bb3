package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// AgentPods says which Pods are the agents'.
type AgentPods struct {
	Namespace string
	Labels    labels.Set
}

// gather reads a snapshot from the informers' caches, without copying objects.
func gather(ctx context.Context, reader client.Reader, agents AgentPods) (Snapshot, error) {
	s := Snapshot{Caches: map[string]*v1alpha1.NodeImageCache{}}
	var images v1alpha1.CloudImageList
	if err := reader.List(ctx, &images, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("list cloud images: %w", err)
	}
	for i := range images.Items {
		s.Images = append(s.Images, &images.Items[i])
	}
	slices.SortFunc(s.Images, func(a, b *v1alpha1.CloudImage) int { return cmp.Compare(a.Name, b.Name) })

	var caches v1alpha1.NodeImageCacheList
	if err := reader.List(ctx, &caches, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("list node image caches: %w", err)
	}
	for i := range caches.Items {
		s.Caches[caches.Items[i].Name] = &caches.Items[i]
	}

	var pods corev1.PodList
	if err := reader.List(ctx, &pods, client.InNamespace(agents.Namespace),
		client.MatchingLabels(agents.Labels), client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("list agent pods: %w", err)
	}
	var nodes metav1.PartialObjectMetadataList
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	if err := reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("list nodes: %w", err)
	}
	s.Nodes = joinAgents(nodes.Items, pods.Items)
	return s, nil
}

// joinAgents tells for every node whether it has an agent, and a ready one, and
// what is wrong with one that is not.
func joinAgents(objects []metav1.PartialObjectMetadata, pods []corev1.Pod) []Node {
	nodes := make([]Node, 0, len(objects))
	for i := range objects {
		nodes = append(nodes, Node{
			Name: objects[i].Name, UID: string(objects[i].UID), Labels: objects[i].Labels,
			Deleting: !objects[i].DeletionTimestamp.IsZero(),
		})
	}
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	unready := map[int]*corev1.Pod{}
	for i := range pods {
		pod := &pods[i]
		at, found := slices.BinarySearchFunc(nodes, targetOf(pod), func(n Node, name string) int { return cmp.Compare(n.Name, name) })
		if !found {
			continue
		}
		if before := unready[at]; before == nil || tellsMore(pod, before) {
			unready[at] = pod
		}
		if pod.Spec.NodeName == "" || ended(pod) {
			continue
		}
		node := &nodes[at]
		node.HasAgent = true
		ready, since := podReady(pod)
		switch {
		case ready:
			node.AgentReady, node.NotReadySince = true, time.Time{}
		case !node.AgentReady && since.After(node.NotReadySince):
			node.NotReadySince = since
		}
	}
	for at, pod := range unready {
		if !nodes[at].AgentReady {
			nodes[at].AgentTrouble = troubleOf(pod)
		}
	}
	return nodes
}

// podReady reads a Pod's Ready condition and since when it says so. A Pod on its
// way out is not ready since its deletion was asked for: that lies a grace period
// before the deletionTimestamp, and its condition stays True until it is gone.
func podReady(pod *corev1.Pod) (bool, time.Time) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodReady {
			continue
		}
		ready := c.Status == corev1.ConditionTrue
		if !ready || pod.DeletionTimestamp.IsZero() {
			return ready, c.LastTransitionTime.Time
		}
		var grace time.Duration
		if seconds := pod.DeletionGracePeriodSeconds; seconds != nil {
			grace = time.Duration(*seconds) * time.Second
		}
		return false, pod.DeletionTimestamp.Add(-grace)
	}
	return false, time.Time{}
}
