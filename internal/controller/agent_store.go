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
	Keeper
}

// Puller brings images onto the disk. An error tells its reason, see reasonOf.
type Puller interface {
	// Pull fetches what is missing of an image, verifies it on disk and links it.
	// It asks the server once, and needs its turn again from the first answer on. It
	// reports how far it is.
	Pull(ctx context.Context, image v1alpha1.AssignedImage, turn *Turn, progress func(Progress)) (Pulled, error)
	// Adopt verifies and links bytes that lie on the disk already; ErrNotOnDisk if
	// there are none of that digest.
	Adopt(ctx context.Context, image v1alpha1.AssignedImage) (Pulled, error)
	// Contains tells at once whether there is anything of that digest to adopt.
	Contains(digest string) bool
}

// Progress is how far a pull is, in bytes of the image.
type Progress struct {
	Total     int64 // 0 while unknown
	Completed int64 // on the disk
	Hashed    int64 // of these, read back
	Resumed   int64 // of these, from an earlier attempt
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
	// Room is the space of the store's filesystem and what the store takes of it. An
	// error says why the store is not usable, and may come with a measurement.
	Room() (Room, error)
}

// Keeper tells whether what lies on the disk is still what it was. None of its
// methods reads the bytes of an image.
type Keeper interface {
	// Check tells why the store is not usable, if it is not.
	Check() error
	// Holds tells whether the image's link leads to a file of that digest and size
	// that nobody found wrong.
	Holds(name, digest string, sizeBytes int64) bool
	// Keep names the digests that are not to be evicted, linked or not.
	Keep(digests []string)
}

// Room is the space of a store.
type Room struct {
	v1alpha1.StorageStatus
	// ReservedBytes are of pulls that run or wait, QuarantineBytes of images that
	// were found wrong.
	ReservedBytes, QuarantineBytes int64
	// What the store did since the agent was started: bytes that the scrub read,
	// images that were found wrong, images that were deleted to make room.
	ScrubbedBytes, CorruptBlobs, EvictedBlobs uint64
	// Scrubbed is when every image had been read within the scrub's interval.
	Scrubbed time.Time
}

// Pulled is an image that lies verified on the disk.
type Pulled struct {
	Digest                string
	SizeBytes             int64
	Format                v1alpha1.ImageFormat
	VirtualSizeBytes      int64
	Encryption            v1alpha1.ImageEncryption
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
