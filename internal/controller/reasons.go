package controller

import "github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"

// reasonClass says what follows a failed pull.
type reasonClass int

const (
	// classRetry is tried again by itself, with exponential backoff.
	classRetry reasonClass = iota
	// classWait is looked at again at a slow, steady pace: the world has to change.
	classWait
	// classTerminal ends the revision on that node.
	classTerminal
)

// classOf maps a reason to what follows it. A reason that is not known, from a
// newer agent perhaps, is retried: that is right for most and harmful for none.
func classOf(reason string) reasonClass {
	switch reason {
	case v1alpha1.ReasonInsufficientSpace, v1alpha1.ReasonCredentialsMissing,
		v1alpha1.ReasonCABundleMissing, v1alpha1.ReasonNodeImageLimit:
		return classWait
	case v1alpha1.ReasonDigestMismatch, v1alpha1.ReasonNotFound, v1alpha1.ReasonForbidden,
		v1alpha1.ReasonInvalidSource, v1alpha1.ReasonTooLarge, v1alpha1.ReasonUnsupportedContent,
		v1alpha1.ReasonPolicyDenied, v1alpha1.ReasonCredentialsChanged:
		return classTerminal
	default:
		return classRetry
	}
}

// pullReasons are all that a pull can fail with.
func pullReasons() []string {
	return []string{
		v1alpha1.ReasonSourceUnavailable, v1alpha1.ReasonSourceThrottled, v1alpha1.ReasonSourceStalled, v1alpha1.ReasonSourceChanged,
		v1alpha1.ReasonStorageError,
		v1alpha1.ReasonInsufficientSpace, v1alpha1.ReasonCredentialsMissing, v1alpha1.ReasonCABundleMissing,
		v1alpha1.ReasonDigestMismatch, v1alpha1.ReasonNotFound, v1alpha1.ReasonForbidden, v1alpha1.ReasonInvalidSource,
		v1alpha1.ReasonTooLarge, v1alpha1.ReasonUnsupportedContent, v1alpha1.ReasonPolicyDenied,
	}
}

// aboutContent tells whether a reason speaks of the bytes themselves, so that
// every other node would find the same.
func aboutContent(reason string) bool {
	switch reason {
	case v1alpha1.ReasonDigestMismatch, v1alpha1.ReasonTooLarge, v1alpha1.ReasonUnsupportedContent:
		return true
	default:
		return false
	}
}

// healable tells whether a terminal failure can turn into a success without an
// edit of the image: it depends on the server, the credentials or this side's rules.
func healable(reason string) bool {
	switch reason {
	case v1alpha1.ReasonNotFound, v1alpha1.ReasonForbidden, v1alpha1.ReasonPolicyDenied, v1alpha1.ReasonCredentialsChanged:
		return true
	default:
		return false
	}
}
