package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// CloudImage is a virtual-machine disk image that is to lie, verified, on the
// disk of every node it selects, before a virtual machine asks for it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cimg,categories=cloudimages
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.status.nodes.desired`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.nodes.ready`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.nodes.failed`
// +kubebuilder:printcolumn:name="Throughput",type=string,JSONPath=`.status.throughput`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Size",type=integer,format=int64,JSONPath=`.status.sizeBytes`,priority=1
// +kubebuilder:printcolumn:name="Digest",type=string,JSONPath=`.status.digest`,priority=1
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.source.http.url`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must be at most 63 characters: it becomes a node label and a file name"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.nodeSelector) || oldSelf.hasValue() && has(oldSelf.value().spec.nodeSelector) && oldSelf.value().spec.nodeSelector == self.spec.nodeSelector || !(has(self.spec.nodeSelector.matchLabels) && 'prefetch.cloudimage.dev/' + self.metadata.name in self.spec.nodeSelector.matchLabels) && !(has(self.spec.nodeSelector.matchExpressions) && 'prefetch.cloudimage.dev/' + self.metadata.name in self.spec.nodeSelector.matchExpressions.map(e, e.key))",optionalOldSelf=true,fieldPath=".spec.nodeSelector",message="nodeSelector must not name the label prefetch.cloudimage.dev/<name of this image>: the manager sets it where the image is ready, so that a node would be selected and not selected in turns"
type CloudImage struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard metadata of the object. The name is at most 63
	// characters: it becomes the name of a node label and of a file on the nodes.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the image that is wanted, and where.
	// +required
	Spec CloudImageSpec `json:"spec,omitzero"`

	// status is what the nodes hold, as their agents report it.
	// +optional
	// +default={"observedGeneration": -1, "nodes": {}}
	Status CloudImageStatus `json:"status,omitzero"`
}

