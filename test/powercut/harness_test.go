package powercut

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// seed makes all that is random here; it is printed with every failure.
const seed = 20260701

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http prints what ended connections say
	// Every system call on the mount occupies a thread until this process answers it.
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	os.Exit(m.Run())
}

// mount mounts until the test ends, or skips the test where that is impossible.
func mount(t *testing.T) *Mount {
	t.Helper()
	if why := unmountable(); why != "" {
		skip(t, why)
	}
	m, err := NewMount(t.TempDir())
	if errors.Is(err, os.ErrPermission) {
		skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// unmountable says what this machine lacks for a FUSE mount.
func unmountable() string {
	if os.Getuid() != 0 {
		return "not root"
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	_ = f.Close()
	return ""
}

func skip(t *testing.T, why string) {
	t.Helper()
	t.Skip("CRASH SAFETY IS NOT TESTED HERE: a FUSE mount needs root and /dev/fuse: " + why)
}

// wanted is an object, as a test wants it in the store.
type wanted struct {
	name   string // under images/
	bytes  []byte
	sums   []uint64
	digest string // "sha256:<hex>"
}

func newImage(name string, seed uint64, size int) wanted {
	p := pulltest.RandomBytes(seed, size)
	return wanted{name, p, sumsOf(p), pulltest.Digest(pulltest.Bytes(p))}
}

// hex is the name of the image's blob.
func (w wanted) hex() string { return strings.TrimPrefix(w.digest, "sha256:") }

// blobPath is where on a disk the image's bytes belong.
func (w wanted) blobPath() string { return blobsDir + "/" + w.hex() }

// request asks for the image from a server over one connection, so that the disk
// sees the same operations each time.
func (w wanted) request(server *pulltest.Server) pull.Request {
	return pull.Request{URL: server.URL, Digest: w.digest, ImageName: w.name, Connections: 1}
}

// Where on a disk the store is, and its blobs.
const (
	storeDir = "/var/store"
	blobsDir = storeDir + "/blobs/sha256"
)

// pullOnce opens the store, pulls and closes the store. done is how many
// operations the disk had seen when the pull had returned.
func (r *recording) pullOnce(ctx context.Context, d *Disk) (result pull.Result, done int, err error) {
	path := r.mount.Insert(d)
	defer r.mount.Eject(d)
	s, err := pull.Open(ctx, filepath.Join(path, storeDir), r.options)
	if err != nil {
		return result, 0, err
	}
	result, err = s.Pull(ctx, r.request, nil)
	done = len(d.Log())
	return result, done, errors.Join(err, s.Close())
}
