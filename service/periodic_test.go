package service_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/service"
)

// runFor runs tasks as a service for d.
func runFor(t *testing.T, d time.Duration, tasks ...service.Task) (*prometheus.Registry, error) {
	t.Helper()
	reg := prometheus.NewRegistry()
	s := newService(t, service.Config{Registry: reg})
	s.Add(tasks...)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return reg, s.Run(ctx)
}

func TestPeriodicTimes(t *testing.T) {
	const interval = 10 * time.Second
	tests := map[string]struct {
		opts []service.PeriodicOption
		fn   func(n int) error // n counts from 1
		want []time.Duration   // of the starts, in 44 s
		slow float64
	}{
		"plain":    {nil, func(int) error { return nil }, []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second}, 0},
		"at start": {[]service.PeriodicOption{service.RunAtStart()}, func(int) error { return nil }, []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second}, 0},
		"slow": {nil, func(n int) error {
			if n == 1 {
				time.Sleep(25 * time.Second) // swallows two iterations, which are not made up for
			}
			return nil
		}, []time.Duration{10 * time.Second, 35 * time.Second}, 1},
		"slow threshold": {[]service.PeriodicOption{service.SlowAfter(time.Second)}, func(int) error { time.Sleep(2 * time.Second); return nil }, []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second}, 4},
		"try later": {nil, func(n int) error {
			if n == 2 {
				return service.TryLater(time.Second, errors.New("not the leader"))
			}
			return nil
		}, []time.Duration{10 * time.Second, 20 * time.Second, 21 * time.Second, 31 * time.Second, 41 * time.Second}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubbletest.Run(t, func(t *testing.T) {
				var starts []time.Duration
				began := time.Now()
				reg, err := runFor(t, 44*time.Second, service.Periodic("tick", interval, func(context.Context) error {
					starts = append(starts, time.Since(began))
					return tt.fn(len(starts))
				}, tt.opts...))
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(tt.want, starts); diff != "" {
					t.Errorf("starts (-want +got):\n%s", diff)
				}
				if got := metric(t, reg, "zonecast_periodic_slow_total", "task=tick"); got != tt.slow {
					t.Errorf("slow %v, want %v", got, tt.slow)
				}
				if got := metric(t, reg, "zonecast_periodic_run_seconds", "task=tick"); got < float64(len(starts)) {
					t.Errorf("%v durations, want %d", got, len(starts))
				}
				want := 0.0
				if name == "try later" {
					want = 1
				}
				if got := metric(t, reg, "zonecast_periodic_runs_total", "task=tick", "outcome=try_later"); got != want {
					t.Errorf("try_later %v, want %v", got, want)
				}
			})
		})
	}
}

func TestPeriodicJitter(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		last := time.Now()
		late := 0
		_, err := runFor(t, time.Hour, service.Periodic("tick", time.Second, func(context.Context) error {
			pause := time.Since(last)
			last = time.Now()
			if pause < time.Second || pause > 2*time.Second {
				t.Errorf("pause %v, want from 1s to 2s", pause)
			}
			if pause > 1500*time.Millisecond {
				late++
			}
			return nil
		}, service.Jitter(time.Second)))
		if err != nil {
			t.Error(err)
		}
		if late < 100 {
			t.Errorf("%d pauses were longer than 1.5s, want about half of 2400", late)
		}
	})
}

func TestPeriodicErrorEndsTheService(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		broken := errors.New("broken")
		reg, err := runFor(t, time.Hour, service.Periodic("tick", time.Second, func(context.Context) error { return broken }))
		if !errors.Is(err, broken) {
			t.Errorf("error %v, want %v", err, broken)
		}
		if got := metric(t, reg, "zonecast_periodic_runs_total", "outcome=error"); got != 1 {
			t.Errorf("errors %v, want 1", got)
		}
		reg, err = runFor(t, time.Hour, service.Periodic("tick", time.Second, func(context.Context) error { panic("oops") }))
		var p *service.PanicError
		if !errors.As(err, &p) {
			t.Errorf("error %v, want a panic", err)
		}
		if got := metric(t, reg, "zonecast_periodic_runs_total", "outcome=panic"); got != 1 {
			t.Errorf("panics %v, want 1", got)
		}
	})
}

// An iteration that the stop cuts short is neither a failure nor a success.
func TestPeriodicStopsInsideAnIteration(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		reg, err := runFor(t, 10*time.Second, service.Periodic("tick", time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		if err != nil {
			t.Error(err)
		}
		if got := metric(t, reg, "zonecast_periodic_runs_total"); got != 0 {
			t.Errorf("iterations counted: %v, want 0", got)
		}
	})
}
