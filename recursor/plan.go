package recursor

import (
	"maps"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// plan is what has to go from the cache, and whether zones came or went.
//
// What Unbound has of a name, and which command takes it away:
//
//	an RRset, and the messages that have it     flush NAME for the types below, flush_type
//	NXDOMAIN and NODATA                         flush_type APEX SOA: a message whose SOA is
//	                                            gone is not used any more, so all negative
//	                                            answers of the zone go, at the price of one
//	what a wildcard made of names below         flush_zone, which walks the whole cache
//	what a referral led to, and DNAMEs          the same
type plan struct {
	version  uint64
	time     int64                    // Delta.Time of version
	names    map[record.Name]struct{} // flush
	types    map[record.Key]struct{}  // flush_type, for types that flush leaves
	subtrees map[record.Name]struct{} // flush_zone
	zones    []zone                   // what there are; nil: as before
}

func newPlan(version uint64, time int64) *plan {
	return &plan{version: version, time: time, names: map[record.Name]struct{}{}, types: map[record.Key]struct{}{}, subtrees: map[record.Name]struct{}{}}
}

// flushed are the types that the command flush takes away (unbound-control(8)).
var flushed = map[record.Type]bool{
	record.TypeA: true, record.TypeAAAA: true, record.TypeNS: true, record.TypeSOA: true, record.TypeCNAME: true, record.TypeDNAME: true,
	record.TypeMX: true, record.TypePTR: true, record.TypeSRV: true, typeNAPTR: true, record.TypeSVCB: true, record.TypeHTTPS: true,
}

// Types that only Unbound's cache and validation are about.
const (
	typeNAPTR  record.Type = 35
	typeDNSKEY record.Type = 48
)

// key has an RRset flushed.
func (p *plan) key(k record.Key) {
	if k.Type == record.TypeSOA || !flushed[k.Type] {
		p.types[record.Key{Owner: k.Owner, Type: k.Type}] = struct{}{}
	} else {
		p.names[k.Owner] = struct{}{}
	}
}

func (p *plan) subtree(n record.Name) { p.subtrees[n] = struct{}{} }

// soa has the zone's negative answers flushed, and its serial.
func (p *plan) soa(apex record.Name) {
	p.types[record.Key{Owner: apex, Type: record.TypeSOA}] = struct{}{}
}

// add makes p what p and a later plan are together.
func (p *plan) add(q *plan) {
	p.version, p.time = q.version, q.time
	p.join(q)
}

// join adds what another plan flushes.
func (p *plan) join(q *plan) {
	maps.Copy(p.names, q.names)
	maps.Copy(p.types, q.types)
	maps.Copy(p.subtrees, q.subtrees)
	if q.zones != nil {
		p.zones = q.zones
	}
}

// maxPlan bounds what a plan that grows has: beyond it the zones of all are flushed.
const maxPlan = 20_000

// fold bounds p, which flushes no less afterwards. zoneOf tells the zone of a name.
func (p *plan) fold(zoneOf func(record.Name) (record.Name, bool)) {
	if len(p.names)+len(p.types)+len(p.subtrees) <= maxPlan {
		return
	}
	zones := map[record.Name]struct{}{}
	zone := func(n record.Name) bool {
		apex, ok := zoneOf(n)
		if ok {
			zones[apex] = struct{}{}
		}
		return ok
	}
	maps.DeleteFunc(p.names, func(n record.Name, _ struct{}) bool { return zone(n) })
	maps.DeleteFunc(p.types, func(k record.Key, _ struct{}) bool { return zone(k.Owner) })
	maps.DeleteFunc(p.subtrees, func(n record.Name, _ struct{}) bool { return zone(n) })
	maps.Copy(p.subtrees, zones)
	// What is in no zone any more goes with the one that it was in.
	maps.DeleteFunc(p.names, func(n record.Name, _ struct{}) bool { return p.below(n) })
	maps.DeleteFunc(p.types, func(k record.Key, _ struct{}) bool { return p.below(k.Owner) })
}

// below tells whether a name goes with a subtree.
func (p *plan) below(n record.Name) bool {
	for ; n != ""; n = n.Parent() {
		if _, ok := p.subtrees[n]; ok {
			return true
		}
	}
	return false
}

// perZone is how many names and types of a zone are flushed one by one, perZoneWalks how many
// of its subtrees. With Unbound 1.17.1 a command takes 0.02 to 0.04 ms of its first thread, which
// answers in between, and a walk 1 ms for each thousand names of the cache, in which it answers
// nothing (TestFlushCost). A command takes 0.2 ms until its reply is here, so that 2,000 leave
// more than half of the second in which a change is to be seen.
const (
	perZone      = 2000
	perZoneWalks = 3
)

// commands gives what to tell Unbound, in a fixed order. zoneOf tells the zone of a name.
func (p *plan) commands(zoneOf func(record.Name) (record.Name, bool)) []string {
	subtrees := maps.Clone(p.subtrees)
	counts := map[record.Name]int{}
	count := func(n record.Name) {
		if apex, ok := zoneOf(n); ok {
			if counts[apex]++; counts[apex] > perZone {
				subtrees[apex] = struct{}{}
			}
		}
	}
	walks := map[record.Name]int{}
	for n := range p.subtrees {
		if apex, ok := zoneOf(n); ok {
			if walks[apex]++; walks[apex] > perZoneWalks {
				subtrees[apex] = struct{}{}
			}
		}
	}
	for n := range p.names {
		count(n)
	}
	for k := range p.types {
		count(k.Owner)
	}
	below := func(n record.Name) bool { // an entry of subtrees
		for ; n != ""; n = n.Parent() {
			if _, ok := subtrees[n]; ok {
				return true
			}
		}
		return false
	}
	var out []string
	for _, n := range slices.SortedFunc(maps.Keys(subtrees), record.Name.Compare) {
		if !below(n.Parent()) {
			out = append(out, "flush_zone "+plain(n))
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(p.names), record.Name.Compare) {
		if !below(n) {
			out = append(out, "flush "+plain(n))
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(p.types), record.Key.Compare) {
		if !below(k.Owner) {
			out = append(out, "flush_type "+plain(k.Owner)+" "+k.Type.String())
		}
	}
	return out
}
