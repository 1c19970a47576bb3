package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/guest"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin/qcow2"
)

const (
	store = "/var/lib/cloudimage"
	// largeSize is enough for 5 % of it to be more than what a killed agent may lose: 16 MiB between two checkpoints, and what is
	// under way in the buffers of eight connections.
	largeSize = gib
	// extraPercent bounds what the origin sends a node beyond the image, in percent of it, whatever happens in mid-pull. Of a small image
	// extraBytes are allowed: at its end each of eight connections may fetch a unit of 1 MiB that another one was slow with.
	extraPercent, extraBytes = 5, 8 * mib
)

// warmImage is an image that nginx serves.
type warmImage struct {
	name, digest string
	size         int64
	urlPath      string
}

func (w warmImage) hex() string { return strings.TrimPrefix(w.digest, "sha256:") }

// blob is where the image lies on a node's disk, below /var.
func (w warmImage) blob() string { return path.Join("lib/cloudimage/blobs/sha256", w.hex()) }

// warm uses the guest's disk, so that the next steps can boot it.
func (s *story) warm(ctx context.Context) error {
	begin := time.Now()
	var err error
	if s.guest, err = s.serveGuest(); err != nil {
		return err
	}
	if err := s.applyImage(ctx, s.guest, ""); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl wait --for=condition=Ready cimg/"+s.guest.name+" "+waitFor); err != nil {
		return err
	}
	out, err := s.show(ctx, "kubectl get cimg -o wide && kubectl get nimg")
	if err != nil {
		return err
	}
	if err := require(out, s.nodes...); err != nil {
		return err
	}
	for _, one := range s.machines {
		out, err := s.show(ctx, fmt.Sprintf("on %s sha256sum %s/images/%s", one.Name, store, s.guest.name))
		if err != nil {
			return err
		}
		if err := require(out, s.guest.hex()); err != nil {
			return err
		}
	}
	if err := s.requireSent(s.guest, s.nodes); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "%d nodes hold the verified bytes", len(s.nodes))
	return nil
}

// bootGuest is what the project is for.
func (s *story) bootGuest(ctx context.Context) error {
	begin := time.Now()
	node, overlay := s.nodes[1], "/var/tmp/vm.qcow2"
	backing := path.Join("/var", s.guest.blob())
	if _, err := s.show(ctx, fmt.Sprintf("on %s qemu-img create -f qcow2 -F qcow2 -b %s %s", node, backing, overlay)); err != nil {
		return err
	}
	console, err := s.show(ctx, "on "+node+" "+guest.Command(overlay))
	if err != nil {
		return err
	}
	if err := require(console, s.Greeting+": Linux"); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "the guest booted from the warm image and said %q", s.Greeting)
	_, err = s.ask(ctx, fmt.Sprintf("on %[1]s rm %[2]s && on %[1]s sh -c 'echo %[3]s  %[4]s | sha256sum --check'", node, overlay, s.guest.hex(), backing))
	if err != nil {
		return fmt.Errorf("the image on %s changed: %w", node, err)
	}
	return nil
}

// schedule runs a Pod that only a warm node can take, and that may not write the image.
func (s *story) schedule(ctx context.Context) error {
	begin := time.Now()
	const pod = "needs-the-image"
	err := s.apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s}
spec:
  restartPolicy: Never
  nodeSelector: {prefetch.cloudimage.dev/%[2]s: "%.12[3]s"}
  containers:
  - name: hypervisor
    image: %[4]s
    args: ["cd /store/images && sha256sum %[2]s && ! touch %[2]s && ! touch x"]
    volumeMounts:
    - {name: blobs, mountPath: /store/blobs, readOnly: true}
    - {name: images, mountPath: /store/images, readOnly: true}
  volumes:
  - {name: blobs, hostPath: {path: %[5]s/blobs, type: Directory}}
  - {name: images, hostPath: {path: %[5]s/images, type: Directory}}`, pod, s.guest.name, s.guest.hex(), s.busybox(), store))
	if err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/"+pod+" --timeout=60s"); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get node -L prefetch.cloudimage.dev/"+s.guest.name+" && kubectl get pod "+pod+" -o wide"); err != nil {
		return err
	}
	for _, one := range s.machines {
		out, err := s.ask(ctx, fmt.Sprintf("on %s sh -c 'cat /var/log/pods/default_%s_*/*/*.log 2>/dev/null || true'", one.Name, pod))
		if err != nil {
			return err
		}
		if out == "" {
			continue
		}
		s.out.Note("what it said on " + one.Name + ":")
		s.out.Line("     " + strings.ReplaceAll(out, "\n", "\n     "))
		if err := require(out, s.guest.hex(), "Read-only file system"); err != nil {
			return err
		}
	}
	s.out.Held(time.Since(begin), "the Pod ran on a warm node, read the whole image and could not write it")
	_, err = s.ask(ctx, "kubectl delete pod "+pod+" --grace-period=1")
	return err
}

// serveGuest puts the guest's disk behind nginx.
func (s *story) serveGuest() (warmImage, error) {
	w := warmImage{name: "guest", urlPath: "/guest.qcow2"}
	data, err := os.ReadFile(s.Guest)
	if err != nil {
		return w, fmt.Errorf("read the guest's disk: %w", err)
	}
	sum := sha256.Sum256(data)
	w.digest, w.size = "sha256:"+hex.EncodeToString(sum[:]), int64(len(data))
	if err := os.WriteFile(s.origin.Path("guest.qcow2"), data, 0o600); err != nil {
		return w, fmt.Errorf("serve the guest's disk: %w", err)
	}
	return w, nil
}

// serveLarge makes an image that takes some time to pull. Its bytes are new each time: a cluster that was there before may hold those of
// an earlier story.
func (s *story) serveLarge(name string) (warmImage, error) {
	file := name + ".qcow2"
	summary, err := qcow2.WriteFile(s.origin.Path(file), largeSize, rand.Uint64()) //nolint:gosec // no secret
	return warmImage{name: name, digest: summary.Digest, size: summary.SizeBytes, urlPath: origin.PacedPath + file}, err
}

// applyImage applies a CloudImage for all nodes, or for one.
func (s *story) applyImage(ctx context.Context, w warmImage, node string) error {
	selector := ""
	if node != "" {
		selector = "\n  nodeSelector: {matchLabels: {kubernetes.io/hostname: " + node + "}}"
	}
	return s.apply(ctx, fmt.Sprintf(`
