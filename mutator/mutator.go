package mutator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

// Config of a Mutator.
type Config struct {
	Rules rules.Params `option:"rules"`
	// RulesDir is a directory of rules in Starlark, which is followed: NAME.star is the rule
	// rule/NAME, and takes the place of the built-in rule of that name. Empty: none.
	// A directory takes the place of the rules that landed (docs/review.md).
	RulesDir string      `option:"rules-dir" help:"directory of rules in Starlark, in place of those that landed; one named as a built-in rule takes its place"`
	Fresh    FreshConfig `option:"fresh"`
	// SessionTTL is how long after the death of the process that mutates another one
	// takes over.
	SessionTTL time.Duration `option:"session-ttl" help:"how long leadership outlives its process"`
}

// DefaultConfig has the built-in rules and a stamp every second.
func DefaultConfig() Config {
	return Config{Rules: rules.DefaultParams(), Fresh: DefaultFreshConfig(), SessionTTL: 10 * time.Second}
}

// Validate names the first value that is out of range.
func (c Config) Validate() error {
	if err := c.Rules.Validate(); err != nil {
		return err
	}
	if c.SessionTTL < time.Second {
		return fmt.Errorf("session-ttl is %s, expected at least 1s", c.SessionTTL)
	}
	return c.Fresh.Validate()
}

// Deps are what the mutator works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Rules compiles and evaluates rules of users; nil means in a child process.
	Rules Rules
	// Now is the clock that is stamped; nil means time.Now.
	Now func() time.Time
}

// Rules are script.Load, and the end of whatever evaluates what it gave.
type Rules interface {
	Load(files fs.FS) ([]script.Loaded, error)
	Close() error
}

const (
	// txnOps is how many shards a transaction has: room is left for the fence and
	// for the progress.
	txnOps = store.MaxTxnOps - 2
	// txnBytes leaves 16 KiB for both and for paths that conditions name again.
	txnBytes = store.MaxTxnBytes - 16<<10
	// retryPause is how long a commit that could not reach the store waits before it
	// is tried again, the first time; it doubles up to maxRetryPause.
	retryPause    = 50 * time.Millisecond
	maxRetryPause = 2 * time.Second
	// gather is how long batches are taken together at most, so that changes that
	// never stop are written all the same.
	gather = 20 * time.Millisecond
	// lookInterval is how often it is looked whether the rules have changed.
	lookInterval = time.Second
	// sourcesInterval is how often the states of the rules' sources are written when
	// they have changed, and how often is tried again what may have failed for a while
	// only. New errors are written at the next lookInterval.
	sourcesInterval = 10 * time.Second
)

// Mutator runs the rules. Any number of processes may run one on the same store: one
// is elected.
type Mutator struct {
	cfg     Config
	deps    Deps
	builtIn []Ruled
	host    Rules // evaluates rules of users
	metrics metrics
}

type metrics struct {
	evaluations, writes, errors prometheus.Counter
	servers                     prometheus.Gauge
	flush                       prometheus.Histogram
	failing                     *prometheus.GaugeVec // by source
}

// New makes a mutator.
func New(cfg Config, deps Deps) (*Mutator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mutator: %w", err)
	}
	rs, err := rules.BuiltIn(cfg.Rules)
	if err != nil {
		return nil, fmt.Errorf("mutator: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rules == nil {
		deps.Rules = script.NewHost()
	}
	m := &Mutator{cfg: cfg, deps: deps, host: deps.Rules, metrics: metrics{
		evaluations: prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_mutator_evaluations_total", Help: "Shards whose rule was run."}),
		writes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_mutator_shards_written_total", Help: "Shards written or removed."}),
		errors:      prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_mutator_errors_total", Help: "Servers that could not be read, rules that failed, commits that failed."}),
		servers:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_mutator_servers", Help: "Servers the rules are run on; 0 in a process that does not lead."}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_mutator_flush_seconds", Help: "From a change of servers seen to its claims in the store.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}), // 0.5 ms to 16 s
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "zonecast_mutator_rule_failing", Help: "Of how many servers and groups the rule fails, whose last good claims stay; 1 when the rule itself is broken.",
		}, []string{"source"}),
	}}
	m.builtIn = builtIn(rs)
	for _, c := range []prometheus.Collector{m.metrics.evaluations, m.metrics.writes, m.metrics.errors, m.metrics.servers, m.metrics.flush, m.metrics.failing} {
		if err := deps.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("mutator: register metric: %w", err)
		}
	}
	return m, nil
}

