package hardzone

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Options of New.
type Options struct {
	Seed uint64
	// Only says which of the servers must load the zones; zero means all of them.
	Only Servers
	// Small leaves out the RRsets of tens of thousands of octets.
	Small bool
}

// Servers is a set of servers, named by what they refuse.
type Servers uint8

// The servers.
const (
	BIND Servers = 1 << iota // refuses NS at a wildcard, so also an apex that is one
	NSD                      // refuses records below a DNAME, also those of other zones
	Knot                     // refuses records of a zone below a DNAME of it
	all  = BIND | NSD | Knot
)

// World is the zones of one server.
type World struct {
	Zones []Zone
	// Elsewhere has names that lead out of the zones.
	Elsewhere []record.Name
}

// Zone is one zone. What lies at or below the apex of another one of the world is
// not in it but for the delegation, and that is the same on both sides: all zones
// together are one set of RRsets.
type Zone struct {
	Apex record.Name
	Sets []record.RRset // in canonical order
}

// New makes a world.
func New(o Options) World {
	if o.Only == 0 {
		o.Only = all
	}
	m := &maker{Rand: rand.New(rand.NewPCG(o.Seed, 0x7a6f6e6563617374)), o: o}
	m.elsewhere = names("example.com", "www.example.com", "ns.example.com", "a.b.invalid", "invalid")
	m.world()
	if o.Only&NSD != 0 {
		m.partDNames()
	}
	w := World{Elsewhere: m.elsewhere}
	for _, z := range m.zones {
		w.Zones = append(w.Zones, z.finish())
	}
	slices.SortFunc(w.Zones, func(a, b Zone) int { return a.Apex.Compare(b.Apex) })
	return w
}

// maker is a world in the making.
type maker struct {
	*rand.Rand
	o         Options
	zones     []*zone
	elsewhere []record.Name
}

// zone is a zone in the making.
type zone struct {
	m     *maker
	apex  record.Name
	sets  map[record.Key]*record.RRset
	types map[record.Name][]record.Type
	keep  map[record.Name]bool // addresses of its own servers: nothing may hide or replace them
	seq   int
}

// world draws which zones there are and fills them.
func (m *maker) world() {
	main := m.zone(name("example.net"))
	other := m.zone(name("example.org"))
	dense := m.zone(name("dense.example.net"))
	zones := []*zone{main, other, dense}
	for _, text := range []string{"a.dense.example.net", "b.a.dense.example.net", "c.b.dense.example.net", "a.a.a.dense.example.net", "x.example.org", "b.example.org", "a.b.example.net"} {
		if m.IntN(5) < 2 {
			zones = append(zones, m.zone(name(text)))
		}
	}
	if m.o.Only&BIND == 0 && m.IntN(3) == 0 { // an apex that is a wildcard of the zone above
		zones = append(zones, m.zone(name(m.pick("*.dense.example.net", "*.a.example.net"))))
	}
	if m.IntN(2) == 0 {
		zones = append(zones, m.zone(name("example")))
	}
	moved := m.zone(name("dname.example"))
	if m.IntN(8) == 0 {
		zones = append(zones, m.zone(record.Root))
	}
	m.zones = append(slices.Clone(zones), moved)
	for _, z := range zones {
		z.dense(30 + m.IntN(60))
	}
	moved.add(moved.apex, record.TypeDNAME, record.Rdata(m.target(moved)))
	main.features()
	other.features()
	main.limits()
	for _, z := range zones {
		z.delegate()
	}
}

// zone begins a zone: SOA and NS.
func (m *maker) zone(apex record.Name) *zone {
	z := &zone{m: m, apex: apex, sets: map[record.Key]*record.RRset{}, types: map[record.Name][]record.Type{}, keep: map[record.Name]bool{}}
	ttl := uint32(m.pickN(0, 60, 300, 3600, 86400))
	minimum := m.pickN(0, 59, 61, 300, 1<<31-1) // below, at and above the TTL
	z.addTTL(apex, record.TypeSOA, ttl, soa(name("ns.example.com"), name("hostmaster.example.com"), m.Uint32(), 7200, 900, 1209600, uint32(minimum)))
	ns := child(apex, "ns1")
	z.keep[ns] = true
	z.keep[apex] = true
	if apex == record.Root || apex != name("dname.example") && m.IntN(4) > 0 {
		z.add(apex, record.TypeNS, record.Rdata(ns))
		if apex != record.Root { // BIND wants an address of each server in the zone
			z.add(apex, record.TypeNS, record.Rdata(name("ns.example.com")))
		}
		z.add(ns, record.TypeA, m.address())
		if m.IntN(2) == 0 {
			z.add(ns, record.TypeAAAA, m.address6())
		}
	} else {
		z.add(apex, record.TypeNS, record.Rdata(name("ns.example.com")), record.Rdata(name("ns.invalid")))
	}
	return z
}