apiVersion: prefetch.cloudimage.dev/v1alpha1
kind: CloudImage
metadata: {name: %s}
spec:
  source: {http: {url: "%s%s"}}
  digest: %s%s`, w.name, s.origin.URL, w.urlPath, w.digest, selector))
}

// imageStatus is what a node says about an image.
type imageStatus struct {
	Name, State, Message string
	ResumedBytes         int64
}

func (s *story) statusOn(ctx context.Context, node, name string) (imageStatus, error) {
	out, err := s.ask(ctx, "kubectl get nimg "+node+" -o json")
	if err != nil {
		return imageStatus{}, err
	}
	var cache struct {
		Status struct{ Images []imageStatus }
	}
	if err := json.Unmarshal([]byte(out), &cache); err != nil {
		return imageStatus{}, fmt.Errorf("read the status of %s: %w", node, err)
	}
	at := slices.IndexFunc(cache.Status.Images, func(i imageStatus) bool { return i.Name == name })
	if at < 0 {
		return imageStatus{}, fmt.Errorf("%s says nothing about %s", node, name)
	}
	return cache.Status.Images[at], nil
}

// received is how much a node of ours got over its network cable since it was switched on, bytes.
func (s *story) received(ctx context.Context, node string) (int64, error) {
	out, err := s.ask(ctx, "on "+node+" awk '$1 == \"eth0:\" {print $2}' /proc/net/dev")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(out, 10, 64)
}

// untilPulling applies an image and waits until each of the nodes has got the share of it, at least. Only on nodes of ours the network
// can be asked; the status says it too, but every 15 s.
func (s *story) untilPulling(ctx context.Context, w warmImage, selector string, nodes []string, share int64) error {
	before := map[string]int64{}
	for _, node := range nodes {
		if s.external() {
			continue
		}
		var err error
		if before[node], err = s.received(ctx, node); err != nil {
			return err
		}
	}
	if err := s.applyImage(ctx, w, selector); err != nil {
		return err
	}
	return s.until(ctx, func() error {
		for _, node := range nodes {
			got, err := s.pulled(ctx, w, node, before[node])
			if err != nil {
				return err
			}
			if got < share {
				return fmt.Errorf("%s has got %d bytes of %s so far", node, got, w.name)
			}
		}
		return nil
	})
}

func (s *story) pulled(ctx context.Context, w warmImage, node string, before int64) (int64, error) {
	if s.external() { // a node reports progress four times a minute at most; the origin knows of every range that has ended
		sent, err := s.origin.Sent(w.urlPath)
		return sent[node], err
	}
	now, err := s.received(ctx, node)
	return now - before, err
}

// requireSent holds the origin's own account of every node against the size of the image.
func (s *story) requireSent(w warmImage, nodes []string) error {
	begin := time.Now()
	sent, err := s.origin.Sent(w.urlPath)
	if err != nil {
		return err
	}
	var shares []string
	most := w.size + max(w.size*extraPercent/100, extraBytes)
	for _, node := range nodes {
		if sent[node] < w.size || sent[node] > most {
			return fmt.Errorf("nginx sent %s %d bytes of an image of %d; at most %d are allowed", node, sent[node], w.size, most)
		}
		shares = append(shares, fmt.Sprintf("%s %.3f", node, float64(sent[node])/float64(w.size)))
	}
	s.out.Held(time.Since(begin), "nginx's access log, in images of %.1f MiB: %s", float64(w.size)/mib, strings.Join(shares, ", "))
	return nil
}

// withdraw deletes an image that only one step needs.
func (s *story) withdraw(ctx context.Context, w warmImage) error {
	if _, err := s.show(ctx, "kubectl delete cimg "+w.name+" "+waitFor); err != nil {
		return err
	}
	return os.Remove(s.origin.Path(path.Base(w.urlPath)))
}
