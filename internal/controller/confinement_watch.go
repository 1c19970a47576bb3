package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// confinementEvery is how often the admission policy is looked at while no watch
// tells of a change.
const confinementEvery = time.Minute

const notConfined = "any node can write the status of every other node; apply the policy and the binding of config/rbac/agent_confinement.yaml"

// ConfinementWatch warns while the agents are not confined to their own nodes: in
// the log, in a metric and in an event. Nothing else depends on it, so that the
// manager also works where it may not read admission policies, or where there are
// none (before Kubernetes 1.30).
type ConfinementWatch struct {
	Confinement Confinement
	// Reader asks the API server itself.
	Reader client.Reader
	// Informers tell of changes; nil for looking now and then only.
	Informers cache.Informers
	Events    events.EventRecorder
	// Elected is closed once this process leads: only a leader sends events.
	Elected <-chan struct{}
	Log     logr.Logger

	enforced prometheus.Gauge
	// logged and sent are the last problem that the log and an event told; empty for none.
	logged, sent string
}

// NewConfinementWatch registers the metric of a watch, which is there from the
// first look on.
func NewConfinementWatch(watch ConfinementWatch, registry prometheus.Registerer) *ConfinementWatch {
	watch.enforced = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cloudimage_admission_policy_enforced",
		Help: "1 while the admission policy confines each agent to the object of its own node, 0 while it is missing or weakened.",
	})
	registry.MustRegister(watch.enforced)
	return &watch
}

// NeedLeaderElection is false: every replica tells what it sees.
func (w *ConfinementWatch) NeedLeaderElection() bool { return false }

// Start looks until the context ends.
func (w *ConfinementWatch) Start(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	w.listen(ctx, changed)
	ticker := time.NewTicker(confinementEvery)
	defer ticker.Stop()
	elected := w.Elected
	for {
		err := w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.tell(err)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-elected:
			elected = nil
		case <-ticker.C:
		}
	}
}

// listen has changes of policies and bindings wake the watch. Where an informer
// cannot be had, the next look says why.
func (w *ConfinementWatch) listen(ctx context.Context, changed chan<- struct{}) {
	if w.Informers == nil {
		return
	}
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, kind := range []client.Object{&admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}} {
		informer, err := w.Informers.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err == nil {
			_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
				AddFunc:    func(any) { wake() },
				UpdateFunc: func(any, any) { wake() },
				DeleteFunc: func(any) { wake() },
			})
		}
		if err != nil {
			w.Log.Info("changes of admission policies are noticed late", "every", confinementEvery.String(), "because", err.Error())
		}
	}
}

// look is nil while the agents are confined.
func (w *ConfinementWatch) look(ctx context.Context) error {
	policy := &admissionv1.ValidatingAdmissionPolicy{}
	err := w.Reader.Get(ctx, client.ObjectKey{Name: w.Confinement.Policy}, policy)
	switch {
	case meta.IsNoMatchError(err):
		return errors.New("this API server has no ValidatingAdmissionPolicies, which Kubernetes has from 1.30 on")
	case apierrors.IsNotFound(err):
		policy = nil
	case err != nil:
		return fmt.Errorf("the ValidatingAdmissionPolicy %s cannot be read: %w", w.Confinement.Policy, err)
	}
	var bindings admissionv1.ValidatingAdmissionPolicyBindingList
	if err := w.Reader.List(ctx, &bindings); err != nil {
		return fmt.Errorf("the ValidatingAdmissionPolicyBindings cannot be read: %w", err)
	}
	return w.Confinement.problem(policy, bindings.Items)
}

// tell sets the metric, and logs and sends an event where the problem changed.
func (w *ConfinementWatch) tell(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	w.enforced.Set(map[bool]float64{true: 1, false: 0}[err == nil])
	switch {
	case problem == w.logged:
	case err == nil:
		w.Log.Info("agents are confined to their own nodes again")
	default:
		w.Log.Error(err, "agents are not confined: "+notConfined)
	}
	w.logged = problem
	select {
	case <-w.Elected:
	default:
		return // whoever leads sends events
	}
	about := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: w.Confinement.Policy}}
	switch {
	case problem == w.sent:
	case err == nil:
		w.Events.Eventf(about, nil, corev1.EventTypeNormal, "AgentsConfined", "Confine", "each agent is confined to the object of its own node again")
	default:
		w.Events.Eventf(about, nil, corev1.EventTypeWarning, "AgentsNotConfined", "Confine", "%s: %s", problem, notConfined)
	}
	w.sent = problem
}
