package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// attempt is a request with a token that was found on a node.
type attempt struct{ method, path, body string }

const caches, statusForgery = "/apis/prefetch.cloudimage.dev/v1alpha1/nodeimagecaches", `{"status":{"agentVersion":"forged"}}`

// stealToken takes the token of the agent on the first node from where the kubelet put it, and tries it by hand.
func (s *story) stealToken(ctx context.Context) error {
	begin := time.Now()
	own, other := s.nodes[0], s.nodes[1]
	token, err := s.agentToken(ctx, own)
	if err != nil {
		return err
	}
	s.out.Note("the token is that of the agent on " + own + ", as it lies there")
	for _, one := range []attempt{
		{http.MethodPatch, caches + "/" + own + "/status", statusForgery},
		{http.MethodGet, caches + "/" + other, ""},
	} {
		if code, said, err := s.try(ctx, token, one); err != nil || code != http.StatusOK {
			return fmt.Errorf("%s %s is the agent's right, but: %d %s (%w)", one.method, one.path, code, said, err)
		}
	}
	refused := []attempt{
		{http.MethodPatch, caches + "/" + other + "/status", statusForgery},
		{http.MethodPatch, caches + "/" + own, `{"spec":{"images":[]}}`},
		{http.MethodPatch, caches + "/" + other, `{"spec":{"images":[]}}`},
		{http.MethodDelete, caches + "/" + other, ""},
		{http.MethodPost, caches, `{"apiVersion":"prefetch.cloudimage.dev/v1alpha1","kind":"NodeImageCache","metadata":{"name":"more"}}`},
		{http.MethodDelete, "/apis/prefetch.cloudimage.dev/v1alpha1/cloudimages/" + s.guest.name, ""},
		{http.MethodPatch, "/api/v1/nodes/" + own, `{"metadata":{"labels":{"forged":"yes"}}}`},
		{http.MethodGet, "/api/v1/namespaces/" + namespace + "/secrets", ""},
		{http.MethodGet, "/api/v1/pods", ""},
	}
	for _, one := range refused {
		if code, said, err := s.try(ctx, token, one); err != nil || code != http.StatusForbidden {
			return fmt.Errorf("%s %s is no right of the agent's, but: %d %s (%w)", one.method, one.path, code, said, err)
		}
	}
	s.out.Held(time.Since(begin), "the token writes the status of %s and nothing else: %d attempts beyond that are Forbidden", own, len(refused))
	return nil
}

// agentToken is read on a node of ours as a thief would; on another cluster the API server is asked for one that is bound alike.
func (s *story) agentToken(ctx context.Context, node string) (string, error) {
	pod, err := s.ask(ctx, fmt.Sprintf(
		"kubectl get pods -n %s -l app.kubernetes.io/component=node-agent --field-selector spec.nodeName=%s -o jsonpath='{.items[0].metadata.name} {.items[0].metadata.uid}'",
		namespace, node))
	if err != nil {
		return "", err
	}
	name, uid, _ := strings.Cut(pod, " ")
	if s.external() {
		return s.ask(ctx, fmt.Sprintf("kubectl create token cloudimage-agent -n %s --bound-object-kind Pod --bound-object-name %s --bound-object-uid %s",
			namespace, name, uid))
	}
	return s.ask(ctx, fmt.Sprintf("on %s sh -c 'cat /var/lib/kubelet/pods/%s/volumes/*/*/token'", node, uid))
}

// try returns the status code and the API server's message.
func (s *story) try(ctx context.Context, token string, one attempt) (int, string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return 0, "", fmt.Errorf("read the kubeconfig: %w", err)
	}
	config = rest.AnonymousClientConfig(config)
	config.BearerToken = token
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, "", fmt.Errorf("make a client: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, one.method, config.Host+one.path, strings.NewReader(one.body))
	if err != nil {
		return 0, "", fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if one.method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("ask the API server: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", fmt.Errorf("read the answer: %w", err)
	}
	var answer struct{ Kind, Message string }
	if err := json.Unmarshal(data, &answer); err != nil {
		return 0, "", fmt.Errorf("read the answer: %w: %s", err, data)
	}
	s.out.Line(strings.TrimRight(fmt.Sprintf("     %-6s %s  %s  %s", one.method, one.path, response.Status, answer.Message), " "))
	return response.StatusCode, answer.Message, nil
}
