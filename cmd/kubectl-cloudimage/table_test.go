package main

import (
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

func TestSizeSaysWhatTheImageIs(t *testing.T) {
	t.Parallel()
	for want, status := range map[string]v1alpha1.CloudImageStatus{
		"1.0 GiB, Qcow2, a disk of 2.0 GiB":                 {SizeBytes: 1 << 30, Format: v1alpha1.FormatQcow2, VirtualSizeBytes: 2 << 30},
		"1.0 GiB, Raw, a disk of 1.0 GiB, encrypted (LUKS)": {SizeBytes: 1 << 30, Format: v1alpha1.FormatRaw, VirtualSizeBytes: 1 << 30, Encryption: v1alpha1.EncryptionLUKS},
		"1.0 GiB, Opaque":                                   {SizeBytes: 1 << 30, Format: v1alpha1.FormatOpaque},
	} {
		if got := sizeOf(&status); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
