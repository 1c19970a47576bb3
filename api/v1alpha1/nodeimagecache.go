package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeImageCache is the cloud images of one node, and has the name of its Node.
// The manager writes the spec, the agent on the node writes the status; it is
// not for people to edit.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nimg,categories=cloudimages
// +kubebuilder:printcolumn:name="Storage",type=string,JSONPath=`.status.conditions[?(@.type=="StorageReady")].status`
// +kubebuilder:printcolumn:name="Blob-Bytes",type=integer,format=int64,JSONPath=`.status.storage.blobBytes`
// +kubebuilder:printcolumn:name="Available-Bytes",type=integer,format=int64,JSONPath=`.status.storage.availableBytes`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.status.agentVersion`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="StorageReady")].message`,priority=1
type NodeImageCache struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard metadata of the object; the name is the Node's.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the node is to hold. Only the manager writes it.
	// +required
	Spec NodeImageCacheSpec `json:"spec,omitzero"`

	// status is what the node holds. Only the agent on the node writes it.
	// +optional
	Status NodeImageCacheStatus `json:"status,omitzero"`
}

// NodeImageCacheSpec is what a node is to hold.
type NodeImageCacheSpec struct {
	// nodeUID is the metadata.uid of the Node, so that a new machine under an old
	// name is not taken for the old one.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="nodeUID is immutable: delete the object, and the manager makes a new one"
	NodeUID string `json:"nodeUID,omitempty"`

	// images are the node's images and what to do with each. An image that is
	// absent here is never deleted from the disk for that reason.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=500
	Images []AssignedImage `json:"images,omitempty"`
}

// ImageAction is what a node is to do with an image.
// +kubebuilder:validation:Enum=Hold;Pull;Remove
type ImageAction string

const (
	// ActionHold adopts bytes that already lie on the disk and fetches nothing.
	ActionHold ImageAction = "Hold"
	// ActionPull fetches what is missing: the node was granted a slot.
	ActionPull ImageAction = "Pull"
	// ActionRemove drops the image, and its bytes unless another image names them.
	ActionRemove ImageAction = "Remove"
)

// AssignedImage is one image of a node and what to do with it.
type AssignedImage struct {
	// name of the CloudImage.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`
	// revision of the CloudImage; statuses repeat it and are compared by equality.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`
	// action is what to do.
	// +required
	Action ImageAction `json:"action,omitempty"`
	// source is where the bytes come from.
	// +required
	Source ImageSource `json:"source,omitzero"`
	// digest that the bytes must have; absent for the first node of an image that
	// gives none.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`
	// format that the bytes must have.
	// +optional
	Format ImageFormat `json:"format,omitempty"`
	// maxSize refuses an image that is larger.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	MaxSize resource.Quantity `json:"maxSize,omitzero"`
	// download limits the pull.
	// +optional
	Download DownloadPolicy `json:"download,omitzero"`
	// retry allows another attempt after a failure that ends a pull: the agent
	// makes one when this is above the retry in its status.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	Retry int32 `json:"retry,omitempty"`
}

