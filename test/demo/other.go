package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

func (s *story) copy(ctx context.Context) error {
	begin, before := time.Now(), s.origin.BytesSent("")
	if err := s.apply(ctx, "demo-debian-copy.yaml"); err != nil {
		return err
	}
	if _, err := s.show(ctx, fmt.Sprintf("kubectl wait --for=condition=Ready cimg/%s %s", copyName, waitFor)); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get cimg"); err != nil {
		return err
	}
	if after := s.origin.BytesSent(""); after != before {
		return fmt.Errorf("the origin had sent %d bytes before and %d after: nodes downloaded what they hold", before, after)
	}
	if nodes := s.origin.Nodes(mirrorPath); len(nodes) > 0 {
		return fmt.Errorf("nodes %q asked the origin for bytes that they hold", nodes)
	}
	s.out.Held(time.Since(begin), "the origin has sent %d bytes, as before: not one more", before)
	return s.requireBlobs(s.image.Digest)
}

func (s *story) wrong(ctx context.Context) error {
	begin := time.Now()
	if err := s.apply(ctx, "demo-wrong-digest.yaml"); err != nil {
		return err
	}
	if _, err := s.show(ctx, fmt.Sprintf("kubectl wait --for=condition=Stalled cimg/%s %s", wrongName, waitFor)); err != nil {
		return err
	}
	output, err := s.show(ctx, fmt.Sprintf(
		`kubectl get cimg %s -o jsonpath='{.status.conditions[?(@.type=="Stalled")].reason} on {.status.failures[*].node}: {.status.failures[*].message}'`,
		wrongName))
	if err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get cimg"); err != nil {
		return err
	}
	if !strings.HasPrefix(output, "DigestMismatch on node-") {
		return fmt.Errorf("the image is Stalled with %q, want DigestMismatch on one node", output)
	}
	if err := s.requireOneNode(); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "Stalled with DigestMismatch; only %s ever asked the origin for it", s.origin.Nodes(tamperedPath)[0])
	if err := s.requireBlobs(s.image.Digest); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "no node has published anything of it")
	return nil
}

func (s *story) requireOneNode() error {
	if nodes := s.origin.Nodes(tamperedPath); len(nodes) != 1 {
		return fmt.Errorf("nodes %q asked for the image whose digest is wrong, want one", nodes)
	}
	return nil
}

func (s *story) join(ctx context.Context) error {
	begin := time.Now()
	node, err := s.cluster.AddNode(ctx, nodeName(s.nodes), nil)
	if err != nil {
		return err
	}
	s.out.Note(fmt.Sprintf("%s joins, with an empty store %s", node.Name, node.Store))
	err = s.watch(ctx, "kubectl get cimg "+imageName+" --watch", func() error {
		_, err := s.show(ctx, fmt.Sprintf("kubectl wait --for=jsonpath='{.status.nodes.ready}'=%d cimg/%s %s", s.nodes+1, imageName, waitFor))
		return err
	})
	if err != nil {
		return err
	}
	if _, err := s.show(ctx, fmt.Sprintf("kubectl get cimg && kubectl get nimg %s", node.Name)); err != nil {
		return err
	}
	if err := s.requireBlobs(s.image.Digest); err != nil {
		return err
	}
	if err := s.requireOneNode(); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "%s holds the image; the one with the wrong digest did not reach it", node.Name)
	return nil
}

func (s *story) remove(ctx context.Context) error {
	begin := time.Now()
	if _, err := s.show(ctx, "kubectl delete cimg --all "+waitFor); err != nil {
		return err
	}
	if err := s.requireBlobs(); err != nil {
		return err
	}
	stores := filepath.Join(s.dir, "nodes", "*", "store")
	left, err := s.show(ctx, fmt.Sprintf("find %s/{blobs,images,partial,quarantine} -not -type d", stores))
	if err != nil {
		return err
	}
	if left != "" {
		return fmt.Errorf("expected no file in the stores after the deletion, found:\n%s", left)
	}
	s.out.Held(time.Since(begin), "the finalizers ended, and no file of any image is left on %d nodes", s.nodes+1)
	return nil
}

// stay hands everything over to the person, until Ctrl-C.
func (s *story) stay(ctx context.Context) error {
	if _, err := s.show(ctx, "kubectl get cimg"); err != nil {
		return err
	}
	s.out.Note(fmt.Sprintf("manager: pid %d, log %s", s.cluster.Manager().PID(), s.cluster.Manager().LogPath))
	for _, node := range s.cluster.Nodes() {
		s.out.Note(fmt.Sprintf("%s: agent pid %d (a killed one is started again), store %s, log %s", node.Name, node.PID(), node.Store, node.LogPath))
	}
	s.out.Note("Copy this into another terminal; Ctrl-C here ends everything:")
	s.out.Line("")
	s.out.Line("export KUBECONFIG=" + s.plane.KubeconfigPath)
	s.out.Line("export PATH=" + filepath.Dir(s.plane.KubectlPath) + ":$PATH")
	s.told = true
	<-ctx.Done()
	return nil
}