// CloudImageSpec is the image that is wanted, and where.
//
// +kubebuilder:validation:XValidation:rule="!has(self.source.http) || !self.source.http.url.startsWith('http://') || has(self.digest)",message="digest is required with an http:// URL, because anybody on the way could change the bytes; give the sha256 or use https://",fieldPath=".digest"
type CloudImageSpec struct {
	// source is where the bytes come from. Exactly one member must be set.
	// +required
	// +kubebuilder:validation:XValidation:rule="has(self.http)",message="exactly one source must be set; this version knows http"
	// +kubebuilder:validation:XValidation:rule="!has(self.http) || self.http.url.startsWith('https://') || self.http.url.startsWith('http://')",message="url must start with https:// or http://",fieldPath=".http.url"
	// +kubebuilder:validation:XValidation:rule="!has(self.http) || self.http.url.matches('^[a-zA-Z]+://[^/?#:]')",message="url must be an absolute URL with a host, such as https://images.example.com/debian.qcow2",fieldPath=".http.url"
	// +kubebuilder:validation:XValidation:rule=`!has(self.http) || (oldSelf.hasValue() && has(oldSelf.value().http) && oldSelf.value().http.url == self.http.url) || (self.http.url.matches('^[a-zA-Z]+://([^/?#]*@)?(([A-Za-z0-9_-]+[.])*[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*[.]?|((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])|[[][0-9A-Fa-f:.]+[]])(:[^/?#]*)?([/?#]|$)') && !self.http.url.matches('^[a-zA-Z]+://([^/?#]*[@.])?0[xX][0-9A-Fa-f]*[.]?(:[^/?#]*)?([/?#]|$)'))`,optionalOldSelf=true,message="url must have a host of ASCII letters, digits, '-', '_' and '.', or an IP address in its usual form; write a name in other letters as xn--…",fieldPath=".http.url"
	// +kubebuilder:validation:XValidation:rule=`!has(self.http) || (oldSelf.hasValue() && has(oldSelf.value().http) && oldSelf.value().http.url == self.http.url) || self.http.url.matches('^[a-zA-Z]+://([^/?#]*@)?([[][^]/?#]*[]]|[^:/?#]*)(:(0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)?([/?#]|$)')`,optionalOldSelf=true,message="url must have a port from 1 to 65535, or none",fieldPath=".http.url"
	// +kubebuilder:validation:XValidation:rule=`!has(self.http) || (oldSelf.hasValue() && has(oldSelf.value().http) && oldSelf.value().http.url == self.http.url) || !self.http.url.matches(r'[\\\p{Cc}]')`,optionalOldSelf=true,message="url must not contain a backslash or a control character; write a backslash that belongs to a name as %5C",fieldPath=".http.url"
	// +kubebuilder:validation:XValidation:rule="!has(self.http) || !self.http.url.matches('^[a-zA-Z]+://[^/?#]*@')",message="url must not contain a user name or password; put credentials into a Secret and name it in secretRef",fieldPath=".http.url"
	// +kubebuilder:validation:XValidation:rule="!has(self.http) || !has(self.http.secretRef) || self.http.url.startsWith('https://')",message="secretRef needs an https:// URL, so that credentials are never sent in clear",fieldPath=".http.secretRef"
	Source ImageSource `json:"source,omitzero"`

	// digest is the sha256 of the image: every node's bytes must match it. Absent,
	// which needs an https:// URL: one node pulls first, its digest is pinned in
	// status.digest, and every other node must match that.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^sha256:[a-f0-9]{64}$')",message="digest must be sha256: followed by 64 lower-case hexadecimal digits, as sha256sum prints them"
	Digest string `json:"digest,omitempty"`

	// format is how the bytes are laid out. Auto takes qcow2 and raw images and
	// refuses what seems to be neither, such as text and archives; Qcow2 takes only
	// what it says; Raw takes a plain disk even if it looks like something else;
	// Opaque takes anything. A qcow2 image that names a backing file or an external
	// data file, and an image of another format, is refused in every format but Opaque.
	// +optional
	// +default="Auto"
	Format ImageFormat `json:"format,omitempty"`

	// maxSize refuses an image that is larger, before space is taken for it: a
	// whole number of bytes from 1 to below 8Ei, such as 20Gi or 1.5Gi.
	// +optional
	// +default="20Gi"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0')) && (quantity(string(self)).isInteger() || quantity(string(self)).isLessThan(quantity('9223372036854770000')) && quantity(string(self)).sub(int(quantity(string(self)).asApproximateFloat()) - 4096).sub(int(quantity(string(self)).sub(int(quantity(string(self)).asApproximateFloat()) - 4096).asApproximateFloat() + 0.5)).compareTo(quantity('0')) == 0)",message="maxSize must be a whole number of bytes from 1 to below 8Ei, such as 20Gi or 1.5Gi"
	MaxSize resource.Quantity `json:"maxSize,omitzero"`

	// nodeSelector selects the nodes by their labels. Absent or empty: every node.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.size() <= 32",message="nodeSelector.matchLabels must have at most 32 entries"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.size() <= 32",message="nodeSelector.matchExpressions must have at most 32 entries"
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// rollout limits how many nodes pull at the same time.
	// +optional
	// +default={}
	Rollout RolloutPolicy `json:"rollout,omitzero"`

	// download limits one pull on one node.
	// +optional
	// +default={}
	// +kubebuilder:validation:XValidation:rule="!has(self.maxBytesPerSecond) || isQuantity(string(self.maxBytesPerSecond)) && quantity(string(self.maxBytesPerSecond)).isGreaterThan(quantity('0')) && (quantity(string(self.maxBytesPerSecond)).isInteger() || quantity(string(self.maxBytesPerSecond)).isLessThan(quantity('9223372036854770000')) && quantity(string(self.maxBytesPerSecond)).sub(int(quantity(string(self.maxBytesPerSecond)).asApproximateFloat()) - 4096).sub(int(quantity(string(self.maxBytesPerSecond)).sub(int(quantity(string(self.maxBytesPerSecond)).asApproximateFloat()) - 4096).asApproximateFloat() + 0.5)).compareTo(quantity('0')) == 0)",fieldPath=".maxBytesPerSecond",message="maxBytesPerSecond must be a whole number of bytes from 1 to below 8Ei, such as 50Mi or 12.5Mi"
	Download DownloadPolicy `json:"download,omitzero"`

	// deletionPolicy says what happens to the bytes when this object is deleted.
	// Delete: the nodes remove them, unless another image names the same digest.
	// Retain: the bytes stay on the nodes until their space is needed.
	// +optional
	// +default="Delete"
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// suspend stops new pulls and those that run. What is already there stays.
	// +optional
	// +default=false
	Suspend bool `json:"suspend,omitempty"`
}

// DeletionPolicy says what becomes of an image's bytes when its CloudImage goes.
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

const (
	// DeletionDelete removes the bytes from the nodes.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionRetain leaves the bytes on the nodes, unreferenced.
	DeletionRetain DeletionPolicy = "Retain"
)