// Run mutates and stamps while this process is the one elected to, until ctx ends.
func (m *Mutator) Run(ctx context.Context) error {
	defer func() {
		if err := m.host.Close(); err != nil {
			m.deps.Log.Warn("process that evaluates rules not ended in order", "error", err)
		}
	}()
	lead.Run(ctx, lead.Election{Store: m.deps.Store, Path: tree.ElectMutator, TTL: m.cfg.SessionTTL, Log: m.deps.Log}, m.lead)
	return nil
}

func (m *Mutator) lead(ctx context.Context, fence store.Cond) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.mutate(ctx, fence) })
	if m.cfg.Fresh.Interval > 0 {
		g.Go(func() error { return m.stamp(ctx, fence) })
	}
	return g.Wait()
}

// term is one term of leadership.
type term struct {
	*Mutator
	fence store.Cond
	state *state
	// claims is the last commit that changed claims of rules, or a later revision.
	claims store.Revision
	// said is what Progress says in the store.
	said tree.Progress
	// heard is whether the servers were read: before that all would be taken for gone.
	heard bool
	// errs are the errors of rules at their last run.
	errs     map[key]error
	errsNew  bool                          // they are otherwise than they were reported
	logged   map[int]int                   // how many were logged since, by rule
	sources  map[record.Source]tree.Source // as written last
	failures map[string]tree.Failure       // as written last, by path
	// looked is the fingerprint of the rules' directory when it was read, or its error.
	looked string
	landed landed
	// overruled is whether there are rules that landed, and a directory in their place.
	overruled bool
}

func newTerm(m *Mutator, fence store.Cond) *term {
	return &term{Mutator: m, fence: fence, state: newState(m.builtIn), errs: map[key]error{}, logged: map[int]int{}, sources: map[record.Source]tree.Source{}, failures: map[string]tree.Failure{}}
}

// mutate follows the servers.
func (m *Mutator) mutate(ctx context.Context, fence store.Cond) error {
	r := newTerm(m, fence)
	defer m.metrics.servers.Set(0)
	defer m.metrics.failing.Reset()
	at, err := r.openLanded(ctx)
	if err != nil {
		return err
	}
	r.readRules()
	if err := r.load(ctx); err != nil {
		return err
	}
	configs := m.deps.Store.Watch(ctx, tree.Config, at)
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	batches := m.deps.Store.Watch(ctx, tree.Servers, 0)
	sources := time.NewTicker(sourcesInterval)
	defer sources.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sources.C:
			if err := r.again(ctx); err != nil {
				return err
			}
			if err := r.report(ctx); err != nil {
				return err
			}
		case <-look.C:
			if m.cfg.RulesDir != "" {
				if err := r.changeRules(ctx); err != nil {
					return err
				}
			}
			if r.errsNew || r.state.failedNew {
				if err := r.report(ctx); err != nil {
					return err
				}
			}
		case b, ok := <-configs:
			if !ok {
				return ctx.Err()
			}
			if err := r.takeLanded(ctx, b); err != nil {
				return err
			}
			if err := r.changeRules(ctx); err != nil {
				return err
			}
		case b, ok := <-batches:
			if !ok {
				return ctx.Err()
			}
			began, first := time.Now(), !r.heard
			if err := r.take(ctx, b, batches); err != nil {
				return err
			}
			m.metrics.flush.Observe(time.Since(began).Seconds())
			if first { // which rules there are is known from the start
				if err := r.report(ctx); err != nil {
					return err
				}
			}
		}
	}
}

// changeRules takes over rules that have changed, and writes what they make.
func (r *term) changeRules(ctx context.Context) error {
	if !r.readRules() {
		return nil
	}
	if !r.heard {
		return nil // the first batch makes all
	}
	if err := r.flush(ctx, r.said.Servers); err != nil {
		return err
	}
	return r.report(ctx)
}

