package main

import (
	"fmt"
	"math"
)

// bar is something that the engine must reach.
type bar struct {
	scenarios []string
	what      string
	least     bool // the limit is the least value, else the most
	limit     float64
	// value takes the row of the engine; ok is false when there is nothing to compare it with.
	value func(*results, row) (value float64, ok bool)
}

const mib = 1 << 20

// dirtyLimit is what "bounded" means for data that waits for the disk, in bytes: an eighth of the object of a full run.
const dirtyLimit = 256 * mib

// bars are all of them.
func bars() []bar {
	paced := []string{"S2", "S3", "S7", "S9"}
	toS7 := []string{"S1", "S2", "S3", "S4", "S5", "S6", "S7"}
	return []bar{
		{[]string{"S1"}, "seconds ÷ those of the best peer", false, 0.65, overBestPeer},
		{paced, "T*/T", true, 0.92, ownScore},
		{paced, "seconds ÷ those of the best peer", false, 1, overBestPeer},
		{[]string{"S4"}, "T*/T", true, 0.85, ownScore},
		{[]string{"S5"}, "seconds ÷ its own in S3", false, 1.15, overS3},
		{[]string{"S6"}, "bytes transferred ÷ size", false, 1.05, overSize},
		{[]string{"S7"}, "seconds ÷ those of the best peer with one connection", false, 0.3, overOneConnection},
		{[]string{"S8"}, "distance from the node's limit", false, 0.03, offLimit},
		{toS7, "peak resident MiB", false, 40, func(_ *results, r row) (float64, bool) { return float64(r.usage.PeakRSS) / mib, true }},
		{toS7, "peak dirty MiB of the page cache", false, dirtyLimit / mib, func(_ *results, r row) (float64, bool) {
			return float64(r.usage.PeakDirty) / mib, r.usage.PeakDirty > 0
		}},
		{[]string{"S1", "S2", "S3", "S4", "S7", "S9"}, "CPU seconds ÷ those of curl and openssl", false, 1, overCurlCPU},
	}
}

// missed names every bar of the scenarios that ran and that was not reached, and those that had nothing to be compared with.
func (r *results) missed() (missed, unmeasured []string) {
	for _, bar := range bars() {
		for _, scenario := range bar.scenarios {
			row, ok := r.row(scenario, ours)
			if !ok {
				continue // the scenario was not asked for
			}
			value, ok := bar.value(r, row)
			sign := "≤"
			if bar.least {
				sign = "≥"
			}
			switch {
			case !ok:
				unmeasured = append(unmeasured, fmt.Sprintf("%s: %s %s %g", scenario, bar.what, sign, bar.limit))
			case row.capped, bar.least && value < bar.limit, !bar.least && value > bar.limit, math.IsNaN(value):
				missed = append(missed, fmt.Sprintf("%s: %s is %.3g, and has to be %s %g", scenario, bar.what, value, sign, bar.limit))
			}
		}
	}
	return missed, unmeasured
}

func ownScore(r *results, own row) (float64, bool) {
	score := r.score(own)
	return score, score > 0
}

// best is the least time of some peers. A capped one needs more than its seconds, so the least is never too high.
func best(peers []row, counts func(row) bool) (float64, bool) {
	least := math.Inf(1)
	for _, peer := range peers {
		if counts(peer) {
			least = min(least, peer.seconds)
		}
	}
	return least, !math.IsInf(least, 1)
}

func overBestPeer(r *results, own row) (float64, bool) {
	least, ok := best(r.peers(own.scenario.name), func(row) bool { return true })
	return own.seconds / least, ok
}

func overOneConnection(r *results, own row) (float64, bool) {
	least, ok := best(r.peers(own.scenario.name), func(peer row) bool { return peer.sockets == 1 })
	return own.seconds / least, ok
}

func overS3(r *results, own row) (float64, bool) {
	s3, ok := r.row("S3", ours)
	return own.seconds / s3.seconds, ok
}

func overSize(r *results, own row) (float64, bool) {
	return own.sent / float64(own.scenario.size(r.size)), true
}

func offLimit(r *results, own row) (float64, bool) {
	rate := float64(r.size) / own.seconds
	return math.Abs(rate/float64(nodeLimit(r.size)) - 1), true
}

// overCurlCPU is not known where curl was stopped.
func overCurlCPU(r *results, own row) (float64, bool) {
	curl, ok := r.row(own.scenario.name, curlThenHash)
	return own.usage.CPUSeconds / curl.usage.CPUSeconds, ok && !curl.capped
}
