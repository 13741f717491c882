package ratelimit

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
)

// Action is what becomes of a response.
type Action uint8

// The actions.
const (
	Send Action = iota
	Slip        // send it truncated: header, question and TC
	Drop
	Actions
)

// String is the action's name in metrics.
func (a Action) String() string { return [...]string{"send", "slip", "drop"}[a] }

// bucket is 16 octets, of which four are a set and a cache line.
type bucket struct {
	// full is when the bucket will be full again, in nanoseconds of the caller's
	// clock. Not later than now: it is full, as one that nobody uses.
	full int64
	tag  uint32 // of the hash: bits that did not choose the set
	// limited has the class above limitedBits, and below how many responses were over
	// the limit since the bucket was last full.
	limited uint32
}

const (
	ways        = 4
	limitedBits = 28
	limitedMask = 1<<limitedBits - 1
)

type set [ways]bucket

// pace is the limit of one class in nanoseconds.
type pace struct {
	cost  int64 // of one response; zero: no limit
	burst int64 // that a bucket holds
	debt  int64 // that it remembers at most: burst and window
}

// Limiter is the table of one worker. The zero Limiter sends everything. Account is
// for one goroutine at a time; Counters and Events are for any.
type Limiter struct {
	sets           []set
	key            key
	paces          [Classes]pace
	slip, leak     uint32 // zero: never
	mask4          uint32
	mask6          uint64
	bits4, bits6   int
	exempt         []netip.Prefix
	counters       Counters
	events         ring
}

// Counters counts responses by the class that decided and what became of them. Those
// of class All are counted only when All limited them.
type Counters [Classes][Actions]atomic.Uint64

// New makes the table of one worker. Its seed must be secret, and may be the same
// for all workers.
func New(c Config, seed Seed) (*Limiter, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure rate limit: %w", err)
	}
	if c.off() {
		return &Limiter{}, nil
	}
	buckets, window, slip := or(c.Buckets, defaultBuckets), or(c.Window, defaultWindow), or(c.Slip, defaultSlip)
	l := &Limiter{
		sets: make([]set, buckets/ways), key: newKey(seed), slip: uint32(max(slip, 0)), leak: uint32(c.Leak),
		bits4: or(c.IPv4Prefix, defaultIPv4Prefix), bits6: or(c.IPv6Prefix, defaultIPv6Prefix),
		exempt: append([]netip.Prefix(nil), c.Exempt...),
	}
	l.mask4, l.mask6 = math.MaxUint32<<(32-l.bits4), math.MaxUint64<<(64-l.bits6)
	workers := int64(or(c.Workers, 1))
	for class, rate := range c.rates() {
		if rate > 0 {
			p := &l.paces[class]
			p.cost = workers * int64(time.Second) / int64(rate)
			p.burst = p.cost * int64(rate)
			p.debt = p.burst + int64(window)*int64(time.Second)
		}
	}
	return l, nil
}

func or(v, zero int) int {
	if v == 0 {
		return zero
	}
	return v
}

// Account takes one response that is about to be sent to client and tells what to do
// with it. name is a hash of the name that class imputes it to; it need not be keyed.
// now is in nanoseconds since any instant after which the clock has run for a while;
// it may be coarse and may step back.
func (l *Limiter) Account(client netip.Addr, class Class, name uint64, now int64) Action {
	if len(l.sets) == 0 {
		return Send
	}
	return l.account(client, class, name, now)
}

func (l *Limiter) account(client netip.Addr, class Class, name uint64, now int64) Action {
	prefix, family := l.prefix(client)
	action := Send
	if class == Error {
		name = 0
	}
	if l.paces[class].cost > 0 {
		action = l.spend(client, class, l.key.hash(prefix, name, class, family), now)
	}
	l.counters[class][action].Add(1)
	if l.paces[All].cost == 0 || action == Drop {
		return action
	}
	if a := l.spend(client, All, l.key.hash(prefix, 0, All, family), now); a != Send {
		l.counters[All][a].Add(1)
		return a
	}
	return action
}

// spend takes the cost of one response out of the bucket of hash h.
func (l *Limiter) spend(client netip.Addr, class Class, h uint64, now int64) Action {
	p := &l.paces[class]
	b := l.find(h, class, now)
	if b.full <= now {
		l.recover(b, class, l.network(client), h, now)
		b.full = now
	} else if b.full > now+p.debt {
		b.full = now + p.debt // the clock stepped back
	}
	over := b.full+p.cost > now+p.burst
	b.full = min(b.full+p.cost, now+p.debt)
	if !over {
		return Send
	}
	if l.isExempt(client) {
		return Send
	}
	n := b.limited&limitedMask + 1
	if n == 1 {
		l.events.add(Event{Time: now, Prefix: l.network(client), Class: class, Bucket: h, Began: true})
	}
	if n == limitedMask {
		n = 1 + limitedMask/2 // it counts on below, and does not begin again
	}
	b.limited = uint32(class)<<limitedBits | n
	switch {
	case l.leak > 0 && n%l.leak == 0:
		return Send
	case l.slip > 0 && n%l.slip == 0:
		return Slip
	}
	return Drop
}

// find gives the bucket of h, which is that of another until now when the set has
// none: the one that is full the soonest.
func (l *Limiter) find(h uint64, class Class, now int64) *bucket {
	s := &l.sets[h&uint64(len(l.sets)-1)]
	tag := uint32(h >> 32)
	least := &s[0]
	for i := range s {
		b := &s[i]
		if b.tag == tag {
			return b
		}
		if b.full < least.full {
			least = b
		}
	}
	l.recover(least, Class(least.limited>>limitedBits), netip.Prefix{}, l.bucketOf(h, least.tag), now)
	*least = bucket{full: math.MinInt64, tag: tag, limited: uint32(class) << limitedBits}
	return least
}
