// Package audit counts the writes that an API server takes, and who made them: its audit log is the only place that has the user, the
// object and the time of each.
package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// policy logs what changes something, without the bodies.
const policy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
- level: Metadata
`

// maxMiB is the size at which the API server would begin a new file.
const maxMiB = "100000"

// Write is one request that may change something.
type Write struct {
	// User is the full name, such as system:serviceaccount:cloudimage-system:cloudimage-agent.
	User string
	Verb string
	// Resource has the subresource after a slash, such as nodeimagecaches/status.
	Resource string
	// Name is that of the object; empty where the server generates it.
	Name string
	// Code is the HTTP status of the answer.
	Code int
	// At is when the request arrived, Took how long its answer took, the time in the server's queues included.
	At   time.Time
	Took time.Duration
}

// Log is an audit log that a server writes and this process reads along.
type Log struct {
	path   string
	file   *os.File
	reader *bufio.Reader
	rest   []byte // the beginning of a line that is not written to its end yet
	names  map[string]string
}

// Prepare writes the policy below dir, and returns the flags that make an API server write the log.
func Prepare(dir string) (*Log, []string, error) {
	policyPath := filepath.Join(dir, "audit-policy.yaml")
	if err := os.WriteFile(policyPath, []byte(policy), 0o600); err != nil {
		return nil, nil, fmt.Errorf("write the audit policy: %w", err)
	}
	path := filepath.Join(dir, "audit.log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the audit log: %w", err)
	}
	log := &Log{path: path, file: file, reader: bufio.NewReaderSize(file, 1<<20), names: map[string]string{}}
	return log, []string{"--audit-policy-file=" + policyPath, "--audit-log-path=" + path, "--audit-log-maxsize=" + maxMiB}, nil
}

// Close stops reading.
func (l *Log) Close() error { return l.file.Close() }

// Read returns the writes that were logged since the last call.
func (l *Log) Read() ([]Write, error) {
	var writes []Write
	for {
		part, err := l.reader.ReadBytes('\n')
		l.rest = append(l.rest, part...)
		if errors.Is(err, io.EOF) {
			return writes, nil
		}
		if err != nil {
			return writes, fmt.Errorf("read the audit log: %w", err)
		}
		write, err := parse(l.rest)
		l.rest = l.rest[:0]
		if err != nil {
			return writes, err
		}
		write.User, write.Verb = l.intern(write.User), l.intern(write.Verb)
		write.Resource, write.Name = l.intern(write.Resource), l.intern(write.Name)
		writes = append(writes, write)
	}
}

// intern keeps one copy of each of the few strings that a long log repeats.
func (l *Log) intern(text string) string {
	if known, ok := l.names[text]; ok {
		return known
	}
	l.names[text] = text
	return text
}

// parse reads one event of audit.k8s.io/v1.
func parse(line []byte) (Write, error) {
	var event struct {
		Verb string `json:"verb"`
		User struct {
			Username string `json:"username"`
		} `json:"user"`
		ObjectRef struct {
			Resource    string `json:"resource"`
			Subresource string `json:"subresource"`
			Name        string `json:"name"`
		} `json:"objectRef"`
		ResponseStatus struct {
			Code int `json:"code"`
		} `json:"responseStatus"`
		RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
		StageTimestamp           time.Time `json:"stageTimestamp"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return Write{}, fmt.Errorf("read an event of the audit log: %w", err)
	}
	resource := event.ObjectRef.Resource
	if event.ObjectRef.Subresource != "" {
		resource += "/" + event.ObjectRef.Subresource
	}
	return Write{
		User: event.User.Username, Verb: event.Verb, Resource: resource, Name: event.ObjectRef.Name, Code: event.ResponseStatus.Code,
		At: event.RequestReceivedTimestamp, Took: event.StageTimestamp.Sub(event.RequestReceivedTimestamp),
	}, nil
}
