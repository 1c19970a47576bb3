package main

import (
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/origin"
)

// connections is how many every tool may open at once.
const connections = 8

const (
	roundTrip = 40 * time.Millisecond
	window    = 1 << 20 // bytes of one connection under way, so 26 MB/s
)

// manyPulls is how many pulls share a node in the scenario that limits the node.
const manyPulls = 10

// kind is what a run does besides one download.
type kind int

const (
	plain  kind = iota
	killed      // SIGKILL at a random point, then the same command again
	many        // manyPulls at once, limited together
)

// scenario is a network, and what happens there.
type scenario struct {
	name, title string
	pace        *origin.Pace
	// bound is the pace that the best possible tool would meet, where that is not pace.
	bound *origin.Pace
	tls   bool
	relay bool
	kind  kind
	half  bool     // of the object: connections are so slow that it takes as long as the whole elsewhere
	tools []string // nil: all
}

// size is that of the scenario's object, in bytes, where whole is that of a whole one.
func (s scenario) size(whole int64) int64 {
	if s.half {
		return whole / 2
	}
	return whole
}

// parallel are the tools for which a single slow connection is a question.
var parallel = []string{ours, "aria2", "axel", "rclone", "equal ranges"}

// untee is all tools but one: where a connection is much slower than the hash, hashing beside the download gains nothing.
var untee = []string{ours, "aria2", "axel", "rclone", "equal ranges", curlThenHash}

// scenarios are all of them, in the order of the table. Rates are of one connection.
func scenarios() []scenario {
	const slow, fast = 20_000_000, 60_000_000 // bytes a second
	return []scenario{
		{name: "S1", title: "loopback without a limit"},
		{name: "S2", title: "60 MB/s a connection", pace: origin.Constant(fast)},
		{name: "S3", title: "20 MB/s a connection", pace: origin.Constant(slow), half: true, tools: untee},
		{name: "S4", title: "round trip of 40 ms, a window of 1 MiB a connection", relay: true, half: true, tools: untee},
		{name: "S5", title: "as S3, one of eight connections at 1 %", pace: origin.OneSlow(slow), bound: origin.Constant(slow), half: true, tools: parallel},
		{name: "S6", title: "as S3, killed at a random point and run again", pace: origin.Constant(slow), kind: killed, half: true, tools: []string{ours, "aria2", "axel"}},
		{name: "S7", title: "TLS, HTTP/2 offered, 40 MB/s a connection", pace: origin.Constant(2 * slow), tls: true},
		{name: "S8", title: "ten pulls at once under a limit of the node", kind: many, tools: []string{ours}},
		{name: "S9", title: "each connection between 1 and 39 MB/s, redrawn twice a second", pace: origin.Varying(slow), half: true, tools: untee},
	}
}

// probePace is what the terms of the bound are measured under.
func (s scenario) probePace() *origin.Pace {
	if s.bound != nil {
		return s.bound
	}
	return s.pace
}
