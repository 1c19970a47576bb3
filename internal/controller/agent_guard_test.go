package controller

import (
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

func TestImagesRestoreWhatTheDiskLost(t *testing.T) {
	t.Parallel()
	ready := []string{"a Ready", "blob sha256:aa", "link a sha256:aa"}
	for name, tt := range map[string]struct {
		action  v1alpha1.ImageAction
		harm    func(im *Images, m *memoryStore)
		at      time.Duration // after the harm
		want    []string
		message string
		then    []string // two minutes later
		pulls   int
	}{
		"a link": {
			fetch, func(_ *Images, m *memoryStore) { delete(m.links, "a") }, 31 * time.Second, ready, "", ready, 0,
		},
		"the bytes": {
			fetch, func(_ *Images, m *memoryStore) { clear(m.blobs) }, 31 * time.Second,
			[]string{"a Pulling", "link a sha256:aa"}, "the link or the file was gone from the disk; it is restored", ready, 1,
		},
		"the bytes of an image on hold": {
			hold, func(_ *Images, m *memoryStore) { clear(m.blobs) }, 31 * time.Second,
			[]string{"a Pending", "link a sha256:aa"}, "the link or the file was gone from the disk; it is restored", []string{"a Pending", "link a sha256:aa"}, 0,
		},
		"right bytes": {
			fetch, func(im *Images, m *memoryStore) { clear(m.blobs); go im.Lost(digestA, errors.New("bit rot")) }, 0,
			[]string{"a Pulling", "link a sha256:aa"}, "the bytes on the disk went bad and are fetched again: bit rot", ready, 1,
		},
		"right bytes of an image on hold": {
			hold, func(im *Images, m *memoryStore) { clear(m.blobs); go im.Lost(digestA, errors.New("bit rot")) }, 0,
			[]string{"a FailedStorageError", "link a sha256:aa"}, "the bytes on the disk went bad and are fetched again: bit rot",
			[]string{"a FailedStorageError", "link a sha256:aa"}, 0,
		},
		"right bytes of others": {
			fetch, func(im *Images, _ *memoryStore) { go im.Lost(digestB, errors.New("bit rot")) }, time.Second, ready, "", ready, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 2, func(im *Images, m *memoryStore) {
				m.blobs[digestA] = true
				im.Sync([]v1alpha1.AssignedImage{order("a", digestA, tt.action)}, nil)
				synctest.Wait()
				if diff := cmp.Diff(ready, state(im, m)); diff != "" {
					t.Fatal(diff)
				}
				m.mu.Lock()
				tt.harm(im, m)
				m.mu.Unlock()
				time.Sleep(tt.at)
				synctest.Wait()
				if diff := cmp.Diff(tt.want, state(im, m)); diff != "" {
					t.Error(diff)
				}
				if got := im.Statuses()[0].Message; got != tt.message {
					t.Errorf("message %q, want %q", got, tt.message)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if diff := cmp.Diff(tt.then, state(im, m)); diff != "" {
					t.Error(diff)
				}
				if m.pulled() != tt.pulls {
					t.Errorf("%d pulls, want %d", m.pulled(), tt.pulls)
				}
			})
		})
	}
}

// TestReadyAfterARestart: what was Ready stays so by a look; the scrub reads it.
func TestReadyAfterARestart(t *testing.T) {
	t.Parallel()
	reported := []v1alpha1.ImageStatus{{Name: "a", Revision: "r1", State: v1alpha1.StateReady, Digest: digestA, SizeBytes: 5 << 20}}
	for name, tt := range map[string]struct {
		links  map[string]string
		digest string
		adopts int
	}{
		"as it was":      {map[string]string{"a": digestA}, digestA, 0},
		"without a link": {nil, digestA, 1},
		"another digest": {map[string]string{"a": digestA}, digestB, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 2, func(im *Images, m *memoryStore) {
				m.blobs[digestA], m.blobs[digestB] = true, true
				maps.Copy(m.links, tt.links)
				im.Sync([]v1alpha1.AssignedImage{order("a", tt.digest, fetch)}, reported)
				synctest.Wait()
				if m.adopted() != tt.adopts || m.link("a") != tt.digest || im.Statuses()[0].Digest != tt.digest {
					t.Errorf("%d adoptions, want %d; link %s, status %+v", m.adopted(), tt.adopts, m.link("a"), im.Statuses()[0])
				}
			})
		})
	}
}

func TestFault07NoHotLoop(t *testing.T) {
	t.Parallel()
	withImages(t, 2, func(im *Images, m *memoryStore) {
		m.broken = reasonError(v1alpha1.ReasonStorageError)
		im.Sync([]v1alpha1.AssignedImage{order("a", digestA, fetch)}, nil)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		// Each takes a minute here, and later ones are 150 s apart in the mean.
		if m.pulled() < 10 || m.pulled() > 60 {
			t.Errorf("%d pulls within two hours on a broken disk", m.pulled())
		}
		for before := m.pulled(); m.pulled() == before || m.busy(); synctest.Wait() { // until one more has failed
			time.Sleep(time.Second)
		}
		m.mu.Lock()
		m.broken = nil
		m.mu.Unlock()
		time.Sleep(31*time.Second + time.Minute) // seen, and fetched; the rest would have been 150 s
		synctest.Wait()
		if diff := cmp.Diff([]string{"a Ready", "blob sha256:aa", "link a sha256:aa"}, state(im, m)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRoomThatAppearsIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		grows int64
		after time.Duration // when the second pull begins
	}{
		"a little":   {roomGrown - 1, time.Minute},
		"enough":     {roomGrown, 30 * time.Second},
		"not at all": {0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 2, func(im *Images, m *memoryStore) {
				m.fails = []error{reasonError(v1alpha1.ReasonInsufficientSpace)}
				m.room.CapacityBytes, m.room.AvailableBytes = 1<<40, 1<<30
				im.Sync([]v1alpha1.AssignedImage{order("a", digestA, fetch)}, nil)
				time.Sleep(time.Minute + time.Second)
				synctest.Wait()
				m.mu.Lock()
				m.room.AvailableBytes += tt.grows
				m.mu.Unlock()
				time.Sleep(31 * time.Second)
				synctest.Wait()
				if early := m.pulled() == 2; early != (tt.after < time.Minute) {
					t.Errorf("%d pulls half a minute later", m.pulled())
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if m.pulled() != 2 {
					t.Errorf("%d pulls in the end", m.pulled())
				}
			})
		})
	}
}

func TestOrdersAreKept(t *testing.T) {
	t.Parallel()
	withImages(t, 2, func(im *Images, m *memoryStore) {
		im.Sync([]v1alpha1.AssignedImage{order("a", digestA, hold), order("b", digestB, remove), order("c", "", fetch)}, nil)
		synctest.Wait()
		if diff := cmp.Diff([]string{digestA}, m.keeps()); diff != "" {
			t.Error(diff)
		}
	})
}
