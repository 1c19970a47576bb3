package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// signature is what `ssh-keygen -Y sign` makes of the checksums.
	signature = checksums + ".sig"
	// signers lists, in the repository, whose signatures are good. Each has the principal and signs in the namespace.
	signers, principal, signingNamespace = "release-signers", "releases", "cloudimage-release"
)

// requireSigner is an error unless the repository lists the public half of a key, so that whoever has the repository can check what
// the key signs.
func requireSigner(repository, key string) error {
	public, err := os.ReadFile(strings.TrimSuffix(key, ".pub") + ".pub")
	if err != nil {
		return fmt.Errorf("read the public half of the signing key: %w", err)
	}
	words := strings.Fields(string(public))
	if len(words) < 2 {
		return fmt.Errorf("%s.pub is no public key of OpenSSH", strings.TrimSuffix(key, ".pub"))
	}
	list, err := os.ReadFile(filepath.Join(repository, signers))
	if err != nil {
		return fmt.Errorf("read who may sign: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if !strings.HasPrefix(line, "#") && strings.Contains(line, " "+words[0]+" "+words[1]) {
			return nil
		}
	}
	return fmt.Errorf("%s does not list the signing key; have a line like this reviewed and merged first:\n%s namespaces=%q %s",
		signers, principal, signingNamespace, strings.TrimSpace(string(public)))
}

// sign signs the checksums of a folder and checks the signature as everybody else will.
func sign(ctx context.Context, repository, dir, key string) error {
	sums := filepath.Join(dir, checksums)
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-n", signingNamespace, "-f", key, sums)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr // it may ask for a passphrase, or for a touch
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sign the checksums: %w", err)
	}
	signed, err := os.Open(sums)
	if err != nil {
		return fmt.Errorf("check the signature: %w", err)
	}
	defer signed.Close()
	cmd = exec.CommandContext(ctx, "ssh-keygen", "-Y", "verify", "-n", signingNamespace, "-I", principal,
		"-f", filepath.Join(repository, signers), "-s", filepath.Join(dir, signature))
	cmd.Stdin = signed
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("check the signature: %w: %s", err, strings.TrimSpace(string(out))), os.Remove(filepath.Join(dir, signature)))
	}
	return nil
}
