package controller

import "github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"

// requestAgain is how a person asks for another attempt without an edit.
const requestAgain = "one node tries again each hour; annotate " + v1alpha1.RequestedAtAnnotation + " to try now."

// adviceFor is the sentence that says what a person does about a reason, at most
// 150 bytes, so that what happened fits beside it; empty where there is nothing to do.
func adviceFor(reason string) string {
	if advice := adviceForPull(reason); advice != "" {
		return advice
	}
	switch reason {
	case v1alpha1.ReasonWaitingForAgents:
		return "Look at the agents' Pods and their readiness: kubectl get pods -A -l app.kubernetes.io/component=node-agent -o wide."
	case v1alpha1.ReasonAgentUnavailable:
		return "It goes on once the agent is back: kubectl get pods -A -l app.kubernetes.io/component=node-agent -o wide."
	case v1alpha1.ReasonNoNodes:
		return "Nodes that join and match will pull the image; if some should match now, compare the selector with their labels."
	case v1alpha1.ReasonNodesTerminating:
		return "It goes on with nodes that join and match; if some should match now, compare the selector with their labels."
	case v1alpha1.ReasonSuspended:
		return "Set spec.suspend to false to go on."
	case v1alpha1.ReasonRemoving:
		return "If it lasts, look at the log of the agent there; a node whose agent is away for a minute is not waited for."
	case v1alpha1.ReasonStoreBusy:
		return "End the process that the message names, or mount only the store's folders blobs and images into it."
	case v1alpha1.ReasonInvalidNodeSelector:
		return "Correct spec.nodeSelector."
	case v1alpha1.ReasonDigestDisputed:
		return "Give the right one as spec.digest; or annotate " + v1alpha1.RequestedAtAnnotation + ", and the next node to pull decides."
	default:
		return ""
	}
}

// adviceOnPull is the same for a pull of an image that failed: what a digest is
// compared with depends on whose it is.
func adviceOnPull(image *v1alpha1.CloudImage, reason string) string {
	if reason == v1alpha1.ReasonDigestMismatch && image.Spec.Digest == "" {
		return "The URL serves a newer build than the fleet holds: annotate " + v1alpha1.RequestedAtAnnotation +
			" to take it, or name a URL that keeps the old one."
	}
	return adviceForPull(reason)
}

func adviceForPull(reason string) string {
	switch reason {
	case v1alpha1.ReasonSourceUnavailable:
		return "It is tried again by itself; check that the node reaches the server: name, route, firewall, proxy, certificate."
	case v1alpha1.ReasonSourceThrottled:
		return "It is tried again by itself; a lower rollout.maxConcurrentNodes or download.connections asks for less."
	case v1alpha1.ReasonSourceStalled:
		return "It is tried again by itself; check the network and the server, or raise download.stallTimeoutSeconds."
	case v1alpha1.ReasonSourceChanged:
		return "It is tried again by itself; publish each build under a URL of its own instead of replacing the file."
	case v1alpha1.ReasonStorageError:
		return "It is tried again by itself; check the node's disk and its kernel log."
	case v1alpha1.ReasonUnknown:
		return "Look at the agent's log on that node; if the agent is newer than the manager, upgrade the manager."
	case v1alpha1.ReasonInsufficientSpace:
		return "Free space on the node, give its store more, or delete images; it goes on by itself."
	case v1alpha1.ReasonCredentialsMissing:
		return "Create or correct the Secret that secretRef names; it goes on by itself."
	case v1alpha1.ReasonCABundleMissing:
		return "Create or correct the ConfigMap that caBundleRef names; it goes on by itself."
	case v1alpha1.ReasonNodeImageLimit:
		return "Delete images, or select fewer of them for this node; it goes on by itself."
	default:
		return adviceAfterTheEnd(reason)
	}
}

// adviceAfterTheEnd is for the reasons after which a pull is not tried again by itself.
func adviceAfterTheEnd(reason string) string {
	switch reason {
	case v1alpha1.ReasonDigestMismatch:
		return "Compare spec.digest with the publisher's checksum, and the file with the original; an edit starts anew."
	case v1alpha1.ReasonNotFound:
		return "Check spec.source.http.url; " + requestAgain
	case v1alpha1.ReasonForbidden:
		return "Check secretRef and its Secret; " + requestAgain
	case v1alpha1.ReasonPolicyDenied:
		return "Allow it by the Secret, flags or proxy; " + requestAgain
	case v1alpha1.ReasonCredentialsChanged:
		return "One node tries again within a minute, the others after its success."
	case v1alpha1.ReasonInvalidSource:
		return "Correct spec.source, or what the server answers; an edit starts anew."
	case v1alpha1.ReasonTooLarge:
		return "Check the URL, or raise spec.maxSize; an edit starts anew."
	case v1alpha1.ReasonUnsupportedContent:
		return "Check the URL, or set spec.format: Raw takes a plain disk, Opaque any bytes."
	default:
		return ""
	}
}
