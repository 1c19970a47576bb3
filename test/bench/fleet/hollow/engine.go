// Package hollow runs agents without disks: the real controllers of an agent, with a token and a connection of their own, over an
// engine that only waits.
package hollow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

const (
	// imageBytes is the size of every image, diskBytes that of every node's disk.
	imageBytes = 2 << 30
	diskBytes  = 1 << 40
	// spread is the part of a pull's time by which pulls differ, up or down: equal ones would end together and be one report.
	spread = 0.1
	// steps is how often a pull reports progress.
	steps = 30
)

// Engine is the simulated engine and disk of one node.
type Engine struct {
	node  string
	takes time.Duration
	board *Board

	mu    sync.Mutex
	links map[string]string // digests by the names of images
	blobs map[string]bool
}

var _ controller.Store = (*Engine)(nil)

// NewEngine makes an empty disk. A pull on it takes the given time, up to a tenth more or less, always the same for one image.
func NewEngine(node string, takes time.Duration, board *Board) *Engine {
	return &Engine{node: node, takes: takes, board: board, links: map[string]string{}, blobs: map[string]bool{}}
}

// Pull waits, and reports progress meanwhile.
func (e *Engine) Pull(ctx context.Context, image v1alpha1.AssignedImage, turn *controller.Turn, progress func(controller.Progress)) (controller.Pulled, error) {
	turn.Answered()
	digest := image.Digest
	if digest == "" {
		sum := sha256.Sum256([]byte(image.Source.HTTP.URL))
		digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	defer e.board.pullStarted(image.Name)()
	takes := time.Duration(float64(e.takes) * (1 - spread + 2*spread*fraction(e.node, image.Name)))
	ticker := time.NewTicker(max(takes/steps, time.Millisecond))
	defer ticker.Stop()
	for step := int64(1); step <= steps; step++ {
		select {
		case <-ctx.Done():
			return controller.Pulled{}, context.Cause(ctx)
		case <-ticker.C:
			done := imageBytes / steps * step
			progress(controller.Progress{Total: imageBytes, Completed: done, Hashed: done})
		}
	}
	e.publish(image.Name, digest)
	pulled := bytesOf(digest)
	pulled.AverageBytesPerSecond = int64(imageBytes / takes.Seconds())
	return pulled, nil
}

// fraction is a number in [0, 1) that depends on the names alone.
func fraction(names ...string) float64 {
	hash := fnv.New32a()
	for _, name := range names {
		_, _ = hash.Write([]byte(name)) // a hash never fails to write
	}
	return float64(hash.Sum32()) / (1 << 32)
}

func bytesOf(digest string) controller.Pulled {
	return controller.Pulled{Digest: digest, SizeBytes: imageBytes, Format: v1alpha1.FormatQcow2, VirtualSizeBytes: 5 * imageBytes}
}

func (e *Engine) publish(name, digest string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blobs[digest], e.links[name] = true, digest
}

// Adopt takes no time: reading bytes is not what is measured.
func (e *Engine) Adopt(_ context.Context, image v1alpha1.AssignedImage) (controller.Pulled, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.blobs[image.Digest] {
		return controller.Pulled{}, controller.ErrNotOnDisk
	}
	e.links[image.Name] = image.Digest
	return bytesOf(image.Digest), nil
}

// Contains tells whether there are bytes of that digest.
func (e *Engine) Contains(digest string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.blobs[digest]
}

// Drop forgets a link.
func (e *Engine) Drop(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.links, name)
	return nil
}

// Purge forgets a link, and the bytes if it was the last one to them.
func (e *Engine) Purge(image v1alpha1.AssignedImage) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	digest := e.links[image.Name]
	delete(e.links, image.Name)
	if !slices.Contains(slices.Collect(maps.Values(e.links)), digest) {
		delete(e.blobs, digest)
	}
	return nil
}

// Linked are the names of the links.
func (e *Engine) Linked() ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.links)), nil
}

// Room counts the simulated bytes; an error says that there is no room left, which a bench of a few dozen images never sees.
func (e *Engine) Room() (controller.Room, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	used := int64(len(e.blobs)) * imageBytes
	room := controller.Room{StorageStatus: v1alpha1.StorageStatus{CapacityBytes: diskBytes, AvailableBytes: diskBytes - used, BlobBytes: used}}
	if used > diskBytes {
		return room, errors.New("the simulated disk is full")
	}
	return room, nil
}

// Check finds nothing wrong.
func (e *Engine) Check() error { return nil }

// Holds tells whether the link leads to that digest: sizes are all the same.
func (e *Engine) Holds(name, digest string, _ int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.links[name] == digest
}

// Keep has nothing to keep: no simulated blob is ever evicted.
func (e *Engine) Keep([]string) {}