// NodeImageCacheStatus is what a node holds.
type NodeImageCacheStatus struct {
	// nodeUID repeats spec.nodeUID of the orders that this status answers.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	NodeUID string `json:"nodeUID,omitempty"`
	// observedGeneration is the metadata.generation that the agent has acted on. One
	// that changed nothing on the node is written some 15 s later.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9007199254740991
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// agentVersion is the version of the agent that wrote this status.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	AgentVersion string `json:"agentVersion,omitempty"`
	// storage is the room of the store's filesystem.
	// +optional
	Storage StorageStatus `json:"storage,omitzero"`
	// images are the node's images and how far each is.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=500
	// +kubebuilder:validation:XValidation:rule="self.map(i, i.name.size() + (has(i.revision) ? i.revision.size() : 0) + (has(i.digest) ? i.digest.size() : 0) + (has(i.reason) ? i.reason.size() : 0) + (has(i.message) ? bytes(i.message).size() : 0)).sum() <= 210000",message="the texts of all images together must have at most 210000 bytes"
	// +kubebuilder:validation:XValidation:rule="self.filter(i, has(i.message) && i.message.matches('([\\x00-\\x1f<>&\"\\\\\\\\][^\\x00-\\x1f<>&\"\\\\\\\\]*){17}')).size() <= 32",message="at most 32 messages may have more than 16 quotes, backslashes, control characters or characters of HTML, which are stored with up to six bytes each"
	Images []ImageStatus `json:"images,omitempty"`
	// conditions of the node's store: StorageReady.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:XValidation:rule="self.type.size() <= 64 && self.reason.size() <= 64 && self.message.size() <= 256",message="type and reason must have at most 64 characters, message at most 256"
	// +kubebuilder:validation:items:XValidation:rule="self.lastTransitionTime.getFullYear() > 0",message="lastTransitionTime must be a time as RFC 3339 writes it, such as 2026-01-02T03:04:05Z"
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// StorageStatus is the room of a store's filesystem, in bytes. What is free is
// written along with other changes, never for its own sake.
type StorageStatus struct {
	// capacityBytes is the size of the filesystem.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	CapacityBytes int64 `json:"capacityBytes,omitempty"`
	// availableBytes is what is free on it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	AvailableBytes int64 `json:"availableBytes,omitempty"`
	// blobBytes is what verified images occupy.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	BlobBytes int64 `json:"blobBytes"`
}

// ImageState is how far an image is on a node.
// +kubebuilder:validation:Enum=Pending;Pulling;Ready;Failed
type ImageState string

const (
	// StatePending: not on the disk, and nothing runs.
	StatePending ImageState = "Pending"
	// StatePulling: a pull runs, or waits for its next attempt.
	StatePulling ImageState = "Pulling"
	// StateReady: the bytes on the disk match the digest.
	StateReady ImageState = "Ready"
	// StateFailed: the last attempt ended with an error; reason tells whether
	// another follows.
	StateFailed ImageState = "Failed"
)

// ImageStatus is how far one image is on a node.
type ImageStatus struct {
	// name of the CloudImage.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9.-]*$`
	Name string `json:"name,omitempty"`
	// revision of the order that this answers.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z._:+-]*$`
	Revision string `json:"revision,omitempty"`
	// digest of the bytes on the disk; only with state Ready.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^(sha256:[a-f0-9]{64})?$`
	Digest string `json:"digest,omitempty"`
	// sizeBytes is the size of the image, once it is known.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	// format that was found.
	// +optional
	Format ImageFormat `json:"format,omitempty"`
	// virtualSizeBytes is the size of the disk that a virtual machine would see.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	VirtualSizeBytes int64 `json:"virtualSizeBytes,omitempty"`
	// encryption is how the image's format encrypts the guest's data: LUKS or AES;
	// absent if it does not. Who starts a machine from it needs the passphrase.
	// +optional
	Encryption ImageEncryption `json:"encryption,omitempty"`
	// state is how far the image is.
	// +required
	State ImageState `json:"state,omitempty"`
	// reason of a failure: one of the documented reasons.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?)?$`
	Reason string `json:"reason,omitempty"`
	// message says what happened and what to do.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`
	// bytesCompleted is how much of a running pull is on the disk.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	BytesCompleted int64 `json:"bytesCompleted,omitempty"`
	// bytesHashed is how much of a running pull was read back from the disk and hashed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	BytesHashed int64 `json:"bytesHashed,omitempty"`
	// attempts is how many pulls were started for this revision.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	Attempts int32 `json:"attempts,omitempty"`
	// retry repeats the retry of the order that the last pull was started for.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	Retry int32 `json:"retry,omitempty"`
	// startTime is when the last pull began.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// completionTime is when the last pull succeeded.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// averageBytesPerSecond is the rate of the last successful pull.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1125899906842624
	AverageBytesPerSecond int64 `json:"averageBytesPerSecond,omitempty"`
	// resumedBytes is how much of the last pull, running or not, was on the disk from an earlier attempt.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	ResumedBytes int64 `json:"resumedBytes,omitempty"`
}

// NodeImageCacheList is a list of NodeImageCaches.
//
// +kubebuilder:object:root=true
type NodeImageCacheList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NodeImageCache `json:"items"`
}
