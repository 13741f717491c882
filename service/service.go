package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// defaultGrace is how long a task may take to stop: enough to end a commit to the
// store and to fsync, short of the 90 s after which systemd kills.
const defaultGrace = 10 * time.Second

// errReturned is the failure of a task that ended by itself without an error.
var errReturned = errors.New("returned before it was told to stop")

// Config is what a Service is made of.
type Config struct {
	// Name labels every metric of the service and leads its status.
	Name string
	// Version is the program's, for the status and zonecast_build_info.
	Version string
	// Log is where the service tells what changes. Nil: nowhere.
	Log *slog.Logger
	// Registry has the metrics. Several services may share one if their names
	// differ. Nil: a new one.
	Registry *prometheus.Registry
	// Grace is how long a task may take to stop. Zero means 10s.
	Grace time.Duration
	// Notify tells the service manager about readiness and life. Nil: nobody.
	Notify *Notifier
}

// Service runs tasks as one: see the package comment.
type Service struct {
	cfg  Config
	log  *slog.Logger
	reg  prometheus.Registerer // labels what it registers with the service's name
	born time.Time

	restarts *prometheus.CounterVec

	mu       sync.Mutex // guards below
	state    State
	since    time.Time // of state
	tasks    []*running
	warnings map[string]Warning
	dropped  int  // warnings that did not fit
	ran      bool // Run was called
	mistakes []error
}

// New makes a service and registers the metrics of the process and of the service.
func New(cfg Config) (*Service, error) {
	if cfg.Name == "" {
		return nil, errors.New("make service: no name")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	if cfg.Grace <= 0 {
		cfg.Grace = defaultGrace
	}
	now := time.Now()
	s := &Service{
		cfg: cfg, log: cfg.Log.With("service", cfg.Name), born: now,
		reg:   prometheus.WrapRegistererWith(prometheus.Labels{"service": cfg.Name}, cfg.Registry),
		state: Starting, since: now, warnings: map[string]Warning{},
	}
	// The process's own metrics are there once, however many services share it.
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		var again prometheus.AlreadyRegisteredError
		if err := cfg.Registry.Register(c); err != nil && !errors.As(err, &again) {
			return nil, fmt.Errorf("make service %s: register metrics: %w", cfg.Name, err)
		}
	}
	for _, c := range s.metrics() {
		if err := s.reg.Register(c); err != nil {
			return nil, fmt.Errorf("make service %s: register metrics: %w", cfg.Name, err)
		}
	}
	return s, nil
}

// metrics are the service's own.
func (s *Service) metrics() []prometheus.Collector {
	s.restarts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "zonecast_task_restarts_total", Help: "Failures after which a task was run again.",
	}, []string{"task"})
	all := []prometheus.Collector{s.restarts}
	for _, st := range states {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "zonecast_service_status", Help: "1 for the status the service has.",
			ConstLabels: prometheus.Labels{"status": string(st)},
		}, func() float64 {
			if s.State() == st {
				return 1
			}
			return 0
		}))
	}
	all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "zonecast_service_warnings", Help: "Warnings in force.",
	}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.warnings) + s.dropped)
	}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "zonecast_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": s.cfg.Version, "go": runtime.Version()},
	})
	build.Set(1)
	return append(all, build)
}

// Registerer registers metrics labelled with the service's name.
func (s *Service) Registerer() prometheus.Registerer { return s.reg }

// Add appends tasks, in the order in which data flows through them. It must come
// before Run. Mistakes - no name, a name used twice, no Run, metrics that collide -
// are reported by Run, which then starts nothing.
func (s *Service) Add(tasks ...Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		if err := s.add(t); err != nil {
			s.mistakes = append(s.mistakes, fmt.Errorf("add task %q: %w", t.Name, err))
		}
	}
}

