package beacon

import (
	"sync"
	"time"
)

// clock is the wall clock for tokens, as it does not go back while the process lives: with one that does,
// tokens would be good again that were reported so long ago that nobody knows of it. Where the wall clock goes
// back, time goes on from where it was; where it goes forward, it is followed.
type clock struct {
	// read gives the wall clock, and one that only ever goes on, from any beginning.
	read func() (wall time.Time, elapsed time.Duration)
	// back is called once when the wall clock went back by more than the bound.
	back func(by time.Duration)

	mu   sync.Mutex    // guards below
	wall time.Time     // what the clock said at
	at   time.Duration // this time, elapsed
	told bool
}

// backBound is how far the wall clock may go back without a word: less than tokens notice.
const backBound = time.Second

func newClock(back func(by time.Duration)) *clock {
	began := time.Now()
	return &clock{back: back, read: func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(began) // without and by the monotonic reading
	}}
}

func (c *clock) now() time.Time {
	wall, elapsed := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	steady := c.wall.Add(elapsed - c.at)
	if !c.wall.IsZero() && wall.Before(steady) {
		if by := steady.Sub(wall); by > backBound && !c.told {
			c.told = true
			c.back(by)
		}
		return steady
	}
	c.wall, c.at = wall, elapsed
	return wall
}
