package service_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/service"
)

// startQueue runs q's task as a service; stop ends it.
func startQueue(t *testing.T, task service.Task) (reg *prometheus.Registry, stop func() error) {
	t.Helper()
	reg = prometheus.NewRegistry()
	s := newService(t, service.Config{Registry: reg})
	s.Add(task)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return reg, func() error { cancel(); return <-done }
}

func submit[T any](t *testing.T, q *service.Queue[T], item T) *service.Job {
	t.Helper()
	j, err := q.Submit(item)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestQueueHandlesInOrder(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		odd := errors.New("odd")
		var got, failed []int
		q := service.NewQueue("q", 1, 10, func(_ context.Context, i int) error {
			got = append(got, i)
			if i%2 == 1 {
				return odd
			}
			return nil
		}, service.OnError(func(i int, err error) {
			if err != odd {
				t.Errorf("item %d: %v", i, err)
			}
			failed = append(failed, i)
		}))
		var jobs []*service.Job
		for i := range 5 {
			jobs = append(jobs, submit(t, q, i))
		}
		reg, stop := startQueue(t, q.Task())
		for i, j := range jobs {
			var want error
			if i%2 == 1 {
				want = odd
			}
			if err := j.Wait(t.Context()); err != want {
				t.Errorf("item %d: %v, want %v", i, err, want)
			}
		}
		if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, got); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]int{1, 3}, failed); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		for labels, want := range map[string]float64{"outcome=ok": 3, "outcome=error": 2} {
			if got := metric(t, reg, "zonecast_queue_done_total", labels); got != want {
				t.Errorf("done with %s: %v, want %v", labels, got, want)
			}
		}
		if got := metric(t, reg, "zonecast_queue_run_seconds"); got != 5 {
			t.Errorf("durations %v, want 5", got)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		q := service.NewQueue("q", 1, 2, func(context.Context, int) error { time.Sleep(time.Second); return nil })
		reg, stop := startQueue(t, q.Task())
		submit(t, q, 1)
		submit(t, q, 2)
		synctest.Wait()
		if _, err := q.Submit(3); !errors.Is(err, service.ErrQueueFull) {
			t.Errorf("third item: %v, want %v", err, service.ErrQueueFull)
		}
		if got := metric(t, reg, "zonecast_queue_items"); got != 2 {
			t.Errorf("items %v, want 2", got)
		}
		if got := metric(t, reg, "zonecast_queue_refused_total"); got != 1 {
			t.Errorf("refused %v, want 1", got)
		}
		start := time.Now()
		if _, err := q.SubmitWait(t.Context(), 3); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("waited %v for room, want 1s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := q.SubmitWait(ctx, 4); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no room in time: %v, want %v", err, context.DeadlineExceeded)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueDedupe(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		type item struct {
			key   string
			value int
		}
		var got []item
		release := make(chan struct{})
		q := service.NewQueue("q", 1, 10, func(_ context.Context, i item) error {
			got = append(got, i)
			<-release
			return nil
		}, service.Dedupe(func(i item) string { return i.key }))
		reg, stop := startQueue(t, q.Task())
		submit(t, q, item{"a", 1})
		synctest.Wait()                      // a is in work now
		second := submit(t, q, item{"a", 2}) // waits
		submit(t, q, item{"b", 1})
		third := submit(t, q, item{"a", 3})
		if third != second {
			t.Error("the third item did not join the second")
		}
		if got := q.Len(); got != 3 {
			t.Errorf("length %d, want 3", got)
		}
		close(release)
		if err := third.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]item{{"a", 1}, {"a", 3}, {"b", 1}}, got, cmp.AllowUnexported(item{})); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
		if got := metric(t, reg, "zonecast_queue_merged_total"); got != 1 {
			t.Errorf("merged %v, want 1", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueTryLater(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		q := service.NewQueue("q", 1, 1, func(context.Context, int) error {
			at = append(at, time.Since(began))
			switch len(at) {
			case 1:
				return service.TryLater(time.Minute, nil)
			case 2:
				return service.TryLater(0, nil) // a pause of the queue's own
			}
			return nil
		})
		_, stop := startQueue(t, q.Task())
		j := submit(t, q, 1)
		time.Sleep(time.Second)
		if _, err := q.Submit(2); !errors.Is(err, service.ErrQueueFull) {
			t.Errorf("a paused item gave its place away: %v", err)
		}
		if err := j.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]time.Duration{0, time.Minute, time.Minute + time.Second}, at); diff != "" {
			t.Errorf("tries (-want +got):\n%s", diff)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueClose(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		var handled atomic.Int32
		q := service.NewQueue("q", 2, 10, func(context.Context, int) error {
			if handled.Add(1) == 1 {
				return service.TryLater(time.Minute, nil) // Close waits for this one, too
			}
			return nil
		})
		_, stop := startQueue(t, q.Task())
		jobs := []*service.Job{submit(t, q, 1), submit(t, q, 2), submit(t, q, 3)}
		q.Close()
		q.Close()
		if _, err := q.Submit(4); !errors.Is(err, service.ErrQueueClosed) {
			t.Errorf("item after Close: %v, want %v", err, service.ErrQueueClosed)
		}
		if _, err := q.SubmitWait(t.Context(), 4); !errors.Is(err, service.ErrQueueClosed) {
			t.Errorf("item after Close: %v, want %v", err, service.ErrQueueClosed)
		}
		for _, j := range jobs {
			if err := j.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := stop(); err != nil || handled.Load() != 4 {
			t.Errorf("handled %d times, error %v; want 4 and none", handled.Load(), err)
		}
	})
}

// A stop gives every item an end: those in work their own, the others ErrQueueClosed.
func TestQueueStop(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		q := service.NewQueue("q", 1, 10, func(ctx context.Context, i int) error {
			if i == 0 {
				return service.TryLater(time.Hour, nil)
			}
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil
		})
		_, stop := startQueue(t, q.Task())
		paused := submit(t, q, 0)
		synctest.Wait()
		working, waiting := submit(t, q, 1), submit(t, q, 2)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		for name, c := range map[string]struct {
			job  *service.Job
			want error
		}{"paused": {paused, service.ErrQueueClosed}, "working": {working, nil}, "waiting": {waiting, service.ErrQueueClosed}} {
			if err := c.job.Wait(t.Context()); err != c.want {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if got := q.Len(); got != 0 {
			t.Errorf("%d items are left", got)
		}
	})
}

func TestQueuePanicEndsTheService(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		q := service.NewQueue("q", 3, 10, func(context.Context, int) error { panic("oops") })
		submit(t, q, 1)
		_, err := runFor(t, time.Hour, q.Task())
		var p *service.PanicError
		if !errors.As(err, &p) || p.Value != "oops" {
			t.Errorf("error %v, want the panic", err)
		}
	})
}

