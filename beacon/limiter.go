package beacon

import (
	"hash/maphash"
	"time"
)

// limiter bounds what somebody - a client, a prefix of them - does in a minute. They share counters by a
// hash that nobody can foresee: memory is bounded, and in a flood from many some are taken for others.
type limiter struct {
	most   uint32
	seed   maphash.Seed
	counts []uint32
	began  time.Time
}

const (
	// leastCounters suit the default of Config.Most: those who measure in two minutes are four
	// to a counter then, where a counter is of a client who has six times.
	leastCounters = 1 << 16
	limiterWindow = time.Minute
)

// newLimiter makes one for about as many measurements under way.
func newLimiter(most, measurements int) *limiter {
	n := leastCounters
	for n < measurements/4 {
		n *= 2
	}
	return &limiter{most: uint32(most), seed: maphash.MakeSeed(), counts: make([]uint32, n)}
}

// counter is that of who.
func counter[T comparable](l *limiter, who T, now time.Time) *uint32 {
	if now.Sub(l.began) >= limiterWindow {
		clear(l.counts)
		l.seed, l.began = maphash.MakeSeed(), now
	}
	return &l.counts[maphash.Comparable(l.seed, who)%uint64(len(l.counts))]
}

// room tells whether who may do one thing more.
func room[T comparable](l *limiter, who T, now time.Time) bool { return *counter(l, who, now) < l.most }

// take tells whether who may do one thing more, and counts it.
func take[T comparable](l *limiter, who T, now time.Time) bool {
	n := counter(l, who, now)
	if *n >= l.most {
		return false
	}
	*n++
	return true
}
