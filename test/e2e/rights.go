package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// lookAtRights asks the kernel, not the manifest, about every container of the release.
func (s *story) lookAtRights(ctx context.Context) error {
	begin := time.Now()
	out, err := s.ask(ctx, "kubectl get pods -n "+namespace+
		` -o jsonpath='{range .items[*]}{.metadata.name} {.spec.nodeName} {.status.containerStatuses[0].containerID}{"\n"}{end}'`)
	if err != nil {
		return err
	}
	shown := map[string]bool{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return fmt.Errorf("a Pod runs no container: %q", line)
		}
		pod, node, container := fields[0], fields[1], strings.TrimPrefix(fields[2], "containerd://")
		kind := "manager"
		if strings.Contains(pod, "node-agent") {
			kind = "node-agent"
		}
		ask := s.ask
		if !shown[kind] { // one of each is enough for the reader; all are checked
			ask = s.show
			s.out.Note(pod + " on " + node + ":")
		}
		shown[kind] = true
		if err := s.checkRights(ctx, ask, kind, node, container); err != nil {
			return fmt.Errorf("%s on %s: %w", pod, node, err)
		}
	}
	if len(shown) != 2 {
		return fmt.Errorf("expected agents and managers, found %v", shown)
	}
	s.out.Held(time.Since(begin), "every process is user 65532 without capabilities, cannot gain any, and is filtered by seccomp")
	s.out.Held(time.Since(begin), "every root is read-only, no network is the node's, and only the agents see the store, and no more of the node")
	return nil
}

func (s *story) checkRights(
	ctx context.Context, ask func(context.Context, string) (string, error), kind, node, container string,
) error {
	pid, err := s.ask(ctx, fmt.Sprintf("on %s ctr -n k8s.io tasks ls | awk '$1 == %q {print $2}'", node, container))
	if err != nil {
		return err
	}
	status, err := ask(ctx, fmt.Sprintf("on %s grep -E '^(Name|Uid|Gid|CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/%s/status", node, pid))
	if err != nil {
		return err
	}
	for _, want := range []string{
		"Uid: 65532 65532 65532 65532", "Gid: 65532 65532 65532 65532", "CapPrm: 0000000000000000", "CapEff: 0000000000000000",
		"CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2",
	} {
		if !strings.Contains(strings.Join(strings.Fields(status), " "), want) {
			return fmt.Errorf("expected %q of the process, got:\n%s", want, status)
		}
	}
	mounts, err := ask(ctx, fmt.Sprintf("on %s awk '$5 == \"/\" || $4 ~ \"lib/cloudimage\" {print $5, $6}' /proc/%s/mountinfo", node, pid))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(mounts, "/ ro,") {
		return fmt.Errorf("its root is not read-only: %s", mounts)
	}
	if seesStore := strings.Contains(mounts, store+" rw,"); seesStore != (kind == "node-agent") {
		return fmt.Errorf("expected the store in the agents and nowhere else, got mounts %s", mounts)
	}
	networks, err := s.ask(ctx, fmt.Sprintf("on %s readlink /proc/1/ns/net /proc/%s/ns/net /proc/1/ns/pid /proc/%[2]s/ns/pid", node, pid))
	if err != nil {
		return err
	}
	if ns := strings.Fields(networks); len(ns) != 4 || ns[0] == ns[1] || ns[2] == ns[3] {
		return fmt.Errorf("it shares a namespace with the node: %q", ns)
	}
	return nil
}
