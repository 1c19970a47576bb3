package controlplane

import (
	"path/filepath"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	controllerManagerUser = "system:kube-controller-manager"
	schedulerUser         = "system:kube-scheduler"
)

// controllerUsers are whom the API server's built-in roles name.
func controllerUsers(options Options) []User {
	if !options.Nodes {
		return nil
	}
	return []User{{Name: controllerManagerUser}, {Name: schedulerUser}}
}

// startControllers starts kube-controller-manager and kube-scheduler. Nobody waits for them: what they do is waited for where it is needed.
func (c *ControlPlane) startControllers(identity *identity) error {
	for _, one := range []struct {
		user, path string
		args       []string
	}{
		{controllerManagerUser, c.Programs.KubeControllerManager, []string{
			"--service-account-private-key-file=" + identity.serviceAccountKeyPath, "--root-ca-file=" + identity.caPath,
			"--use-service-account-credentials",
			"--node-monitor-grace-period=20s", // of a node that went silent; the default of 50 s only makes the tests longer
		}},
		{schedulerUser, c.Programs.KubeScheduler, nil},
	} {
		name := filepath.Base(one.path)
		kubeconfig := filepath.Join(c.dir, name+".kubeconfig")
		if err := c.WriteKubeconfig(kubeconfig, one.user, identity.tokens[one.user]); err != nil {
			return err
		}
		p, err := process.Start(process.Command{
			Name: name, Path: one.path, Dir: c.dir, LogPath: filepath.Join(c.dir, name+".log"),
			Args: append([]string{"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1"}, one.args...),
		})
		if err != nil {
			return err
		}
		c.controllers = append(c.controllers, p)
	}
	return nil
}
