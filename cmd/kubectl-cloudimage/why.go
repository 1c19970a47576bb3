package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// facts are what an explanation is made of; nil is not there.
type facts struct {
	name  string // of the node
	image *v1alpha1.CloudImage
	node  *corev1.Node
	cache *v1alpha1.NodeImageCache
}

// why prints what is known about an image on a node.
func why(ctx context.Context, c client.Reader, node, name string, w io.Writer) error {
	image, err := getImage(ctx, c, name)
	if err != nil {
		return err
	}
	f := facts{name: node, image: image, node: &corev1.Node{}, cache: &v1alpha1.NodeImageCache{}}
	if err := c.Get(ctx, client.ObjectKey{Name: node}, f.node); apierrors.IsNotFound(err) {
		f.node = nil
	} else if err != nil {
		return fmt.Errorf("get the Node: %w", err)
	}
	if err := c.Get(ctx, client.ObjectKey{Name: node}, f.cache); apierrors.IsNotFound(err) {
		f.cache = nil
	} else if err != nil {
		return fmt.Errorf("get the NodeImageCache: %w", err)
	}
	return writeLines(w, f.explain(time.Now()))
}

// writeLines prints sentences, which quote what agents report and people write.
func writeLines(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, redact.Printable(line)); err != nil {
			return fmt.Errorf("print the explanation: %w", err)
		}
	}
	return nil
}

// explain says what holds the image up, beginning with what is farthest from the node.
func (f facts) explain(now time.Time) []string {
	if f.node == nil {
		return []string{fmt.Sprintf("There is no Node %s.", f.name)}
	}
	if text := f.notSelected(); text != "" {
		return []string{text}
	}
	if f.cache == nil {
		return []string{
			fmt.Sprintf("No agent was ever seen on %s, so the manager gave it no orders.", f.name),
			"See whether its Pod runs: kubectl get pods --all-namespaces --selector app.kubernetes.io/component=node-agent --field-selector spec.nodeName=" + f.name,
		}
	}
	r, assigned := rowOf(f.image, f.cache, now)
	if !assigned {
		return []string{fmt.Sprintf("%s is not assigned to %s yet. %s", f.image.Name, f.name, summary(f.image))}
	}
	lines := append(f.explainRow(r), f.storage()...)
	if unnamedAway(f.image) > 0 && r.state != stateAway {
		lines = append(lines, "This is what its agent reported last, and the image does not name all agents that are away. "+f.lookAtThePod())
	}
	return lines
}

// notSelected is empty when the selector matches the node.
func (f facts) notSelected() string {
	if f.image.Spec.NodeSelector == nil {
		return ""
	}
	selector, err := metav1.LabelSelectorAsSelector(f.image.Spec.NodeSelector)
	switch {
	case err != nil:
		return fmt.Sprintf("spec.nodeSelector of %s cannot be used: %v", f.image.Name, err)
	case !selector.Matches(labels.Set(f.node.Labels)):
		return fmt.Sprintf("%s is not for %s: spec.nodeSelector (%s) does not match the node's labels.", f.image.Name, f.name, selector)
	}
	return ""
}

func (f facts) explainRow(r row) []string {
	head := fmt.Sprintf("%s on %s: %s", f.image.Name, f.name, r.state)
	switch r.state {
	case stateReady:
		_, report := find(f.cache, f.image.Name)
		return []string{head, "It holds " + report.Digest + ", " + bytesText(r.size) + ", as blobs/sha256/" + strings.TrimPrefix(report.Digest, "sha256:") + " in its store."}
	case statePulling:
		if r.silent {
			return []string{head, strings.TrimSpace("It waits for the server's first answer, and then for its turn; the node's other pulls go on meanwhile. " + r.message)}
		}
		if r.begun {
			return []string{head, strings.TrimSpace("It has begun, and tells how far it is within half a minute. " + r.message)}
		}
		return []string{head, strings.TrimSpace(r.progress() + " at " + r.rateText() + " " + r.why())}
	case stateFailed:
		again := "kubectl cloudimage retry " + f.image.Name + " asks again, once the cause is gone."
		switch {
		case waitsForTheWorld(r.reason):
			again = "It goes on by itself once the cause is gone: the agent looks about once a minute. kubectl cloudimage retry " + f.image.Name + " asks now."
		case triedAgain(r.reason):
			again = "The agent asks again by itself, at the latest ten minutes after the last time, and the node's other pulls go on meanwhile. " +
				"kubectl cloudimage retry " + f.image.Name + " asks now."
		}
		return []string{head, r.why(), again}
	case stateAway:
		return []string{head, r.why(), f.lookAtThePod()}
	case stateRemoving:
		return []string{head, "The agent was told to drop it; the entry goes once it has."}
	case statePending:
		if r.seen {
			return []string{head, strings.TrimSpace("The agent has the order and looks at what lies on its disk, or waits for other pulls of the node to end" + f.others(r) + ". " + r.message)}
		}
		return []string{head, "The agent was told to pull and has not answered. " + f.lookAtThePod()}
	}
	if r.halted != "" {
		return []string{head, f.waiting(r)}
	}
	return []string{head, f.waiting(r), "A node whose agent is away gets no turn. " + f.lookAtThePod()}
}

// others names the pulls that a node's next one waits for; empty if there are none.
func (f facts) others(r row) string {
	if len(r.others) == 0 {
		return ""
	}
	return ", of " + strings.Join(r.others, " or ")
}

// triedAgain tells the failures after which an agent tries again by itself, from
// those after which the world has to change or a person has to act.
func triedAgain(reason string) bool {
	switch reason {
	case v1alpha1.ReasonSourceUnavailable, v1alpha1.ReasonSourceThrottled, v1alpha1.ReasonSourceStalled,
		v1alpha1.ReasonSourceChanged, v1alpha1.ReasonStorageError:
		return true
	default:
		return false
	}
}

// waitsForTheWorld tells the failures after which an agent waits for somebody to
// make room or to create what is missing.
func waitsForTheWorld(reason string) bool {
	switch reason {
	case v1alpha1.ReasonInsufficientSpace, v1alpha1.ReasonCredentialsMissing, v1alpha1.ReasonCABundleMissing, v1alpha1.ReasonNodeImageLimit:
		return true
	default:
		return false
	}
}

func (f facts) lookAtThePod() string {
	return "See whether its Pod is ready: kubectl get pods --all-namespaces --selector app.kubernetes.io/component=node-agent --field-selector spec.nodeName=" + f.name
}

// waiting says what a node without a slot waits for.
func (f facts) waiting(r row) string {
	switch {
	case r.reason != "":
		return r.why()
	case f.image.Spec.Suspend:
		return r.halted + "."
	case r.halted != "":
		return "The rollout has stopped. " + summary(f.image)
	case f.image.Spec.Digest == "" && f.image.Status.Digest == "":
		return "It waits for the digest: the spec gives none, so one node pulls first, to find it. kubectl cloudimage status " + f.image.Name + " shows that node."
	}
	return fmt.Sprintf("It waits for its turn: nodes that pull now: %d; spec.rollout.maxConcurrentNodes is %s.",
		max(0, f.image.Status.Nodes.Pulling), f.image.Spec.Rollout.MaxConcurrentNodes)
}

// storage speaks only of a store that cannot be used.
func (f facts) storage() []string {
	condition := meta.FindStatusCondition(f.cache.Status.Conditions, v1alpha1.ConditionStorageReady)
	if condition == nil || condition.Status == metav1.ConditionTrue {
		return nil
	}
	return []string{fmt.Sprintf("The store of %s cannot be used: %s: %s", f.name, condition.Reason, condition.Message)}
}
