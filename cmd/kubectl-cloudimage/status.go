package main

import (
	"context"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// apiPage is how many NodeImageCaches are read from the API server at once: each may have 40 kB.
const apiPage = 500

// status prints one image and all its nodes; page 0 reads all nodes at once.
func status(ctx context.Context, c client.Reader, page int64, name string, all bool, w io.Writer) error {
	image, err := getImage(ctx, c, name)
	if err != nil {
		return err
	}
	now := time.Now()
	var rows []row
	for token := ""; ; {
		var list v1alpha1.NodeImageCacheList
		if err := c.List(ctx, &list, client.Limit(page), client.Continue(token)); err != nil {
			return fmt.Errorf("list the NodeImageCaches: %w", err)
		}
		rows = append(rows, rowsOf(image, list.Items, now)...)
		if token = list.Continue; token == "" || page == 0 { // a cache answers all at once, with a token nevertheless
			break
		}
	}
	sortRows(rows)
	return writeImage(w, image, rows, all)
}

// missingError is an image that is not there.
type missingError struct{ name string }

func (e *missingError) Error() string {
	return fmt.Sprintf("there is no CloudImage %q; `kubectl get cloudimages` lists them", e.name)
}

func getImage(ctx context.Context, c client.Reader, name string) (*v1alpha1.CloudImage, error) {
	var image v1alpha1.CloudImage
	switch err := c.Get(ctx, client.ObjectKey{Name: name}, &image); {
	case apierrors.IsNotFound(err):
		return nil, &missingError{name}
	case err != nil:
		return nil, fmt.Errorf("get the CloudImage: %w", err)
	}
	return &image, nil
}
