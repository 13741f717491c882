package hardzone

import (
	"fmt"

	"github.com/zonecast/zonecast/record"
)

// features adds families of names that chance would not find, each below a label of
// its own, with what varies drawn.
func (z *zone) features() {
	for range 2 {
		z.cuts()
		z.wildcards()
		z.chains()
		z.dnames()
		z.targets()
	}
}

func (z *zone) ptr(owner record.Name, t record.Type, to record.Name) {
	if to != "" {
		z.add(owner, t, record.Rdata(to))
	}
}

// cuts makes delegations, what they hide, and CNAMEs into them.
func (z *zone) cuts() {
	m, base := z.m, child(z.apex, z.fresh("cut"))
	glued, bare, self, sibling, ring := child(base, "glued"), child(base, "bare"), child(base, "self"), child(base, "sibling"), child(base, "ring")
	z.ptr(glued, record.TypeNS, child(glued, "ns"))
	z.add(child(glued, "ns"), record.TypeA, m.address(), m.address())
	z.add(child(glued, "ns"), record.TypeAAAA, m.address6())
	z.add(glued, record.TypeDS, m.rdata(record.TypeDS, nil), m.rdata(record.TypeDS, nil))
	z.ptr(bare, record.TypeNS, name("ns.example.com"))
	z.ptr(self, record.TypeNS, self)
	z.add(self, record.TypeA, m.address())
	z.ptr(sibling, record.TypeNS, child(glued, "ns")) // glue of another cut
	z.ptr(ring, record.TypeNS, child(base, "ring2", "ns"))
	z.ptr(child(base, "ring2"), record.TypeNS, child(ring, "ns")) // each has the other's glue
	z.add(child(ring, "ns"), record.TypeA, m.address())
	z.add(child(base, "ring2", "ns"), record.TypeA, m.address())
	z.ptr(child(base, "alias"), record.TypeNS, child(base, "alias-ns")) // a CNAME as a server
	z.ptr(child(base, "alias-ns"), record.TypeCNAME, child(z.apex, "ns1"))
	z.add(child(base, "ds-alone"), record.TypeDS, m.rdata(record.TypeDS, nil))

	// Hidden below a cut: everything.
	hidden := child(glued, "h")
	z.add(child(hidden, "txt"), record.TypeTXT, text(20, 'h'))
	z.ptr(child(hidden, "cname"), record.TypeCNAME, z.apex)
	z.ptr(child(hidden, "dname"), record.TypeDNAME, base)
	z.add(child(hidden, "*"), record.TypeA, m.address())
	z.ptr(child(hidden, "cut"), record.TypeNS, child(hidden, "cut", "ns")) // a cut below a cut
	z.add(child(hidden, "cut"), record.TypeDS, m.rdata(record.TypeDS, nil))
	z.add(child(hidden, "cut", "ns"), record.TypeA, m.address())
	z.add(child(glued, "*"), record.TypeTXT, text(9, 'w')) // a wildcard right below it
	z.add(child(base, "*"), record.TypeMX, before(child(glued, "ns"), 10), before(self, 20))

	for i, to := range []record.Name{glued, child(glued, "ns"), child(hidden, "txt"), bare, child(self, "x"), child(hidden, "cname")} {
		z.ptr(child(base, fmt.Sprintf("into%d", i)), record.TypeCNAME, to)
	}
	many := child(base, "many")
	for i := range 5 + m.IntN(30) { // glue at and beyond what fits 512 and 1232 octets
		ns := child(many, fmt.Sprintf("ns%d", i))
		z.ptr(many, record.TypeNS, ns)
		z.add(ns, record.TypeA, m.address())
		z.add(ns, record.TypeAAAA, m.address6())
	}
}

