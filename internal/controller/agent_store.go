package controller

import (
	"context"
	"errors"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Store is a node's store and the engine that fills it, as the agent uses them.
type Store interface {
	Puller
	Shelf
}

// Puller brings images onto the disk. An error tells its reason, see reasonOf.
type Puller interface {
	// Pull fetches what is missing of an image, verifies it on disk and links it.
	// It reports the bytes that are complete as they grow.
	Pull(ctx context.Context, image v1alpha1.AssignedImage, progress func(bytes int64)) (Pulled, error)
	// Adopt verifies and links bytes that lie on the disk already; ErrNotOnDisk if
	// there are none of that digest.
	Adopt(ctx context.Context, image v1alpha1.AssignedImage) (Pulled, error)
}

// Shelf is what lies on the disk.
type Shelf interface { //nolint:interfacebloat // these are one subject
	// Drop removes the link of the image of that name.
	Drop(name string) error
	// Purge removes an image's link, its bytes unless another link names them, and
	// what an unfinished pull of it left.
	Purge(image v1alpha1.AssignedImage) error
	// Linked are the names of the images that have a link.
	Linked() ([]string, error)
	// Room is the space of the store's filesystem.
	Room() (v1alpha1.StorageStatus, error)
}

// Pulled is an image that lies verified on the disk.
type Pulled struct {
	Digest                string
	SizeBytes             int64
	Format                v1alpha1.ImageFormat
	VirtualSizeBytes      int64
	AverageBytesPerSecond int64 // 0 if nothing was fetched
	ResumedBytes          int64
}

// ErrNotOnDisk says that no bytes with the wanted digest lie on the disk.
var ErrNotOnDisk = errors.New("not on disk")

// reasonOf is the documented reason of a store's error: that of its Reason
// method, else StorageError, since what has no reason of its own came from the disk.
func reasonOf(err error) string {
	var reasoned interface{ Reason() string }
	if errors.As(err, &reasoned) {
		return reasoned.Reason()
	}
	return v1alpha1.ReasonStorageError
}

// retryAfterOf is how long a server asked to be left alone; zero if it did not.
func retryAfterOf(err error) time.Duration {
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) {
		return asked.RetryAfter()
	}
	return 0
}
