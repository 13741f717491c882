package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	// ErrQueueFull is why Submit refused an item: max items are waiting or in work.
	ErrQueueFull = errors.New("the queue is full")
	// ErrQueueClosed is why an item was refused or left undone.
	ErrQueueClosed = errors.New("the queue is closed")
)

// Queue is a bounded queue of items and the workers that handle them.
//
// An item is waiting, then in work, then done; a *TryLaterError of fn takes it back
// to waiting after a pause. Metrics, each with the label task:
//
//	zonecast_queue_items                     items that are waiting, paused or in work
//	zonecast_queue_refused_total             items refused because the queue was full
//	zonecast_queue_merged_total              items that joined a waiting one (Dedupe)
//	zonecast_queue_done_total{outcome}       calls of fn
//	zonecast_queue_wait_seconds              from Submit to the start of fn
//	zonecast_queue_run_seconds               how long fn took
type Queue[T any] struct {
	name    string
	workers int
	max     int
	fn      func(context.Context, T) error
	key     func(T) string // nil: no dedupe
	onError func(T, error) // nil: nobody is told

	mu      sync.Mutex // guards below
	closed  bool
	held    int             // items not done, at most max
	waiting []*Job          // in the order they came
	items   map[*Job]T      // of every job not done
	byKey   map[string]*Job // waiting jobs, when key is set
	wake    chan struct{}   // closed and replaced when waiting or closed changes
	room    chan struct{}   // closed and replaced when held shrinks or closed changes

	refused, merged   prometheus.Counter
	done              *prometheus.CounterVec
	waitTime, runTime prometheus.Histogram
	depth             prometheus.GaugeFunc
}

// Job is an item given to a Queue.
type Job struct {
	key   string
	since time.Time
	done  chan struct{}
	err   error // set before done is closed
}

// Wait waits until the item is done and gives fn's error; ErrQueueClosed when the
// queue stopped first; the cause of ctx when that ends first.
func (j *Job) Wait(ctx context.Context) error {
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when Wait would not block.
func (j *Job) Done() <-chan struct{} { return j.done }

// QueueOption changes a Queue.
type QueueOption[T any] func(*Queue[T])

// Dedupe lets an item replace a waiting one with the same key: the newer value is
// handled, in the older one's place, and both submitters wait for that. An item
// already in work is not replaced.
func Dedupe[T any](key func(T) string) QueueOption[T] { return func(q *Queue[T]) { q.key = key } }

// OnError calls f for every item whose handling failed; TryLater is no failure.
func OnError[T any](f func(T, error)) QueueOption[T] { return func(q *Queue[T]) { q.onError = f } }

// NewQueue makes a queue that holds at most max items and handles them by fn in as
// many goroutines as workers says. An error of fn goes to Job.Wait and OnError and
// ends nothing; a panic is the task's failure. It panics when workers or max is
// not positive, which is a mistake in the program.
func NewQueue[T any](name string, workers, max int, fn func(context.Context, T) error, opts ...QueueOption[T]) *Queue[T] {
	if workers <= 0 || max <= 0 {
		panic(fmt.Sprintf("service: queue %s: %d workers and %d items: both must be positive", name, workers, max))
	}
	q := &Queue[T]{
		name: name, workers: workers, max: max, fn: fn,
		items: map[*Job]T{}, byKey: map[string]*Job{},
		wake: make(chan struct{}), room: make(chan struct{}),
		refused:  newCounter(name, "zonecast_queue_refused_total", "Items refused because the queue was full."),
		merged:   newCounter(name, "zonecast_queue_merged_total", "Items that joined a waiting item with the same key."),
		done:     newOutcomes(name, "zonecast_queue_done_total", "Times an item was handled."),
		waitTime: newSeconds(name, "zonecast_queue_wait_seconds", "From the submission of an item to its handling."),
		runTime:  newSeconds(name, "zonecast_queue_run_seconds", "How long handling an item took."),
	}
	q.depth = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "zonecast_queue_items", Help: "Items that are waiting, paused or in work.", ConstLabels: prometheus.Labels{"task": name},
	}, func() float64 { return float64(q.Len()) })
	for _, o := range opts {
		o(q)
	}
	return q
}

// Task is the task that runs the workers. It may be given to one service only.
// When it is told to stop it lets the items in work end (their context ends), and
// those that wait are given ErrQueueClosed.
func (q *Queue[T]) Task() Task {
	return Task{
		Name: q.name, Run: q.run, Once: true,
		Collectors: []prometheus.Collector{q.refused, q.merged, q.done, q.waitTime, q.runTime, q.depth},
	}
}

// Len is the number of items not done.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

// Submit gives the queue an item, or ErrQueueFull, or ErrQueueClosed, at once.
func (q *Queue[T]) Submit(item T) (*Job, error) {
	j, _, err := q.submit(item)
	if err == ErrQueueFull {
		q.refused.Inc()
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", q.name, err)
	}
	return j, nil
}

