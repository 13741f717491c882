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
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Dataset is the dataset that is explained and exported.
	Dataset string `option:"dataset" help:"name of the dataset"`
	// Operators is a file of those who may act: name, key and rights of one a line. Empty:
	// whoever reaches the API may, under any name.
	Operators string `option:"operators" help:"file of the operators who alone may act, and sign what they do; empty lets everybody who reaches the API"`
}

// DefaultConfig speaks of the dataset that everybody has.
func DefaultConfig() Config { return Config{Dataset: "internal"} }

// Deps is what control works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Policy  reconcile.Policy // the presenter's
	// Division is the presenter's, too. Nil: all claims are the dataset's.
	Division *datasets.Division
	Fetcher  follow.Fetcher
	Now      func() time.Time // nil means time.Now
	// Answers makes what answers questions as hosts do, to try changes on. Nil: they are not
	// tried.
	Answers func() (replay.Server, error)
}

// Control answers the Control service. Its methods may be called concurrently.
type Control struct {
	cfg   Config
	deps  Deps
	calls *prometheus.HistogramVec

	// beside are the datasets that other controls of this process speak of; the first of them
	// is the one that says what nobody else does.
	beside []string
	first  bool

	operators operator.File
	imports   sync.Mutex // held while a zone file is imported
	people    sync.Mutex // held while an override is judged and set
	claims    claims
	published published
	marks     marks
	effects   effects
}

// New makes a Control that knows nothing until Run has read the store.
func New(cfg Config, deps Deps) (*Control, error) {
	if err := deps.Policy.Check(); err != nil {
		return nil, err
	}
	if err := deps.Division.Check(cfg.Dataset); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Control{cfg: cfg, deps: deps, first: true}
	c.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "zonecast_control_call_seconds",
		Help:    "How long calls of the Control service took.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"call"})
	if err := deps.Metrics.Register(c.calls); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c.claims.fold, c.claims.state = claimtree.NewFold(), reconcile.New(deps.Policy)
	c.claims.waiting, c.claims.shards, c.claims.revisions = map[shard][]record.Claim{}, map[record.Source]int{}, map[record.Source][]store.Revision{}
	c.marks.changed = make(chan struct{})
	return c, nil
}

// Run follows the store until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.followClaims(ctx) })
	g.Go(func() error { return c.followAdmitted(ctx) })
	g.Go(func() error { return c.followPublished(ctx) })
	g.Go(func() error { return c.followDirect(ctx) })
	for _, prefix := range []string{"/progress/", tree.DatasetPrefix(c.cfg.Dataset), tree.Hosts, tree.Holds, tree.Freezes, tree.Pins, tree.Trials} {
		g.Go(func() error { return c.followMarks(ctx, prefix) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// observe measures a call: defer c.observe("why")().
func (c *Control) observe(call string) func() {
	began := c.deps.Now()
	return func() { c.calls.WithLabelValues(call).Observe(c.deps.Now().Sub(began).Seconds()) }
}
