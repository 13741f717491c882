package registry

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/store"
)

// Config of a Registry.
type Config struct {
	// MinLease is the shortest lease a server may ask for: a shorter one would let
	// a busy store take servers out of the DNS. Zero means no minimum.
	MinLease time.Duration `option:"min-lease" help:"shortest lease that may be asked for"`
	// MaxLease is the longest; who wants longer registers without a lease.
	MaxLease time.Duration `option:"max-lease" help:"longest lease that may be asked for"`
	// SessionTTL is how long after the death of the process that lets leases run out
	// another one takes over.
	SessionTTL time.Duration `option:"session-ttl" help:"how long leadership outlives its process"`
}

// DefaultConfig has leases from 5 s (five renewals lost to a leader election of an
// etcd cluster, which takes one to two seconds, are still none) to 30 days.
func DefaultConfig() Config {
	return Config{MinLease: 5 * time.Second, MaxLease: 30 * 24 * time.Hour, SessionTTL: 10 * time.Second}
}

// Validate names the first value that is out of range.
func (c Config) Validate() error {
	if c.MinLease < 0 || c.MaxLease < c.MinLease {
		return fmt.Errorf("min-lease is %s and max-lease %s, expected 0 <= min-lease <= max-lease", c.MinLease, c.MaxLease)
	}
	if c.SessionTTL < time.Second {
		return fmt.Errorf("session-ttl is %s, expected at least 1s", c.SessionTTL)
	}
	return nil
}

// Deps are what the registry works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Registry answers the Thrift service Registry. Any number of processes may run
// one on the same store.
type Registry struct {
	cfg     Config
	deps    Deps
	commits committer
	view    *view
	// last is the newest revision this process committed: its own lists show it.
	last    atomic.Int64
	metrics metrics
}

type metrics struct {
	changes *prometheus.CounterVec
}

// New makes a registry.
func New(cfg Config, deps Deps) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r := &Registry{cfg: cfg, deps: deps, commits: committer{st: deps.Store}, view: newView(deps.Log)}
	r.metrics.changes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "zonecast_registry_changes_total",
		Help: "Registrations and deregistrations asked for, by what became of them: changed, same, refused, expired.",
	}, []string{"outcome"})
	servers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "zonecast_registry_servers",
		Help: "Servers registered, as this process sees the store.",
	}, func() float64 { return float64(r.view.size()) })
	for _, c := range []prometheus.Collector{r.metrics.changes, servers} {
		if err := deps.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("registry: register metric: %w", err)
		}
	}
	return r, nil
}

// Processor is the Thrift service, for api.Serve under api.RegistryService.
func (r *Registry) Processor() api.Processor {
	return registryapi.NewRegistryProcessor(r)
}

// Run follows the store for lists and watches, and lets leases run out while this
// process is the one elected to. It returns when ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { r.view.follow(ctx, r.deps.Store); return nil })
	g.Go(func() error { r.expireLeases(ctx); return nil })
	return g.Wait()
}

var _ registryapi.Registry = (*Registry)(nil)
