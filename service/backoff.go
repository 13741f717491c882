package service

import (
	"math/rand/v2"
	"time"
)

// backoff gives pauses that double from min to max.
type backoff struct {
	min, max time.Duration
	failures int // in a row
}

// newBackoff makes a backoff; a max of zero means 32 times min.
func newBackoff(lo, hi time.Duration) *backoff {
	if hi <= 0 {
		hi = 32 * lo
	}
	return &backoff{min: lo, max: max(lo, hi)}
}

// reset says that things went well.
func (b *backoff) reset() { b.failures = 0 }

// next counts a failure and gives the pause before the next try: min * 2^(n-1), at
// most max, less up to a quarter by chance.
func (b *backoff) next() time.Duration {
	d := b.min
	for i := 0; i < b.failures && d < b.max; i++ {
		d *= 2
	}
	b.failures++
	d = min(d, b.max)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}
