package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// memoryStore is a node's store in memory. A pull takes a minute.
type memoryStore struct {
	mu      sync.Mutex
	blobs   map[string]bool   // by digest
	links   map[string]string // name to digest
	fails   []error           // what the next pulls answer
	pulls   int
	running int
	most    int   // pulls that ran at the same time
	limit   int32 // connections of the last pull
	adopts  int
	hashing time.Duration   // of an adoption
	wrong   map[string]bool // files with other bytes than their names say, until they are hashed
	room    Room
	broken  error // why the store is not usable; pulls fail then at once
	kept    []string
	// silent are the servers, by the names of images, that answer after a while; never if
	// negative.
	silent map[string]time.Duration
}

type reasonError string

func (e reasonError) Error() string  { return "it went wrong" }
func (e reasonError) Reason() string { return string(e) }

func (m *memoryStore) Pull(ctx context.Context, image v1alpha1.AssignedImage, turn *Turn, progress func(Progress)) (Pulled, error) {
	m.mu.Lock()
	m.pulls++
	silent := m.silent[image.Name]
	m.mu.Unlock()
	if silent < 0 {
		sleep(ctx, time.Minute)
		return Pulled{}, reasonError(v1alpha1.ReasonSourceUnavailable)
	}
	if silent > 0 && !sleep(ctx, silent) {
		return Pulled{}, ctx.Err()
	}
	if !turn.Answered() {
		if err := turn.Wait(ctx); err != nil {
			return Pulled{}, err
		}
	}
	m.mu.Lock()
	m.running++
	m.limit = image.Download.Connections
	m.most = max(m.most, m.running)
	var err error
	if len(m.fails) > 0 {
		err, m.fails = m.fails[0], m.fails[1:]
	}
	m.mu.Unlock()
	progress(Progress{Completed: 1 << 20})
	slept := sleep(ctx, time.Minute)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	if !slept {
		return Pulled{}, ctx.Err()
	}
	if err != nil {
		return Pulled{}, err
	}
	digest := image.Digest
	if digest == "" {
		digest = digestB
	}
	if m.broken != nil {
		return Pulled{}, m.broken
	}
	m.blobs[digest], m.links[image.Name] = true, digest
	return Pulled{Digest: digest, SizeBytes: 5 << 20, AverageBytesPerSecond: 1 << 20}, nil
}

func (m *memoryStore) Adopt(ctx context.Context, image v1alpha1.AssignedImage) (Pulled, error) {
	m.mu.Lock()
	m.adopts++
	takes := m.hashing
	m.mu.Unlock()
	if !sleep(ctx, takes) {
		return Pulled{}, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.wrong, image.Digest)
	if !m.blobs[image.Digest] {
		return Pulled{}, ErrNotOnDisk
	}
	m.links[image.Name] = image.Digest
	return Pulled{Digest: image.Digest, SizeBytes: 5 << 20}, nil
}

func (m *memoryStore) Contains(digest string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.blobs[digest] || m.wrong[digest]
}

func (m *memoryStore) Drop(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.links, name)
	return nil
}

func (m *memoryStore) Purge(image v1alpha1.AssignedImage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, m.links[image.Name])
	delete(m.links, image.Name)
	return nil
}

func (m *memoryStore) Linked() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.links {
		names = append(names, name)
	}
	return names, nil
}

func (m *memoryStore) Room() (Room, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.room, m.broken
}

func (m *memoryStore) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}

func (m *memoryStore) Holds(name, digest string, _ int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.blobs[digest] && m.links[name] == digest
}

func (m *memoryStore) Keep(digests []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = slices.Sorted(slices.Values(digests))
}

func (m *memoryStore) pulled() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pulls
}

func (m *memoryStore) busy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running > 0
}

func (m *memoryStore) adopted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.adopts
}

func (m *memoryStore) keeps() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.kept)
}

func (m *memoryStore) link(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[name]
}

