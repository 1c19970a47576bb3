package machine

import (
	"fmt"
	"os"
	"path/filepath"
)

// PauseImage holds the namespaces of a Pod; each node needs it before its first one.
const PauseImage = "localhost/pause:1"

func services(spec Spec) []service {
	return []service{
		{"containerd", []string{"/usr/bin/containerd", "--config=" + configFolder + "/containerd.toml"}},
		{"kubelet", []string{programFolder + "/kubelet",
			"--config=" + configFolder + "/kubelet.yaml", "--kubeconfig=" + configFolder + "/kubelet.kubeconfig",
			"--hostname-override=" + spec.Name, "--node-ip=" + spec.Address.Addr().String()}},
		{"kube-proxy", []string{programFolder + "/kube-proxy",
			"--kubeconfig=" + configFolder + "/kube-proxy.kubeconfig", "--proxy-mode=nftables", "--hostname-override=" + spec.Name,
			// Not every sandbox lets these be changed, and the kernel's own values do.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"}},
	}
}

// writeConfigs fills the node's /opt/config.
func writeConfigs(spec Spec, dir string) error {
	for _, file := range []struct{ name, content string }{
		{"containerd.toml", containerdConfig},
		{"cni/10-pods.conflist", fmt.Sprintf(cniConfig, spec.Pods)},
		{"kubelet.yaml", fmt.Sprintf(kubeletConfig, spec.CgroupRoot)},
		{"resolv.conf", "# The nodes have no name server.\n"},
	} {
		path := filepath.Join(dir, file.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a folder for %s: %w", file.name, err)
		}
		if err := os.WriteFile(path, []byte(file.content), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", file.name, err)
		}
	}
	for name, source := range map[string]string{
		"kubelet.kubeconfig": spec.KubeletConfig, "kube-proxy.kubeconfig": spec.ProxyConfig, "client-ca.crt": spec.ClientCA,
	} {
		data, err := os.ReadFile(source)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// restrict_oom_score_adj: without CAP_SYS_RESOURCE no sandbox may have the low score that the kubelet asks for.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "` + configFolder + `/cni"
`

// The addresses of Pods are kept in /run: a reboot ends all of them. Packets that leave the network of the Pods carry the node's
// address, so that an access log tells who asked.
const cniConfig = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

// Only the API server asks this kubelet for anything, the logs of Pods. Its images are never collected, because there is no registry to get them from again.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: ` + configFolder + `/client-ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: %s
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: "100Mi", nodefs.available: "1%%", imagefs.available: "1%%"}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 5s
resolvConf: ` + configFolder + `/resolv.conf
`
