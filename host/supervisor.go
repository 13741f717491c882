package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Supervisor keeps the parts of a host running.
type Supervisor struct {
	cfg   Config
	deps  Deps
	parts []*part

	replacing sync.Mutex // one replacement of all at a time
}

// part is a Part and what is known of it.
type part struct {
	name string
	has  manager

	restarts, replaced prometheus.Counter

	mu       sync.Mutex // guards below
	runs     Part       // as it was started last
	later    *Part      // as the next process is to run, while stayed runs; nil: as runs
	stayed   int        // the process that was not replaced
	failures int        // checks in a row
	why      string     // of the last one
	trouble  string     // of the last replacement
}

// manager has the process of a part.
type manager interface {
	// run keeps the process until ctx ends.
	run(ctx context.Context) error
	// state tells which process there is; pid 0: none, and why.
	state(ctx context.Context) (pid int, since time.Time, why string)
	// restart ends a process that hangs, and starts another.
	restart(ctx context.Context) error
	// replace has another process in the place of the one that runs, as p says, without a
	// gap where the part hands over.
	replace(ctx context.Context, p Part) error
	// next has the next start be as p says; what runs goes on.
	next(p Part)
	// outdated tells whether the process was left by a life before this one, and an
	// upgrade has put another file in the place of the one that it runs.
	outdated(ctx context.Context) bool
}

// New makes a Supervisor; Run runs it.
func New(cfg Config, deps Deps) (*Supervisor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("options of [host]: %w", err)
	}
	if err := os.MkdirAll(cfg.Path("run"), 0o755); err != nil {
		return nil, err
	}
	s := &Supervisor{cfg: cfg, deps: deps}
	total := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"part"})
		deps.Metrics.MustRegister(v)
		return v
	}
	restarts := total("zonecast_host_restarts_total", "Processes that were started again because they did not answer.")
	replaced := total("zonecast_host_replacements_total", "Processes that another one was put in the place of.")
	up := prometheus.NewDesc("zonecast_host_part_up", "1 while the part's process runs and answers.", []string{"part"}, nil)
	for _, p := range deps.Parts {
		k := &part{name: p.Name, runs: p, restarts: restarts.WithLabelValues(p.Name), replaced: replaced.WithLabelValues(p.Name)}
		if cfg.Manager == Own {
			k.has = newChild(cfg, deps, p)
		} else {
			k.has = &service{cfg: cfg, deps: deps, part: p}
		}
		s.parts = append(s.parts, k)
	}
	deps.Metrics.MustRegister(collector{up, s})
	return s, nil
}

// Run keeps the parts until ctx ends; then it ends them, last first, unless they are to
// be left.
func (s *Supervisor) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	var ends []func() error
	for _, p := range s.parts {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() { done <- p.has.run(own) }()
		ends = append(ends, func() error {
			cancel()
			return <-done
		})
		checks.Go(func() { s.watch(ctx, p) })
	}
	<-ctx.Done()
	checks.Wait()
	var errs []error
	for _, end := range slices.Backward(ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// Replace puts new processes in the place of all that run, one after the other: after an
// upgrade, or for new options. next are the parts as they are to run, those of New; one that
// is not among them is replaced as it is. What cannot be replaced goes on, and is a trouble;
// one that Stays goes on, which is logged, and takes the options with its next start.
func (s *Supervisor) Replace(ctx context.Context, next []Part) {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	for _, p := range s.parts {
		pid, _, _ := p.has.state(ctx)
		as := p.now(pid)
		for _, n := range next {
			if n.Name == p.name {
				as = n
			}
		}
		s.replace(ctx, p, as)
	}
}

// now is the part as the process pid was started; of none, as the next one will be.
func (p *part) now(pid int) Part {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.later != nil && pid != p.stayed {
		p.runs, p.later = *p.later, nil
	}
	return p.runs
}

// stay has the process pid go on, and the next one be as p says.
func (p *part) stay(pid int, as Part) {
	p.has.next(as)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.later, p.stayed = &as, pid
}

func (s *Supervisor) replace(ctx context.Context, p *part, as Part) {
	pid, _, _ := p.has.state(ctx)
	if why := p.now(pid).Stays; why != "" && pid != 0 {
		p.stay(pid, as)
		s.deps.Log.Warn("part not replaced, it goes on as it was", "part", p.name, "why", why)
		return
	}
	began := time.Now()
	err := p.has.replace(ctx, as)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble, p.failures = "", 0
	if err != nil {
		p.trouble = fmt.Sprintf("not replaced: %v", err)
		s.deps.Log.Error("part not replaced, it goes on as it was", "part", p.name, "error", err)
		return
	}
	p.runs = as
	p.replaced.Inc()
	s.deps.Log.Info("part replaced", "part", p.name, "took", time.Since(began))
}

// Troubles is what people should know, a line each.
func (s *Supervisor) Troubles() []string {
	var out []string
	for _, p := range s.parts {
		pid, _, why := p.has.state(context.Background())
		p.mu.Lock()
		switch {
		case pid == 0:
			out = append(out, fmt.Sprintf("%s does not run: %s", p.name, why))
		case p.failures > 0:
			out = append(out, fmt.Sprintf("%s does not answer: %s", p.name, p.why))
		}
		if p.trouble != "" {
			out = append(out, p.name+" "+p.trouble)
		}
		p.mu.Unlock()
	}
	return out
}

// Detail says in a line what runs.
func (s *Supervisor) Detail() string {
	var out []string
	for _, p := range s.parts {
		pid, since, _ := p.has.state(context.Background())
		if pid == 0 {
			out = append(out, p.name+" -")
			continue
		}
		out = append(out, fmt.Sprintf("%s pid %d since %s", p.name, pid, since.UTC().Format(time.RFC3339)))
	}
	return strings.Join(out, ", ")
}

// collector counts who is up.
type collector struct {
	up *prometheus.Desc
	s  *Supervisor
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.up }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.s.parts {
		pid, _, _ := p.has.state(context.Background())
		p.mu.Lock()
		up := 0.0
		if pid != 0 && p.failures == 0 {
			up = 1
		}
		p.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up, p.name)
	}
}