// state is every image as "name state reason", and every link and blob.
func state(im *Images, m *memoryStore) []string {
	var lines []string
	for _, s := range im.Statuses() {
		lines = append(lines, fmt.Sprintf("%s %s%s", s.Name, s.State, s.Reason))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, digest := range m.links {
		lines = append(lines, fmt.Sprintf("link %s %.9s", name, digest))
	}
	if m.limit > 0 {
		lines = append(lines, fmt.Sprintf("limit %d", m.limit))
	}
	for digest := range m.blobs {
		lines = append(lines, fmt.Sprintf("blob %.9s", digest))
	}
	slices.Sort(lines)
	return lines
}

func order(name, digest string, action v1alpha1.ImageAction) v1alpha1.AssignedImage {
	return v1alpha1.AssignedImage{Name: name, Revision: "r1", Digest: digest, Action: action}
}

func withImages(t *testing.T, concurrent int, run func(im *Images, m *memoryStore)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memoryStore{blobs: map[string]bool{}, links: map[string]string{}}
		im := NewImages(t.Context(), m, ImagesOptions{
			Concurrent: concurrent, Now: time.Now, Random: func() float64 { return 0.5 },
			Metrics: NewAgentMetrics(prometheus.NewRegistry()), Log: logr.Discard(),
		})
		defer im.Stop()
		run(im, m)
	})
}

const (
	hold   = v1alpha1.ActionHold
	fetch  = v1alpha1.ActionPull
	remove = v1alpha1.ActionRemove
)

