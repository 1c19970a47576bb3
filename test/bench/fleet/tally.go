package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/fleet/audit"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
)

const (
	managerUser = "system:serviceaccount:" + harness.Namespace + ":cloudimage-manager"
	agentUser   = "system:serviceaccount:" + harness.Namespace + ":cloudimage-agent"
	adminUser   = "admin"
	serverUser  = "system:apiserver"

	cachesResource = "nodeimagecaches"
	statusResource = "nodeimagecaches/status"
	imagesResource = "cloudimages"
	nodesResource  = "nodes"
)

// who is how the report calls a user.
func who(user string) string {
	switch user {
	case managerUser:
		return "manager"
	case agentUser:
		return "agents"
	case adminUser:
		return "the bench"
	case serverUser:
		return "API server"
	default:
		return user
	}
}

// kind is a kind of write.
type kind struct{ who, verb, resource string }

// tally counts the writes of a phase.
type tally struct {
	counts map[kind]int
	failed map[kind]int // answered with 400 or more; they are in counts as well
	// specs and statuses are the writes of orders and of reports, by node.
	specs, statuses map[string]int
	nodePatches     int
	// calls are the times of the writes by the manager and the agents.
	calls []time.Duration
}

// tallyOf counts the writes that arrived in [from, to).
func tallyOf(writes []audit.Write, from, to time.Time) tally {
	t := tally{counts: map[kind]int{}, failed: map[kind]int{}, specs: map[string]int{}, statuses: map[string]int{}}
	for _, w := range writes {
		if w.At.Before(from) || !w.At.Before(to) {
			continue
		}
		k := kind{who(w.User), w.Verb, w.Resource}
		t.counts[k]++
		if w.Code >= 400 {
			t.failed[k]++
		}
		if w.User != managerUser && w.User != agentUser {
			continue
		}
		t.calls = append(t.calls, w.Took)
		switch {
		case w.Resource == cachesResource && w.User == managerUser:
			t.specs[w.Name]++
		case w.Resource == statusResource && w.User == agentUser:
			t.statuses[w.Name]++
		case w.Resource == nodesResource:
			t.nodePatches++
		}
	}
	return t
}

// kinds are the kinds in the order of the report.
func (t tally) kinds() []kind {
	return slices.SortedFunc(maps.Keys(t.counts), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.who, b.who), cmp.Compare(a.resource, b.resource), cmp.Compare(a.verb, b.verb))
	})
}

// unrest are the writes that a fleet at rest does not make: all but the manager's Lease and the questions about who may read the
// metrics. What the API server writes for itself, and what the bench does, is not the fleet's.
func (t tally) unrest() int {
	count := 0
	for k, n := range t.counts {
		if !restful(k) {
			count += n
		}
	}
	return count
}

func restful(k kind) bool {
	switch k.resource {
	case "leases", "tokenreviews", "subjectaccessreviews":
		return true
	default:
		return k.who == who(adminUser) || k.who == who(serverUser)
	}
}

// firstOrders is how long after a time the manager wrote orders for the first time; 0 if it never did. The log is in the order of the
// answers, not of the requests.
func firstOrders(writes []audit.Write, after time.Time) time.Duration {
	first := time.Duration(0)
	for _, w := range writes {
		if w.User != managerUser || w.Resource != cachesResource || !w.At.After(after) {
			continue
		}
		if since := w.At.Sub(after); first == 0 || since < first {
			first = since
		}
	}
	return first
}

// most is the largest count of any node.
func most(byNode map[string]int) int {
	if len(byNode) == 0 {
		return 0
	}
	return slices.Max(slices.Collect(maps.Values(byNode)))
}

func sum(byNode map[string]int) int {
	total := 0
	for _, n := range byNode {
		total += n
	}
	return total
}

// quantile is the value that a share of the values, from 0 to 1, does not exceed; 0 if there are none.
func quantile(values []time.Duration, share float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := int(share*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(at, 0), len(sorted)-1)]
}

// describeUnrest names what disturbed the rest.
func (t tally) describeUnrest() string {
	var parts []string
	for _, k := range t.kinds() {
		if !restful(k) {
			parts = append(parts, k.who+" "+k.verb+" "+k.resource)
		}
	}
	return strings.Join(parts, ", ")
}
