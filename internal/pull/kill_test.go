package pull

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// killedJob is the environment variable that makes the test binary a process that
// pulls and kills itself at one step.
const killedJob = "TEST_PULL_KILLED_JOB"

// killPoint is a step of a pull, and how often it has been reached by then.
type killPoint struct {
	Step  string
	Count int
}

// vouched returns how many bytes the journal vouches for at least, once a process
// died there.
func (p killPoint) vouched() int64 {
	checkpoints := map[killPoint]int64{
		{"journal synced", 1}: 1, {"unit written", 30}: 1, {"data synced", 2}: 1, {"part of a slot written", 3}: 1, {"part of a slot written", 4}: 1,
		{"journal synced", 2}: 2, {"unit written", 46}: 2, {"data sealed", 1}: 2, {"data file synced", 1}: 2,
	}
	return checkpoints[p] * checkpointMin
}

// killed is what such a process is told.
type killed struct {
	Store   string
	Request Request
	At      killPoint
	Limits  Limits
}

// runToBeKilled is that process. It comes to its end only when it misses its step.
func runToBeKilled(text string) int {
	var job killed
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return 3
	}
	s, err := Open(context.Background(), job.Store, OpenOptions{Limits: job.Limits})
	if err != nil {
		return 4
	}
	s.step = (&killer{at: job.At, seen: map[string]int{}}).step
	if _, err := s.Pull(context.Background(), job.Request, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	return 0
}

type killer struct {
	at     killPoint
	mu     sync.Mutex
	synced sync.Cond
	seen   map[string]int
}

// step kills the process at its step. Workers wait for the flusher now and then,
// so that checkpoints come after a known part of the object.
func (k *killer) step(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.synced.L = &k.mu
	k.seen[name]++
	if name == k.at.Step && k.seen[name] == k.at.Count {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if name == "journal synced" {
		k.synced.Broadcast()
	}
	const often = checkpointMin/unitSize + 4
	for name == "unit written" && k.seen["journal synced"] < k.seen[name]/often {
		k.synced.Wait()
	}
}

// TestKilled kills a process at every step of a pull, and then pulls again.
func TestKilled(t *testing.T) {
	t.Parallel()
	const size = 45<<20 + 12<<10 // two checkpoints and some more
	object := pulltest.Random(1, size)
	points := []killPoint{
		{"data file made", 1}, {"unit written", 1}, {"unit written", 15}, {"journal made", 1},
		{"data synced", 1}, {"part of a slot written", 1}, {"part of a slot written", 2}, {"journal synced", 1}, {"unit written", 30},
		{"data synced", 2}, {"part of a slot written", 3}, {"part of a slot written", 4}, {"journal synced", 2}, {"unit written", 46},
		{"data sealed", 1}, {"data file synced", 1}, {"blob named", 1}, {"blob published", 1}, {"image linked", 1},
	}
	for digest, points := range map[string][]killPoint{
		pulltest.Digest(object): points,
		"":                      {{"part of a slot written", 3}, {"journal synced", 1}, {"unit written", 46}, {"data file synced", 1}, {"blob named", 1}},
	} {
		for _, at := range points {
			t.Run(fmt.Sprintf("%s %d, digest %t", at.Step, at.Count, digest != ""), func(t *testing.T) {
				t.Parallel()
				server := pulltest.New(t, object)
				path := t.TempDir()
				r := Request{URL: server.URL, Digest: digest, ImageName: "disk", Connections: 2}
				kill(t, killed{Store: path, Request: r, At: at})
				pullAfterKill(t, path, r, object, at.vouched())
			})
		}
	}
}

// kill runs a process to its step.
func kill(t *testing.T, job killed) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), killedJob+"="+string(text))
	output, err := command.CombinedOutput()
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed at %+v: %v, %s", job.At, err, output)
	}
}

// pullAfterKill checks what a killed process left, and that a pull goes on from it.
func pullAfterKill(t *testing.T, path string, r Request, object pulltest.Content, least int64) {
	t.Helper()
	checkBlobs(t, path)
	published := len(entries(t, path+"/blobs/sha256")) > 0
	var vouched int64
	for _, key := range entries(t, path+"/partial") {
		if j := journalOf(t, path, key); j != nil {
			vouched = j.vouched()
		}
	}
	if vouched < least {
		t.Errorf("the journal vouches for %d bytes, want %d at least", vouched, least)
	}
	s, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	s.patience, s.suspicion = time.Minute, time.Minute // as openStore
	result := mustPull(t, s, r)
	switch {
	case published && r.Digest != "":
		if !result.AlreadyPresent || result.TransferredBytes != 0 {
			t.Errorf("the blob was there, and yet: %+v", result)
		}
	case result.ResumedBytes != vouched || result.TransferredBytes != object.Size()-vouched:
		t.Errorf("the journal vouched for %d bytes: %+v", vouched, result)
	}
	checkStore(t, path)
	if left := entries(t, path+"/partial"); len(left) > 0 {
		t.Errorf("partial/ holds %v", left)
	}
	if got := fileDigest(t, path+"/images/disk"); got != pulltest.Digest(object) || result.Digest != got || !strings.HasPrefix(got, digestPrefix) {
		t.Errorf("images/disk has the digest %s", got)
	}
}
