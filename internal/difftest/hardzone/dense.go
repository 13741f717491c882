package hardzone

import (
	"strings"

	"github.com/zonecast/zonecast/record"
)

// weighted are the types of dense, as often as they are drawn: types that change how
// other names are answered are most of it.
var weighted = strings.Fields(`A A A A A A TXT TXT TXT AAAA CNAME CNAME CNAME CNAME NS NS NS DNAME DNAME MX SRV
	DS DS PTR HTTPS SVCB HINFO CAA NAPTR RP AFSDB TYPE65280 TYPE65281`)

// dense draws that many RRsets at names of few labels from a small alphabet, so that
// each is likely to be above, beside and below others, and a target of them.
func (z *zone) dense(sets int) {
	for range sets {
		owner := z.m.point(z.apex, 4)
		t, err := record.ParseType(z.m.pick(weighted...))
		if err != nil {
			panic(err) // one of ours
		}
		if z.keep[owner] && (t == record.TypeCNAME || t == record.TypeDNAME && owner == z.apex) || t == record.TypeNS && owner == z.apex {
			continue
		}
		n := 1
		if z.m.IntN(4) == 0 {
			n = 2 + z.m.IntN(3)
		}
		for range n {
			z.add(owner, t, z.m.rdata(t, func() record.Name { return z.m.target(z) }))
		}
		if t == record.TypeNS {
			z.cut(owner)
		}
	}
}

// cut draws what comes with a delegation: DS, addresses at and below it.
func (z *zone) cut(owner record.Name) {
	if z.m.IntN(3) == 0 {
		z.add(owner, record.TypeDS, z.m.rdata(record.TypeDS, nil))
	}
	if z.m.IntN(2) == 0 {
		ns := child(owner, z.m.pick("ns", "a", "b.c"))
		if z.m.IntN(3) == 0 {
			ns = owner
		}
		z.add(owner, record.TypeNS, record.Rdata(ns))
		if z.m.IntN(4) > 0 {
			z.add(ns, record.TypeA, z.m.address())
		}
		if z.m.IntN(2) == 0 {
			z.add(ns, record.TypeAAAA, z.m.address6())
		}
	}
}

// delegate gives the zones right below their cuts: the same NS and addresses that
// they have themselves, half of them a DS.
func (z *zone) delegate() {
	for _, c := range z.m.zones {
		if c == z || z.m.closest(c.apex, record.TypeDS) != z {
			continue
		}
		z.copy(c, c.apex, record.TypeNS)
		z.copy(c, child(c.apex, "ns1"), record.TypeA)
		z.copy(c, child(c.apex, "ns1"), record.TypeAAAA)
		if z.m.IntN(2) == 0 {
			z.add(c.apex, record.TypeDS, z.m.rdata(record.TypeDS, nil))
		}
	}
}

func (z *zone) copy(from *zone, owner record.Name, t record.Type) {
	k := record.Key{Owner: owner, Type: t}
	if s := from.sets[k]; s != nil {
		z.sets[k] = s
		z.types[owner] = append(z.types[owner], t)
	}
}

// point is a name at most that many labels below n, n itself included.
func (m *maker) point(n record.Name, most int) record.Name {
	for range m.IntN(most + 1) {
		n = child(n, m.pick("a", "a", "a", "b", "b", "c", "*", "*", "ns1"))
	}
	return n
}

// target is where a record of the zone leads: near, to another zone, away, nowhere.
func (m *maker) target(z *zone) record.Name {
	switch k := m.IntN(20); {
	case k < 11:
		return m.point(z.apex, 4)
	case k < 16:
		return m.point(m.zones[m.IntN(len(m.zones))].apex, 3)
	case k < 17:
		return child(m.zones[m.IntN(len(m.zones))].apex, "ns1")
	case k < 18:
		return record.Root
	default:
		return m.elsewhere[m.IntN(len(m.elsewhere))]
	}
}