// SubmitWait is Submit that waits for room until ctx ends.
func (q *Queue[T]) SubmitWait(ctx context.Context, item T) (*Job, error) {
	for {
		j, room, err := q.submit(item)
		if err == nil {
			return j, nil
		}
		if err != ErrQueueFull {
			return nil, fmt.Errorf("queue %s: %w", q.name, err)
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, fmt.Errorf("queue %s: wait for room: %w", q.name, context.Cause(ctx))
		}
	}
}

// submit also gives the channel that is closed when there may be room again.
func (q *Queue[T]) submit(item T) (*Job, <-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, nil, ErrQueueClosed
	}
	key := ""
	if q.key != nil {
		key = q.key(item)
		if j, ok := q.byKey[key]; ok {
			q.items[j] = item
			q.merged.Inc()
			return j, nil, nil
		}
	}
	if q.held >= q.max {
		return nil, q.room, ErrQueueFull
	}
	j := &Job{key: key, since: time.Now(), done: make(chan struct{})}
	q.held++
	q.items[j] = item
	q.enqueue(j)
	return j, nil, nil
}

// enqueue makes j waiting; q.mu is held.
func (q *Queue[T]) enqueue(j *Job) {
	q.waiting = append(q.waiting, j)
	if q.key != nil {
		q.byKey[j.key] = j
	}
	q.signal(&q.wake)
}

// signal wakes everyone who waits on *c; q.mu is held.
func (q *Queue[T]) signal(c *chan struct{}) {
	close(*c)
	*c = make(chan struct{})
}

// Close refuses further items. The workers end once those held are done; a queue
// whose task was never run keeps them.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.signal(&q.wake)
		q.signal(&q.room)
	}
}

func (q *Queue[T]) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, q.workers)
	for i := range q.workers {
		wg.Go(func() {
			if errs[i] = q.work(ctx, &wg); errs[i] != nil {
				cancel(errs[i]) // the other workers end with this one
			}
		})
	}
	Ready(ctx)
	wg.Wait()
	q.abandon()
	return errors.Join(errs...)
}

// work handles items until the queue is closed and empty, or ctx ends. Pauses of
// items are goroutines of wg.
func (q *Queue[T]) work(ctx context.Context, wg *sync.WaitGroup) error {
	for {
		j, item, wake, ok := q.take()
		if !ok {
			return nil
		}
		if j == nil {
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if ctx.Err() != nil {
			q.finish(j, ErrQueueClosed)
			return nil
		}
		start := time.Now()
		q.waitTime.Observe(start.Sub(j.since).Seconds())
		err := protect(func() error { return q.fn(ctx, item) })
		q.runTime.Observe(time.Since(start).Seconds())
		result := outcome(err)
		q.done.WithLabelValues(result).Inc()
		if later, ok := asTryLater(err); ok {
			wg.Go(func() { q.postpone(ctx, j, later.After) })
			continue
		}
		q.finish(j, err)
		if result == "panic" {
			return err
		}
		if err != nil && q.onError != nil {
			q.onError(item, err)
		}
	}
}

// take gives the next waiting job; nil and a channel to wait on when there is none;
// ok is false when there will be none.
func (q *Queue[T]) take() (j *Job, item T, wake <-chan struct{}, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil, item, q.wake, !q.closed || q.held > 0
	}
	j = q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	if q.byKey[j.key] == j {
		delete(q.byKey, j.key)
	}
	return j, q.items[j], nil, true
}

// retryPause is the pause of an item whose TryLater names none.
const retryPause = time.Second

// postpone makes j wait again after a pause. A newer item with its key that came
// meanwhile is left to be handled after it.
func (q *Queue[T]) postpone(ctx context.Context, j *Job, after time.Duration) {
	if after <= 0 {
		after = retryPause
	}
	if sleep(ctx, after) != nil {
		q.finish(j, ErrQueueClosed)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	j.since = time.Now()
	q.waiting = append(q.waiting, j)
	if _, taken := q.byKey[j.key]; q.key != nil && !taken {
		q.byKey[j.key] = j
	}
	q.signal(&q.wake)
}

// finish makes j done.
func (q *Queue[T]) finish(j *Job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settle(j, err)
}

// settle is finish with q.mu held.
func (q *Queue[T]) settle(j *Job, err error) {
	j.err = err
	close(j.done)
	delete(q.items, j)
	q.held--
	q.signal(&q.room)
	if q.closed && q.held == 0 {
		q.signal(&q.wake)
	}
}

// abandon closes the queue and gives up what waits.
func (q *Queue[T]) abandon() {
	q.Close()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.waiting {
		q.settle(j, ErrQueueClosed)
	}
	q.waiting = nil
	clear(q.byKey)
}
