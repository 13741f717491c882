package configurator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/store"
)

// Config says where the repository is.
type Config struct {
	// Dir is the bare repository, made when it does not exist. Empty: there is no
	// configuration, and Run only waits for its end.
	Dir    string `option:"dir" help:"directory of the configuration's git repository; empty: none"`
	Branch string `option:"branch" help:"branch of the repository that counts"`
	// Remote, if not empty, is a repository elsewhere whose branch is followed: it is
	// reviewed there.
	Remote      string        `option:"remote" help:"URL of a repository to follow, whose changes are reviewed there; empty: changes are proposed and landed here"`
	Every       time.Duration `option:"every" help:"time between two looks at the remote repository"`
	SSHCommand  string        `option:"ssh-command" help:"what git runs instead of ssh for the remote repository"`
	Credentials string        `option:"credentials" help:"file of git's credential store, for a remote repository over https"`
	// Adopt is a commit of the branch from which configuration is taken although the store
	// has another repository's.
	Adopt string `option:"adopt" help:"commit at which this repository takes over from the one whose configuration is in the store"`
	// Compile bounds compilations.
	Compile compile.Options `option:"compile"`
	// SessionTTL is how long leadership outlives its process.
	SessionTTL time.Duration `option:"session-ttl" help:"how long leadership outlives its process"`
}

// DefaultConfig is a Config without a repository.
func DefaultConfig() Config {
	return Config{Branch: "main", Every: 10 * time.Second, Compile: compile.DefaultOptions(), SessionTTL: 10 * time.Second}
}

// Validate tells why the configuration cannot be used, or nil.
func (c Config) Validate() error {
	if c.Every < time.Second {
		return service.Invalid("every", "at least 1s")
	}
	if c.SessionTTL < time.Second {
		return service.Invalid("session-ttl", "at least 1s")
	}
	if c.Adopt != "" {
		if _, err := repo.ParseHash(c.Adopt); err != nil {
			return service.Invalid("adopt", "a commit in 40 hexadecimal digits")
		}
	}
	return nil
}

// Deps is what the service works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Consider says what changes would do to what is published; deep asks guards and the
	// live traffic, too (control.Control.Consider).
	Consider func(ctx context.Context, changes []plan.Change, configs []plan.Config, deep bool) (*plan.Plan, error)
	// Rules has what built-in rules are told, for plans that let one take over from a rule of
	// its name.
	Rules rules.Params
	// Verify is that of review.Config.
	Verify func(who string, statement, signature []byte) error
}

// Service is the configurator.
type Service struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	builtIn []rules.Rule

	mu       sync.Mutex     // guards below
	term     *term          // nil while another process leads
	commit   repo.Hash      // the newest that was looked at
	problem  error          // why it is not in force; nil: it is
	landed   repo.Hash      // the newest that is in force, as far as this process knows
	revision store.Revision // of the store at which claims changed last here; 0: they did not
	moved    chan struct{}  // closed and replaced when something above changes
}

type metrics struct {
	compile, land prometheus.Histogram
	landings      prometheus.Counter
	failing       prometheus.Gauge
}

// New checks cfg and registers the metrics.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	builtIn, err := rules.BuiltIn(deps.Rules)
	if err != nil {
		return nil, fmt.Errorf("configurator: %w", err)
	}
	m := &metrics{
		compile: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_configurator_compile_seconds", Help: "Time to compile a tree of the configuration, or what changed of it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		land: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_configurator_land_seconds", Help: "From a commit seen on the branch to its configuration in the store.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		landings: prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_configurator_landings_total", Help: "Commits whose configuration was put into the store."}),
		failing:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_configurator_failing", Help: "1 when the newest commit of the branch is not in force because of a mistake in it."}),
	}
	for _, c := range []prometheus.Collector{m.compile, m.land, m.landings, m.failing} {
		if err := deps.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the configurator: %w", err)
		}
	}
	return &Service{cfg: cfg, deps: deps, metrics: m, builtIn: builtIn, moved: make(chan struct{})}, nil
}

// Run keeps the configuration in force until ctx ends, whenever this process leads; its
// error is then ctx's.
func (s *Service) Run(ctx context.Context) error {
	if s.cfg.Dir == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	lead.Run(ctx, lead.Election{Store: s.deps.Store, Path: tree.ElectConfigurator, TTL: s.cfg.SessionTTL, Log: s.deps.Log}, s.lead)
	return nil
}

