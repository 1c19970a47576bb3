package controlplane

import (
	"context"
	"fmt"
	"os/exec"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// NodeLabel marks the Node objects that tests make. A cluster with a Node that lacks it is somebody's real one.
const NodeLabel = "test.cloudimage.dev/made-by-harness"

// adopt uses the API server that a person's KUBECONFIG names.
func (c *ControlPlane) adopt(ctx context.Context, options Options, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read KUBECONFIG=%s: %w", kubeconfig, err)
	}
	config.QPS = -1
	c.External, c.Config, c.KubeconfigPath = true, config, kubeconfig
	fmt.Fprintf(options.Output, "using the API server of KUBECONFIG=%s: %s\n", kubeconfig, config.Host)
	if err := refuseRealCluster(ctx, c); err != nil {
		return err
	}
	if path, err := exec.LookPath("kubectl"); err == nil {
		c.KubectlPath = path
		return nil
	}
	programs, err := FindPrograms(ctx, options)
	if err != nil {
		return err
	}
	c.KubectlPath = programs.Kubectl
	return nil
}

// refuseRealCluster keeps tests, which make and delete Nodes, out of a cluster that has Nodes of its own.
func refuseRealCluster(ctx context.Context, c *ControlPlane) error {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return fmt.Errorf("make a client for KUBECONFIG: %w", err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "!" + NodeLabel, Limit: 1})
	if err != nil {
		return fmt.Errorf("look for nodes in the cluster %s of KUBECONFIG: %w", c.Config.Host, err)
	}
	if len(nodes.Items) > 0 {
		return fmt.Errorf("the cluster %s of KUBECONFIG has a node %q that these tests did not make, and they create and delete "+
			"Node objects: run `unset KUBECONFIG` to get a control plane of their own, or name an API server without nodes",
			c.Config.Host, nodes.Items[0].Name)
	}
	return nil
}
