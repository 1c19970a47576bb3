// Package system tests the real manager and real agents against a real API server and a real origin.
package system

import (
	"context"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// suite is what all tests share. Each test has nodes and images of its own, which a node label keeps apart.
var suite struct {
	world
	binaries  harness.Binaries
	origin    *origin.Server
	secureURL string // the same origin over TLS; the agents trust it
	dir       string
}

// atOnce is how many tests run at the same time unless -parallel says so: most of the time they wait.
const atOnce = "5"

func TestMain(m *testing.M) {
	code := 1
	flag.Parse()
	log.SetLogger(logr.Discard()) // of the clients here; the programs' logs are files
	stop, err := setUp()
	if parallel := flag.Lookup("test.parallel"); err == nil && parallel.Value.String() == parallel.DefValue {
		err = parallel.Value.Set(atOnce)
	}
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "set up the system tests:", err)
	}
	for _, step := range stop {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, "tear down the system tests:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// setUp returns what ends it, in order, also after an error.
func setUp() (stop []func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // the first run ever builds Kubernetes
	defer cancel()
	push := func(step func() error) { stop = append([]func() error{step}, stop...) }

	folder, err := scratch.New("system")
	if err != nil {
		return stop, err
	}
	push(folder.Remove)
	suite.dir = folder.Path
	suite.binaries, err = harness.Build(ctx, harness.BuildOptions{Dir: suite.dir, Race: raceEnabled, Output: os.Stderr})
	if err != nil {
		return stop, err
	}
	if suite.origin, err = origin.Start(); err != nil {
		return stop, err
	}
	push(suite.origin.Close)
	secure := httptest.NewTLSServer(suite.origin)
	push(func() error { secure.Close(); return nil })
	if err := trust(secure); err != nil {
		return stop, err
	}
	suite.secureURL = secure.URL
	push(suite.stop)
	if err := suite.start(ctx, suite.dir, harness.Release{Binaries: suite.binaries}, controlplane.Options{Output: os.Stderr}); err != nil {
		return stop, err
	}
	return stop, suite.startManager(ctx)
}

// trust makes the programs that are started from here take the server's certificate for good.
func trust(server *httptest.Server) error {
	path := filepath.Join(suite.dir, "origin.crt")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, certificate, 0o600); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", path)
}