// wildcards makes them in the middle, twice, with every type, beside and below
// empty non-terminals.
func (z *zone) wildcards() {
	m, base := z.m, child(z.apex, z.fresh("wild"))
	z.add(child(base, "a", "*", "b"), record.TypeA, m.address()) // in the middle: no wildcard, and an ENT at *.b
	z.add(child(base, "*", "*", "two"), record.TypeA, m.address())
	z.add(child(base, "*", "two"), record.TypeTXT, text(7, '2'))
	z.add(child(base, "*", "ent"), record.TypeTXT, text(7, 'e'))
	z.add(child(base, "deep", "down", "ent"), record.TypeA, m.address()) // down.ent stops the wildcard
	z.add(child(base, "x", "*", "below"), record.TypeTXT, text(7, 'x'))
	z.add(child(base, "**", "star"), record.TypeA, m.address())
	z.add(child(base, "*a", "star"), record.TypeA, m.address())
	z.add(child(base, "*", "star"), record.TypeAAAA, m.address6())
	z.add(child(base, "*"), record.TypeTXT, text(9, '*'))
	for _, t := range []record.Type{
		record.TypeCNAME, record.TypeDNAME, record.TypeNS, record.TypeMX, record.TypeSRV, record.TypeDS,
		record.TypePTR, record.TypeHTTPS, typeUnknown, typeEmpty, record.TypeAAAA,
	} {
		at := child(base, "*", z.fresh("t"))
		z.add(at, t, m.rdata(t, func() record.Name {
			return []record.Name{child(z.apex, "ns1"), child(base, "q", "ent"), child(base, "nobody", "two"), at, child(base, "deep", "ent"), name("example.com")}[m.IntN(6)]
		}))
		if m.IntN(2) == 0 {
			z.add(child(at.Parent(), "named"), record.TypeA, m.address())
		}
		if m.IntN(3) == 0 {
			z.add(child(at, "inside"), record.TypeA, m.address())
		}
	}
	z.ptr(child(base, "*", "loop"), record.TypeCNAME, child(base, "again", "loop"))
	z.ptr(child(base, "*", "ring1"), record.TypeCNAME, child(base, "x", "ring2"))
	z.ptr(child(base, "*", "ring2"), record.TypeCNAME, child(base, "y", "ring1"))
	z.ptr(child(base, "to-wild"), record.TypeCNAME, child(base, "made", "ent"))
	z.ptr(child(base, "to-star"), record.TypeCNAME, child(base, "*", "ent"))
	z.ptr(child(base, "to-none"), record.TypeCNAME, child(base, "none", "below"))
}

// chains makes CNAMEs: chains of each length about the limits of servers, through
// other zones, out, to nothing, in circles.
func (z *zone) chains() {
	m, base := z.m, child(z.apex, z.fresh("chain"))
	end := child(base, "end")
	z.add(end, record.TypeA, m.address(), m.address())
	z.add(end, record.TypeTXT, text(300, 'e'))
	const longest = 9
	z.ptr(child(base, "l0"), record.TypeCNAME, end)
	for i := 1; i <= longest; i++ {
		z.ptr(child(base, fmt.Sprintf("l%d", i)), record.TypeCNAME, child(base, fmt.Sprintf("l%d", i-1)))
	}
	z.ptr(child(base, "self"), record.TypeCNAME, child(base, "self"))
	for n := 2; n < 5; n++ {
		for i := range n {
			z.ptr(child(base, fmt.Sprintf("ring%d-%d", n, i)), record.TypeCNAME, child(base, fmt.Sprintf("ring%d-%d", n, (i+1)%n)))
		}
	}
	z.ptr(child(base, "into-ring"), record.TypeCNAME, child(base, "ring3-0"))
	z.add(child(base, "under", "ent"), record.TypeA, m.address())
	z.ptr(child(base, "to-ent"), record.TypeCNAME, child(base, "ent"))
	z.ptr(child(base, "to-none"), record.TypeCNAME, child(base, "none"))
	z.ptr(child(base, "to-apex"), record.TypeCNAME, z.apex)
	z.ptr(child(base, "to-root"), record.TypeCNAME, record.Root)
	z.ptr(child(base, "out"), record.TypeCNAME, name("www.example.com"))
	z.ptr(child(base, "out2"), record.TypeCNAME, child(base, "out"))
	for i, o := range m.zones { // to another zone, and from there back
		there := child(o.apex, fmt.Sprintf("via%d-%s", i, base.FirstLabel()))
		z.ptr(child(base, fmt.Sprintf("over%d", i)), record.TypeCNAME, there)
		if o.apex != record.Root && o.apex != name("dname.example") && i%3 > 0 {
			o.ptr(there, record.TypeCNAME, []record.Name{end, child(base, fmt.Sprintf("over%d", i))}[i%2])
		}
	}
}

