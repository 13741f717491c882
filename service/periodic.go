package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PeriodicOption changes a Periodic.
type PeriodicOption func(*periodic)

// Jitter makes each pause longer by chance, by up to d, so that many processes do
// not act in step. Zero means none.
func Jitter(d time.Duration) PeriodicOption { return func(p *periodic) { p.jitter = d } }

// RunAtStart makes the first iteration at once instead of after one interval.
func RunAtStart() PeriodicOption { return func(p *periodic) { p.atStart = true } }

// SlowAfter says from which duration an iteration counts as slow. Zero, the
// default, means the interval.
func SlowAfter(d time.Duration) PeriodicOption { return func(p *periodic) { p.slowAfter = d } }

// periodic is the state of a Periodic task.
type periodic struct {
	interval, jitter, slowAfter time.Duration
	atStart                     bool
	fn                          func(context.Context) error

	runs    *prometheus.CounterVec
	seconds prometheus.Histogram
	slow    prometheus.Counter
}

// Periodic is a task that calls fn every interval, measured from start to start.
// Iterations never overlap: one that takes longer than the interval is followed
// by the next at once, and the iterations it swallowed are not made up for.
// An error of fn is the task's failure, except a *TryLaterError, which is counted
// and moves the next iteration to its After. The task is ready after the first
// iteration that succeeded. Metrics, each with the label task:
//
//	zonecast_periodic_runs_total{outcome}     iterations
//	zonecast_periodic_run_seconds             how long they took
//	zonecast_periodic_slow_total              those that took longer than SlowAfter
//
// It panics when interval is not positive, which is a mistake in the program.
func Periodic(name string, interval time.Duration, fn func(context.Context) error, opts ...PeriodicOption) Task {
	if interval <= 0 {
		panic(fmt.Sprintf("service: periodic task %s: interval %v is not positive", name, interval))
	}
	p := &periodic{
		interval: interval, slowAfter: interval, fn: fn,
		runs:    newOutcomes(name, "zonecast_periodic_runs_total", "Iterations of a periodic task."),
		seconds: newSeconds(name, "zonecast_periodic_run_seconds", "How long an iteration took."),
		slow:    newCounter(name, "zonecast_periodic_slow_total", "Iterations that took longer than they should."),
	}
	for _, o := range opts {
		o(p)
	}
	if p.slowAfter <= 0 {
		p.slowAfter = interval
	}
	return Task{Name: name, Run: p.run, Collectors: []prometheus.Collector{p.runs, p.seconds, p.slow}}
}

func (p *periodic) run(ctx context.Context) error {
	pause := p.interval + p.chance()
	if p.atStart {
		pause = p.chance()
	}
	for {
		if err := sleep(ctx, pause); err != nil {
			return nil
		}
		start := time.Now()
		err := protect(func() error { return p.fn(ctx) })
		took := time.Since(start)
		p.seconds.Observe(took.Seconds())
		if took > p.slowAfter {
			p.slow.Inc()
		}
		if ctx.Err() != nil && outcome(err) == "error" {
			return err // cut short by the stop: not an iteration that failed
		}
		p.runs.WithLabelValues(outcome(err)).Inc()
		pause = max(0, p.interval-took) + p.chance()
		if later, ok := asTryLater(err); ok {
			if later.After > 0 {
				pause = later.After
			}
			continue
		}
		if err != nil {
			return err
		}
		Ready(ctx)
	}
}

// chance is a duration from zero to the jitter.
func (p *periodic) chance() time.Duration {
	if p.jitter <= 0 {
		return 0
	}
	return rand.N(p.jitter + 1)
}