func TestImagesCarryOutOrders(t *testing.T) {
	t.Parallel()
	slower := order("a", digestA, fetch)
	slower.Download.Connections = 3
	newer := order("a", digestB, fetch)
	newer.Revision = "r2"
	type step struct {
		orders []v1alpha1.AssignedImage
		wait   time.Duration
		want   []string
	}
	for name, tt := range map[string]struct {
		fails    []error
		blobs    []string
		links    map[string]string
		reported []v1alpha1.ImageStatus
		steps    []step
		pulls    int
	}{
		"hold fetches nothing": {
			steps: []step{{[]v1alpha1.AssignedImage{order("a", digestA, hold)}, time.Hour, []string{"a Pending"}}},
		},
		"hold adopts what is there": {
			blobs: []string{digestA},
			steps: []step{{[]v1alpha1.AssignedImage{order("a", digestA, hold)}, time.Second, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}}},
		},
		"pull, then hold, keeps it": {
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Second, []string{"a Pulling"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Minute, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, hold)}, time.Second, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
			},
			pulls: 1,
		},
		"hold in mid-pull cancels": {
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", "", fetch)}, time.Second, []string{"a Pulling"}},
				{[]v1alpha1.AssignedImage{order("a", "", hold)}, time.Hour, []string{"a Pending"}},
			},
			pulls: 1,
		},
		"an edited limit does not restart the pull": {
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, 59 * time.Second, []string{"a Pulling"}},
				{[]v1alpha1.AssignedImage{slower}, 2 * time.Second, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
			},
			pulls: 1,
		},
		"an edited limit counts from the next attempt": {
			fails: []error{reasonError(v1alpha1.ReasonSourceUnavailable)},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, 59 * time.Second, []string{"a Pulling"}},
				{[]v1alpha1.AssignedImage{slower}, 2 * time.Minute, []string{"a Ready", "blob sha256:aa", "limit 3", "link a sha256:aa"}},
			},
			pulls: 2,
		},
		"a held image adopts what another one pulled": {
			steps: []step{{
				[]v1alpha1.AssignedImage{order("a", digestA, fetch), order("b", digestA, hold)}, 2 * time.Minute,
				[]string{"a Ready", "b Ready", "blob sha256:aa", "link a sha256:aa", "link b sha256:aa"},
			}},
			pulls: 1,
		},
		"a failed image adopts what another one pulled": {
			fails: []error{reasonError(v1alpha1.ReasonDigestMismatch)},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Minute + time.Second, []string{"a FailedDigestMismatch"}},
				{
					[]v1alpha1.AssignedImage{order("a", digestA, fetch), order("b", digestA, fetch)}, 2 * time.Minute,
					[]string{"a Ready", "b Ready", "blob sha256:aa", "link a sha256:aa", "link b sha256:aa"},
				},
			},
			pulls: 2,
		},
		"a passing failure is tried again": {
			fails: []error{reasonError(v1alpha1.ReasonSourceUnavailable), errors.New("disk on fire")},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Minute + time.Second, []string{"a FailedSourceUnavailable"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Minute + 2*time.Second, []string{"a FailedStorageError"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, 2 * time.Minute, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
			},
			pulls: 3,
		},
		"a failure for good is not, even after another order of the revision": {
			fails: []error{reasonError(v1alpha1.ReasonDigestMismatch)},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, 24 * time.Hour, []string{"a FailedDigestMismatch"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, hold)}, time.Hour, []string{"a FailedDigestMismatch"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Hour, []string{"a FailedDigestMismatch"}},
			},
			pulls: 1,
		},
		"a failure for good survives a restart": {
			reported: []v1alpha1.ImageStatus{{Name: "a", Revision: "r1", State: v1alpha1.StateFailed, Reason: v1alpha1.ReasonNotFound}},
			steps:    []step{{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Hour, []string{"a FailedNotFound"}}},
		},
		"the digest that this node found survives a restart": {
			blobs:    []string{digestB},
			reported: []v1alpha1.ImageStatus{{Name: "a", Revision: "r1", State: v1alpha1.StateReady, Digest: digestB}},
			steps:    []step{{[]v1alpha1.AssignedImage{order("a", "", fetch)}, time.Second, []string{"a Ready", "blob sha256:bb", "link a sha256:bb"}}},
		},
		"a blob lost while the agent was away is pulled again": {
			reported: []v1alpha1.ImageStatus{{Name: "a", Revision: "r1", State: v1alpha1.StateReady, Digest: digestA}},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Second, []string{"a Pulling"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Minute, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
			},
			pulls: 1,
		},
		"a new revision keeps the old link until its own bytes are there": {
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, 2 * time.Minute, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
				{[]v1alpha1.AssignedImage{newer}, time.Second, []string{"a Pulling", "blob sha256:aa", "link a sha256:aa"}},
				{[]v1alpha1.AssignedImage{newer}, time.Minute, []string{"a Ready", "blob sha256:aa", "blob sha256:bb", "link a sha256:bb"}},
			},
			pulls: 2,
		},
		"remove drops link and blob": {
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, 2 * time.Minute, []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, remove)}, time.Second, nil},
				{nil, time.Second, nil},
			},
			pulls: 1,
		},
		"remove keeps the blob of another listed image": {
			blobs: []string{digestA},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, hold), order("b", digestA, hold)}, time.Second, []string{"a Ready", "b Ready", "blob sha256:aa", "link a sha256:aa", "link b sha256:aa"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, remove), order("b", digestA, hold)}, time.Second, []string{"b Ready", "blob sha256:aa", "link b sha256:aa"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch), order("b", digestA, hold)}, time.Second, []string{"a Ready", "b Ready", "blob sha256:aa", "link a sha256:aa", "link b sha256:aa"}},
			},
		},
		"remove in mid-pull cancels": {
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, fetch)}, time.Second, []string{"a Pulling"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, remove)}, time.Hour, nil},
			},
			pulls: 1,
		},
		"an absent image loses its link, never its blob": {
			blobs: []string{digestA, digestB}, links: map[string]string{"old": digestB},
			steps: []step{
				{[]v1alpha1.AssignedImage{order("a", digestA, hold)}, time.Second, []string{"a Ready", "blob sha256:aa", "blob sha256:bb", "link a sha256:aa"}},
				{nil, time.Second, []string{"blob sha256:aa", "blob sha256:bb"}},
				{[]v1alpha1.AssignedImage{order("a", digestA, hold)}, time.Second, []string{"a Ready", "blob sha256:aa", "blob sha256:bb", "link a sha256:aa"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 2, func(im *Images, m *memoryStore) {
				m.fails = tt.fails
				for _, digest := range tt.blobs {
					m.blobs[digest] = true
				}
				maps.Copy(m.links, tt.links)
				for i, step := range tt.steps {
					im.Sync(step.orders, tt.reported)
					time.Sleep(step.wait)
					synctest.Wait()
					if diff := cmp.Diff(step.want, state(im, m)); diff != "" {
						t.Fatalf("step %d: %s", i+1, diff)
					}
				}
				if m.pulls != tt.pulls {
					t.Errorf("%d pulls, want %d", m.pulls, tt.pulls)
				}
			})
		})
	}
}

