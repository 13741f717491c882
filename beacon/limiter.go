package beacon

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// limiter bounds what a client, or a prefix of them, does in a minute. They share counters by a hash that
// nobody can foresee: memory is bounded, and in a flood from many some are taken for others.
type limiter struct {
	most   uint32
	seed   maphash.Seed
	counts []uint32
	began  time.Time
}

const (
	limiterCounters = 1 << 16
	limiterWindow   = time.Minute
)

func newLimiter(most int) *limiter {
	return &limiter{most: uint32(most), seed: maphash.MakeSeed(), counts: make([]uint32, limiterCounters)}
}

// take tells whether a prefix, of one client or of many, may do one thing more.
func (l *limiter) take(p netip.Prefix, now time.Time) bool {
	if now.Sub(l.began) >= limiterWindow {
		clear(l.counts)
		l.seed, l.began = maphash.MakeSeed(), now
	}
	n := &l.counts[maphash.Comparable(l.seed, p)%limiterCounters]
	if *n >= l.most {
		return false
	}
	*n++
	return true
}
