package service

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Task is one thing a service does for as long as it lives.
type Task struct {
	// Name is unique in the service; it labels the task's metrics and errors.
	Name string
	// Run works until ctx ends, then returns what it could not do (nil or ctx's own
	// error: nothing). Returning before ctx has ended counts as a failure, also with
	// nil, unless Once is set. A failure or a panic ends the service, or restarts the
	// task when Restart says so.
	Run func(ctx context.Context) error
	// Once says that Run has an end of its own: nil means that the work is done and
	// the service goes on without the task.
	Once bool
	// WaitReady is how long the start of the service waits for the task to call
	// Ready before it starts the next one; being late is a failure. Zero: the task
	// counts as ready at once.
	WaitReady time.Duration
	// Grace is how long a stop waits for Run to return. Zero means Config.Grace.
	Grace time.Duration
	// Restart is what happens when Run fails. The zero value ends the service.
	Restart Restart
	// Detail says in a line what of the task the status should tell; may be nil. It is
	// called at any time.
	Detail func() string
	// Collectors are the task's metrics; Service.Add registers them.
	Collectors []prometheus.Collector
}

// Restart is a policy: run a failed task again after a pause that doubles from
// Min to Max, each pause up to a quarter shorter by chance so that many processes
// do not come back in step.
type Restart struct {
	// Min is the pause after the first failure. Zero means never restart: a failure
	// ends the service.
	Min time.Duration
	// Max bounds the pause; a run that lasted longer than Max brings the pause back
	// to Min. Zero means 32 times Min.
	Max time.Duration
	// Limit is the number of failures in a row after which the service ends all the
	// same. Zero means no limit.
	Limit int
}

// readyKey is the context key under which a task finds its ready function.
type readyKey struct{}

// Ready tells the service that the task whose context this is can be relied on by
// the tasks after it. Calling it again, or outside a service, does nothing.
func Ready(ctx context.Context) {
	if f, ok := ctx.Value(readyKey{}).(func()); ok {
		f()
	}
}

// PanicError is a panic in a task, as an error.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap gives the panic's value when that was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// protect calls f and turns a panic into a *PanicError. runtime.Goexit, which
// t.FailNow uses, is passed on: it is no panic.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// TryLaterError says that work could not be done now and that this is no fault:
// a Periodic, Queue or Watch counts it and tries again after a pause.
type TryLaterError struct {
	// After is the pause. Zero means the pause the task would make anyway.
	After time.Duration
	// Cause says why, for the status; may be nil.
	Cause error
}

// TryLater makes a *TryLaterError.
func TryLater(after time.Duration, cause error) error {
	return &TryLaterError{After: after, Cause: cause}
}

func (e *TryLaterError) Error() string {
	s := "try later"
	if e.After > 0 {
		s = fmt.Sprintf("try again in %v", e.After)
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *TryLaterError) Unwrap() error { return e.Cause }

// asTryLater finds a *TryLaterError in err.
func asTryLater(err error) (*TryLaterError, bool) {
	var t *TryLaterError
	ok := errors.As(err, &t)
	return t, ok
}

// outcome is the label value that counts err.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var p *PanicError
	if errors.As(err, &p) {
		return "panic"
	}
	if _, ok := asTryLater(err); ok {
		return "try_later"
	}
	return "error"
}

// outcomes are all values outcome can give, so that counters start at zero.
var outcomes = [...]string{"ok", "error", "try_later", "panic"}

// newOutcomes makes a counter by outcome with all its series at zero.
func newOutcomes(task, name, help string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels{"task": task},
	}, []string{"outcome"})
	for _, o := range outcomes {
		c.WithLabelValues(o)
	}
	return c
}

// newSeconds makes a histogram of durations from 100 µs to 105 s in steps of 4,
// with native buckets for those who scrape them.
func newSeconds(task, name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels{"task": task},
		Buckets:                         prometheus.ExponentialBuckets(100e-6, 4, 11),
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	})
}

// newCounter makes a counter of one task.
func newCounter(task, name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels{"task": task},
	})
}

// sleep waits for d or the end of ctx, whose cause it then gives.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
