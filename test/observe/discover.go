package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// discovery tells Prometheus of the Pods through a file. Debian builds Prometheus without its Kubernetes client, so this plays that,
// with the same labels.
type discovery struct {
	Options

	cancel context.CancelFunc
	done   chan struct{}
	before []byte
}

// targetGroup is an entry of a file_sd file.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func startDiscovery(ctx context.Context, options Options) (*discovery, error) {
	d := &discovery{Options: options, done: make(chan struct{})}
	if err := d.look(ctx); err != nil {
		return nil, err
	}
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go d.follow(ctx)
	return d, nil
}

// follow goes on when the API server cannot be asked for a while, as Prometheus does.
func (d *discovery) follow(ctx context.Context) {
	defer close(d.done)
	ticker := time.NewTicker(Interval / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = d.look(ctx)
		}
	}
}

func (d *discovery) stop() {
	d.cancel()
	<-d.done
}

// look writes what it sees, if that is new.
func (d *discovery) look(ctx context.Context) error {
	pods, err := d.Client.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the Pods: %w", err)
	}
	groups := []targetGroup{}
	for i := range pods.Items {
		groups = append(groups, targetsOf(&pods.Items[i])...)
	}
	data, err := json.Marshal(groups)
	if err != nil || bytes.Equal(data, d.before) {
		return err
	}
	path := filepath.Join(d.Dir, targetsFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write the targets: %w", err)
	}
	d.before = data
	return os.Rename(path+".new", path)
}

// unsafe is what a label of Kubernetes may have and one of Prometheus may not.
var unsafe = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// labelOf is Prometheus' name for a Pod's label.
func labelOf(key string) string {
	return "__meta_kubernetes_pod_label_" + unsafe.ReplaceAllString(key, "_")
}

// targetsOf are the ports of a Pod, each a target, as Prometheus' own discovery has them.
func targetsOf(pod *corev1.Pod) []targetGroup {
	if pod.Status.PodIP == "" {
		return nil
	}
	var groups []targetGroup
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			labels := map[string]string{
				"__meta_kubernetes_namespace": pod.Namespace, "__meta_kubernetes_pod_name": pod.Name,
				"__meta_kubernetes_pod_node_name": pod.Spec.NodeName, "__meta_kubernetes_pod_phase": string(pod.Status.Phase),
				"__meta_kubernetes_pod_container_port_name": port.Name,
			}
			for key, value := range pod.Labels {
				labels[labelOf(key)] = value
			}
			address := net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port.ContainerPort)))
			groups = append(groups, targetGroup{Targets: []string{address}, Labels: labels})
		}
	}
	return groups
}