// However many submitters, workers and repetitions there are, every accepted item
// ends, the bound holds, and the newest value of each key is handled last.
func TestQueueProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		workers := rapid.IntRange(1, 4).Draw(rt, "workers")
		bound := rapid.IntRange(1, 6).Draw(rt, "max")
		keys := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 40).Draw(rt, "keys")
		bubbletest.Run(t, func(t *testing.T) {
			type item struct{ key, seq int }
			var mu sync.Mutex // guards below
			last := map[int]int{}
			var q *service.Queue[item]
			q = service.NewQueue("q", workers, bound, func(_ context.Context, i item) error {
				if n := q.Len(); n > bound {
					t.Errorf("%d items, bound %d", n, bound)
				}
				time.Sleep(time.Duration(i.key) * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				last[i.key] = max(last[i.key], i.seq)
				return nil
			}, service.Dedupe(func(i item) string { return string(rune('a' + i.key)) }))
			_, stop := startQueue(t, q.Task())
			want := map[int]int{}
			for seq, key := range slices.All(keys) {
				if _, err := q.SubmitWait(t.Context(), item{key, seq + 1}); err != nil {
					t.Error(err)
				}
				want[key] = seq + 1
			}
			q.Close()
			for q.Len() > 0 {
				time.Sleep(time.Millisecond)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, last); diff != "" {
				t.Errorf("newest handled (-want +got):\n%s", diff)
			}
		})
	})
}