func TestImagesPullWithinTheBudget(t *testing.T) {
	t.Parallel()
	withImages(t, 2, func(im *Images, m *memoryStore) {
		var orders []v1alpha1.AssignedImage
		for i := range 5 {
			orders = append(orders, order(fmt.Sprint(i), fmt.Sprintf("sha256:%064d", i), fetch))
		}
		im.Sync(orders, nil)
		time.Sleep(time.Second)
		synctest.Wait()
		count := map[v1alpha1.ImageState]int{}
		for _, s := range im.Statuses() {
			count[s.State]++
		}
		if count[v1alpha1.StatePulling] != 2 || count[v1alpha1.StatePending] != 3 {
			t.Errorf("states with a budget of 2: %v", count)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		for _, s := range im.Statuses() {
			if s.State != v1alpha1.StateReady {
				t.Errorf("%s is %s", s.Name, s.State)
			}
		}
		if m.most != 2 {
			t.Errorf("%d pulls ran at the same time, want 2", m.most)
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		class    reasonClass
		attempts int32
		least    time.Duration
		random   float64
		want     time.Duration
		again    bool
	}{
		{classRetry, 1, 0, 0.5, 2 * time.Second, true},
		{classRetry, 2, 0, 0.5, 4 * time.Second, true},
		{classRetry, 1, 0, 0, 0, true},
		{classRetry, 9, 0, 0.5, 150 * time.Second, true},
		{classRetry, 2_000_000_000, 0, 1, 5 * time.Minute, true},
		{classRetry, 1, 30 * time.Second, 0.5, 32 * time.Second, true},
		{classRetry, 1, time.Hour, 0.5, 5*time.Minute + 2*time.Second, true},
		{classWait, 7, 0, 0, 45 * time.Second, true},
		{classWait, 7, 0, 1, 75 * time.Second, true},
		{classTerminal, 1, 0, 0.5, 0, false},
	} {
		got, again := backoff(tt.class, tt.attempts, tt.least, tt.random)
		if got != tt.want || again != tt.again {
			t.Errorf("backoff(%v, %d, %v, %v) = %v, %v; want %v, %v", tt.class, tt.attempts, tt.least, tt.random, got, again, tt.want, tt.again)
		}
	}
}

// TestHashGoesOnWhateverItsSlot: the manager takes slots from nodes without a new byte, and gives them back.
func TestHashGoesOnWhateverItsSlot(t *testing.T) {
	t.Parallel()
	for name, onDisk := range map[string]bool{"right": true, "wrong": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 1, func(im *Images, m *memoryStore) {
				m.blobs[digestA], m.hashing = onDisk, time.Hour
				m.wrong = map[string]bool{digestA: !onDisk}
				for _, action := range []v1alpha1.ImageAction{v1alpha1.ActionPull, v1alpha1.ActionHold, v1alpha1.ActionPull} {
					im.Sync([]v1alpha1.AssignedImage{order("a", digestA, action)}, nil)
					time.Sleep(20 * time.Minute)
				}
				time.Sleep(5 * time.Minute)
				pulls := 1 // after the last order
				if onDisk {
					pulls = 0
				}
				if got := im.Statuses()[0]; got.State != v1alpha1.StateReady || m.adopted() != 1 || m.pulled() != pulls {
					t.Errorf("%+v, hashed %d times, pulled %d times", got, m.adopted(), m.pulled())
				}
			})
		})
	}
}

// TestPullDoesNotWaitForWhatOthersHash: where there is nothing to adopt, there is nothing to wait for.
func TestPullDoesNotWaitForWhatOthersHash(t *testing.T) {
	t.Parallel()
	withImages(t, 1, func(im *Images, m *memoryStore) {
		m.blobs[digestA], m.hashing = true, time.Hour
		im.Sync([]v1alpha1.AssignedImage{order("a", digestA, hold), order("b", digestB, fetch)}, nil)
		time.Sleep(time.Minute + time.Second)
		if got := im.Statuses(); got[0].State != v1alpha1.StatePending || got[1].State != v1alpha1.StateReady {
			t.Errorf("%+v, want one that is hashed, and one that was pulled meanwhile", got)
		}
	})
}

