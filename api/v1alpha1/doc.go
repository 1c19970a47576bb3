// Package v1alpha1 is the API of the cloudimage operator: CloudImage, what a
// person wants on the nodes, and NodeImageCache, what one node is told to hold
// and what it reports.
//
// +kubebuilder:object:generate=true
// +groupName=prefetch.cloudimage.dev
package v1alpha1
