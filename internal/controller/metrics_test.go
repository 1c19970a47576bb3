package controller

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// series are the series of a registry that are not zero, a histogram by its count.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			value := metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			if value != 0 {
				found[name] = value
			}
		}
	}
	return found
}

func TestAgentMetricsOfPulls(t *testing.T) {
	t.Parallel()
	fetched := Pulled{SizeBytes: 1000, AverageBytesPerSecond: 50, ResumedBytes: 400}
	for name, tt := range map[string]struct {
		pulled Pulled
		err    error
		want   map[string]float64
	}{
		"success": {fetched, nil, map[string]float64{
			"cloudimage_pulls_total Ready": 1, "cloudimage_pull_duration_seconds": 1, "cloudimage_pull_bytes_per_second": 1,
			"cloudimage_pulled_bytes_total": 1000, "cloudimage_resumed_bytes_total": 400,
		}},
		"another image had brought the bytes": {Pulled{SizeBytes: 1000}, nil, map[string]float64{"cloudimage_pulls_total Ready": 1}},
		"a failure":                           {Pulled{}, reasonError(v1alpha1.ReasonNotFound), map[string]float64{"cloudimage_pulls_total NotFound": 1}},
		"cancelled":                           {Pulled{}, fmt.Errorf("pull: %w", context.Canceled), map[string]float64{"cloudimage_pulls_total Cancelled": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewRegistry()
			metrics := NewAgentMetrics(registry)
			done := metrics.pullStarted()
			if got := series(t, registry); got["cloudimage_active_pulls"] != 1 {
				t.Errorf("while it runs: %v", got)
			}
			done(tt.pulled, tt.err)
			if diff := cmp.Diff(tt.want, series(t, registry)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTransferCountsWhatIsNew(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metrics := NewAgentMetrics(registry)
	one, two := metrics.NewTransfer(), metrics.NewTransfer()
	one.Observe(100, 0, 4)
	two.Observe(7, 1, 2)
	one.Observe(150, 2, 3)
	want := map[string]float64{
		"cloudimage_downloaded_bytes_total": 157, "cloudimage_request_retries_total": 3, "cloudimage_active_connections": 5,
	}
	if diff := cmp.Diff(want, series(t, registry)); diff != "" {
		t.Error(diff)
	}
	one.End()
	two.End()
	delete(want, "cloudimage_active_connections")
	if diff := cmp.Diff(want, series(t, registry)); diff != "" {
		t.Errorf("after both ended: %s", diff)
	}
}

// TestCountersStartAtZero: an alert on increase() would miss the first event of a counter that appears with it.
func TestCountersStartAtZero(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	NewAgentMetrics(registry)
	NewManagerMetrics(registry)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, family := range families {
		if len(family.GetMetric()[0].GetLabel()) > 0 {
			got[family.GetName()] = len(family.GetMetric())
		}
	}
	want := map[string]int{
		"cloudimage_pulls_total": 17, "cloudimage_retries_total": 8, "cloudimage_rollout_stops_total": 8,
		"cloudimage_write_duration_seconds": 12,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series with labels before anything happened: %s", diff)
	}
}

// TestPullReasons: what the API calls a reason of a pull is counted, but for the two that the manager and the agent give without one.
func TestPullReasons(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../../api/v1alpha1/constants.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || !strings.HasPrefix(group.Doc.Text(), "Reasons of a pull") {
			continue
		}
		for _, spec := range group.Specs {
			name := strings.TrimPrefix(spec.(*ast.ValueSpec).Names[0].Name, "Reason")
			if name != v1alpha1.ReasonNodeImageLimit && name != v1alpha1.ReasonCredentialsChanged {
				want = append(want, name)
			}
		}
	}
	if diff := cmp.Diff(want, pullReasons()); diff != "" {
		t.Error(diff)
	}
}

func TestRetriesAreCountedByReason(t *testing.T) {
	t.Parallel()
	withImages(t, 1, func(im *Images, m *memoryStore) {
		registry := prometheus.NewRegistry()
		im.Metrics = NewAgentMetrics(registry)
		m.fails = []error{
			reasonError(v1alpha1.ReasonSourceUnavailable), reasonError(v1alpha1.ReasonSourceUnavailable), reasonError(v1alpha1.ReasonNotFound),
		}
		im.Sync([]v1alpha1.AssignedImage{order("a", digestA, fetch)}, nil)
		time.Sleep(time.Hour)
		got := series(t, registry)
		if got["cloudimage_retries_total SourceUnavailable"] != 2 || got["cloudimage_retries_total NotFound"] != 0 {
			t.Errorf("%v, want two retries, and none of what is final", got)
		}
	})
}

func TestManagerMetricsOfAPlan(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metrics := NewManagerMetrics(registry)
	w := newWorld(t, 5)
	w.s.Nodes[3].AgentReady = false
	w.s.Nodes[4].HasAgent, w.s.Nodes[4].AgentReady = false, false
	w.apply("broken", nil)
	w.apply("debian", nil)
	w.apply("paused", func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true })
	going := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: "going", DeletionTimestamp: &metav1.Time{Time: w.now}}}
	observe := func() map[string]float64 {
		w.settle()
		metrics.observePlan(&w.plan, time.Millisecond)
		snapshot := w.s
		snapshot.Images = append(slices.Clone(w.s.Images), going)
		metrics.observeSnapshot(snapshot, w.memory, w.now)
		return series(t, registry)
	}
	if got := observe(); got["cloudimage_nodes restarting"] != 1 || got["cloudimage_stopped_rollouts"] != 0 {
		t.Errorf("at first: %v", got)
	}
	w.report("node-000", "broken", failed(v1alpha1.ReasonDigestMismatch))
	w.report("node-000", "debian", ready(digestA))
	w.now = w.now.Add(2 * time.Minute)
	observe()
	want := map[string]float64{
		"cloudimage_plan_duration_seconds": 3, "cloudimage_rollout_stops_total DigestMismatch": 1, "cloudimage_stopped_rollouts": 1,
		"cloudimage_nodes ready": 3, "cloudimage_nodes unavailable": 1, "cloudimage_nodes agentless": 1,
		"cloudimage_images progressing": 2, "cloudimage_images suspended": 1, "cloudimage_images removing": 1,
		"cloudimage_assignments ready": 1, "cloudimage_assignments failed": 1, "cloudimage_assignments pending": 7, "cloudimage_assignments unavailable": 3,
	}
	if diff := cmp.Diff(want, observe()); diff != "" {
		t.Error(diff)
	}
	restarted := prometheus.NewRegistry()
	NewManagerMetrics(restarted).observePlan(&w.plan, time.Millisecond)
	if got := series(t, restarted); got["cloudimage_rollout_stops_total DigestMismatch"] != 0 || got["cloudimage_stopped_rollouts"] != 1 {
		t.Errorf("after a restart: %v, want the stop not counted again", got)
	}
}

func TestWritesAreMeasuredByResult(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "cloudimages"}
	registry := prometheus.NewRegistry()
	metrics := NewManagerMetrics(registry)
	for _, err := range []error{nil, apierrors.NewConflict(resource, "a", errors.New("changed")), apierrors.NewNotFound(resource, "a"), errors.New("no route")} {
		if got := metrics.measure(&v1alpha1.CloudImage{}, "/status", func() error { return err }); !errors.Is(got, err) {
			t.Errorf("error %v became %v", err, got)
		}
	}
	want := map[string]float64{
		"cloudimage_write_duration_seconds cloudimages/status success": 1, "cloudimage_write_duration_seconds cloudimages/status conflict": 2,
		"cloudimage_write_duration_seconds cloudimages/status error": 1,
	}
	if diff := cmp.Diff(want, series(t, registry)); diff != "" {
		t.Error(diff)
	}
}

