package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	imageName, copyName, wrongName = "debian-13", "debian-13-copy", "debian-13-tampered"
	slots                          = 2 // maxConcurrentNodes of the first image
	waitFor                        = "--timeout=10m"
)

// apply sends a manifest of the samples with the address of this run's origin.
func (s *story) apply(ctx context.Context, file string) error {
	line := fmt.Sprintf("sed 's|http://origin.example|%s|' config/samples/%s | kubectl apply -f -", s.origin.URL, file)
	_, err := s.show(ctx, line)
	return err
}

func (s *story) warm(ctx context.Context) error {
	begin := time.Now()
	err := s.watch(ctx, "kubectl get cimg --watch", func() error {
		if err := s.apply(ctx, "demo-debian.yaml"); err != nil {
			return err
		}
		_, err := s.show(ctx, fmt.Sprintf("kubectl wait --for=condition=Ready cimg/%s %s", imageName, waitFor))
		return err
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	s.out.Held(took, "%d nodes hold %.2f GiB each: %.0f MiB/s altogether, API and all",
		s.nodes, float64(s.image.SizeBytes)/gib, float64(s.image.SizeBytes)*float64(s.nodes)/mib/took.Seconds())
	if sent, want := s.origin.BytesSent(imagePath), s.image.SizeBytes*int64(s.nodes); sent < want {
		return fmt.Errorf("the origin sent %d bytes; %d nodes that hold the image need %d", sent, s.nodes, want)
	}
	most := s.origin.MaxConcurrentNodes(imagePath)
	if most > slots {
		return fmt.Errorf("%d nodes downloaded at the same time, maxConcurrentNodes is %d", most, slots)
	}
	s.out.Held(took, "the origin's access log has at most %d nodes at a time, as maxConcurrentNodes says", most)
	return nil
}

func (s *story) look(ctx context.Context) error {
	begin := time.Now()
	wide, err := s.show(ctx, "kubectl get cimg -o wide")
	if err != nil {
		return err
	}
	if err := requireParts(wide, imageName, s.image.Digest, s.origin.URL+imagePath, "Warmed"); err != nil {
		return err
	}
	caches, err := s.show(ctx, "kubectl get nimg")
	if err != nil {
		return err
	}
	for i := range s.nodes {
		if err := requireParts(caches, nodeName(i)); err != nil {
			return err
		}
	}
	// Events are written after the status, by another client.
	err = s.until(ctx, func() error {
		events, err := s.ask(ctx, "kubectl get events -A")
		return errors.Join(err, requireParts(events, "cloudimage/"+imageName))
	})
	if err != nil {
		return err
	}
	events := "kubectl get events -A -o custom-columns=TYPE:.type,REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message"
	if _, err := s.show(ctx, events); err != nil {
		return err
	}
	throughput, err := s.show(ctx, fmt.Sprintf("kubectl get cimg %s -o jsonpath='{.status.throughput}, {.status.throughputBytesPerSecond}'", imageName))
	if err != nil {
		return err
	}
	if err := requireParts(throughput, "/s, {", `"mean":`); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "the image is Warmed on %d of %d nodes, with its digest, size and throughput", s.nodes, s.nodes)
	return nil
}

// verify trusts neither the agents nor the code that this program shares with them.
func (s *story) verify(ctx context.Context) error {
	begin := time.Now()
	tool := "openssl dgst -sha256 -r" // about three times as fast as sha256sum where the processor has SHA instructions
	if _, err := exec.LookPath("openssl"); err != nil {
		tool = "sha256sum"
	}
	for _, node := range s.cluster.Nodes() {
		output, err := s.show(ctx, fmt.Sprintf("%s %s", tool, filepath.Join(node.Store, "images", imageName)))
		if err != nil {
			return err
		}
		if digest, _, _ := strings.Cut(output, " "); "sha256:"+digest != s.image.Digest {
			return fmt.Errorf("the file on %s has digest %s, want %s", node.Name, digest, s.image.Digest)
		}
	}
	s.out.Held(time.Since(begin), "all %d files have the digest %s", s.nodes, s.image.Digest)
	return s.qemuCheck(ctx)
}

// qemuCheck lets QEMU look at one of the files, where it is installed.
func (s *story) qemuCheck(ctx context.Context) error {
	if path, _ := exec.LookPath("qemu-img"); path == "" {
		return nil
	}
	begin := time.Now()
	if _, err := s.show(ctx, "qemu-img check "+filepath.Join(s.cluster.Nodes()[0].Store, "images", imageName)); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "QEMU finds no error in it")
	return nil
}

// requireParts says what is missing in what a command printed.
func requireParts(output string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(output, part) {
			return fmt.Errorf("expected %q in what the command printed:\n%s", part, output)
		}
	}
	return nil
}

// until repeats a check for as long as the step may take.
func (s *story) until(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// requireBlobs compares the published files of every node with what should be there.
func (s *story) requireBlobs(want ...string) error {
	for _, node := range s.cluster.Nodes() {
		paths, err := filepath.Glob(filepath.Join(node.Store, "blobs", "sha256", "*"))
		if err != nil {
			return fmt.Errorf("list the blobs of %s: %w", node.Name, err)
		}
		var got []string
		for _, path := range paths {
			got = append(got, "sha256:"+filepath.Base(path))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("the store of %s holds the blobs %q, want %q", node.Name, got, want)
		}
	}
	return nil
}
