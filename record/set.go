package record

import (
	"cmp"
	"slices"
)

// Terms is what one record of a Set has beyond its RDATA. tinydns and dnsrocks
// data can say such things; a dataset cannot yet.
type Terms struct {
	TTL uint32 // seconds
	// Weight is the record's share when some of an RRset's addresses are chosen: twice
	// the weight, twice as often. Zero means never, unless all are zero.
	Weight uint32
	// From and Until are unix seconds: the record is answered when From <= now and,
	// unless Until is zero, now < Until. With an Until the TTL that is answered shrinks
	// towards it (tinydns: see authority/image).
	From, Until int64
}

// Set is an RRset whose records may each have terms of their own.
type Set struct {
	RRset
	// Terms has one for each of Data, or is nil: then every record has the RRset's
	// TTL and weight 1, and holds at all times.
	Terms []Terms
	// Choose is how many A or AAAA records are answered of those that hold, by weight;
	// zero means all.
	Choose int
}

// NewSet makes a Set of records in any order: data and terms, one for each, are
// copied, sorted together, and a record that is there twice with equal terms is
// there once. The RRset's TTL is the least.
func NewSet(owner Name, t Type, loc Location, data []Rdata, terms []Terms) Set {
	type one struct {
		data Rdata
		Terms
	}
	all := make([]one, len(data))
	for i := range data {
		all[i] = one{data[i], terms[i]}
	}
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.data, b.data), cmp.Compare(a.TTL, b.TTL), cmp.Compare(a.From, b.From),
			cmp.Compare(a.Until, b.Until), cmp.Compare(a.Weight, b.Weight))
	})
	all = slices.Compact(all)
	s := Set{RRset: RRset{Key: Key{Owner: owner, Type: t, Location: loc}, TTL: all[0].TTL}}
	plain := true
	for _, o := range all {
		s.Data, s.Terms = append(s.Data, o.data), append(s.Terms, o.Terms)
		s.TTL = min(s.TTL, o.TTL)
		plain = plain && o.Terms == Terms{TTL: all[0].TTL, Weight: 1}
	}
	if plain {
		s.Terms = nil
	}
	return s
}
