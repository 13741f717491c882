package ratelimit

import (
	"fmt"
	"math"
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
	sets         []set
	key          key
	paces        [Classes]pace
	slip, leak   uint32 // zero: never
	mask4        uint32
	mask6        uint64
	bits4, bits6 int
	exempt       []netip.Prefix
	swept        int // the set that the next Sweep begins with
	counters     Counters
	events       ring
}

// Counters counts each response once: by the class that decided, and what became
// of it.
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

// Counters are those of this worker; they only grow.
func (l *Limiter) Counters() *Counters { return &l.counters }

// Account takes one response that is about to be sent to client and tells what to do
// with it. name is a hash of the name that class imputes it to; it need not be keyed.
// now is in nanoseconds, more than 0, of a clock that does not step back; it may be
// coarse.
func (l *Limiter) Account(client netip.Addr, class Class, name uint64, now int64) Action {
	if len(l.sets) == 0 {
		return Send
	}
	return l.account(client.Unmap(), class, name, now)
}

func (l *Limiter) account(client netip.Addr, class Class, name uint64, now int64) Action {
	prefix, family := l.prefix(client)
	if class == Error {
		name = 0
	}
	action := Send
	if l.paces[class].cost > 0 {
		action = l.spend(client, class, l.key.hash(prefix, name, class, family), now)
	}
	if l.paces[All].cost > 0 && action != Drop {
		if a := l.spend(client, All, l.key.hash(prefix, 0, All, family), now); a != Send {
			class, action = All, a
		}
	}
	l.counters[class][action].Add(1)
	return action
}

// spend takes the cost of one response out of the bucket of hash h.
func (l *Limiter) spend(client netip.Addr, class Class, h uint64, now int64) Action {
	p := &l.paces[class]
	b := l.find(h, class, now)
	switch {
	case b.full <= now:
		l.recovered(b, l.id(h, b.tag), client, now)
		b.full = now
	case b.full > now+p.debt: // the clock stepped back after all
		b.full = now
	}
	over := b.full+p.cost > now+p.burst
	b.full = min(b.full+p.cost, now+p.debt)
	if !over || l.isExempt(client) {
		return Send
	}
	return l.limit(b, l.id(h, b.tag), client, class, now)
}

// limit chooses the action for a response over the limit.
func (l *Limiter) limit(b *bucket, id uint64, client netip.Addr, class Class, now int64) Action {
	n := b.limited&limitedMask + 1
	switch n {
	case 1:
		l.events.add(Event{Time: now, Client: l.network(client), Class: class, Bucket: id, Began: true})
	case limitedMask:
		n /= 2 // it goes on counting and does not begin again
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

// find gives the bucket of h. When the set has none it is that of another until now:
// the one that is full the soonest.
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
	l.recovered(least, l.id(h, least.tag), netip.Addr{}, now)
	*least = bucket{tag: tag, limited: uint32(class) << limitedBits} // full since ever
	return least
}

// id tells a bucket from all others for as long as it is in the table: by its tag,
// and the set that h chooses.
func (l *Limiter) id(h uint64, tag uint32) uint64 {
	return uint64(tag)<<32 | h&uint64(len(l.sets)-1)
}

// recovered ends the limit of a bucket, when there was one. client is zero when it
// is not known.
func (l *Limiter) recovered(b *bucket, id uint64, client netip.Addr, now int64) {
	n := b.limited & limitedMask
	if n == 0 {
		return
	}
	b.limited &^= limitedMask
	l.events.add(Event{Time: now, Client: l.network(client), Class: Class(b.limited >> limitedBits), Bucket: id, Limited: n})
}

// sweepSets is how many sets one Sweep visits: 64 KiB.
const sweepSets = 1024

// Sweep finds some of the limits that ended because nobody asks any more; without it
// their events come when the bucket is used again. The worker calls it now and then:
// 16 calls go once through a table of the default size.
func (l *Limiter) Sweep(now int64) {
	for range min(sweepSets, len(l.sets)) {
		s := &l.sets[l.swept]
		for i := range s {
			if b := &s[i]; b.full <= now {
				l.recovered(b, l.id(uint64(l.swept), b.tag), netip.Addr{}, now)
			}
		}
		l.swept = (l.swept + 1) & (len(l.sets) - 1)
	}
}

func (l *Limiter) isExempt(client netip.Addr) bool {
	for _, p := range l.exempt {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// network gives the prefix that is one client; that of the zero Addr is zero.
func (l *Limiter) network(client netip.Addr) netip.Prefix {
	n := l.bits6
	if client.Is4() {
		n = l.bits4
	}
	p, err := client.WithZone("").Prefix(n)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
