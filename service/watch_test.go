package service_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/service"
)

// feed sends items until ctx ends, then closes the channel at once if it ended by
// itself.
func feed(ctx context.Context, items ...int) <-chan int {
	c := make(chan int)
	go func() {
		defer close(c)
		for _, i := range items {
			select {
			case c <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

func TestWatchOpensAgain(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		var opened []time.Duration
		var contexts []context.Context
		var got []int
		began := time.Now()
		reg, err := runFor(t, 5*time.Second, service.Watch("w", func(ctx context.Context) (<-chan int, error) {
			for i, c := range contexts {
				if c.Err() == nil {
					t.Errorf("open %d: the context of open %d is still alive", len(contexts), i)
				}
			}
			opened = append(opened, time.Since(began))
			contexts = append(contexts, ctx)
			switch n := len(opened); {
			case n <= 3:
				return nil, errors.New("the store is away")
			case n == 4:
				return feed(ctx, 1, 2), nil // ends by itself
			}
			c := make(chan int, 1)
			c <- 3
			return c, nil
		}, func(_ context.Context, i int) error { got = append(got, i); return nil }))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]int{1, 2, 3}, got); diff != "" {
			t.Errorf("items (-want +got):\n%s", diff)
		}
		if len(opened) != 5 {
			t.Fatalf("opened at %v, want 5 times", opened)
		}
		// Doubling while nothing is received, and from the start again after that.
		for i, longest := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 100 * time.Millisecond} {
			if pause := opened[i+1] - opened[i]; pause > longest || pause < longest*3/4 {
				t.Errorf("pause %d was %v, want from %v to %v", i+1, pause, longest*3/4, longest)
			}
		}
		for labels, want := range map[string]float64{"outcome=ok": 2, "outcome=error": 3} {
			if got := metric(t, reg, "zonecast_watch_opens_total", labels); got != want {
				t.Errorf("opens with %s: %v, want %v", labels, got, want)
			}
		}
		if got := metric(t, reg, "zonecast_watch_items_total", "outcome=ok"); got != 3 {
			t.Errorf("items %v, want 3", got)
		}
	})
}

func TestWatchHandleErrors(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		opens, handled := 0, 0
		broken := errors.New("broken")
		began := time.Now()
		_, err := runFor(t, time.Hour, service.Watch("w", func(ctx context.Context) (<-chan int, error) {
			opens++
			return feed(ctx, 1), nil
		}, func(context.Context, int) error {
			if handled++; handled == 1 {
				return service.TryLater(time.Minute, nil)
			}
			return broken
		}))
		if !errors.Is(err, broken) || opens != 2 {
			t.Errorf("opened %d times, error %v; want 2 and %v", opens, err, broken)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("tried again after %v, want 1m", took)
		}
		for name, w := range map[string]service.Task{
			"open":   service.Watch("w", func(context.Context) (<-chan int, error) { panic("open") }, nil),
			"handle": service.Watch("w", func(ctx context.Context) (<-chan int, error) { return feed(ctx, 1), nil }, func(context.Context, int) error { panic("handle") }),
		} {
			_, err := runFor(t, time.Hour, w)
			var p *service.PanicError
			if !errors.As(err, &p) || p.Value != name {
				t.Errorf("panic in %s: error %v", name, err)
			}
		}
	})
}
