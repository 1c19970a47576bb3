package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// admission is an API server with one policy and its binding, or an error.
type admission struct {
	client.Reader
	policy   *admissionv1.ValidatingAdmissionPolicy
	bindings []admissionv1.ValidatingAdmissionPolicyBinding
	err      error
}

func (a *admission) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	policy, ok := into.(*admissionv1.ValidatingAdmissionPolicy)
	switch {
	case !ok:
		return fmt.Errorf("unexpected %T", into)
	case a.err != nil:
		return a.err
	case a.policy == nil:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "validatingadmissionpolicies"}, key.Name)
	}
	a.policy.DeepCopyInto(policy)
	return nil
}

func (a *admission) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	list, ok := into.(*admissionv1.ValidatingAdmissionPolicyBindingList)
	if !ok {
		return fmt.Errorf("unexpected %T", into)
	}
	list.Items = a.bindings
	return a.err
}

// eventLog keeps the reasons of events.
type eventLog struct{ reasons []string }

func (e *eventLog) Eventf(_, _ runtime.Object, kind, reason, _, _ string, _ ...any) {
	e.reasons = append(e.reasons, kind+" "+reason)
}

func TestConfinementWatchTellsOnce(t *testing.T) {
	t.Parallel()
	policy, bindings := shipped(t)
	server, recorded, logged := &admission{policy: policy, bindings: bindings}, &eventLog{}, 0
	registry, elected := prometheus.NewRegistry(), make(chan struct{})
	watch := NewConfinementWatch(ConfinementWatch{
		Confinement: Confinement{Policy: policy.Name, Namespace: "cloudimage-system", ServiceAccount: "cloudimage-agent"},
		Reader:      server, Events: recorded, Elected: elected,
		Log: funcr.New(func(string, string) { logged++ }, funcr.Options{}),
	}, registry)
	look := func(gauge float64, logs int, events ...string) {
		t.Helper()
		watch.tell(watch.look(t.Context()))
		families, err := registry.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%d metrics, %v", len(families), err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got != gauge || logged != logs {
			t.Errorf("gauge %v after %d log lines, want %v after %d", got, logged, gauge, logs)
		}
		if diff := cmp.Diff(events, recorded.reasons); diff != "" {
			t.Error(diff)
		}
	}
	const warns, calms = "Warning AgentsNotConfined", "Normal AgentsConfined"
	look(1, 0)
	server.bindings = nil
	look(0, 1) // it does not lead yet
	look(0, 1)
	close(elected)
	look(0, 1, warns)
	look(0, 1, warns)
	server.policy = nil // another problem
	look(0, 2, warns, warns)
	server.policy, server.bindings = policy, bindings
	look(1, 3, warns, warns, calms)
	server.err = errors.New("not now")
	look(0, 4, warns, warns, calms, warns)
	server.err = &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "ValidatingAdmissionPolicy"}}
	look(0, 5, warns, warns, calms, warns, warns)
}