// load reads what is written already, by whoever led before.
func (r *term) load(ctx context.Context) error {
	nodes, rev, err := r.deps.Store.List(ctx, tree.Claims+record.KindRule+"/")
	if err != nil {
		return fmt.Errorf("list claims of rules: %w", err)
	}
	for _, n := range nodes {
		r.state.load(n)
	}
	r.claims = rev
	if err := r.loadReports(ctx); err != nil {
		return err
	}
	node, err := r.deps.Store.Get(ctx, tree.MutatorProgress)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read progress: %w", err)
	default:
		// A progress that cannot be read is written anew.
		if err := tree.Decode(node, &r.said); err != nil {
			r.deps.Log.Error("progress is broken and is written anew", "error", err)
			r.said = tree.Progress{}
		}
	}
	return nil
}

// take applies a batch and those that are waiting behind it, and writes what they
// change.
func (r *term) take(ctx context.Context, b store.Batch, batches <-chan store.Batch) error {
	r.heard = true
	rev := store.Revision(0)
	began := time.Now()
	for more := true; more; {
		if err := r.state.apply(b); err != nil {
			r.metrics.errors.Inc()
			r.deps.Log.Error("servers cannot be read, their last good state stays in force", "error", err)
		}
		rev = max(rev, b.Revision)
		if time.Since(began) >= gather { // before the next is received: what is received is applied
			break
		}
		select {
		case b, more = <-batches:
		default:
			more = false
		}
	}
	r.metrics.servers.Set(float64(len(r.state.servers)))
	return r.flush(ctx, rev)
}

// flush writes all dirty shards and then, with the last of them, that the servers
// up to rev are in the claims.
func (r *term) flush(ctx context.Context, rev store.Revision) error {
	var ws []write
	size := 0
	before, written := r.state.evaluations, 0
	changed := r.state.changed()
	r.state.aheadOf(changed)
	for _, k := range changed {
		if r.state.withheld(k) {
			continue
		}
		w, ok, err := r.state.evaluate(k)
		r.note(k, err)
		if !ok {
			delete(r.state.dirty, k)
			continue
		}
		if n := len(w.op.Path) + len(w.op.Value); len(ws) == txnOps || size+n > txnBytes {
			if err := r.commit(ctx, ws, nil); err != nil {
				return err
			}
			ws, size, written = ws[:0], 0, written+len(ws)
		}
		ws = append(ws, w)
		size += len(w.op.Path) + len(w.op.Value)
	}
	r.metrics.evaluations.Add(float64(r.state.evaluations - before))
	progress := tree.Progress{Servers: rev}
	if len(ws) == 0 {
		progress.Claims = r.claims
	}
	if len(ws) == 0 && progress == r.said {
		return nil
	}
	if err := r.commit(ctx, ws, &progress); err != nil {
		return err
	}
	r.said = progress
	r.state.tidy(len(changed))
	if written += len(ws); written > 0 {
		r.deps.Log.Debug("claims written", "shards", written, "servers", len(r.state.servers), "revision", int64(r.claims))
	}
	return nil
}

// commit writes, however long the store is away; only the loss of leadership and
// the end of ctx are errors.
func (r *term) commit(ctx context.Context, ws []write, progress *tree.Progress) error {
	t := store.Txn{If: []store.Cond{r.fence}, Do: make([]store.Op, 0, len(ws)+1)}
	for _, w := range ws {
		t.Do = append(t.Do, w.op)
	}
	if progress != nil {
		t.Do = append(t.Do, store.Op{Path: tree.MutatorProgress, Value: tree.Encode(progress)})
	}
	rev, err := persist(ctx, r.Mutator, t)
	if err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	for _, w := range ws {
		r.state.done(w)
		delete(r.state.dirty, w.key)
	}
	if len(ws) > 0 {
		r.claims = rev
		r.metrics.writes.Add(float64(len(ws)))
	}
	return nil
}

// persist commits t; it is idempotent, so that a commit of which it is not known
// whether it happened is repeated.
func persist(ctx context.Context, m *Mutator, t store.Txn) (store.Revision, error) {
	for pause := retryPause; ; pause = min(2*pause, maxRetryPause) {
		rev, err := m.deps.Store.Commit(ctx, t)
		if err == nil || errors.Is(err, store.ErrConflict) || !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
			return rev, err
		}
		m.metrics.errors.Inc()
		m.deps.Log.Warn("claims cannot be written, trying again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
	}
}
