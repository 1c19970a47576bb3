package v1alpha1

// The largest numbers that a report may hold. The markers of the fields repeat them.
const (
	// MaxBytes bounds sizes and other counts of bytes. It is the largest multiple of
	// 1024 below 2^63, since the bounds of a schema are floating-point numbers, of
	// which none lies between that and 2^63.
	MaxBytes = 1<<63 - 1024
	// MaxBytesPerSecond bounds rates, so that 8,191 of them can be added.
	MaxBytesPerSecond = 1 << 50
	// MaxAttempts bounds how often something was tried.
	MaxAttempts = 1_000_000_000
)
