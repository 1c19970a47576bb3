package controller

import (
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// ordersByNode are the orders of each node, sorted by the names of the images.
// They point to one order an image and action: there may be 250,000 of them.
type ordersByNode map[string][]*v1alpha1.AssignedImage

// orderFor is the order that a node is to have for an image.
func orderFor(v *imageView, action v1alpha1.ImageAction) v1alpha1.AssignedImage {
	spec := &v.image.Spec
	return v1alpha1.AssignedImage{
		Name: v.image.Name, Revision: v.revision, Action: action,
		Source: spec.Source, Digest: v.digest, Format: spec.Format, MaxSize: spec.MaxSize,
		Download: spec.Download,
	}
}

// values copies orders, to be written: the answer to a write is decoded into
// what was written, and the orders share much with the informers' objects.
func values(orders []*v1alpha1.AssignedImage) []v1alpha1.AssignedImage {
	copied := make([]v1alpha1.AssignedImage, len(orders))
	for i, order := range orders {
		copied[i] = *order.DeepCopy()
	}
	return copied
}

// sameOrders compares what is written with what is wanted. A pass does so for
// every image of every node, which is too often for reflection.
func sameOrders(written []v1alpha1.AssignedImage, wanted []*v1alpha1.AssignedImage) bool {
	if len(written) != len(wanted) {
		return false
	}
	for i := range written {
		if !sameOrder(&written[i], wanted[i]) {
			return false
		}
	}
	return true
}

func sameOrder(a, b *v1alpha1.AssignedImage) bool {
	return a.Name == b.Name && a.Revision == b.Revision && a.Action == b.Action &&
		a.Digest == b.Digest && a.Format == b.Format && a.MaxSize.Cmp(b.MaxSize) == 0 &&
		a.Retry == b.Retry && sameSource(a.Source.HTTP, b.Source.HTTP) && sameDownload(&a.Download, &b.Download)
}

func sameSource(a, b *v1alpha1.HTTPSource) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.URL == b.URL && same(a.SecretRef, b.SecretRef) && same(a.CABundleRef, b.CABundleRef)
}

func sameDownload(a, b *v1alpha1.DownloadPolicy) bool {
	return a.Connections == b.Connections && a.StallTimeoutSeconds == b.StallTimeoutSeconds &&
		sameQuantity(a.MaxBytesPerSecond, b.MaxBytesPerSecond)
}

// same compares what two pointers point to; nil equals nil alone.
func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameQuantity(a, b *resource.Quantity) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Cmp(*b) == 0
}
