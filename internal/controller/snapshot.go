package controller

import (
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Snapshot is everything a plan is made from. Its objects are shared with the
// informers' caches and must not be changed.
type Snapshot struct {
	// Images by name, in ascending order.
	Images []*v1alpha1.CloudImage
	// Nodes in ascending order of their names.
	Nodes []Node
	// Caches by the name of their node.
	Caches map[string]*v1alpha1.NodeImageCache
}

// Node is what the plan needs to know of a Node and the agent on it.
type Node struct {
	Name     string
	UID      string
	Labels   labels.Set
	Deleting bool
	// HasAgent tells whether an agent's Pod is bound to the node.
	HasAgent bool
	// AgentReady tells whether such a Pod is Ready.
	AgentReady bool
	// NotReadySince is the last transition of the Pod's Ready condition while it
	// is not True; zero where no Pod says.
	NotReadySince time.Time
	// AgentTrouble says what is wrong with the agent's Pod; empty if one is ready,
	// or there is none.
	AgentTrouble string
}
