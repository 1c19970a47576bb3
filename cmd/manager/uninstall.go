package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

const (
	managerName = "cloudimage-manager"
	// listPage bounds one answer of the API server.
	listPage = 500
	// podsInterval is the time between two looks whether the managers are gone.
	podsInterval = 500 * time.Millisecond
	// lostAfter is how long past the end of its grace a Pod counts as lost with its node: a manager there that cannot reach the API
	// server ends by itself when its Lease of 15 s has run out.
	lostAfter = 20 * time.Second
	// unlabelers is how many Nodes are patched at the same time.
	unlabelers = 16
)

// runUninstall is the subcommand uninstall, which the chart runs before it deletes anything.
func runUninstall(ctx context.Context, args []string, stderr io.Writer) int {
	var namespace, store string
	var timeout time.Duration
	var nodeLabels bool
	flags := pflag.NewFlagSet("uninstall", pflag.ContinueOnError)
	flags.StringVar(&namespace, "namespace", "cloudimage-system", "namespace of the manager")
	flags.StringVar(&store, "store", "/var/lib/cloudimage", "directory of the images on the nodes, to tell where they stay")
	flags.BoolVar(&nodeLabels, "node-labels", true, "take the images' labels off the nodes; false needs no right to patch them")
	flags.DurationVar(&timeout, "timeout", 4*time.Minute, "how long all of it may take")
	flags.AddGoFlagSet(flag.CommandLine) // --kubeconfig
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Prepares an uninstall: stops the managers, ends the finalizers of all cloud images and takes their labels off the nodes.\n\nFlags:\n%s", flags.FlagUsages())
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(stderr, "manager uninstall: %v\n", err)
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := uninstallFrom(ctx, namespace, nodeLabels, stderr); err != nil {
		fmt.Fprintf(stderr, "manager uninstall: %v\n", err)
		return 1
	}
	fmt.Fprintf(stderr, "The images stay on the nodes, in %s: a new installation adopts them. Remove the folder to get the space back.\n", store)
	return 0
}

func uninstallFrom(ctx context.Context, namespace string, nodeLabels bool, log io.Writer) error {
	cfg, err := config.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	cfg.QPS, cfg.Burst = writesPerSecond, writesBurst
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("build the scheme: %w", err)
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return (&uninstaller{Client: c, namespace: namespace, nodeLabels: nodeLabels, log: log}).run(ctx)
}

// uninstaller ends what only a running manager would end.
type uninstaller struct {
	client.Client

	namespace  string
	nodeLabels bool
	log        io.Writer
}

// run stops the managers first: one that saw the cloud images go would order the nodes to delete them, and it would
// add the finalizers again.
func (u *uninstaller) run(ctx context.Context) error {
	if err := u.stopManagers(ctx); err != nil {
		return err
	}
	err := u.endFinalizers(ctx)
	if u.nodeLabels {
		err = errors.Join(err, u.unlabelNodes(ctx))
	}
	return err
}

func (u *uninstaller) stopManagers(ctx context.Context) error {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: managerName}}
	none := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`))
	err := u.SubResource("scale").Patch(ctx, deployment, none, client.WithSubResourceBody(&autoscalingv1.Scale{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("scale the managers to none: %w", err)
	}
	labels := client.MatchingLabels{"app.kubernetes.io/name": "cloudimage-operator", "app.kubernetes.io/component": "manager"}
	var left int
	err = wait.PollUntilContextCancel(ctx, podsInterval, true, func(ctx context.Context) (bool, error) {
		pods := &metav1.PartialObjectMetadataList{}
		pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		if err := u.List(ctx, pods, client.InNamespace(u.namespace), labels, notEnded()); err != nil {
			return false, err
		}
		left = 0
		for i := range pods.Items {
			if deleted := pods.Items[i].DeletionTimestamp; deleted == nil || time.Since(deleted.Time) < lostAfter {
				left++
			}
		}
		return left == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the managers to end, %d are left: %w", left, err)
	}
	fmt.Fprintln(u.log, "The managers have ended.")
	return nil
}

// notEnded leaves out what nobody deletes, such as Pods that were evicted.
func notEnded() client.MatchingFieldsSelector {
	return client.MatchingFieldsSelector{Selector: fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
	)}
}

func (u *uninstaller) endFinalizers(ctx context.Context) error {
	var ended int
	var failures []error
	images := &v1alpha1.CloudImageList{}
	for {
		err := u.List(ctx, images, client.Limit(listPage), client.Continue(images.Continue))
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil // the CustomResourceDefinition is gone, and all images with it
		}
		if err != nil {
			return fmt.Errorf("list the cloud images: %w", err)
		}
		for i := range images.Items {
			image := &images.Items[i]
			before := image.DeepCopy()
			if !controllerutil.RemoveFinalizer(image, v1alpha1.Finalizer) {
				continue
			}
			err := u.Patch(ctx, image, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
			if client.IgnoreNotFound(err) != nil {
				failures = append(failures, fmt.Errorf("end the finalizer of cloud image %s: %w", image.Name, err))
				continue
			}
			ended++
		}
		if images.Continue == "" {
			fmt.Fprintf(u.log, "The finalizers of %d cloud images have ended.\n", ended)
			return errors.Join(failures...)
		}
	}
}

// unlabelNodes takes the promise back that a node is warm: nobody is left to keep it.
func (u *uninstaller) unlabelNodes(ctx context.Context) error {
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	var mu sync.Mutex
	var failures []error
	group := errgroup.Group{}
	group.SetLimit(unlabelers)
	for {
		if err := u.List(ctx, nodes, client.Limit(listPage), client.Continue(nodes.GetContinue())); err != nil {
			_ = group.Wait()
			return errors.Join(append(failures, fmt.Errorf("list the nodes: %w", err))...)
		}
		for i := range nodes.Items {
			node := nodes.Items[i].DeepCopy()
			group.Go(func() error {
				if err := u.unlabel(ctx, node); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, err)
				}
				return nil
			})
		}
		if nodes.GetContinue() == "" {
			break
		}
	}
	_ = group.Wait() // the functions return nil; failures are collected, so that one node does not stop the others
	return errors.Join(failures...)
}

// unlabel leaves labels alone that somebody else set.
func (u *uninstaller) unlabel(ctx context.Context, node *metav1.PartialObjectMetadata) error {
	node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	before := node.DeepCopy()
	maps.DeleteFunc(node.Labels, controller.IsImageLabel)
	if len(node.Labels) == len(before.Labels) {
		return nil
	}
	if err := client.IgnoreNotFound(u.Patch(ctx, node, client.MergeFrom(before))); err != nil {
		return fmt.Errorf("take the labels of images off node %s: %w", node.Name, err)
	}
	return nil
}
