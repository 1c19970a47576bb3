package v1alpha1

// Prefix starts the name of every label, annotation and finalizer of this API.
const Prefix = "prefetch.cloudimage.dev/"

const (
	// Finalizer keeps a deleted CloudImage until every available node has
	// dropped what its deletion policy says.
	Finalizer = Prefix + "blobs"

	// RequestedAtAnnotation on a CloudImage asks for a new rollout of the same
	// spec: any new value is a new revision.
	RequestedAtAnnotation = Prefix + "requested-at"

	// AllowedHostsAnnotation on a Secret lists the hosts that its credentials may be
	// sent to, separated by commas; *.example.com means every subdomain.
	AllowedHostsAnnotation = Prefix + "allowed-hosts"

	// NodeLabelPrefix and the name of a CloudImage make the label of a Node that
	// holds the image; its value is the first 12 hexadecimal digits of the digest.
	NodeLabelPrefix = Prefix
)

// Types of conditions of a CloudImage. They follow kstatus: Reconciling and
// Stalled exist only while they are True, and never together.
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
)

// ConditionStorageReady is the condition type of a NodeImageCache that says
// whether the node's store can be read and written.
const ConditionStorageReady = "StorageReady"

// Reasons of a CloudImage's conditions, besides the reasons of failed pulls.
const (
	// ReasonWarmed: every available selected node holds the verified digest.
	ReasonWarmed = "Warmed"
	// ReasonWarming: nodes still pull, or wait for their turn.
	ReasonWarming = "Warming"
	// ReasonWaitingForAgents: nodes are selected, but none of them has a ready agent.
	ReasonWaitingForAgents = "WaitingForAgents"
	// ReasonNoNodes: the selector matches no Node, so there is nothing to do.
	ReasonNoNodes = "NoNodesSelected"
	// ReasonNodesTerminating: the selector matches only Nodes that are being deleted.
	ReasonNodesTerminating = "NodesTerminating"
	// ReasonSuspended: spec.suspend is true and not every node is warm.
	ReasonSuspended = "Suspended"
	// ReasonRemoving: the object is being deleted and nodes still drop the image.
	ReasonRemoving = "Removing"
	// ReasonInvalidNodeSelector: spec.nodeSelector is not a valid label selector.
	ReasonInvalidNodeSelector = "InvalidNodeSelector"
	// ReasonDigestDisputed: the spec gives no digest, and of those that the nodes hold
	// none is held by the most nodes, as it can be after status.digest was lost.
	ReasonDigestDisputed = "DigestDisputed"
)

// ReasonAgentUnavailable of a node in status.failures: it has had no ready agent for
// 60 seconds, so that nobody can tell what it holds. It holds nothing up.
const ReasonAgentUnavailable = "AgentUnavailable"

// Reasons of a NodeImageCache's StorageReady condition, besides StorageError.
const (
	// ReasonStorageUsable: the store answered the last look at it.
	ReasonStorageUsable = "StorageUsable"
	// ReasonStoreBusy: another process holds the lock of the store.
	ReasonStoreBusy = "StoreBusy"
)

// Reasons of a pull that is tried again by itself, with exponential backoff and
// full jitter up to 5 minutes, or after the server's Retry-After.
const (
	// ReasonSourceUnavailable: the server could not be reached, or answered 5xx.
	ReasonSourceUnavailable = "SourceUnavailable"
	// ReasonSourceThrottled: the server answered 429 or 503 too often.
	ReasonSourceThrottled = "SourceThrottled"
	// ReasonSourceStalled: no byte came for download.stallTimeoutSeconds.
	ReasonSourceStalled = "SourceStalled"
	// ReasonSourceChanged: the object changed under the pull, again and again.
	ReasonSourceChanged = "SourceChanged"
	// ReasonStorageError: the node's disk answered a read, write or sync with an error.
	ReasonStorageError = "StorageError"
)

// Reasons of a pull that waits for the world: looked at again about every 60 s,
// and as soon as the missing thing is seen.
const (
	// ReasonInsufficientSpace: the store has no room for the image.
	ReasonInsufficientSpace = "InsufficientSpace"
	// ReasonCredentialsMissing: the Secret that secretRef names is not there.
	ReasonCredentialsMissing = "CredentialsMissing"
	// ReasonCABundleMissing: the ConfigMap that caBundleRef names is not there.
	ReasonCABundleMissing = "CABundleMissing"
	// ReasonNodeImageLimit: the node is assigned more images than an object may list.
	ReasonNodeImageLimit = "NodeImageLimit"
)

// Reasons of a pull that ends for this revision: trying again would give the
// same answer. NotFound, Forbidden and PolicyDenied depend on the world, so one
// node of an image tries again each hour, and the others after its success.
const (
	// ReasonDigestMismatch: the bytes that the source serves have another digest.
	ReasonDigestMismatch = "DigestMismatch"
	// ReasonNotFound: the source answered 404 or 410.
	ReasonNotFound = "NotFound"
	// ReasonForbidden: the source answered 401 or 403.
	ReasonForbidden = "Forbidden"
	// ReasonInvalidSource: the URL or the server's answer to it cannot be used.
	ReasonInvalidSource = "InvalidSource"
	// ReasonTooLarge: the image is larger than spec.maxSize.
	ReasonTooLarge = "TooLarge"
	// ReasonUnsupportedContent: the bytes are not a disk image of the wanted format.
	ReasonUnsupportedContent = "UnsupportedContent"
	// ReasonPolicyDenied: an address, redirect or credential is not allowed here, or
	// the proxy of this side refuses.
	ReasonPolicyDenied = "PolicyDenied"
	// ReasonCredentialsChanged: the pull ended with NotFound, Forbidden or
	// PolicyDenied, and the Secret or ConfigMap that the source names has changed
	// since: the node waits for leave to try again, which one node gets at once.
	ReasonCredentialsChanged = "CredentialsChanged"
)

// ReasonUnknown stands in a CloudImage's status for a reason that a node reports
// and this manager does not know, from a newer agent perhaps, or for a missing one.
const ReasonUnknown = "Unknown"
