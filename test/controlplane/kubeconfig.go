package controlplane

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenSeconds is a day: longer than any test, so that nobody has to renew tokens.
const tokenSeconds = 24 * 60 * 60

// WriteKubeconfig writes a kubeconfig, readable by its owner only, that carries the token.
func (c *ControlPlane) WriteKubeconfig(path, user, token string) error {
	return c.writeKubeconfig(path, c.Config.Host, user, token)
}

// WriteNodeKubeconfig writes the kubeconfig of one of Options.Users for a program that reaches the API server at Options.Address.
func (c *ControlPlane) WriteNodeKubeconfig(path, user string) error {
	token, ok := c.Tokens[user]
	if !ok {
		return fmt.Errorf("write the kubeconfig of %s: the control plane was not started with that user", user)
	}
	return c.writeKubeconfig(path, c.nodesHost, user, token)
}

func (c *ControlPlane) writeKubeconfig(path, host, user, token string) error {
	const name = "cloudimage-test"
	config := clientcmdapi.NewConfig()
	config.CurrentContext = name
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   host,
		CertificateAuthority:     c.Config.CAFile,
		CertificateAuthorityData: c.Config.CAData,
		InsecureSkipTLSVerify:    c.Config.Insecure,
		TLSServerName:            c.Config.ServerName,
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write the kubeconfig of %s: %w", user, err)
	}
	return nil
}

// Binding names the Pod that a token is bound to: such a token dies with its Pod, and carries the name of the Pod's node.
type Binding struct {
	PodName string
	PodUID  types.UID
}

// ServiceAccountToken asks for a token of a ServiceAccount as a kubelet would for a Pod, bound if binding is not nil.
func (c *ControlPlane) ServiceAccountToken(ctx context.Context, namespace, name string, binding *Binding) (string, error) {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return "", fmt.Errorf("make a client: %w", err)
	}
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if binding != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: binding.PodName, UID: binding.PodUID,
		}
	}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request a token of service account %s/%s: %w", namespace, name, err)
	}
	return answer.Status.Token, nil
}

// WriteServiceAccountKubeconfig writes a kubeconfig with a fresh token of a ServiceAccount.
func (c *ControlPlane) WriteServiceAccountKubeconfig(
	ctx context.Context, path, namespace, name string, binding *Binding,
) error {
	token, err := c.ServiceAccountToken(ctx, namespace, name, binding)
	if err != nil {
		return err
	}
	return c.WriteKubeconfig(path, name, token)
}
