package protocol

import (
	"math"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/record"
)

// bitset is a set of records of one RRset, by their number.
type bitset [65536 / 64]uint64

func (s *bitset) has(i int) bool { return s[i/64]>>(i%64)&1 != 0 }
func (s *bitset) set(i int)      { s[i/64] |= 1 << (i % 64) }

// lot is what a record drew.
type lot struct {
	key        float64
	set, index int
}

// maxChosen bounds the records that are chosen for one answer.
const maxChosen = 64

// choose marks in k.chosen which records of k.views are answered: those that hold
// now, at most as many as the RRsets say, by weighted sampling without replacement
// (Efraimidis, Spirakis 2006): those with the largest u^(1/w), u uniform in (0, 1),
// which is the least -ln(u)/w.
func (a *answer) choose() {
	k := a.k
	most, held, weighted := 0, 0, false
	for n := range k.views {
		v := &k.views[n]
		most = max(most, v.Choose)
		clear(k.chosen[n][:(v.Count+63)/64])
		for i := range v.Count {
			if t := v.Terms(i); data.Holds(t, a.q.Now) {
				held++
				weighted = weighted || t.Weight > 0
				k.chosen[n].set(i)
			}
		}
	}
	if most == 0 || held == 0 {
		return
	}
	k.lots = k.lots[:0]
	for n := range k.views {
		v := &k.views[n]
		for i := range v.Count {
			if !k.chosen[n].has(i) {
				continue
			}
			w := 1.0
			if weighted {
				w = float64(v.Terms(i).Weight)
			}
			if w > 0 {
				k.draw(lot{exponential(&k.random) / w, n, i}, min(most, maxChosen))
			}
		}
		clear(k.chosen[n][:(v.Count+63)/64])
	}
	for _, l := range k.lots {
		k.chosen[l.set].set(l.index)
	}
}

// draw keeps the most lots with the least keys, in order.
func (k *Worker) draw(l lot, most int) {
	at := len(k.lots)
	for at > 0 && k.lots[at-1].key > l.key {
		at--
	}
	if at == most {
		return
	}
	if len(k.lots) < most {
		k.lots = append(k.lots, lot{})
	}
	copy(k.lots[at+1:], k.lots[at:])
	k.lots[at] = l
}

// remaining is the TTL of a record that holds now. One that ends and has no TTL of
// its own is cached until about its end, for 2 to 3600 seconds (djbdns tdlookup.c).
func remaining(t record.Terms, now int64) uint32 {
	if t.TTL == 0 && t.Until != 0 {
		return uint32(min(max(t.Until-1-now, 2), 3600))
	}
	return t.TTL
}

// random is xorshift64* (Vigna 2016): good enough to spread load, not a secret.
type random uint64

func (r *random) next() uint64 {
	x := uint64(*r)
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*r = random(x)
	return x * 0x2545f4914f6cdd1d
}

// exponential is -ln of a uniform number in (0, 1).
func exponential(r *random) float64 {
	return -math.Log((float64(r.next()>>11) + 0.5) / (1 << 53))
}