func TestWorthOfAStatus(t *testing.T) {
	t.Parallel()
	base := v1alpha1.NodeImageCacheStatus{
		NodeUID: "u", ObservedGeneration: 3,
		Storage:    v1alpha1.StorageStatus{CapacityBytes: 100, AvailableBytes: 50, BlobBytes: 10},
		Images:     []v1alpha1.ImageStatus{{Name: "a", Revision: "r1", State: v1alpha1.StatePulling, BytesCompleted: 5}},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionStorageReady, Status: metav1.ConditionTrue, ObservedGeneration: 3}},
	}
	waiting := v1alpha1.ImageStatus{Name: "b", Revision: "r1", State: v1alpha1.StatePending}
	for name, tt := range map[string]struct {
		edit   func(*v1alpha1.NodeImageCacheStatus)
		orders []v1alpha1.AssignedImage
		want   worth
	}{
		"nothing":    {func(*v1alpha1.NodeImageCacheStatus) {}, nil, worthNothing},
		"free space": {func(s *v1alpha1.NodeImageCacheStatus) { s.Storage.AvailableBytes, s.Storage.CapacityBytes = 40, 90 }, nil, worthNothing},
		"a resume": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images[0].SizeBytes, s.Images[0].BytesHashed, s.Images[0].ResumedBytes = 9, 3, 5
		}, nil, worthLater},
		"generation":                  {func(s *v1alpha1.NodeImageCacheStatus) { s.ObservedGeneration = 4 }, nil, worthCatchUp},
		"generation of the condition": {func(s *v1alpha1.NodeImageCacheStatus) { s.Conditions[0].ObservedGeneration = 4 }, nil, worthCatchUp},
		"generation and progress":     {func(s *v1alpha1.NodeImageCacheStatus) { s.ObservedGeneration, s.Images[0].BytesCompleted = 4, 9 }, nil, worthLater},
		"generation with a remove":    {func(s *v1alpha1.NodeImageCacheStatus) { s.ObservedGeneration = 4 }, []v1alpha1.AssignedImage{order("b", digestA, remove)}, worthNow},
		"progress":                    {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].BytesCompleted = 9 }, nil, worthLater},
		"encryption alone":            {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Encryption = v1alpha1.EncryptionLUKS }, nil, worthNothing},
		"blob bytes":                  {func(s *v1alpha1.NodeImageCacheStatus) { s.Storage.BlobBytes = 11 }, nil, worthLater},
		"state":                       {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].State = v1alpha1.StateReady }, nil, worthNow},
		"revision":                    {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Revision = "r2" }, nil, worthNow},
		"image gone":                  {func(s *v1alpha1.NodeImageCacheStatus) { s.Images = nil }, nil, worthNow},
		"other machine":               {func(s *v1alpha1.NodeImageCacheStatus) { s.NodeUID = "v" }, nil, worthNow},
		"waits for a slot":            {func(s *v1alpha1.NodeImageCacheStatus) { s.Images = append(s.Images, waiting) }, []v1alpha1.AssignedImage{order("b", digestA, hold)}, worthLater},
		"has a slot, and waits":       {func(s *v1alpha1.NodeImageCacheStatus) { s.Images = append(s.Images, waiting) }, []v1alpha1.AssignedImage{order("b", digestA, v1alpha1.ActionPull)}, worthNow},
		"is removed":                  {func(s *v1alpha1.NodeImageCacheStatus) { s.Images = append(s.Images, waiting) }, []v1alpha1.AssignedImage{order("b", digestA, remove)}, worthNow},
		"waits, and says why": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images = append(s.Images, waiting)
			s.Images[1].Message = "the bytes were lost"
		}, []v1alpha1.AssignedImage{order("b", digestA, hold)}, worthNow},
		"slot taken back": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images[0] = v1alpha1.ImageStatus{Name: "a", Revision: "r1", State: v1alpha1.StatePending}
		}, nil, worthNow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := *base.DeepCopy()
			tt.edit(&next)
			if got := worthOf(base, next, tt.orders); got != tt.want {
				t.Errorf("worth %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWorthOfTheFirstStatus(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct {
		state   v1alpha1.ImageState
		storage error
		want    worth
	}{
		"all wait for slots":  {v1alpha1.StatePending, nil, worthLater},
		"one pulls":           {v1alpha1.StatePulling, nil, worthLater},
		"one is there":        {v1alpha1.StateReady, nil, worthNow},
		"the store is broken": {v1alpha1.StatePending, errors.New("read-only"), worthNow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := &v1alpha1.NodeImageCache{Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "u"}}
			images := []v1alpha1.ImageStatus{{Name: "a", Revision: "r1", State: tt.state}}
			first := report(object, images, v1alpha1.StorageStatus{CapacityBytes: 100}, tt.storage, "v1", now)
			if got := worthOf(object.Status, first, []v1alpha1.AssignedImage{order("a", digestA, hold)}); got != tt.want {
				t.Errorf("worth %v, want %v", got, tt.want)
			}
		})
	}
}