// RolloutPolicy limits how many nodes pull at the same time.
type RolloutPolicy struct {
	// maxConcurrentNodes is the most nodes that pull this image at the same time:
	// a number from 1, or a percentage of the selected nodes from "1%" to "100%",
	// rounded up.
	// +optional
	// +default=10
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=4
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 100000 : self.matches('^(100|[1-9][0-9]?)%$')",message="maxConcurrentNodes must be a number from 1 to 100000, or a percentage from \"1%\" to \"100%\""
	MaxConcurrentNodes *intstr.IntOrString `json:"maxConcurrentNodes,omitempty"`
}

// CloudImageStatus is what the nodes hold, as their agents report it.
type CloudImageStatus struct {
	// observedGeneration is the metadata.generation that this status speaks of;
	// -1 until the controller has looked.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	// +kubebuilder:validation:Maximum=9007199254740991
	ObservedGeneration int64 `json:"observedGeneration"`

	// revision identifies what is rolled out: a hash of source, digest, format,
	// maxSize and the annotation prefetch.cloudimage.dev/requested-at.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`

	// lastHandledRequestedAt is the value of the annotation
	// prefetch.cloudimage.dev/requested-at that this status speaks of.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRequestedAt string `json:"lastHandledRequestedAt,omitempty"`

	// conditions of the image. Ready is True when every available selected node
	// holds the verified bytes; Reconciling and Stalled exist only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// digest of the image's bytes: spec.digest, or what the first node found.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`

	// sizeBytes is the size of the image in bytes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9223372036854774784
	SizeBytes int64 `json:"sizeBytes,omitempty"`

	// format that was found: Qcow2, Raw, or Opaque if the spec says so.
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

	// nodes counts the selected nodes by state; the others add up to desired.
	// +optional
	// +default={}
	Nodes NodeCounts `json:"nodes"`

	// throughput is the mean rate of the nodes' last pulls, for people to read.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Throughput string `json:"throughput,omitempty"`

	// throughputBytesPerSecond is the rate of the nodes' last pulls in bytes per second.
	// +optional
	ThroughputBytesPerSecond *Throughput `json:"throughputBytesPerSecond,omitempty"`

	// failures are up to ten of the nodes that failed, and why; then those whose
	// agent is away, with the reason AgentUnavailable.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Failures []NodeFailure `json:"failures,omitempty"`

	// lastWarmedTime is when the image last became Ready.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`
	LastWarmedTime *metav1.Time `json:"lastWarmedTime,omitempty"`

	// warmedNodeSelector is the spec.nodeSelector that Ready speaks of while its
	// reason is Warmed; {} is every node. A node that joins, or is labelled, does not
	// unset Ready, but one that an edit of the selector adds does. Absent if the
	// image is not warm, or if the selector has more than 16 KiB.
	// +optional
	WarmedNodeSelector *metav1.LabelSelector `json:"warmedNodeSelector,omitempty"`
}

// NodeCounts counts the selected nodes by state. Every node is counted once:
// unavailable before failed, failed before ready, ready before pulling.
type NodeCounts struct {
	// desired is how many nodes are selected and have, or had, an agent.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Desired int32 `json:"desired"`
	// ready is how many hold the verified bytes.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Ready int32 `json:"ready"`
	// pulling is how many download now.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Pulling int32 `json:"pulling"`
	// pending is how many wait for their turn.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Pending int32 `json:"pending"`
	// failed is how many ended with an error, or wait after one.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Failed int32 `json:"failed"`
	// unavailable is how many have had no ready agent for 60 seconds.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Unavailable int32 `json:"unavailable"`
}

// Throughput is the rate of pulls, in bytes per second.
type Throughput struct {
	// mean over the nodes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1125899906842624
	Mean int64 `json:"mean"`
	// median over the nodes, the lower one of two in the middle: unlike the mean, it
	// is not moved by a single node that is far from the others, or lies.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1125899906842624
	Median int64 `json:"median,omitempty"`
	// min is the slowest node's.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1125899906842624
	Min int64 `json:"min"`
	// max is the fastest node's.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1125899906842624
	Max int64 `json:"max"`
}

// NodeFailure is why one node does not hold the image, or cannot be asked.
type NodeFailure struct {
	// node is the name of the Node.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`
	// reason is one of the documented reasons, such as DigestMismatch.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// message says what happened and what to do.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`
}

// CloudImageList is a list of CloudImages.
//
// +kubebuilder:object:root=true
type CloudImageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []CloudImage `json:"items"`
}
