package system

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// manifest is what a person might write; the tests change one thing each.
const manifest = `
apiVersion: prefetch.cloudimage.dev/v1alpha1
kind: CloudImage
metadata:
  name: NAME
spec:
  source:
    http:
      url: URL
  digest: DIGEST
  EXTRA
`

func write(name, url, digest, extra string) string {
	if name == "" {
		name = "valid"
	}
	if url == "" {
		url = "https://images.example.com/debian.qcow2"
	}
	if digest == "" {
		digest = "sha256:" + strings.Repeat("0123456789abcdef", 4)
	}
	return strings.NewReplacer("NAME", name, "URL", url, "DIGEST", digest, "EXTRA", extra).Replace(manifest)
}

// sized gives both quantities of an image the same value.
func sized(quantity string) string {
	return fmt.Sprintf("maxSize: %q\n  download: {maxBytesPerSecond: %q}", quantity, quantity)
}

// TestValidation holds the API to sentences that say what is allowed, not only that something is not.
func TestValidation(t *testing.T) {
	t.Parallel()
	without := func(text, line string) string { return strings.Replace(text, line, "", 1) }
	digest := "  digest: sha256:" + strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		name, manifest string
		want           []string // parts of the refusal; none: it is accepted
	}{
		{"as it should be", write("", "", "", ""), nil},
		{"https without a digest", without(write("", "", "", ""), digest), nil},
		{"64 connections", write("", "", "", "download: {connections: 64}"), nil},
		{"a percentage", write("", "", "", `rollout: {maxConcurrentNodes: "25%"}`), nil},
		{"a fraction of a unit", write("", "", "", sized("1.5Gi")), nil},
		{"a fraction of none", write("", "", "", sized("1.0Gi")), nil},
		{"a fraction of the largest unit", write("", "", "", sized("7.875Ei")), nil},
		{"a fraction that is one byte", write("", "", "", sized("0.0009765625Ki")), nil},
		{"twelve and a half", write("", "", "", sized("12.5Mi")), nil},
		{"a decimal fraction", write("", "", "", sized("1.5G")), nil},
		{"thousandths that are whole bytes", write("", "", "", sized("2000m")), nil},
		{"an exponent", write("", "", "", sized("1.5e9")), nil},
		{"a number without a unit", write("", "", "", "maxSize: 1073741824"), nil},
		{"name of 63 characters", write(strings.Repeat("a", 63), "", "", ""), nil},

		{"a port", write("", "https://images.example.com:8443/x", "", ""), nil},
		{"the last port", write("", "https://images.example.com:65535/x", "", ""), nil},
		{"no path", write("", "https://images.example.com", "", ""), nil},
		{"an address", write("", "https://192.0.2.7:443/x", "", ""), nil},
		{"an IPv6 address", write("", "'https://[2001:db8::7]:443/x'", "", ""), nil},
		{"a name in its ASCII form", write("", "https://xn--bcher-kva.example/x", "", ""), nil},
		{"underscore, one label, dot at the end", write("", "https://my_mirror./x", "", ""), nil},
		{"other letters in the path", write("", "'https://images.example.com/größe 1?ä'", "", ""), nil},
		{"a stray %", write("", "'https://images.example.com/100%?50%'", "", ""), nil},
		{"another URL in the path", write("", "'https://mirror.example/https://images.example.com:99999/x'", "", ""), nil},

		{"port 99999", write("", "https://images.example.com:99999/x", "", ""), []string{"spec.source.http.url", "a port from 1 to 65535"}},
		{"port 65536", write("", "https://images.example.com:65536", "", ""), []string{"a port from 1 to 65535"}},
		{"port 0", write("", "'https://[::1]:0/x'", "", ""), []string{"a port from 1 to 65535"}},
		{"a port of letters", write("", "https://images.example.com:https/x", "", ""), []string{"a port from 1 to 65535"}},
		{"other letters in the host", write("", "https://gİthub.com/x", "", ""), []string{"spec.source.http.url", "host of ASCII letters", "xn--"}},
		{"other letters in the host, encoded", write("", "https://g%C4%B0thub.com/x", "", ""), []string{"host of ASCII letters"}},
		{"a space in the host", write("", "'https://images example.com/x'", "", ""), []string{"host of ASCII letters"}},
		{"an empty label", write("", "https://images..example.com/x", "", ""), []string{"host of ASCII letters"}},
		{"an address in hexadecimal", write("", "https://0x7f000001/x", "", ""), []string{"an IP address in its usual form"}},
		{"an address, its last part in hexadecimal", write("", "https://127.0.0.0x1:443/x", "", ""), []string{"an IP address in its usual form"}},
		{"an address of one number", write("", "https://2130706433/x", "", ""), []string{"an IP address in its usual form"}},
		{"an address with a zone", write("", "'https://[fe80::1%25eth0]/x'", "", ""), []string{"an IP address in its usual form"}},
		{"backslash", write("", `'https://images.example.com/a\b'`, "", ""), []string{"backslash"}},
		{"control character", write("", `"https://images.example.com/a\u0007b"`, "", ""), []string{"control character"}},

		{"name of 70 characters", write(strings.Repeat("a", 70), "", "", ""), []string{"metadata.name must be at most 63 characters"}},
		{"short digest", write("", "", "sha256:abc", ""), []string{"spec.digest", "sha256: followed by 64 lower-case hexadecimal digits"}},
		{"upper-case digest", write("", "", "sha256:"+strings.Repeat("A", 64), ""), []string{"spec.digest", "64 lower-case hexadecimal digits"}},
		{"other algorithm", write("", "", "md5:"+strings.Repeat("a", 64), ""), []string{"spec.digest", "must be sha256:"}},
		{"file URL", write("", "file:///etc/passwd", "", ""), []string{"spec.source.http.url", "must start with https:// or http://"}},
		{"no URL", write("", "debian.qcow2", "", ""), []string{"spec.source.http.url", "https://"}},
		{"no host", write("", "https:///debian.qcow2", "", ""), []string{"spec.source.http.url", "absolute URL with a host"}},
		{"userinfo", write("", "https://me:secret@example.com/x", "", ""), []string{"must not contain a user name or password", "secretRef"}},
		{"only a user", write("", "https://me@example.com/x", "", ""), []string{"must not contain a user name or password"}},
		{"long URL", write("", "https://example.com/"+strings.Repeat("x", 1024), "", ""), []string{"spec.source.http.url", "1024"}},
		{"http without a digest", without(write("", "http://example.com/x", "", ""), digest), []string{"digest is required with an http:// URL"}},
		{"no source", strings.Replace(write("", "", "", ""), "    http:\n      url: https://images.example.com/debian.qcow2", "    {}", 1),
			[]string{"exactly one source must be set"}},
		{"0 connections", write("", "", "", "download: {connections: 0}"), []string{"spec.download.connections", "greater than or equal to 1"}},
		{"65 connections", write("", "", "", "download: {connections: 65}"), []string{"spec.download.connections", "less than or equal to 64"}},
		{"0 nodes at once", write("", "", "", "rollout: {maxConcurrentNodes: 0}"), []string{"maxConcurrentNodes must be a number from 1"}},
		{"0 percent", write("", "", "", `rollout: {maxConcurrentNodes: "0%"}`), []string{`from "1%" to "100%"`}},
		{"no size", write("", "", "", `maxSize: "0"`), []string{"spec.maxSize", "such as 20Gi"}},
		{"a fraction of a byte", write("", "", "", sized("1.1Ki")), []string{"spec.maxSize", "such as 20Gi or 1.5Gi", "spec.download.maxBytesPerSecond", "such as 50Mi or 12.5Mi"}},
		{"one and a half bytes", write("", "", "", sized("1500m")), []string{"spec.maxSize", "whole number of bytes", "spec.download.maxBytesPerSecond"}},
		{"more than the API can count", write("", "", "", sized("8Ei")), []string{"spec.maxSize", "below 8Ei", "spec.download.maxBytesPerSecond"}},
		{"an endless fraction", write("", "", "", sized("1."+strings.Repeat("0", 64)+"Gi")), []string{"spec.maxSize", "64", "spec.download.maxBytesPerSecond"}},
		{"no bytes a second", write("", "", "", `download: {maxBytesPerSecond: "0"}`), []string{"spec.download.maxBytesPerSecond", "such as 50Mi"}},
		{"negative rate", write("", "", "", `download: {maxBytesPerSecond: "-5Mi"}`), []string{"spec.download.maxBytesPerSecond", "such as 50Mi"}},
		{"unknown format", write("", "", "", "format: Vmdk"), []string{"spec.format", `"Qcow2"`}},
		{"no patience", write("", "", "", "download: {stallTimeoutSeconds: 1}"), []string{"stallTimeoutSeconds", "greater than or equal to 5"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(test.manifest), &object.Object); err != nil {
				t.Fatalf("%v in %s", err, test.manifest)
			}
			err := suite.client.Create(t.Context(), object, client.DryRunAll)
			if test.want == nil && err != nil {
				t.Fatalf("refused: %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("answer %q does not say %q", fmt.Sprint(err), want)
				}
			}
		})
	}
}
