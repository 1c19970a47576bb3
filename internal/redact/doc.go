// Package redact makes text safe to show: URLs without what may be a secret, and
// text without characters that a terminal or a log would act on.
package redact
