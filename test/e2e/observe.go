package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudimage-dev/cloudimage-operator/test/observe"
)

const (
	monitoring    = "monitoring"
	alertRules    = "test/observe/alerts_test.yaml"
	dashboardFile = chart + "/files/dashboard.json"
	// stoppedAlert is made to fire after hastened instead of the minutes in the chart.
	stoppedAlert, hastened = "CloudImageRolloutStopped", "5s"
)

// getPicture builds what draws the dashboard.
func getPicture(ctx context.Context, repository string) (string, error) {
	return "a program that draws the Grafana dashboard", goBuild(ctx, repository, filepath.Join("test", "observe", "picture"), ".")
}

// scrape starts a Prometheus that watches the rest of the story.
func (s *story) scrape(ctx context.Context) error {
	begin := time.Now()
	if _, err := s.show(ctx, "promtool test rules "+alertRules); err != nil {
		return err
	}
	for _, line := range []string{
		"kubectl create namespace " + monitoring + " && kubectl create serviceaccount prometheus -n " + monitoring,
		fmt.Sprintf("helm upgrade %s %s --namespace %s --wait --timeout 3m --reuse-values --hide-notes --set 'metrics.readers[0].kind=ServiceAccount,metrics.readers[0].name=prometheus,metrics.readers[0].namespace=%s'",
			release, chart, namespace, monitoring),
	} {
		if _, err := s.show(ctx, line); err != nil {
			return err
		}
	}
	rendered, err := s.renderMonitoring(ctx)
	if err != nil {
		return err
	}
	token, err := s.ask(ctx, "kubectl create token prometheus -n "+monitoring)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.plane.Config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	s.prometheus, err = observe.Start(ctx, observe.Options{
		Dir: filepath.Join(s.Dir, "prometheus"), Client: client, Namespace: namespace, Token: token, Rendered: rendered,
	})
	if err != nil {
		return err
	}
	targets, err := s.untilScraped(ctx)
	if err != nil {
		return err
	}
	for _, target := range targets {
		s.out.Line(fmt.Sprintf("     %-36s on %s %-32s %s", target.Labels["pod"], target.Labels["node"], target.ScrapeURL, target.Health))
	}
	s.out.Held(time.Since(begin), "Prometheus scrapes %d Pods over TLS, with the token of its own ServiceAccount", len(targets))
	return nil
}

// renderMonitoring has the chart render what the Prometheus operator would read.
func (s *story) renderMonitoring(ctx context.Context) (*observe.Rendered, error) {
	line := fmt.Sprintf("helm template %s %s --namespace %s --show-only templates/monitoring.yaml --set podMonitor.enabled=true,podMonitor.tokenSecret.name=prometheus-token,prometheusRule.enabled=true",
		release, chart, namespace)
	s.out.Command(line)
	manifest, err := s.ask(ctx, line)
	if err != nil {
		return nil, err
	}
	rendered, err := observe.ReadRendered(manifest)
	if err == nil {
		err = rendered.Hasten(stoppedAlert, hastened)
	}
	s.out.Note(fmt.Sprintf("Debian's Prometheus runs with these PodMonitors and alerts, but scrapes every %s, and %s fires after %s", observe.Interval, stoppedAlert, hastened))
	return rendered, err
}

// untilScraped waits until Prometheus has scraped every Pod that runs.
func (s *story) untilScraped(ctx context.Context) ([]promv1.ActiveTarget, error) {
	var targets []promv1.ActiveTarget
	err := s.until(ctx, func() error {
		pods, err := s.ask(ctx, "kubectl get pods -n "+namespace+" --field-selector=status.phase=Running -o name")
		if err != nil {
			return err
		}
		found, err := s.prometheus.API.Targets(ctx)
		if err != nil {
			return fmt.Errorf("ask Prometheus for its targets: %w", err)
		}
		targets = found.Active
		if want := len(strings.Fields(pods)); len(targets) != want {
			return fmt.Errorf("prometheus has %d targets of %d Pods", len(targets), want)
		}
		for _, target := range targets {
			if target.Health != promv1.HealthGood {
				return fmt.Errorf("%s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
			}
		}
		return nil
	})
	return targets, err
}

// lookAtDashboard makes an alert fire, so that there is something to see, and asks for what the dashboard would show.
func (s *story) lookAtDashboard(ctx context.Context) error {
	begin := time.Now()
	if _, err := s.untilScraped(ctx); err != nil {
		return err
	}
	wrong := s.guest
	wrong.name, wrong.digest = "wrong", "sha256:"+strings.Repeat("0", 64)
	if err := s.applyImage(ctx, wrong, ""); err != nil {
		return err
	}
	if err := s.untilFiring(ctx, stoppedAlert); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get cimg"); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "%s fires, and no other alert", stoppedAlert)
	if err := s.checkPanels(ctx); err != nil {
		return err
	}
	begin = time.Now()
	if _, err := s.show(ctx, "kubectl delete cimg wrong "+waitFor); err != nil {
		return err
	}
	if err := s.untilFiring(ctx); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "the image is deleted, and no alert fires any more")
	return nil
}

// untilFiring waits until these alerts fire and no others.
func (s *story) untilFiring(ctx context.Context, want ...string) error {
	return s.until(ctx, func() error {
		alerts, err := s.prometheus.API.Alerts(ctx)
		if err != nil {
			return fmt.Errorf("ask Prometheus for its alerts: %w", err)
		}
		firing := []string{}
		for _, alert := range alerts.Alerts {
			if alert.State != promv1.AlertStateFiring {
				continue
			}
			firing = append(firing, string(alert.Labels[model.AlertNameLabel]))
			if len(firing) == len(want) && firing[0] == want[0] {
				s.out.Note(fmt.Sprintf("%s, %s: %s", firing[0], alert.Labels["severity"], alert.Annotations["summary"]))
			}
		}
		if strings.Join(firing, " ") != strings.Join(want, " ") {
			return fmt.Errorf("the alerts %q fire, expected %q", firing, want)
		}
		return nil
	})
}

// checkPanels lists what every query of the dashboard returns for the story so far, and draws it.
func (s *story) checkPanels(ctx context.Context) error {
	begin := time.Now()
	dashboard, err := observe.ReadDashboard(filepath.Join(s.Repository, dashboardFile))
	if err != nil {
		return err
	}
	var queries int
	var empty []error
	for _, panel := range dashboard.Panels {
		var shown []string
		for _, target := range panel.Targets {
			queries++
			series, err := observe.Range(ctx, s.prometheus.API, target.Expr, s.prometheus.Begin, time.Now())
			if err != nil {
				return err
			}
			if len(series) == 0 {
				empty = append(empty, fmt.Errorf("%s: nothing for %s", panel.Title, target.Expr))
			}
			for _, one := range series {
				shown = append(shown, target.Legend(one.Metric))
			}
		}
		s.out.Line(fmt.Sprintf("     %-40s %2d series: %s", panel.Title, len(shown), strings.Join(shown, "; ")))
	}
	if len(empty) > 0 {
		return errors.Join(empty...)
	}
	s.out.Held(time.Since(begin), "each of the %d queries of the dashboard's %d panels returns data", queries, len(dashboard.Panels))
	const picture = "bin/dashboard.png"
	_, err = s.show(ctx, fmt.Sprintf("picture -dashboard %s -prometheus %s -since %s -out %s", dashboardFile, s.prometheus.URL,
		time.Since(s.prometheus.Begin).Round(time.Second), picture))
	return err
}