// add is Add of one task with s.mu held.
func (s *Service) add(t Task) error {
	switch {
	case t.Name == "":
		return errors.New("no name")
	case t.Run == nil:
		return errors.New("nothing to run")
	case s.ran:
		return errors.New("the service runs already")
	}
	for _, r := range s.tasks {
		if r.Name == t.Name {
			return errors.New("the name is taken")
		}
	}
	for _, c := range t.Collectors {
		if err := s.reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	if t.Grace <= 0 {
		t.Grace = s.cfg.Grace
	}
	s.restarts.WithLabelValues(t.Name)
	s.tasks = append(s.tasks, &running{
		Task: t, svc: s, state: TaskWaiting,
		ready: make(chan struct{}), done: make(chan struct{}),
	})
	return nil
}

// Run starts the tasks in order, waits until ctx ends, a task fails for good or all
// tasks are done, and stops them in reverse order. It gives nil when ctx ended (or
// all was done) and everything stopped in time. It may be called once.
//
// The tasks' contexts have the values of ctx but not its end: each ends when it is
// that task's turn to stop.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	tasks, mistakes := s.tasks, errors.Join(s.mistakes...)
	if s.ran {
		mistakes = errors.Join(mistakes, errors.New("the service ran already"))
	}
	s.ran = true
	s.mu.Unlock()
	if mistakes != nil {
		return fmt.Errorf("service %s: %w", s.cfg.Name, mistakes)
	}

	failed := make(chan error, len(tasks)) // one a task at most
	started := 0
	var cause error
	for _, r := range tasks {
		started++
		r.start(context.WithoutCancel(ctx), failed)
		if cause = s.awaitReady(ctx, r, failed); cause != nil || ctx.Err() != nil {
			break
		}
	}
	if cause == nil && ctx.Err() == nil {
		s.setState(Alive)
		s.notify("READY=1")
		cause = s.supervise(ctx, tasks, failed)
	}

	s.log.Info("service stops", "why", reason(ctx, cause))
	s.setState(Stopping)
	s.notify("STOPPING=1")
	errs := []error{cause}
	for i := started - 1; i >= 0; i-- {
		errs = append(errs, tasks[i].stop())
	}
	// A task that fails while another one stops was told nothing yet: it counts.
	for len(failed) > 0 {
		errs = append(errs, <-failed)
	}
	s.setState(Stopped)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("service %s: %w", s.cfg.Name, err)
	}
	return nil
}

// reason says in words why a service stops.
func reason(ctx context.Context, cause error) string {
	switch {
	case cause != nil:
		return cause.Error()
	case ctx.Err() != nil:
		return context.Cause(ctx).Error()
	}
	return "all tasks are done"
}

// awaitReady waits for what the task after r may rely on.
func (s *Service) awaitReady(ctx context.Context, r *running, failed <-chan error) error {
	if r.WaitReady <= 0 {
		return nil
	}
	late := time.NewTimer(r.WaitReady)
	defer late.Stop()
	select {
	case <-r.ready:
	case <-ctx.Done():
	case err := <-failed:
		return err
	case <-r.done: // a Once task that had nothing to be ready for, or one that failed
		select {
		case err := <-failed:
			return err
		default:
		}
	case <-late.C:
		return fmt.Errorf("task %s: not ready %v after its start", r.Name, r.WaitReady)
	}
	return nil
}

// supervise waits for the end of ctx, the failure of a task or the end of all. It
// tells the service manager's watchdog that this very goroutine still runs.
func (s *Service) supervise(ctx context.Context, tasks []*running, failed <-chan error) error {
	allDone := make(chan struct{})
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, r := range tasks {
			select {
			case <-r.done:
			case <-quit:
				return
			}
		}
		close(allDone)
	})
	defer wg.Wait()
	defer close(quit)

	var tick <-chan time.Time
	if s.cfg.Notify != nil && s.cfg.Notify.watchdog > 0 {
		t := time.NewTicker(s.cfg.Notify.watchdog / 2)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-allDone:
			select {
			case err := <-failed:
				return err
			default:
				return nil
			}
		case <-tick:
			if st := s.State(); st == Alive || st == Warned { // waits for s.mu: a Service that hangs must not say that it lives
				s.notify("WATCHDOG=1")
			}
		}
	}
}

// notify tells the service manager, when there is one.
func (s *Service) notify(state string) {
	if s.cfg.Notify == nil {
		return
	}
	if err := s.cfg.Notify.Send(state); err != nil {
		s.log.Warn("service manager not told", "state", state, "error", err)
	}
}
