// Package controller decides which node pulls which cloud image, and carries
// that out against the Kubernetes API.
//
// The manager's side is one pass over everything: gather a Snapshot, Plan the
// orders of every node, write them, Summarize what the nodes report. Plan and
// Summarize are pure functions of values and the time. The agent's side turns
// the orders of its own node into pulls and their progress into a status.
package controller
