package tinydns

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// dialect is what differs between the two servers when records become sets.
type dialect struct {
	// choose is how many of n addresses are answered, zero for all.
	choose func(t record.Type, n int) int
	// weighted: addresses are chosen by weight, so that one that is there twice has
	// the weight of both.
	weighted bool
	// note reports what a set cannot say; err puts the place before an error.
	note func(place uint32, format string, args ...any)
	err  func(place uint32, err error) error
}

// sets gives all records as sets. The collector is used up.
func (c *collector) sets(d dialect) ([]record.Set, error) {
	order := c.inOrder()
	index, n := c.byOwner(order)
	c.slots = nil
	b := assembler{
		c: c, d: d,
		sets: make([]record.Set, 0, n),
		data: make([]record.Rdata, 0, c.entries.n),
	}
	for len(index) > 0 {
		k, first := 1, c.entries.at(index[0])
		for k < len(index) {
			if e := c.entries.at(index[k]); e.node != first.node || c.compareKeys(first, e) != 0 {
				break
			}
			k++
		}
		if err := b.add(index[:k]); err != nil {
			return nil, err
		}
		index = index[k:]
	}
	return b.sets, nil
}

// assembler makes sets of entries that are together. The RDATA of all sets is one
// slice of strings.
type assembler struct {
	c     *collector
	d     dialect
	sets  []record.Set
	data  []record.Rdata
	terms []record.Terms // of the set being made
}

func (b *assembler) add(index []uint32) error {
	if b.c.entries.at(index[0]).typ == record.TypeSOA {
		var err error
		if index, err = b.firstSOA(index); err != nil {
			return err
		}
	}
	if len(index) > 1 {
		slices.SortStableFunc(index, func(x, y uint32) int {
			return cmp.Compare(b.c.get(b.c.entries.at(x).data), b.c.get(b.c.entries.at(y).data))
		})
	}
	first := b.c.entries.at(index[0])
	s := record.Set{RRset: record.RRset{
		Key: record.Key{Owner: b.c.name(first.node), Type: first.typ, Location: b.c.locs[first.loc]},
	}}
	from := len(b.data)
	b.terms = b.terms[:0]
	for _, i := range index {
		e := b.c.entries.at(i)
		t := b.c.terms[e.terms]
		one := record.Terms{TTL: e.ttl, Weight: t.weight, From: t.from, Until: t.until}
		data := record.Rdata(b.c.get(e.data))
		if k := len(b.data); k > from && b.data[k-1] == data {
			if err := b.again(s.Key, &b.terms[len(b.terms)-1], one, e); err != nil {
				return err
			}
			continue
		}
		b.data, b.terms = append(b.data, data), append(b.terms, one)
	}
	s.Data = b.data[from:len(b.data):len(b.data)]
	b.say(&s)
	s.Choose = b.d.choose(s.Type, len(s.Data))
	if err := s.Check(); err != nil {
		return b.d.err(b.c.entries.at(index[len(index)-1]).place, err)
	}
	b.sets = append(b.sets, s)
	return nil
}

// say gives the set its TTL, and terms if its records need any.
func (b *assembler) say(s *record.Set) {
	s.TTL = math.MaxUint32
	plain := true
	for _, t := range b.terms {
		s.TTL = min(s.TTL, t.TTL)
		plain = plain && t == record.Terms{TTL: b.terms[0].TTL, Weight: 1}
	}
	if !plain {
		s.Terms = slices.Clone(b.terms)
	}
}

// again joins a record to an equal one that is there already: a set has each once.
func (b *assembler) again(k record.Key, have *record.Terms, more record.Terms, e *entry) error {
	if b.d.weighted && (k.Type == record.TypeA || k.Type == record.TypeAAAA) {
		have.Weight = uint32(min(uint64(have.Weight)+uint64(more.Weight), math.MaxUint32))
		b.d.note(e.place, "%s: the same record again: the weights are added", k)
		more.Weight = have.Weight
	}
	if *have == more {
		return nil
	}
	if have.From == more.From && have.Until == more.Until {
		b.d.note(e.place, "%s: the same record with TTL %d and %d: the lower is taken", k, have.TTL, more.TTL)
		have.TTL = min(have.TTL, more.TTL)
		return nil
	}
	early, late := *have, more
	if late.From < early.From {
		early, late = late, early
	}
	if early.Until != 0 && early.Until < late.From {
		return b.d.err(e.place, fmt.Errorf("%s: the same record holds twice with a pause between, until %d and from %d (unix seconds): one record cannot say that. Leave one of the lines out",
			k, early.Until, late.From))
	}
	out := record.Terms{Weight: have.Weight, From: early.From, TTL: early.TTL}
	if early.Until != 0 && late.Until != 0 {
		out.Until = max(early.Until, late.Until)
	}
	if out.TTL == 0 && out.Until == 0 {
		out.TTL = late.TTL // a TTL of zero belonged to the end that is no more
	}
	b.d.note(e.place, "%s: the same record for two times that meet: it holds for both, with TTL %d", k, out.TTL)
	*have = out
	return nil
}

// firstSOA makes of several SOA records, of which the first that holds is answered,
// records of which one holds at a time: each but the first loses the time of those
// before it, and is left out if nothing remains. Times here are half lines, and what
// is left of one is an interval.
func (b *assembler) firstSOA(index []uint32) ([]uint32, error) {
	if len(index) == 1 {
		return index, nil
	}
	out := index[:0:0]
	var before []terms
	for _, i := range index {
		e := b.c.entries.at(i)
		own := b.c.terms[e.terms]
		left, some := own, true
		for _, t := range before {
			left, some = left.without(t)
			if !some {
				break
			}
		}
		before = append(before, own)
		if !some {
			continue
		}
		var err error
		if e.terms, err = b.c.termsID(left); err != nil {
			return nil, err
		}
		out = append(out, i)
		if len(before) > maxSOA {
			return nil, b.d.err(e.place, fmt.Errorf("%s has more than %d SOA records", b.c.name(e.node), maxSOA))
		}
		if own.from == 0 && own.until == 0 {
			break
		}
	}
	return out, nil
}

// maxSOA bounds the SOA records of a name that hold at some time: far more than times
// that anybody plans.
const maxSOA = 1000

// without gives t without the time of before, a half line or all; false: nothing.
func (t terms) without(before terms) (terms, bool) {
	switch {
	case before.from == 0 && before.until == 0:
		return t, false
	case before.until == 0:
		if t.until == 0 || t.until > before.from {
			t.until = before.from
		}
	default:
		t.from = max(t.from, before.until)
	}
	return t, t.until == 0 || t.from < t.until
}