// agreeing takes every write.
type agreeing struct{ client.Client }

func (agreeing) Create(context.Context, client.Object, ...client.CreateOption) error { return nil }
func (agreeing) Update(context.Context, client.Object, ...client.UpdateOption) error { return nil }
func (agreeing) Delete(context.Context, client.Object, ...client.DeleteOption) error { return nil }
func (agreeing) Patch(context.Context, client.Object, client.Patch, ...client.PatchOption) error {
	return nil
}
func (agreeing) Status() client.SubResourceWriter { return agreeingStatus{} }

type agreeingStatus struct{ client.SubResourceWriter }

func (agreeingStatus) Update(context.Context, client.Object, ...client.SubResourceUpdateOption) error {
	return nil
}

func (agreeingStatus) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return nil
}

func TestEveryWriteIsMeasured(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	c := NewManagerMetrics(registry).MeasureWrites(agreeing{})
	cache, image, nothing := &v1alpha1.NodeImageCache{}, &v1alpha1.CloudImage{}, client.RawPatch(types.MergePatchType, nil)
	ctx := t.Context()
	if err := errors.Join(
		c.Create(ctx, cache), c.Update(ctx, cache), c.Patch(ctx, cache, nothing), c.Delete(ctx, cache), c.Patch(ctx, nodeMetadata(), nothing),
		c.Status().Update(ctx, image), c.Status().Patch(ctx, image, nothing),
	); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"cloudimage_write_duration_seconds nodeimagecaches success": 4, "cloudimage_write_duration_seconds nodes success": 1,
		"cloudimage_write_duration_seconds cloudimages/status success": 2,
	}
	if diff := cmp.Diff(want, series(t, registry)); diff != "" {
		t.Error(diff)
	}
}
