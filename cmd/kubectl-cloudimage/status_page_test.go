package main

import (
	"context"
	"errors"
	"io"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// onePage answers like a cache: all at once, with a token that it then refuses.
type onePage struct{ client.Reader }

func (onePage) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

func (onePage) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	if (&client.ListOptions{}).ApplyOptions(options).Continue != "" {
		return errors.New("continue list option is not supported by the cache")
	}
	list.SetContinue("continue-not-supported")
	return nil
}

func TestStatusReadsACacheOnce(t *testing.T) {
	t.Parallel()
	if err := status(t.Context(), onePage{}, 0, "disk", false, io.Discard); err != nil {
		t.Error(err)
	}
}
