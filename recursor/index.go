package recursor

import (
	"strings"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// index is the dataset, and which names exist in it. A name exists when it or a name
// below it has an RRset (RFC 4592 §2.2.2).
type index struct {
	*snapshot.Dataset
	// holds counts the RRsets at a name and its children that exist.
	holds map[record.Name]int32
}

func newIndex(d *snapshot.Dataset) *index {
	x := &index{Dataset: d, holds: map[record.Name]int32{}}
	for r := range d.All() {
		x.more(r.Owner, func(record.Name) {})
	}
	return x
}

// more notes one RRset more at n; came is told of the names that exist now, upwards.
func (x *index) more(n record.Name, came func(record.Name)) {
	for ; n != ""; n = n.Parent() {
		if x.holds[n] == 0 {
			n = record.Name(strings.Clone(string(n))) // not a part of a larger text
		}
		if x.holds[n]++; x.holds[n] > 1 {
			return
		}
		came(n)
	}
}

// less notes one RRset less at n; went is told of the names that are gone, upwards.
func (x *index) less(n record.Name, went func(record.Name)) {
	for ; n != ""; n = n.Parent() {
		if x.holds[n]--; x.holds[n] > 0 {
			return
		}
		delete(x.holds, n)
		went(n)
	}
}

// covered tells whether a wildcard stands above n, for which n then is no more, or is
// again, a name to be made up.
func (x *index) covered(n record.Name) bool {
	for p := n.Parent(); p != ""; p = p.Parent() {
		if w, err := p.Wildcard(); err == nil && w != n && x.holds[w] > 0 {
			return true
		}
	}
	return false
}

// zones are those of the dataset, in no order, and not nil.
func (x *index) zones() []zone {
	all := []zone{}
	for apex := range x.Zones() {
		_, signed := x.Get(record.Key{Owner: apex, Type: typeDNSKEY})
		all = append(all, zone{apex, signed})
	}
	return all
}

// whole plans for a dataset that is all new: everything that it, or the one before, has
// an answer for. before may be nil.
func (x *index) whole(before *index) *plan {
	p := newPlan(x.Version(), x.Time())
	p.zones = x.zones()
	for _, z := range p.zones {
		p.subtree(z.apex)
	}
	if before != nil {
		for apex := range before.Zones() {
			p.subtree(apex)
		}
	}
	return p
}

// apply brings the dataset to where a delta leads, and plans for what changed.
func (x *index) apply(d *snapshot.Delta) (*plan, error) {
	if x.Version() == 0 {
		before := &index{Dataset: x.Clone()}
		if err := x.Apply(d); err != nil {
			return nil, err
		}
		x.holds = newIndex(x.Dataset).holds
		return x.whole(before), nil
	}
	put, remove := d.Put, d.Remove
	if d.Full {
		put, remove = x.difference(d.Put)
	}
	p := newPlan(d.Version, d.Time)
	var keys []record.Key
	gone, fresh := map[record.Key]bool{}, map[record.Key]bool{}
	for _, r := range put {
		keys = append(keys, r.Key)
		if _, there := x.Get(r.Key); !there {
			fresh[r.Key] = true
		}
	}
	for _, k := range remove {
		keys = append(keys, k)
		gone[k] = true
	}
	for _, k := range keys {
		x.touch(p, k)
	}
	if err := x.Apply(d); err != nil {
		return nil, err
	}
	turned := map[record.Name]bool{} // names that came or went
	turn := func(n record.Name) { turned[n] = !turned[n] }
	for k := range gone {
		x.less(k.Owner, turn)
	}
	for k := range fresh {
		x.more(k.Owner, turn)
	}
	zonesChanged := false
	for _, k := range keys {
		x.touch(p, k)
		x.far(p, k)
		if apex := x.apex(k.Owner); (k.Type == record.TypeSOA || k.Type == typeDNSKEY && apex) && (fresh[k] || gone[k]) {
			zonesChanged = true
			p.subtree(k.Owner)
		}
	}
	for n, really := range turned {
		if !really {
			continue
		}
		if apex, ok := x.ZoneOf(n); ok {
			p.soa(apex)
		}
		if !turned[n.Parent()] && x.covered(n) {
			p.subtree(n)
		}
	}
	if zonesChanged {
		p.zones = x.zones()
	}
	return p, nil
}

// difference is what becomes otherwise when the dataset is all of whole and nothing else.
func (x *index) difference(whole []record.RRset) (put []record.RRset, remove []record.Key) {
	there := make(map[record.Key]bool, len(whole))
	for _, r := range whole {
		there[r.Key] = true
		if old, ok := x.Get(r.Key); !ok || !old.Equal(r) {
			put = append(put, r)
		}
	}
	for r := range x.All() {
		if !there[r.Key] {
			remove = append(remove, r.Key)
		}
	}
	return put, remove
}

func (x *index) apex(n record.Name) bool {
	_, ok := x.Stamp(n)
	return ok
}

// touch plans for an RRset as such, and for the negative answers of its zone. It is
// called before and after the change: the zone may be another.
func (x *index) touch(p *plan, k record.Key) {
	p.key(k)
	if snapshot.IsFreshness(k) {
		return // no serial changes; a new one's name has turned
	}
	if apex, ok := x.ZoneOf(k.Owner); ok {
		p.soa(apex)
		if apex == k.Owner && (k.Type == record.TypeNS || k.Type == record.TypeDS || k.Type == record.TypeSOA) {
			if above, ok := x.ZoneOf(k.Owner.Parent()); ok {
				p.soa(above)
			}
		}
	}
}

// far plans for what an RRset says about other names.
func (x *index) far(p *plan, k record.Key) {
	switch {
	case k.Owner.IsWildcard():
		p.subtree(k.Owner.Parent())
	case k.Type == record.TypeDNAME, k.Type == record.TypeNS && !x.apex(k.Owner):
		p.subtree(k.Owner)
	}
}
