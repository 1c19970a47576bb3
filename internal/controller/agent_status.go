package controller

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// fieldManager is the agent's name in the managed fields of its node's object. The
// admission policy takes writes under no other; an API server gives it to writes that
// name none as well, after the User-Agent.
const fieldManager = client.FieldOwner("cloudimage-node-agent")

// report is the status that a node's object is to have.
func report(cache *v1alpha1.NodeImageCache, images []v1alpha1.ImageStatus, room v1alpha1.StorageStatus, storage error, version string, now time.Time) v1alpha1.NodeImageCacheStatus {
	status := v1alpha1.NodeImageCacheStatus{
		NodeUID: cache.Spec.NodeUID, ObservedGeneration: cache.Generation, AgentVersion: version,
		Storage: room, Images: images, Conditions: slices.Clone(cache.Status.Conditions),
	}
	setStorage(&status, cache.Generation, storage, now)
	bound(&status)
	return status
}

// setStorage writes into a status whether the store is usable, as it was seen at a
// generation of the object.
func setStorage(status *v1alpha1.NodeImageCacheStatus, generation int64, storage error, now time.Time) {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionStorageReady, ObservedGeneration: generation, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonStorageUsable,
		Message: "the store can be read and written", LastTransitionTime: metav1.Time{Time: now.Truncate(time.Second)},
	}
	if storage != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, reasonOf(storage), clip(storage.Error())
	}
	meta.SetStatusCondition(&status.Conditions, condition)
}

// ReportStorage tells in the node's object that the store cannot be opened. What
// the object says of images stays: nobody can tell anything else, nor was anything
// done for the orders. The error is a NotFound one if the node has no object yet.
func ReportStorage(ctx context.Context, c client.Client, node string, storage error, now time.Time) error {
	var object v1alpha1.NodeImageCache
	if err := c.Get(ctx, client.ObjectKey{Name: node}, &object); err != nil {
		return err
	}
	updated := object.DeepCopy()
	setStorage(&updated.Status, object.Generation, storage, now)
	if equality.Semantic.DeepEqual(object.Status, updated.Status) {
		return nil
	}
	updated.Status.NodeUID = object.Spec.NodeUID
	return c.Status().Patch(ctx, updated, client.MergeFrom(&object), fieldManager)
}

// worth tells how much a new status deserves to be written.
type worth int

const (
	// worthNothing: nothing changed that anybody waits for.
	worthNothing worth = iota
	// worthCatchUp: nothing changed but the generation. Who waits for a condition
	// with kubectl waits for its generation, too, so that it is written some time
	// after the last change, unless anything else is before.
	worthCatchUp
	// worthLater: only the progress of pulls changed, what the store holds, or
	// what everybody assumes.
	worthLater
	// worthNow: a state changed, or an order to remove was seen.
	worthNow
)

// worthOf compares a status with the written one. Free space changes all the time
// and is never a reason to write, nor is the size of a filesystem, which follows
// from free space on some. A generation by itself can wait for other changes, unless
// the manager waits for it, which it does for orders to remove. That an image waits for its slot, or
// that a node that has said nothing yet is about to pull, is what everybody assumes.
func worthOf(written, next v1alpha1.NodeImageCacheStatus, orders []v1alpha1.AssignedImage) worth {
	written, next = *written.DeepCopy(), *next.DeepCopy()
	removes, held := false, map[string]bool{}
	for i := range orders {
		removes = removes || orders[i].Action == v1alpha1.ActionRemove
		held[orders[i].Name] = orders[i].Action == v1alpha1.ActionHold
	}
	behind := observed(&written) != observed(&next)
	for _, s := range []*v1alpha1.NodeImageCacheStatus{&written, &next} {
		clearIdle(s, removes)
	}
	if equality.Semantic.DeepEqual(written, next) {
		if behind {
			return worthCatchUp
		}
		return worthNothing
	}
	for _, s := range []*v1alpha1.NodeImageCacheStatus{&written, &next} {
		s.Storage = v1alpha1.StorageStatus{}
		s.Images = slices.DeleteFunc(s.Images, func(image v1alpha1.ImageStatus) bool { return held[image.Name] && justPending(&image) })
		for i := range s.Images {
			if image := &s.Images[i]; image.State == v1alpha1.StatePulling {
				image.SizeBytes, image.BytesCompleted, image.BytesHashed, image.ResumedBytes = 0, 0, 0, 0
			}
		}
	}
	if equality.Semantic.DeepEqual(written, next) || (written.NodeUID == "" && begins(&next)) {
		return worthLater
	}
	return worthNow
}

// clearIdle clears what by itself is no reason to write, and the generation unless
// the manager waits for it.
func clearIdle(s *v1alpha1.NodeImageCacheStatus, removes bool) {
	s.Storage.AvailableBytes, s.Storage.CapacityBytes = 0, 0
	if !removes {
		s.ObservedGeneration = 0
	}
	for i := range s.Images {
		s.Images[i].Encryption = "" // an older CRD drops it, and it changes only along with the rest
	}
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = 0
	}
}

// observed are the generations that a status and its condition speak of.
func observed(status *v1alpha1.NodeImageCacheStatus) [2]int64 {
	generations := [2]int64{status.ObservedGeneration}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStorageReady); c != nil {
		generations[1] = c.ObservedGeneration
	}
	return generations
}

// begins tells whether a report says no more than that a node has its orders.
func begins(next *v1alpha1.NodeImageCacheStatus) bool {
	return meta.IsStatusConditionTrue(next.Conditions, v1alpha1.ConditionStorageReady) &&
		!slices.ContainsFunc(next.Images, func(image v1alpha1.ImageStatus) bool {
			return image.State != v1alpha1.StatePulling && !justPending(&image)
		})
}

// justPending tells whether a report says no more of an image than its order does.
func justPending(image *v1alpha1.ImageStatus) bool {
	return *image == v1alpha1.ImageStatus{Name: image.Name, Revision: image.Revision, State: v1alpha1.StatePending}
}
