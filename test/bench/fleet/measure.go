package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	mergePatch = types.MergePatchType

	everyNode  = "100%"
	tenthNodes = "10%"
	tenth      = 0.1
	// quiet is how long nothing may be written before the fleet counts as at rest: longer than an agent looks at its store, with jitter.
	quiet = 100 * time.Second
	// startsOfManager are the first one and that after it was killed.
	startsOfManager = 2
	// listPage is how many objects are asked for at once.
	listPage = 250
)

// results are all phases, in order.
type results struct {
	config  config
	phases  []*phase
	largest int // bytes of the largest NodeImageCache
	// restarts are those of the manager that the bench did not cause: it ends by itself when it cannot keep its Lease.
	restarts int
}

// measure runs all phases, one after the other on the same fleet.
func (b *bench) measure(ctx context.Context) (*results, error) {
	c := b.config
	r := &results{config: c}
	fleet := nodeNames(0, c.nodes)
	run := func(p phase, do func(context.Context, *phase) error) error {
		r.phases = append(r.phases, &p)
		return b.during(ctx, &p, do)
	}
	if err := b.addNodes(ctx, fleet); err != nil {
		return r, err
	}
	err := run(phase{name: "start", title: "the agents of the fleet start", nodes: c.nodes}, b.start)
	if err != nil {
		return r, err
	}
	if err := b.checkConfinement(ctx, fleet[0], fleet[1]); err != nil {
		return r, err
	}
	if err := run(phase{name: "cold", title: "all images applied together, 100 % of the nodes at a time", nodes: c.nodes, images: c.images}, b.cold); err != nil {
		return r, err
	}
	if err := b.settle(ctx, min(quiet, c.idle)); err != nil {
		return r, err
	}
	err = run(phase{name: "idle", title: "nothing changes", nodes: c.nodes, images: c.images}, func(ctx context.Context, _ *phase) error {
		return pause(ctx, c.idle)
	})
	if err != nil {
		return r, err
	}
	if err := run(phase{name: "again", title: "the same images requested again: the bytes are there", nodes: c.nodes, images: c.images}, b.again); err != nil {
		return r, err
	}
	const update = "another release of all images, 10 % of the nodes at a time, the manager killed in the middle"
	if err := run(phase{name: "update", title: update, nodes: c.nodes, images: c.images}, b.update); err != nil {
		return r, err
	}
	if r.largest, err = b.largestObject(ctx); err != nil {
		return r, err
	}
	joining := nodeNames(c.nodes, c.nodes+c.joining())
	if err := b.addNodes(ctx, joining); err != nil {
		return r, err
	}
	if err := forEach(ctx, joiners, joining, b.startAgent); err != nil {
		return r, err
	}
	title := fmt.Sprintf("%d more nodes join at once", len(joining))
	err = run(phase{name: "join", title: title, nodes: c.nodes + len(joining), images: c.images}, func(ctx context.Context, p *phase) error {
		return b.join(ctx, p, joining)
	})
	r.restarts = b.cluster.Manager().Starts() - startsOfManager
	return r, err
}

func (b *bench) start(ctx context.Context, _ *phase) error {
	return forEach(ctx, joiners, nodeNames(0, b.config.nodes), func(ctx context.Context, node string) error {
		if err := b.startAgent(ctx, node); err != nil {
			return err
		}
		return b.machines.Reveal(ctx, node)
	})
}

func (b *bench) cold(ctx context.Context, p *phase) error {
	if err := b.release(ctx, 1, everyNode); err != nil {
		return err
	}
	return b.finish(ctx, p, b.config.patience(1), "")
}

func (b *bench) again(ctx context.Context, p *phase) error {
	if err := b.requestAgain(ctx); err != nil {
		return err
	}
	return b.finish(ctx, p, b.config.patience(1), requestedAt)
}

// update also kills the manager, once the first nodes have pulled: slots are held and given back at that time.
func (b *bench) update(ctx context.Context, p *phase) error {
	if err := b.release(ctx, 2, tenthNodes); err != nil {
		return err
	}
	var at time.Time
	killed := make(chan error, 1)
	go func() {
		err := pause(ctx, b.config.pull*5/2)
		for err == nil {
			if b.cluster.Manager().Kill() == nil {
				at = time.Now()
				break
			}
			err = pause(ctx, pollEvery) // it ended by itself and is being started again
		}
		killed <- err
	}()
	err := b.finish(ctx, p, b.config.patience(tenth), requestedAt)
	if errKill := <-killed; err == nil {
		err = errKill
	}
	if err != nil {
		return err
	}
	if err := b.readWrites(); err != nil {
		return err
	}
	p.leaderless = firstOrders(b.writes, at)
	return nil
}

// join lets the manager see the agents' Pods of many nodes at once. Nodes and agents are there before, and the Pods are Ready: a machine
// is registered long before its agent's container runs, and what an agent's start and a kubelet's writes cost is no part of this.
func (b *bench) join(ctx context.Context, p *phase, joining []string) error {
	err := forEach(ctx, len(joining), joining, func(ctx context.Context, node string) error {
		b.board.Joining(node, p.images)
		if err := b.machines.Reveal(ctx, node); err != nil {
			return err
		}
		b.board.Visible(node)
		return nil
	})
	if err != nil {
		return err
	}
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not every node that joined was assigned within %s", limit))
	defer cancel()
	for len(b.board.Joins()) < len(joining) {
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
	p.joins = b.board.Joins()
	return nil
}

// largestObject is the size of the largest NodeImageCache as the API server sends it, managed fields included.
func (b *bench) largestObject(ctx context.Context) (int, error) {
	path, largest, next := "/apis/"+v1alpha1.GroupVersion.String()+"/nodeimagecaches", 0, ""
	for {
		request := b.cluster.Client.Discovery().RESTClient().Get().AbsPath(path).Param("limit", fmt.Sprint(listPage))
		if next != "" {
			request = request.Param("continue", next)
		}
		data, err := request.Do(ctx).Raw()
		if err != nil {
			return 0, fmt.Errorf("list the objects: %w", err)
		}
		var list struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(data, &list); err != nil {
			return 0, fmt.Errorf("read the objects: %w", err)
		}
		for _, item := range list.Items {
			largest = max(largest, len(item))
		}
		if next = list.Metadata.Continue; next == "" {
			return largest, nil
		}
	}
}

// createOrUpdate applies a change to an object, which is made if it is not there.
func createOrUpdate(ctx context.Context, c client.Client, image *v1alpha1.CloudImage, change func()) error {
	for {
		err := c.Get(ctx, client.ObjectKeyFromObject(image), image)
		if apierrors.IsNotFound(err) {
			change()
			err = c.Create(ctx, image)
		} else if err == nil {
			change()
			err = c.Update(ctx, image)
		}
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) { // the manager writes the status of the same object
			return fmt.Errorf("apply image %s: %w", image.Name, err)
		}
	}
}