// dnames makes DNAMEs: chains, growing and shrinking circles, too long ones.
func (z *zone) dnames() {
	m, base := z.m, child(z.apex, z.fresh("dn"))
	target := child(base, "target")
	z.add(target, record.TypeTXT, text(9, 't'))
	z.add(child(target, "a"), record.TypeA, m.address())
	z.add(child(target, "*", "w"), record.TypeA, m.address())
	z.ptr(child(target, "c"), record.TypeCNAME, child(z.apex, "ns1"))
	z.ptr(child(target, "cut"), record.TypeNS, name("ns.example.com"))
	z.add(child(target, "x", "ent"), record.TypeA, m.address())

	one := child(base, "one")
	z.ptr(one, record.TypeDNAME, target)
	z.add(one, record.TypeA, m.address()) // beside it, not below
	z.add(one, record.TypeMX, before(child(one, "a"), 10))
	for i := range 8 {
		z.ptr(child(base, fmt.Sprintf("d%d", i)), record.TypeDNAME, child(base, fmt.Sprintf("d%d", i+1)))
	}
	z.ptr(child(base, "d8"), record.TypeDNAME, target)
	z.ptr(child(base, "self"), record.TypeDNAME, child(base, "self"))
	z.ptr(child(base, "grow"), record.TypeDNAME, child(base, "a", "grow"))
	z.ptr(child(base, "shrink", "a"), record.TypeDNAME, child(base, "a"))
	z.ptr(child(base, "ring0"), record.TypeDNAME, child(base, "ring1"))
	z.ptr(child(base, "ring1"), record.TypeDNAME, child(base, "ring0"))
	z.ptr(child(base, "root"), record.TypeDNAME, record.Root)
	z.ptr(child(base, "out"), record.TypeDNAME, name("example.com"))
	z.ptr(child(base, "apex"), record.TypeDNAME, z.apex)
	z.ptr(child(base, "moved"), record.TypeDNAME, name("dname.example"))
	z.ptr(child(base, "to"), record.TypeCNAME, child(one, "a"))
	z.ptr(child(base, "to2"), record.TypeCNAME, child(base, "c", "d4"))
	z.ptr(child(base, "*", "star"), record.TypeDNAME, target)
	z.ptr(child(base, "*", "starc"), record.TypeCNAME, child(one, "a"))
	for _, o := range m.zones {
		z.ptr(child(base, z.fresh("z")), record.TypeDNAME, o.apex)
	}
	z.ptr(child(base, "long"), record.TypeDNAME, pad(name("example.com"), 200+m.IntN(55), 'l'))
	z.ptr(child(base, "long2"), record.TypeDNAME, pad(z.apex, 250, 'm'))
}

// targets makes records with additional data: addresses held, held elsewhere,
// hidden, behind a CNAME or a wildcard, none.
func (z *zone) targets() {
	m, base := z.m, child(z.apex, z.fresh("add"))
	host, both := child(base, "host"), child(base, "both")
	z.add(host, record.TypeA, m.address())
	z.add(both, record.TypeA, m.address(), m.address())
	z.add(both, record.TypeAAAA, m.address6(), m.address6())
	z.ptr(child(base, "alias"), record.TypeCNAME, host)
	z.add(child(base, "*", "w"), record.TypeA, m.address())
	z.ptr(child(base, "cut"), record.TypeNS, child(base, "cut", "ns"))
	z.add(child(base, "cut", "ns"), record.TypeA, m.address())
	z.ptr(child(base, "dn"), record.TypeDNAME, base)
	for _, t := range []record.Type{record.TypeMX, record.TypeSRV, record.TypeHTTPS, record.TypeSVCB, typeAFSDB, record.TypePTR} {
		at := child(base, z.fresh("t"))
		for _, to := range []record.Name{
			host, both, child(base, "alias"), child(base, "x", "w"), child(base, "cut", "ns"), child(base, "host", "dn"),
			name("ns.example.com"), record.Root, m.target(z), z.apex, child(base, "none"),
		} {
			if m.IntN(3) > 0 {
				z.add(at, t, m.rdata(t, func() record.Name { return to }))
			}
		}
	}
}
