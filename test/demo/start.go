package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin/qcow2"
)

const (
	gib = 1 << 30
	mib = 1 << 20

	imageSize, imageSeed       = gib, 13
	tamperedSize, tamperedSeed = 64 * mib, 666
	// connectionRate holds the story to a speed that the eye can follow, on any machine.
	connectionRate = 24 * mib

	imagePath, mirrorPath, tamperedPath = "/debian-13.qcow2", "/mirror/debian-13.qcow2", "/tampered.qcow2"
)

// imageFile is the image that the story is about.
type imageFile struct {
	path string
	qcow2.Summary
}

func (s *story) start(ctx context.Context) error {
	begin := time.Now()
	var err error
	if s.repository, err = controlplane.Repository(""); err != nil {
		return err
	}
	if s.folder, err = scratch.New("demo"); err != nil {
		return err
	}
	s.dir = s.folder.Path
	if err := s.requireSpace(); err != nil {
		return err
	}
	var binaries harness.Binaries
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.plane, err = controlplane.Start(groupCtx, controlplane.Options{Repository: s.repository, Output: s.out.Output()})
		return err
	})
	group.Go(func() (err error) {
		binaries, err = harness.Build(groupCtx, harness.BuildOptions{Repository: s.repository, Dir: s.dir, Output: s.out.Output()})
		return err
	})
	group.Go(s.startOrigin)
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.requireSamples(); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "a Kubernetes API server answers at %s", s.plane.Config.Host)
	s.out.Held(time.Since(begin), "%s serves a qcow2 image of %.2f GiB, each connection held to %d MiB/s so that one can watch",
		s.origin.URL, float64(s.image.SizeBytes)/gib, connectionRate/mib)
	s.out.Command("export KUBECONFIG=" + s.plane.KubeconfigPath)
	return s.startCluster(ctx, binaries)
}

// requireSpace counts a copy of the image for the origin, one for each node and one for the node that joins.
func (s *story) requireSpace() error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &stat); err != nil {
		return fmt.Errorf("look for free space in %s: %w", s.dir, err)
	}
	free, need := int64(stat.Bavail)*stat.Bsize, int64(s.nodes+2)*(imageSize+2*tamperedSize)+gib/2
	if free < need {
		return fmt.Errorf("the demo needs %.1f GiB in %s, where %.1f GiB are free: make room, or name another folder with TMPDIR=…",
			float64(need)/gib, filepath.Dir(s.dir), float64(free)/gib)
	}
	return nil
}

// requireSamples notices a changed image here, not as a DigestMismatch in the middle of the story.
func (s *story) requireSamples() error {
	for _, name := range []string{"demo-debian.yaml", "demo-debian-copy.yaml"} {
		sample, err := os.ReadFile(filepath.Join(s.repository, "config", "samples", name))
		if err != nil {
			return fmt.Errorf("read a sample: %w", err)
		}
		if !strings.Contains(string(sample), s.image.Digest) {
			return fmt.Errorf("config/samples/%s names another digest than that of the image which the demo makes: %s", name, s.image.Digest)
		}
	}
	return nil
}

func (s *story) startOrigin() error {
	server, err := origin.Start()
	if err != nil {
		return err
	}
	s.origin = server
	s.image.path = filepath.Join(s.dir, "debian-13.qcow2")
	if s.image.Summary, err = qcow2.WriteFile(s.image.path, imageSize, imageSeed); err != nil {
		return err
	}
	tampered := filepath.Join(s.dir, "tampered.qcow2")
	if _, err := qcow2.WriteFile(tampered, tamperedSize, tamperedSeed); err != nil {
		return err
	}
	s.origin.Serve(imagePath, origin.File{Path: s.image.path, BytesPerSecond: connectionRate})
	s.origin.Serve(mirrorPath, origin.File{Path: s.image.path, BytesPerSecond: connectionRate})
	s.origin.Serve(tamperedPath, origin.File{Path: tampered, BytesPerSecond: connectionRate})
	return nil
}

func (s *story) startCluster(ctx context.Context, binaries harness.Binaries) error {
	begin := time.Now()
	cluster, err := harness.New(ctx, harness.Options{
		ControlPlane: s.plane, Binaries: binaries, Dir: s.dir, Repository: s.repository,
	})
	if err != nil {
		return err
	}
	s.cluster = cluster
	manager, err := cluster.StartManager(ctx)
	if err != nil {
		return err
	}
	for i := range s.nodes {
		if _, err := cluster.AddNode(ctx, nodeName(i), nil); err != nil {
			return err
		}
	}
	if err := manager.WaitReady(ctx); err != nil {
		return err
	}
	for _, node := range cluster.Nodes() {
		if err := node.WaitReady(ctx); err != nil {
			return err
		}
	}
	s.out.Held(time.Since(begin), "manager (pid %d) and agents are ready", manager.PID())
	for _, node := range cluster.Nodes() {
		s.out.Note(fmt.Sprintf("%s: agent pid %d, store %s", node.Name, node.PID(), node.Store))
	}
	return nil
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }
