package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// urlLength is that of a usual URL with a signature left out.
const urlLength = 100

// imageName is the name of an image of the bench.
func imageName(i int) string { return fmt.Sprintf("image-%03d", i+1) }

// describeImage says where an image's release comes from.
func describeImage(i, release int) (url, digest string) {
	url = fmt.Sprintf("https://images.example.com/%s/release-%d/", imageName(i), release)
	const end = "disk.qcow2"
	url += strings.Repeat("x", max(0, urlLength-len(url)-len(end))) + end
	sum := sha256.Sum256([]byte(url))
	return url, "sha256:" + hex.EncodeToString(sum[:])
}

// release applies all images together: created, or changed to another release.
func (b *bench) release(ctx context.Context, release int, limit string) error {
	for i := range b.config.images {
		url, digest := describeImage(i, release)
		image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: imageName(i)}}
		b.board.Applied(image.Name)
		err := createOrUpdate(ctx, b.client, image, func() {
			concurrent := intstr.FromString(limit)
			image.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: url}
			image.Spec.Digest = digest
			image.Spec.Rollout.MaxConcurrentNodes = &concurrent
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// requestedAt is any value that was not there before.
const requestedAt = "2026-01-02T03:04:05Z"

// requestAgain asks for a new rollout of what is there.
func (b *bench) requestAgain(ctx context.Context) error {
	for i := range b.config.images {
		image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: imageName(i)}}
		b.board.Applied(image.Name)
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.RequestedAtAnnotation, requestedAt)
		if err := b.client.Patch(ctx, image, client.RawPatch(mergePatch, []byte(patch))); err != nil {
			return fmt.Errorf("request image %s again: %w", image.Name, err)
		}
	}
	return nil
}

// waitReady waits until every image says that all nodes hold it, and draws the curve of the way there.
func (b *bench) waitReady(ctx context.Context, p *phase, limit time.Duration, handled string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not Ready everywhere within %s", limit))
	defer cancel()
	said := time.Now()
	for {
		at, done, err := b.lookAtImages(ctx, p, handled)
		if err == nil { // else the server is overloaded, and the next look may be luckier
			p.curve = append(p.curve, at)
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			b.say("%s: after %.0f s %d of %d are Ready, %d pull", p.name, at.Seconds, at.Ready, p.nodes*p.images, at.Pulling)
		}
		if done {
			p.ready = time.Since(p.began)
			return nil
		}
		if errPause := pause(ctx, pollEvery); errPause != nil {
			return errors.Join(fmt.Errorf("%w: %d of %d pairs of a node and an image", errPause, at.Ready, p.nodes*p.images), err)
		}
	}
}

// lookAtImages counts what the images say of their nodes, and tells whether all is done.
func (b *bench) lookAtImages(ctx context.Context, p *phase, handled string) (at point, done bool, err error) {
	var images v1alpha1.CloudImageList
	if err := b.client.List(ctx, &images); err != nil {
		return at, false, fmt.Errorf("look at the images: %w", err)
	}
	at, done = point{Seconds: time.Since(p.began).Seconds()}, len(images.Items) == p.images
	for i := range images.Items {
		image := &images.Items[i]
		at.Pulling += int(image.Status.Nodes.Pulling)
		if current(image, handled) {
			at.Ready += int(image.Status.Nodes.Ready)
		}
		done = done && current(image, handled) && int(image.Status.Nodes.Ready) == p.nodes &&
			meta.IsStatusConditionTrue(image.Status.Conditions, v1alpha1.ConditionReady)
	}
	return at, done, nil
}

// current tells whether a status speaks of what was applied last.
func current(image *v1alpha1.CloudImage, handled string) bool {
	return image.Status.ObservedGeneration == image.Generation && image.Status.LastHandledRequestedAt == handled
}

// patience is far more than a rollout takes with this share of the nodes pulling at the same time. Two processors that everything shares
// take up to a tenth of a second for what is written for a node and an image.
func (c config) patience(share float64) time.Duration {
	onOneNode := time.Duration(c.images+1) / 2 * c.pull
	return 5*time.Minute + 3*onOneNode + time.Duration(3/share)*c.pull + time.Duration(c.nodes*c.images)*100*time.Millisecond
}

// finish waits for the end of a rollout, and notes when the last order reached its agent.
func (b *bench) finish(ctx context.Context, p *phase, limit time.Duration, handled string) error {
	if err := b.waitReady(ctx, p, limit, handled); err != nil {
		return err
	}
	round := b.board.Round()
	if want := p.nodes * p.images; len(round.Delays) != want {
		return fmt.Errorf("%d orders reached the agents, want %d", len(round.Delays), want)
	}
	p.assigned = round.Last.Sub(p.began)
	return nil
}
