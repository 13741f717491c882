package tap

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// So many in a second and no more, whatever the clock does, and by whoever.
func TestBudget(t *testing.T) {
	b := budget{most: 100}
	took := func(at time.Time, tries int) (n int) {
		for range tries {
			if b.take(at) {
				n++
			}
		}
		return n
	}
	if n := took(queried, 1000); n != 10 {
		t.Errorf("%d in a tenth of a second, expected 10", n)
	}
	if n := took(queried.Add(-100*time.Millisecond), 1000); n != 0 {
		t.Errorf("%d for who is late by a window, expected 0", n)
	}
	all := 0
	for ms := range 1000 {
		all += took(queried.Add(time.Second+time.Duration(ms)*time.Millisecond), 50)
	}
	if all < 90 || all > 110 {
		t.Errorf("%d in a second, expected 100", all)
	}
	if n := took(queried.Add(-24*time.Hour), 50); n != 10 {
		t.Errorf("%d after the clock went back a day, expected 10", n)
	}
	b.most = NoRate
	if n := took(queried, 1000); n != 1000 {
		t.Errorf("%d of 1000 without a bound", n)
	}
	b.most = 1 // less than the windows
	if n := took(queried.Add(time.Hour), 1000); n != 1 {
		t.Errorf("%d, expected 1", n)
	}

	var together sync.WaitGroup
	var n atomic.Int64
	b.most = 10_000
	for range 8 {
		together.Go(func() {
			for range 10_000 {
				if b.take(queried.Add(2 * time.Hour)) {
					n.Add(1)
				}
			}
		})
	}
	if together.Wait(); n.Load() != 1000 {
		t.Errorf("%d by eight in a tenth of a second, expected 1000", n.Load())
	}
}

// What is over the rate is counted as lost, and takes no place in the queue.
func TestAlwaysRate(t *testing.T) {
	tap, err := Open(Config{Socket: "/nowhere", Queue: 16, AlwaysRate: 100}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, within := tap.NewWorker(), 0
	for range 1000 {
		if w.Within(queried) {
			within++
		}
	}
	if lost := tap.Counters().Lost; within != 10 || lost != 990 || len(tap.queue.wait) != 0 {
		t.Errorf("%d of 1000 are within the rate and %d lost, expected 10 and 990", within, lost)
	}
	if n := testing.AllocsPerRun(1000, func() { w.Within(queried) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	for _, c := range []Config{{Socket: "s", AlwaysRate: -2}, {Socket: "s", AlwaysRate: maxEvery + 1}} {
		if c.Validate() == nil {
			t.Errorf("rate %d is taken", c.AlwaysRate)
		}
	}
}

// BenchmarkFlood is what each query of a flood costs that is over the rate.
func BenchmarkFlood(b *testing.B) {
	w := always(b, "beacon.example.org")
	q := query(b, "x.esams.beacon.example.org.")
	for b.Loop() {
		if w.Always(q) {
			w.Within(queried)
		}
	}
}
