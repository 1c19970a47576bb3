package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	chart          = "charts/cloudimage-operator"
	uninstallLimit = time.Minute
)

// install uses values of a person's own only on a cluster of theirs.
func (s *story) install(ctx context.Context) error {
	begin := time.Now()
	_, err := s.show(ctx, fmt.Sprintf("helm install %s %s --namespace %s --create-namespace --wait --timeout 3m --set image.tag=%s%s",
		release, chart, namespace, firstVersion, s.moreValues()))
	if err != nil {
		return err
	}
	// Helm does not wait for the agents that a DaemonSet has not made yet.
	if _, err := s.show(ctx, "kubectl rollout status daemonset/cloudimage-node-agent -n "+namespace+" "+waitFor); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get pods -n "+namespace+" -o wide"); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "managers and an agent a node are ready")
	return nil
}

// moreValues are what the environment adds to the chart's values. Nodes made here share this machine's disk, which may be
// fuller than a node's should be.
func (s *story) moreValues() string {
	if !s.external() {
		return " --set agent.store.minFreeSpace=1Gi"
	}
	if more := os.Getenv(helmArgsEnv); more != "" {
		return " " + more
	}
	return ""
}

// upgrade replaces all agents while they pull.
func (s *story) upgrade(ctx context.Context) error {
	begin := time.Now()
	image, err := s.serveLarge("upgraded")
	if err != nil {
		return err
	}
	if err := s.untilPulling(ctx, image, "", s.nodes, image.size/8); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get nimg"); err != nil {
		return err
	}
	if _, err := s.show(ctx, fmt.Sprintf("helm upgrade %s %s --namespace %s --wait --timeout 3m --reuse-values --set image.tag=%s --set agent.updateStrategy.maxUnavailable=100%%",
		release, chart, namespace, nextVersion)); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl rollout status daemonset/cloudimage-node-agent -n "+namespace+" "+waitFor); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl wait --for=condition=Ready cimg/"+image.name+" "+waitFor); err != nil {
		return err
	}
	out, err := s.show(ctx, fmt.Sprintf(`kubectl get nimg -o jsonpath='{range .items[*]}{.metadata.name}: agent {.status.agentVersion}, resumed {.status.images[?(@.name==%q)].resumedBytes} bytes{"\n"}{end}'`, image.name))
	if err != nil {
		return err
	}
	if got := strings.Count(out, "agent "+nextVersion+", resumed "); got != len(s.nodes) || strings.Contains(out, "resumed  bytes") {
		return fmt.Errorf("not every agent is of version %s and went on where its predecessor had ended:\n%s", nextVersion, out)
	}
	if err := s.requireSent(image, s.nodes); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "version %s runs everywhere, and every pull went on where the old agent left it", nextVersion)
	return s.withdraw(ctx, image)
}

// uninstall must not hang on finalizers, and must not delete what lies on the nodes.
func (s *story) uninstall(ctx context.Context) error {
	begin := time.Now()
	out, err := s.show(ctx, fmt.Sprintf("helm uninstall %s --namespace %s --wait --timeout 60s", release, namespace))
	if err != nil {
		return err
	}
	if err := require(out, store); err != nil { // it says what it leaves where
		return err
	}
	took := time.Since(begin)
	if took > uninstallLimit {
		return fmt.Errorf("the uninstallation took %s, more than %s", took, uninstallLimit)
	}
	err = s.until(ctx, func() error {
		pods, err := s.ask(ctx, "kubectl get pods -n "+namespace+" -o name")
		if err == nil && pods != "" {
			err = errors.New("these Pods are still there: " + pods)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get cimg,crd"); err != nil { // kept by the chart's default
		return err
	}
	s.out.Held(took, "no Pod of the release is left")
	for _, one := range s.machines {
		if _, err := os.Stat(filepath.Join(one.Disk(), s.guest.blob())); err != nil {
			return fmt.Errorf("the image is gone from %s: %w", one.Name, err)
		}
	}
	if len(s.machines) > 0 {
		s.out.Held(time.Since(begin), "the image lies on every node, as before")
	}
	return nil
}
