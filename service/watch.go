package service

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Pauses between the ends of a watch and the next try to open it.
const (
	watchMinPause = 100 * time.Millisecond // a store that restarts is back within a second
	watchMaxPause = 10 * time.Second       // what a reader may lag behind a store that came back
)

// ErrWatchEnded is why a watch is opened again when its channel was closed.
var ErrWatchEnded = errors.New("the watch ended")

// Watch is a task that opens a channel and handles what comes out of it, one at a
// time. When open fails or the channel is closed it opens again, after a pause
// that doubles from 100 ms to 10 s and starts over once something was received;
// open's context ends before it is called again. An error of handle is the task's
// failure, except a *TryLaterError, which closes the watch and opens it again
// after its After: a watch that starts over sees everything, so nothing is lost.
// The task is ready when the first open succeeded.
// Metrics, each with the label task:
//
//	zonecast_watch_opens_total{outcome}   calls of open
//	zonecast_watch_open                   1 while the watch is open
//	zonecast_watch_items_total{outcome}   calls of handle
//	zonecast_watch_handle_seconds         how long they took
func Watch[T any](name string, open func(ctx context.Context) (<-chan T, error), handle func(context.Context, T) error) Task {
	w := &watch[T]{
		open: open, handle: handle,
		opens: newOutcomes(name, "zonecast_watch_opens_total", "Times a watch was opened."),
		isOpen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "zonecast_watch_open", Help: "1 while the watch is open.", ConstLabels: prometheus.Labels{"task": name},
		}),
		items:   newOutcomes(name, "zonecast_watch_items_total", "Items a watch handled."),
		seconds: newSeconds(name, "zonecast_watch_handle_seconds", "How long handling an item took."),
	}
	return Task{Name: name, Run: w.run, Collectors: []prometheus.Collector{w.opens, w.isOpen, w.items, w.seconds}}
}

type watch[T any] struct {
	open   func(context.Context) (<-chan T, error)
	handle func(context.Context, T) error

	opens, items *prometheus.CounterVec
	isOpen       prometheus.Gauge
	seconds      prometheus.Histogram
}

func (w *watch[T]) run(ctx context.Context) error {
	pauses := newBackoff(watchMinPause, watchMaxPause)
	for ctx.Err() == nil {
		received, err := w.once(ctx)
		if ctx.Err() != nil && outcome(err) != "panic" {
			return nil
		}
		if received {
			pauses.reset()
		}
		pause := pauses.next()
		if later, ok := asTryLater(err); ok && later.After > 0 {
			pause = later.After
		}
		var failed *handleError
		if errors.As(err, &failed) {
			return failed.err
		}
		if sleep(ctx, pause) != nil {
			return nil
		}
	}
	return nil
}

// handleError is an error that opening again cannot mend.
type handleError struct{ err error }

func (e *handleError) Error() string { return e.err.Error() }

// once opens the watch and handles items until something goes wrong.
func (w *watch[T]) once(ctx context.Context) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var items <-chan T
	err = protect(func() (err error) { items, err = w.open(ctx); return err })
	w.opens.WithLabelValues(outcome(err)).Inc()
	if outcome(err) == "panic" {
		return false, &handleError{err}
	}
	if err != nil {
		return false, err
	}
	w.isOpen.Set(1)
	defer w.isOpen.Set(0)
	Ready(ctx)
	for {
		select {
		case <-ctx.Done():
			return received, context.Cause(ctx)
		case item, ok := <-items:
			if !ok {
				return received, ErrWatchEnded
			}
			received = true
			start := time.Now()
			err := protect(func() error { return w.handle(ctx, item) })
			w.seconds.Observe(time.Since(start).Seconds())
			w.items.WithLabelValues(outcome(err)).Inc()
			if _, later := asTryLater(err); later {
				return received, err
			}
			if err != nil {
				return received, &handleError{err}
			}
		}
	}
}
