package main

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/fleet/hollow"
)

const (
	// pollEvery is how often the images are looked at.
	pollEvery = 500 * time.Millisecond
	// sayEvery is how often a rollout says how far it is.
	sayEvery = time.Minute
	// auditDelay is how long after its answer a write may still be missing in the audit log.
	auditDelay = 2 * time.Second
)

// phase is one part of the bench and all that was measured in it.
type phase struct {
	name          string
	title         string
	nodes, images int
	began, ended  time.Time

	// assigned is from the first apply until every node's agent had seen every order; ready until every image said Ready.
	assigned, ready time.Duration
	round           hollow.Round
	joins           []time.Duration
	// leaderless is how long after the manager was killed the next one wrote its first orders; 0 if it was not killed.
	leaderless time.Duration

	writes  tally
	usage   map[string]usage
	stock   stock
	traffic hollow.Bytes
	curve   []point
}

// point is what the images said at one time.
type point struct {
	Seconds        float64 `json:"seconds"`
	Ready, Pulling int     // pairs of a node and an image
}

// seconds is how long the phase took.
func (p *phase) seconds() float64 { return p.ended.Sub(p.began).Seconds() }

// during runs one phase and measures it.
func (b *bench) during(ctx context.Context, p *phase, do func(context.Context, *phase) error) error {
	b.say("%s: %s", p.name, p.title)
	before, err := scrape(ctx, b.cluster.Client)
	if err != nil {
		return err
	}
	costs, traffic := b.sampler.take(), b.fleet.Traffic.Bytes()
	b.board.NewRound()
	p.began = time.Now()
	if err := do(ctx, p); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.ended = time.Now()
	if err := b.fleet.Err(); err != nil {
		return err
	}
	p.usage = b.sampler.take()
	for name, cost := range p.usage {
		cost.cpuSeconds -= costs[name].cpuSeconds
		cost.moved -= costs[name].moved
		p.usage[name] = cost
	}
	after, err := scrape(ctx, b.cluster.Client)
	if err != nil {
		return err
	}
	p.stock, p.round = after.since(before), b.board.Round()
	now := b.fleet.Traffic.Bytes()
	p.traffic = hollow.Bytes{Sent: now.Sent - traffic.Sent, Received: now.Received - traffic.Received, Bodies: now.Bodies - traffic.Bodies}
	if err := pause(ctx, auditDelay); err != nil {
		return err
	}
	if err := b.readWrites(); err != nil {
		return err
	}
	p.writes = tallyOf(b.writes, p.began, p.ended)
	b.say("%s: took %.0f s", p.name, p.seconds())
	return nil
}

func (b *bench) readWrites() error {
	writes, err := b.log.Read()
	b.writes = append(b.writes, writes...)
	return err
}

// settle waits until nothing was written for the given time.
func (b *bench) settle(ctx context.Context, quiet time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*quiet, fmt.Errorf("the fleet did not come to rest within %s", 20*quiet))
	defer cancel()
	for {
		from := time.Now()
		if err := pause(ctx, quiet); err != nil {
			return err
		}
		if err := b.readWrites(); err != nil {
			return err
		}
		if tallyOf(b.writes, from, time.Now()).unrest() == 0 {
			return nil
		}
	}
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// programs are what is sampled, in the order of the report.
func programs() []string { return []string{"manager", "API server", "etcd", "agents"} }
