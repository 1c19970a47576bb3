package controller

import (
	"context"
	"time"
)

const (
	// retryBase is the mean pause after the first failed attempt, twice that after
	// the second, and so on up to retryCap.
	retryBase = 2 * time.Second
	retryCap  = 5 * time.Minute
	// waitPause is the pause of a pull that waits for the world, ± a quarter.
	waitPause = time.Minute
)

// backoff is the pause before the next attempt of a pull, and false if there is
// none. attempts counts the attempts so far, from 1; least is what the server
// asked for (Retry-After, RFC 9110 §10.2.3), zero if nothing; random is in [0, 1).
// That counts up to retryCap, and the pause comes on top. Retries draw from the
// whole span up to twice the mean ("full jitter"), so that 5,000 nodes do not come
// back to a recovering server at once.
func backoff(class reasonClass, attempts int32, least time.Duration, random float64) (time.Duration, bool) {
	switch class {
	case classTerminal:
		return 0, false
	case classWait:
		return time.Duration(float64(waitPause) * (0.75 + random/2)), true
	default:
		span := retryCap
		if shift := attempts - 1; shift < 8 {
			span = min(retryCap, 2*retryBase<<max(0, shift))
		}
		return min(retryCap, least) + time.Duration(float64(span)*random), true
	}
}

// sleep waits, and tells whether the whole time passed before the context ended.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
