package diskimage

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// qemuInfo is what qemu-img says of an image.
type qemuInfo struct {
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtual-size"`
	Encrypted   bool   `json:"encrypted"`
}

// askQEMU returns what qemu-img says of a file, or its refusal.
func askQEMU(t *testing.T, format, path string) (info qemuInfo, refusal string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "qemu-img", "info", "--output=json", "-f", format, path)
	out, err := command.Output()
	if err != nil {
		failed, ok := err.(*exec.ExitError) //nolint:errorlint // Output returns it as it is
		if !ok {
			t.Fatal(err)
		}
		return info, string(failed.Stderr)
	}
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return info, ""
}

func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed")
	}
}

// TestAgainstQEMU: what QEMU does not open is not taken, and what is taken it opens with
// the same size and the same answer to whether it is encrypted.
func TestAgainstQEMU(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	for _, tt := range append(headerCases(), tableCases()...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, tt.image, 0o600); err != nil {
				t.Fatal(err)
			}
			info, refusal := askQEMU(t, "qcow2", path)
			if opens := refusal == ""; opens != (tt.opens || tt.say == "") {
				t.Fatalf("QEMU opens it: %t. %+v %s", opens, info, refusal)
			}
			if tt.say == "" && info.VirtualSize != virtualOf(tt) {
				t.Errorf("QEMU sees a disk of %d bytes, want %d", info.VirtualSize, virtualOf(tt))
			}
		})
	}
}

// TestImagesOfQEMU: what QEMU makes is taken, whatever its options, and described as QEMU
// describes it; cut in half, it is not; and formats that are not served are refused.
func TestImagesOfQEMU(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	secret := []string{"--object", "secret,id=s,data=x"}
	tests := map[string]struct {
		format string
		args   []string
		say    string // of the refusal
	}{
		"plain":             {"qcow2", []string{"1000000000"}, ""},
		"version 2":         {"qcow2", []string{"-o", "compat=0.10", "1G"}, ""},
		"512-byte clusters": {"qcow2", []string{"-o", "cluster_size=512", "100M"}, ""},
		"2 MiB clusters":    {"qcow2", []string{"-o", "cluster_size=2M", "1T"}, ""},
		"extended L2":       {"qcow2", []string{"-o", "extended_l2=on", "64M"}, ""},
		"preallocated":      {"qcow2", []string{"-o", "preallocation=metadata", "64M"}, ""},
		"allocated":         {"qcow2", []string{"-o", "preallocation=falloc", "8M"}, ""},
		"wide refcounts":    {"qcow2", []string{"-o", "refcount_bits=64", "1G"}, ""},
		"zstd":              {"qcow2", []string{"-o", "compression_type=zstd", "1G"}, ""},
		"AES":               {"qcow2", append(secret, "-o", "encrypt.format=aes,encrypt.key-secret=s", "64M"), ""},
		"raw":               {"raw", []string{"1000000"}, ""},
		"external data":     {"qcow2", []string{"-o", "data_file=data.raw", "1M"}, "external file"},
		"backing file":      {"qcow2", []string{"-u", "-b", "other", "-F", "raw", "1M"}, "backing file"},
		"VMDK":              {"vmdk", []string{"1M"}, "-f vmdk"},
		"VMDK descriptor":   {"vmdk", []string{"-o", "subformat=monolithicFlat", "1M"}, "-f vmdk"},
		"VHD":               {"vpc", []string{"1M"}, "-f vpc"},
		"fixed VHD":         {"vpc", []string{"-o", "subformat=fixed", "1M"}, "-f vpc"},
		"VHDX":              {"vhdx", []string{"1M"}, "-f vhdx"},
		"VDI":               {"vdi", []string{"1M"}, "-f vdi"},
		"QED":               {"qed", []string{"1M"}, "-f qed"},
		"Parallels":         {"parallels", []string{"1M"}, "-f parallels"},
		"qcow":              {"qcow", []string{"1M"}, "version is 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "image")
			size := tt.args[len(tt.args)-1]
			args := append([]string{"create", "-q", "-f", tt.format}, tt.args[:len(tt.args)-1]...)
			command := exec.CommandContext(t.Context(), "qemu-img", append(args, path, size)...)
			command.Dir = filepath.Dir(path)
			if out, err := command.CombinedOutput(); err != nil {
				t.Skipf("this qemu-img cannot make it: %v: %s", err, out)
			}
			d := describe(t, path, 1)
			got, err := d.As(FormatAuto)
			if tt.say != "" {
				check(t, got, err, Image{}, tt.say)
				_, err = d.As(FormatRaw)
				if err == nil {
					t.Error("it is taken as raw")
				}
				return
			}
			info, refusal := askQEMU(t, tt.format, path)
			if err != nil || got.VirtualSize != info.VirtualSize || (got.Encryption != EncryptionNone) != info.Encrypted {
				t.Fatalf("got %+v, %v; QEMU says %+v %s", got, err, info, refusal)
			}
			if tt.format == "qcow2" {
				got, err = describe(t, path, 2).As(FormatAuto)
				check(t, got, err, Image{}, "truncated")
			}
		})
	}
}

// describe describes the first part of a file, one in so many.
func describe(t *testing.T, path string, parts int64) Description {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if parts > 1 {
		if err := os.Truncate(path, st.Size()/parts); err != nil {
			t.Fatal(err)
		}
	}
	d, err := File(f, st.Size()/parts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
