package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/source"
)

// nodeStore is the pull engine in the terms of the API: orders become requests,
// results become what is reported.
type nodeStore struct {
	store     *pull.Store
	sources   *controller.Sources
	addresses pull.AddressPolicy
	proxy     source.Proxy
	userAgent string
	metrics   *controller.AgentMetrics
	replaced  func(error) // is told when the store must be opened anew
}

var _ controller.Store = (*nodeStore)(nil)

// Pull implements controller.Store.
func (n *nodeStore) Pull(ctx context.Context, image v1alpha1.AssignedImage, turn *controller.Turn, progress func(controller.Progress)) (controller.Pulled, error) {
	request, err := n.request(image)
	if err != nil {
		return controller.Pulled{}, err
	}
	access, err := n.sources.AccessTo(ctx, image.Source.HTTP)
	if err != nil {
		return controller.Pulled{}, err
	}
	if err := pull.CheckHeader(access.Header); err != nil {
		return controller.Pulled{}, badSecretError{err}
	}
	maps.Copy(request.Header, access.Header)
	request.RootCAs, request.Turn = access.RootCAs, turn
	transfer := n.metrics.NewTransfer()
	defer transfer.End()
	result, err := n.store.Pull(ctx, request, func(p pull.Progress) {
		transfer.Observe(p.TransferredBytes, p.Retries, p.Connections)
		progress(controller.Progress{Total: p.TotalBytes, Completed: p.BytesCompleted, Hashed: p.HashedBytes, Resumed: p.ResumedBytes})
	})
	return pulled(result), n.advise(image.Source.HTTP, cause(err))
}

// badSecretError is a Secret that no request can carry: like a missing one it heals
// when it is corrected, without an edit of the image.
type badSecretError struct{ err error }

// Error implements error.
func (e badSecretError) Error() string { return "the Secret cannot be used: " + e.err.Error() }

// Reason is one of the API's reasons.
func (e badSecretError) Reason() string { return v1alpha1.ReasonCredentialsMissing }

// Adopt implements controller.Store.
func (n *nodeStore) Adopt(ctx context.Context, image v1alpha1.AssignedImage) (controller.Pulled, error) {
	// A look first: while another image's pull of the same digest runs, Adopt
	// would wait for it.
	if !n.Contains(image.Digest) {
		return controller.Pulled{}, controller.ErrNotOnDisk
	}
	request, err := n.request(image)
	if err != nil {
		return controller.Pulled{}, err
	}
	result, err := n.store.Adopt(ctx, request)
	if errors.Is(err, pull.ErrNotPresent) {
		return controller.Pulled{}, controller.ErrNotOnDisk
	}
	return pulled(result), err
}

// Drop implements controller.Store.
func (n *nodeStore) Drop(name string) error { return n.store.Unlink(name) }

// Purge implements controller.Store. What it deletes is the digest that the order
// names: one that came out of an older etcd may find other bytes under the name.
func (n *nodeStore) Purge(image v1alpha1.AssignedImage) error {
	links, err := n.store.Images()
	if err != nil {
		return err
	}
	if err := n.store.Unlink(image.Name); err != nil {
		return err
	}
	if digest := cmp.Or(image.Digest, links[image.Name]); digest != "" {
		if err := n.store.RemoveBlob(digest); err != nil && !errors.Is(err, pull.ErrReferenced) {
			return err
		}
	}
	request, err := n.request(image)
	if err != nil {
		return nil //nolint:nilerr // a source that could not be asked for has left nothing
	}
	return n.store.DiscardPartial(request)
}

// Linked implements controller.Store.
func (n *nodeStore) Linked() ([]string, error) {
	links, err := n.store.Images()
	names := make([]string, 0, len(links))
	for name := range links {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}

// Room implements controller.Store.
func (n *nodeStore) Room() (controller.Room, error) {
	usage, err := n.store.Usage()
	totals := n.store.Totals()
	return controller.Room{
		StorageStatus: v1alpha1.StorageStatus{
			CapacityBytes: usage.CapacityBytes, AvailableBytes: usage.AvailableBytes, BlobBytes: usage.BlobBytes,
		},
		ReservedBytes: usage.ReservedBytes, QuarantineBytes: usage.QuarantineBytes,
		ScrubbedBytes: totals.ScrubbedBytes, CorruptBlobs: totals.CorruptBlobs, EvictedBlobs: totals.EvictedBlobs, Scrubbed: totals.Scrubbed,
	}, errors.Join(err, n.Check())
}

// Check implements controller.Store. A store whose directory was replaced has to
// be opened anew, and in a Pod only another container sees the new one.
func (n *nodeStore) Check() error {
	err := n.store.Check()
	if errors.Is(err, pull.ErrReplaced) {
		n.replaced(err)
	}
	return err
}

// Holds implements controller.Store.
func (n *nodeStore) Holds(name, digest string, sizeBytes int64) bool {
	return n.store.Holds(name, digest, sizeBytes)
}

// Contains implements controller.Store.
func (n *nodeStore) Contains(digest string) bool { return n.store.Contains(digest, 0) }

// Keep implements controller.Store.
func (n *nodeStore) Keep(digests []string) { n.store.Keep(digests) }

// cause is the error without the URL in front of it: the order names it already,
// and a report has little room.
func cause(err error) error {
	if outer, ok := errors.AsType[*pull.Error](err); ok && outer.Err != nil {
		if inner, ok := errors.AsType[*pull.Error](outer.Err); ok {
			return inner
		}
	}
	return err
}

// advise says how to name an authority where it was a CloudImage that ordered the pull.
func (n *nodeStore) advise(from *v1alpha1.HTTPSource, err error) error {
	switch {
	case !errors.Is(err, pull.ErrUntrusted):
		return err
	case from.CABundleRef != nil:
		return fmt.Errorf("%w: add the certificate of its authority to the ConfigMap %s/%s that caBundleRef names", err, n.sources.Namespace, from.CABundleRef.Name)
	default:
		return fmt.Errorf("%w: name in caBundleRef a ConfigMap of %s with its certificate, under the key ca.crt", err, n.sources.Namespace)
	}
}

// request turns an order into what the engine is asked for.
func (n *nodeStore) request(image v1alpha1.AssignedImage) (pull.Request, error) {
	from := image.Source.HTTP
	if from == nil {
		return pull.Request{}, &pull.Error{Kind: pull.InvalidSource, Message: "the order names no source that this agent knows; is the agent older than the manager?"}
	}
	request := pull.Request{
		URL: from.URL, Digest: image.Digest, Format: pull.Format(image.Format), MaxSize: image.MaxSize.Value(),
		Connections:  int(image.Download.Connections),
		StallTimeout: time.Duration(image.Download.StallTimeoutSeconds) * time.Second,
		Header:       http.Header{"User-Agent": {n.userAgent}},
		Patience:     pull.AskOnce, // the agent tries again by itself, and others pull meanwhile
		Proxy:        n.proxy, Addresses: n.addresses, ImageName: image.Name,
	}
	if limit := image.Download.MaxBytesPerSecond; limit != nil {
		request.MaxBytesPerSecond = limit.Value()
	}
	return request, nil
}

func pulled(r pull.Result) controller.Pulled {
	return controller.Pulled{
		Digest: r.Digest, SizeBytes: r.SizeBytes, Format: v1alpha1.ImageFormat(r.Format),
		VirtualSizeBytes: r.VirtualSizeBytes, Encryption: v1alpha1.ImageEncryption(r.Encryption), AverageBytesPerSecond: r.AverageBytesPerSecond, ResumedBytes: r.ResumedBytes,
	}
}
