package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Dataset is the dataset that is explained and exported.
	Dataset string `option:"dataset" help:"name of the dataset"`
}

// DefaultConfig speaks of the dataset that everybody has.
func DefaultConfig() Config { return Config{Dataset: "internal"} }

// Deps is what control works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Policy  reconcile.Policy // the presenter's
	Fetcher follow.Fetcher
	Now     func() time.Time // nil means time.Now
}

// Control answers the Control service. Its methods may be called concurrently.
type Control struct {
	cfg   Config
	deps  Deps
	calls *prometheus.HistogramVec

	imports   sync.Mutex // held while a zone file is imported
	people    sync.Mutex // held while an override is judged and set
	claims    claims
	published published
	marks     marks
}

// claims is the reconciliation of all claims, as of revision.
type claims struct {
	mu    sync.Mutex // guards below
	state *reconcile.State
	ready bool
}

// New makes a Control that knows nothing until Run has read the store.
func New(cfg Config, deps Deps) (*Control, error) {
	if err := deps.Policy.Check(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Control{cfg: cfg, deps: deps}
	c.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "zonecast_control_call_seconds",
		Help:    "How long calls of the Control service took.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"call"})
	if err := deps.Metrics.Register(c.calls); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c.claims.state = reconcile.New(deps.Policy)
	c.marks.changed = make(chan struct{})
	return c, nil
}

// Run follows the store until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.followClaims(ctx) })
	g.Go(func() error { return c.followPublished(ctx) })
	for _, prefix := range []string{"/progress/", tree.DatasetPrefix(c.cfg.Dataset), tree.Hosts} {
		g.Go(func() error { return c.followMarks(ctx, prefix) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (c *Control) followClaims(ctx context.Context) error {
	fold := claimtree.NewFold()
	for b := range c.deps.Store.Watch(ctx, tree.Claims, 0) {
		changes, err := fold.Apply(b)
		if err != nil {
			c.deps.Log.Warn("claims not read, the last good ones stay", "error", err)
		}
		c.claims.mu.Lock()
		for _, ch := range changes {
			c.claims.state.Replace(ch.Source, ch.Shard, ch.Claims)
		}
		c.claims.state.Reconcile()
		c.claims.ready = true
		c.claims.mu.Unlock()
	}
	return ctx.Err()
}

// observe measures a call: defer c.observe("why")().
func (c *Control) observe(call string) func() {
	began := c.deps.Now()
	return func() { c.calls.WithLabelValues(call).Observe(c.deps.Now().Sub(began).Seconds()) }
}
