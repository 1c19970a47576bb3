// Package charttest holds the tests of charts/cloudimage-operator: with the real Helm, against a real API server.
package charttest
