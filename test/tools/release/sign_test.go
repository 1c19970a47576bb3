package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSignedRelease signs with a throwaway key and checks as docs/install.md says. Nothing that was changed afterwards passes.
func TestSignedRelease(t *testing.T) {
	t.Parallel()
	commands := verification(t)
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, dist string)
		fails bool
	}{
		"as it was signed":        {func(*testing.T, string) {}, false},
		"a byte of an artefact":   {func(t *testing.T, dist string) { flip(t, filepath.Join(dist, "agent-v1")) }, true},
		"a byte of the checksums": {func(t *testing.T, dist string) { flip(t, filepath.Join(dist, checksums)) }, true},
		"a byte of the signature": {func(t *testing.T, dist string) { flip(t, filepath.Join(dist, signature)) }, true},
		"checksums of other bytes": {func(t *testing.T, dist string) {
			flip(t, filepath.Join(dist, "agent-v1"))
			if err := writeChecksums(dist); err != nil {
				t.Fatal(err)
			}
		}, true},
		"signed by another": {func(t *testing.T, dist string) {
			if err := os.Remove(filepath.Join(dist, signature)); err != nil {
				t.Fatal(err)
			}
			keygen(t, "-Y", "sign", "-n", signingNamespace, "-f", newKey(t), filepath.Join(dist, checksums))
		}, true},
		"signed for another purpose": {func(t *testing.T, dist string) {
			if err := os.Remove(filepath.Join(dist, signature)); err != nil {
				t.Fatal(err)
			}
			keygen(t, "-Y", "sign", "-n", "file", "-f", filepath.Join(filepath.Dir(dist), "key"), filepath.Join(dist, checksums))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repository := t.TempDir()
			dist, key := filepath.Join(repository, "dist"), filepath.Join(repository, "key")
			keygen(t, "-q", "-t", "ed25519", "-N", "", "-C", "a releaser", "-f", key)
			writeSigners(t, repository, key)
			write(t, filepath.Join(dist, "agent-v1"), "bytes")
			if err := writeChecksums(dist); err != nil {
				t.Fatal(err)
			}
			if err := requireSigner(repository, key); err != nil {
				t.Fatal(err)
			}
			if err := sign(t.Context(), repository, dist, key); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, dist)
			cmd := exec.CommandContext(t.Context(), "bash", "-euc", commands)
			cmd.Dir = repository
			if out, err := cmd.CombinedOutput(); (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %t; %s", err, tt.fails, out)
			}
		})
	}
}

// TestUnknownSigner: nobody could check what a key signed that the repository does not list.
func TestUnknownSigner(t *testing.T) {
	t.Parallel()
	repository, known, unknown := t.TempDir(), newKey(t), newKey(t)
	writeSigners(t, repository, known)
	for _, key := range []string{known, known + ".pub"} {
		if err := requireSigner(repository, key); err != nil {
			t.Error(err)
		}
	}
	if err := requireSigner(repository, unknown); err == nil || !strings.Contains(err.Error(), signers) {
		t.Errorf("error %v, want one that names %s", err, signers)
	}
	if err := requireSigner(repository, filepath.Join(repository, "none")); err == nil {
		t.Error("a key from nowhere is taken")
	}
	dist := filepath.Join(repository, "dist")
	write(t, filepath.Join(dist, checksums), "")
	if err := sign(t.Context(), repository, dist, unknown); err == nil {
		t.Error("a signature that nobody can check is left")
	}
	if _, err := os.Stat(filepath.Join(dist, signature)); err == nil {
		t.Error("its file is left")
	}
}

// verification is what docs/install.md tells people to type; its folder is that of the repository.
func verification(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(page)) {
		if strings.Contains(line, checksums) && strings.HasPrefix(line, "    ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 2 {
		t.Fatalf("docs/install.md has %d commands with %s, want one for the signature and one for the files: %q", len(lines), checksums, lines)
	}
	return strings.Join(lines, "\n")
}

func newKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	keygen(t, "-q", "-t", "ed25519", "-N", "", "-C", "another", "-f", key)
	return key
}

func keygen(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, out)
	}
}

func writeSigners(t *testing.T, repository, key string) {
	t.Helper()
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(repository, signers), fmt.Sprintf("# Who may sign.\n%s namespaces=%q %s", principal, signingNamespace, public))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// flip changes a bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