func (s *Service) lead(ctx context.Context, fence store.Cond) (err error) {
	t, err := s.open(ctx, fence)
	if err != nil {
		s.complain(ctx, fence, err)
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	s.set(func() { s.term = t })
	defer s.set(func() { s.term = nil })
	return t.run(ctx)
}

// set changes what Landed waits for.
func (s *Service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.moved)
	s.moved = make(chan struct{})
}

// reach notes how far landing came.
func (s *Service) reach(commit repo.Hash, problem error) {
	s.set(func() {
		if s.commit, s.problem = commit, problem; problem == nil {
			s.landed = commit
		}
	})
}

// revised notes the revision of the store at which claims changed last.
func (s *Service) revised(rev store.Revision) { s.set(func() { s.revision = rev }) }

// Remote is the repository that is followed; empty: none.
func (s *Service) Remote() string { return s.cfg.Remote }

// Reached gives the commit that was looked at last, and why it is not in force.
func (s *Service) Reached() (repo.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit, s.problem
}

// Landed waits until the store has what a commit of the branch compiles to, or a later one,
// and gives the revision of the store to wait for with the kind "claims"; 0 is what there is
// now. The error is why neither it nor a later one is in force, or ctx's.
func (s *Service) Landed(ctx context.Context, commit repo.Hash) (int64, error) {
	for {
		s.mu.Lock()
		t, at, problem, landed, revision, moved := s.term, s.commit, s.problem, s.landed, s.revision, s.moved
		s.mu.Unlock()
		for _, reached := range []struct {
			at      repo.Hash
			problem error
		}{{landed, nil}, {at, problem}} {
			has, err := t.has(ctx, reached.at, commit)
			if err != nil {
				return 0, err
			}
			if has {
				return int64(revision), reached.problem
			}
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// has tells whether a commit is at, or comes before it. The error is ctx's: while nobody
// leads, or the term is just over, it is not known.
func (t *term) has(ctx context.Context, at, commit repo.Hash) (bool, error) {
	if at == commit || at.IsZero() || t == nil {
		return at == commit, nil
	}
	has, err := t.repo.Ancestor(ctx, commit, at)
	if err != nil && ctx.Err() == nil {
		t.deps.Log.Debug("commit not looked up", "error", err)
		return false, nil
	}
	return has, ctx.Err()
}

// complain says in the state of the source why this process cannot lead.
func (s *Service) complain(ctx context.Context, fence store.Cond, why error) {
	if ctx.Err() != nil || errors.Is(why, store.ErrUnavailable) || errors.Is(why, store.ErrConflict) {
		return
	}
	state, err := readState(ctx, s.deps.Store)
	if err == nil {
		state.Error, state.Where = clip(why.Error()), s.cfg.Dir
		_, err = s.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{fence}, Do: []store.Op{{Path: tree.SourcePath(Source), Value: tree.Encode(state)}}})
	}
	if err != nil {
		s.deps.Log.Warn("state of the configuration not written", "error", err)
	}
}

// Desk is the open repository, while this process leads.
type Desk struct {
	Repo *repo.Repo
	// Review is nil when the repository follows another.
	Review *review.Review
	term   *term
}

// Plan says what it would change if the branch were not base but result. A
// *review.SourceError says what is wrong with result.
func (d *Desk) Plan(ctx context.Context, base, result *repo.Tree) (*plan.Plan, error) {
	return d.term.plan(ctx, base, result, true)
}

// patience is how long Desk waits for leadership: that of a process that starts comes in a
// moment, that of one whose predecessor died after its session.
const patience = 5 * time.Second

// Desk gives the repository; answer.Refused when there is none here, or another process
// leads.
func (s *Service) Desk(ctx context.Context) (*Desk, error) {
	if s.cfg.Dir == "" {
		return nil, api.Refuse(api.NotFound, "start it with --configurator-dir DIR", "this server keeps no configuration")
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		t, moved := s.term, s.moved
		s.mu.Unlock()
		if t != nil {
			return &Desk{Repo: t.repo, Review: t.review, term: t}, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, api.Refuse(api.Unavailable, "ask again in some seconds; `zonecast status` shows config/@landed and its error", "this server does not lead for the configuration at the moment")
		}
	}
}
