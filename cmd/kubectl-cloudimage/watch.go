package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// redraw is the least time between two pictures.
const redraw = 500 * time.Millisecond

// watch draws one image's nodes, or all images, again whenever something changes, until ctx ends.
func watch(ctx context.Context, config *rest.Config, scheme *runtime.Scheme, names []string, all bool, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	objects := []client.Object{&v1alpha1.CloudImage{}}
	byObject := map[client.Object]cache.ByObject{}
	if len(names) > 0 {
		objects = append(objects, &v1alpha1.NodeImageCache{})
		byObject[objects[1]] = cache.ByObject{Transform: keepOnly(names[0])}
	}
	var synced atomic.Bool
	informers, err := cache.New(config, cache.Options{
		Scheme: scheme, ByObject: byObject, DefaultTransform: cache.TransformStripManagedFields(),
		DefaultWatchErrorHandler: func(_ context.Context, _ *toolscache.Reflector, err error) {
			if !synced.Load() || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
				cancel(err) // else it is tried again, as after a restart of the API server
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = informers.Start(ctx) // it only ends with ctx
	}()
	defer func() { cancel(nil); <-ended }()
	changed, err := subscribe(ctx, informers, objects)
	if err != nil {
		return err
	}
	// An informer that is asked for before the cache has started comes at once, and empty.
	if !informers.WaitForCacheSync(ctx) {
		return fmt.Errorf("watch: %w", context.Cause(ctx))
	}
	synced.Store(true)
	return draw(ctx, w, changed, func(picture io.Writer) error { return paint(ctx, informers, names, all, picture) })
}

// keepOnly drops the other images of a node, which may be hundreds, but for those that it pulls and this one may wait for.
func keepOnly(image string) toolscache.TransformFunc {
	return func(object any) (any, error) {
		if c, ok := object.(*v1alpha1.NodeImageCache); ok {
			c.ManagedFields = nil
			c.Spec.Images = slices.DeleteFunc(c.Spec.Images, func(a v1alpha1.AssignedImage) bool { return a.Name != image })
			c.Status.Images = slices.DeleteFunc(c.Status.Images, func(s v1alpha1.ImageStatus) bool { return s.Name != image && !pulls(&s) })
		}
		return object, nil
	}
}

// subscribe returns a channel that holds a value after something changed.
func subscribe(ctx context.Context, informers cache.Informers, objects []client.Object) (<-chan struct{}, error) {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, object := range objects {
		informer, err := informers.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch the %T: %w", object, err)
		}
		handlers := toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() }, DeleteFunc: func(any) { tell() },
		}
		if _, err := informer.AddEventHandler(handlers); err != nil {
			return nil, fmt.Errorf("watch the %T: %w", object, err)
		}
	}
	tell()
	return changed, nil
}

// paint makes one picture from what the informers hold.
func paint(ctx context.Context, informers client.Reader, names []string, all bool, w io.Writer) error {
	if len(names) > 0 {
		return status(ctx, informers, 0, names[0], all, w)
	}
	var images v1alpha1.CloudImageList
	if err := informers.List(ctx, &images); err != nil {
		return fmt.Errorf("list the CloudImages: %w", err)
	}
	slices.SortFunc(images.Items, func(a, b v1alpha1.CloudImage) int { return cmp.Compare(a.Name, b.Name) })
	return writeImages(w, images.Items)
}

// draw shows a picture after each change: in place on a terminal, else one after the other.
func draw(ctx context.Context, w io.Writer, changed <-chan struct{}, paint func(io.Writer) error) error {
	show := func(picture string) { fmt.Fprintln(w, picture) }
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		show = func(picture string) { _, _ = io.WriteString(w, screen(file, picture)) }
	}
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	last := ""
	for {
		var picture bytes.Buffer
		if err := paint(&picture); err != nil {
			return err
		}
		if text := strings.TrimSuffix(picture.String(), "\n"); text != last {
			last = text
			show(text)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("watch: %w", context.Cause(ctx))
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("watch: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// screen cuts a picture to the terminal and draws it over the last one.
func screen(terminal *os.File, picture string) string {
	width, height, err := term.GetSize(int(terminal.Fd()))
	if err != nil || width < 2 || height < 2 { // some pseudo-terminals have no size
		width, height = 80, 24
	}
	lines := strings.Split(picture, "\n")
	lines = lines[:min(len(lines), height-1)]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > width {
			lines[i] = string(runes[:width-1]) + "…"
		}
	}
	const home, clearLine, clearRest = "\x1b[H", "\x1b[K", "\x1b[J"
	return home + strings.Join(lines, clearLine+"\n") + clearLine + "\n" + clearRest
}