// add puts records to those of the owner and type. What no server loads is left
// out: another type beside a CNAME, a second DNAME, a name outside of the zone.
func (z *zone) add(owner record.Name, t record.Type, data ...record.Rdata) {
	z.addTTL(owner, t, uint32(z.m.pickN(0, 1, 60, 300, 3600, 86400, 1<<31-1)), data...)
}

func (z *zone) addTTL(owner record.Name, t record.Type, ttl uint32, data ...record.Rdata) {
	if owner == "" || !owner.IsSubdomainOf(z.apex) || len(z.m.zones) > 0 && z.m.closest(owner, t) != z || !z.fits(owner, t) {
		return
	}
	k := record.Key{Owner: owner, Type: t}
	if s := z.sets[k]; s != nil {
		if t == record.TypeSOA || t == record.TypeCNAME || t == record.TypeDNAME {
			return
		}
		s.Data = append(s.Data, data...)
		return
	}
	if t == record.TypeCNAME || t == record.TypeDNAME {
		data = data[:1]
	}
	z.sets[k] = &record.RRset{Key: k, TTL: ttl, Data: slices.Clone(data)}
	z.types[owner] = append(z.types[owner], t)
}

// closest is the zone that has the name; for DS the one above a cut.
func (m *maker) closest(n record.Name, t record.Type) *zone {
	var best *zone
	for _, z := range m.zones {
		if n.IsSubdomainOf(z.apex) && (best == nil || len(z.apex) > len(best.apex)) && (t != record.TypeDS || n != z.apex) {
			best = z
		}
	}
	return best
}

// fits tells whether servers load a type beside those that the owner has.
func (z *zone) fits(owner record.Name, t record.Type) bool {
	has := z.types[owner]
	switch {
	case slices.Contains(has, t):
		return true
	case slices.Contains(has, record.TypeCNAME), t == record.TypeCNAME && (len(has) > 0 || z.keep[owner]):
		return false
	case t == record.TypeDS && owner == z.apex:
		return false
	case t == record.TypeNS && owner.IsWildcard() && z.m.o.Only&BIND != 0 && owner != z.apex:
		return false
	case t == record.TypeNS && slices.Contains(has, record.TypeDNAME), t == record.TypeDNAME && slices.Contains(has, record.TypeNS) && owner != z.apex:
		return false // RFC 6672 §2.4: no DNAME at a cut
	}
	return true
}

// finish drops what the servers refuse and brings the rest in order.
func (z *zone) finish() Zone {
	out := Zone{Apex: z.apex}
	for k, s := range z.sets {
		if z.m.o.Only&(NSD|Knot) != 0 && z.hidden(k.Owner) {
			continue
		}
		out.Sets = append(out.Sets, record.NewRRset(k.Owner, k.Type, s.TTL, s.Data...))
	}
	slices.SortFunc(out.Sets, func(a, b record.RRset) int { return a.Compare(b.Key) })
	return out
}

// partDNames takes away the DNAMEs that have records of another zone below them.
func (m *maker) partDNames() {
	for _, z := range m.zones {
		for k := range z.sets {
			if k.Type != record.TypeDNAME {
				continue
			}
			for _, o := range m.zones {
				if o != z && o.below(k.Owner) {
					delete(z.sets, k)
				}
			}
		}
	}
}

// below tells whether the zone has records below the name.
func (z *zone) below(n record.Name) bool {
	for owner := range z.types {
		if owner != n && owner.IsSubdomainOf(n) {
			return true
		}
	}
	return false
}

// hidden tells whether a DNAME of the zone is above the name.
func (z *zone) hidden(n record.Name) bool {
	for up := n.Parent(); up != "" && up.IsSubdomainOf(z.apex); up = up.Parent() {
		if z.sets[record.Key{Owner: up, Type: record.TypeDNAME}] != nil {
			return true
		}
	}
	return false
}

// fresh is a label that no other call has given for the zone.
func (z *zone) fresh(prefix string) string {
	z.seq++
	return fmt.Sprintf("%s%d", prefix, z.seq)
}

func (m *maker) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m *maker) pickN(of ...int) int { return of[m.IntN(len(of))] }

// name is the name of a constant text.
func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err) // a constant of ours
	}
	return n
}

func names(texts ...string) (ns []record.Name) {
	for _, t := range texts {
		ns = append(ns, name(t))
	}
	return ns
}

// child is the name with labels before it, the first one outermost; "" when that is
// too long.
func child(n record.Name, labels ...string) record.Name {
	for _, l := range slices.Backward(labels) {
		c, err := n.Child(l)
		if err != nil {
			return ""
		}
		n = c
	}
	return n
}
