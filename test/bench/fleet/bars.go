package main

import (
	"fmt"
	"math"
)

const (
	// A report tells progress at most this often, in seconds.
	progressSeconds = 15
	// specsAtOnce is the most writes of a node's orders when all nodes may pull all images at once.
	specsAtOnce = 5
	// specsInTurn is the same for one image, when the nodes pull it in turns.
	specsInTurn = 2.2
	// joinSeconds is the 99th percentile of the time from an agent's Pod, which is Ready, becoming visible to its orders.
	joinSeconds = 5
	// entryBytes and frameBytes bound an object: what its images need, and what it has besides.
	entryBytes, frameBytes = 1000, 4000
	// managerMiB is the most resident memory of the manager up to the size of a full run, managerMiBLarge beyond.
	managerMiB, managerMiBLarge = 300, 1024

	mib = 1 << 20
)

// bar is something that the control plane must not exceed.
type bar struct {
	what         string
	value, limit float64
}

// met tells whether the bar was reached.
func (b bar) met() bool { return b.value <= b.limit && !math.IsNaN(b.value) }

// String is one line of the report.
func (b bar) String() string {
	return fmt.Sprintf("%s: %.4g, at most %.4g", b.what, b.value, b.limit)
}

// bars are all that hold for the phases that ran.
func (r *results) bars() []bar {
	images := float64(r.config.images)
	limit := float64(managerMiB)
	if r.config.nodes > fullNodes || r.config.nodes*r.config.images > fullNodes*fullImages {
		limit = managerMiBLarge
	}
	all := []bar{
		{"resident MiB of the manager, before more nodes join", r.managerMemory(), limit},
		{"restarts of the manager by itself", float64(r.restarts), 0},
		{"bytes of the largest NodeImageCache", float64(r.largest), entryBytes*images + frameBytes},
	}
	for _, p := range r.phases {
		if p.ready > 0 {
			all = append(all, bar{p.name + ": status writes of the busiest node", float64(most(p.writes.statuses)), 2*images + p.seconds()/progressSeconds})
		}
		switch p.name {
		case "cold":
			all = append(all, bar{p.name + ": spec writes of the busiest node", float64(most(p.writes.specs)), specsAtOnce})
		case "update":
			all = append(all,
				bar{p.name + ": spec writes of the busiest node", float64(most(p.writes.specs)), specsInTurn * images},
				bar{p.name + ": most nodes that pulled one image at the same time", float64(p.round.MostPulling), math.Ceil(tenth * float64(p.nodes))})
		case "idle":
			all = append(all, bar{p.name + ": writes", float64(p.writes.unrest()), 0})
		case "join":
			all = append(all, bar{p.name + ": seconds to the orders, 99th percentile", quantile(p.joins, 0.99).Seconds(), joinSeconds})
		}
	}
	return all
}

func (r *results) managerMemory() float64 {
	var peak int64
	for _, p := range r.phases {
		if p.nodes <= r.config.nodes {
			peak = max(peak, p.usage["manager"].maxRSS)
		}
	}
	return float64(peak) / mib
}

// missedOf names the bars that were not reached.
func missedOf(bars []bar) []string {
	var missed []string
	for _, b := range bars {
		if !b.met() {
			missed = append(missed, b.String())
		}
	}
	return missed
}
