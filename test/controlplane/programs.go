package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Programs are the paths of the executables of a control plane.
type Programs struct {
	Etcd, KubeAPIServer, Kubectl string
	// The rest is there only when Options.Nodes is set.
	KubeControllerManager, KubeScheduler, Kubelet, KubeProxy string
}

// FindPrograms returns the programs of KUBEBUILDER_ASSETS, else those of the cache, to which it adds those that are not there.
func FindPrograms(ctx context.Context, options Options) (Programs, error) {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		programs, err := programsIn(dir, options.Nodes)
		if err != nil {
			return Programs{}, fmt.Errorf("use KUBEBUILDER_ASSETS (unset it to have them built here): %w", err)
		}
		return programs, nil
	}
	repository, err := Repository(options.Repository)
	if err != nil {
		return Programs{}, err
	}
	recipe, err := newRecipe(ctx, filepath.Join(repository, "test", "kubernetes"))
	if err != nil {
		return Programs{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Programs{}, fmt.Errorf("find the user's cache folder: %w", err)
	}
	return recipe.cached(ctx, filepath.Join(cache, "cloudimage-operator", "kubernetes"), options)
}

// programsIn fails when one of the programs is missing.
func programsIn(dir string, nodes bool) (Programs, error) {
	var p Programs
	paths := map[string]*string{"etcd": &p.Etcd, "kube-apiserver": &p.KubeAPIServer, "kubectl": &p.Kubectl}
	if nodes {
		maps.Copy(paths, map[string]*string{
			"kube-controller-manager": &p.KubeControllerManager, "kube-scheduler": &p.KubeScheduler,
			"kubelet": &p.Kubelet, "kube-proxy": &p.KubeProxy,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err != nil {
			return Programs{}, fmt.Errorf("find %s in %s: %w", name, dir, err)
		}
		*paths[name] = path
	}
	return p, nil
}

// Repository returns the folder of the project's go.mod: the given one, or the nearest above the working folder. A program that
// was built with -trimpath does not know where its sources lie.
func Repository(given string) (string, error) {
	dir := given
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return "", fmt.Errorf("find the repository: %w", err)
		}
	}
	for at := dir; ; at = filepath.Dir(at) {
		data, err := os.ReadFile(filepath.Join(at, "go.mod"))
		switch {
		case err == nil && bytes.HasPrefix(data, []byte("module github.com/cloudimage-dev/cloudimage-operator\n")):
			return at, nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return "", fmt.Errorf("find the repository: %w", err)
		case at == filepath.Dir(at):
			return "", fmt.Errorf("find the repository: no go.mod of it in %s or above; run this from a checkout", dir)
		}
	}
}

// recipe is all that decides what the built programs are, and so what names their folder in the cache.
type recipe struct {
	module    string
	version   string // of Kubernetes, like v1.36.3
	goVersion string
	platform  string // like linux-amd64
	sums      [sha256.Size]byte
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s+k8s\.io/kubernetes (v[0-9]+\.[0-9]+\.[0-9]+\S*)`)

func newRecipe(ctx context.Context, module string) (recipe, error) {
	r := recipe{module: module}
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return r, fmt.Errorf("read what Kubernetes is built from: %w", err)
		}
		hash.Write(data)
		if match := kubernetesVersion.FindSubmatch(data); name == "go.mod" && match != nil {
			r.version = string(match[1])
		}
	}
	if r.version == "" {
		return r, fmt.Errorf("find the version of k8s.io/kubernetes in %s", filepath.Join(module, "go.mod"))
	}
	// Asked in the module's folder, because its go.mod may select another toolchain than the one that built this program.
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	cmd.Dir, cmd.Env = module, r.environment()
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("ask go for its version: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 3 {
		return r, fmt.Errorf("ask go for its version: unexpected answer %q", out)
	}
	r.goVersion, r.platform = fields[0], fields[1]+"-"+fields[2]
	fmt.Fprintln(hash, r.flags())
	for _, target := range targets() {
		fmt.Fprintln(hash, target.name, target.pkg)
	}
	hash.Sum(r.sums[:0])
	return r, nil
}

func (r recipe) key() string {
	return fmt.Sprintf("%s-%s-%s-%s", r.version, r.platform, r.goVersion, hex.EncodeToString(r.sums[:6]))
}

// environment keeps a person's flags and workspaces out of the build: the cache must not hold what they would make of it.
func (r recipe) environment() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH=")
}
