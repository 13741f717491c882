package beacon

import (
	"testing"
	"time"
)

// A wall clock that goes back does not make old tokens good again; one that goes forward is followed.
func TestClock(t *testing.T) {
	wall, elapsed := time.Unix(1_800_000_000, 0), 7*time.Second
	var back []time.Duration
	c := &clock{read: func() (time.Time, time.Duration) { return wall, elapsed }, back: func(by time.Duration) { back = append(back, by) }}
	begin := wall
	for i, step := range []struct {
		jump, passed time.Duration // of the wall clock, and of time
		want         time.Duration // since the beginning
		told         int
	}{
		{0, 0, 0, 0},
		{0, time.Minute, time.Minute, 0},
		{-100 * time.Millisecond, time.Minute, 2 * time.Minute, 0}, // as NTP does
		{-time.Hour, time.Minute, 3 * time.Minute, 1},
		{0, 30 * time.Minute, 33 * time.Minute, 1},
		{-time.Hour, time.Minute, 34 * time.Minute, 1},
		{3 * time.Hour, time.Minute, 35*time.Minute + time.Hour - 100*time.Millisecond, 1},
	} {
		wall, elapsed = wall.Add(step.jump+step.passed), elapsed+step.passed
		if got := c.now().Sub(begin); got != step.want || len(back) != step.told {
			t.Errorf("step %d: %v and told %v, expected %v and %d", i, got, back, step.want, step.told)
		}
	}
	real := newClock(func(by time.Duration) { t.Errorf("back by %v", by) })
	before := time.Now()
	if got := real.now(); got.Before(before.Round(0)) || got.Sub(before) > time.Minute {
		t.Errorf("now is %v, expected %v", got, before)
	}
}
