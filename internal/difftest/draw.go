package difftest

import (
	"iter"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Draw gives questions about the zones without end, drawn by seed. The weights are
// those of the tables below; per mille:
//
//	names   400 owners and empty non-terminals   130 a label below      50 labels below
//	        130 a wildcard's expansion           60 beside              50 above
//	        60 targets of records                30 an asterisk below   30 a label replaced
//	        25 made as long as names get         20 odd octets          15 in no zone
//	types   500 one the name has, or the wildcard that covers it, 60 ANY, 60 DS, 60 NS,
//	        60 CNAME, 100 A, 160 others
//	ways    see drawVias
//	case    250 mixed
func Draw(zones []Zone, elsewhere []record.Name, seed uint64) iter.Seq[Question] {
	d := drawer{Rand: rand.New(rand.NewPCG(seed, 0x7175657374696f6e)), data: index(zones), elsewhere: elsewhere}
	d.enter(zones)
	return func(yield func(Question) bool) {
		for {
			n := d.name()
			if !yield(Question{Name: n, Type: d.typ(n), Via: drawVias[d.IntN(len(drawVias))], Mixed: d.IntN(4) == 0}) {
				return
			}
		}
	}
}

// First gives the first n of what there is.
func First(n int, all iter.Seq[Question]) iter.Seq[Question] {
	return func(yield func(Question) bool) {
		left := n
		if left <= 0 {
			return
		}
		for q := range all {
			left--
			if !yield(q) || left == 0 {
				return
			}
		}
	}
}

// drawVias has each way as often as it is drawn.
var drawVias = [20]Via{
	UDP1232, UDP1232, UDP1232, UDP1232, UDP1232, UDP1232, UDP512, UDP512, UDP512, UDP512,
	UDP1232DO, UDP1232DO, UDP1232DO, UDP4096, UDP4096DO, UDP100, TCP, TCP, TCPPlain, UDP512,
}

// drawTypes are asked of any name: what zones have, what they do not, what nobody knows.
var drawTypes = [...]record.Type{
	record.TypeAAAA, record.TypeTXT, record.TypeMX, record.TypeSRV, record.TypeSOA, record.TypeSOA, record.TypeDNAME, record.TypeDNAME,
	record.TypePTR, record.TypeHTTPS, record.TypeSVCB, record.TypeCAA, 13, 17, 18, 35, 48, 52, 65280, 65281, 65535, 1234,
}

type drawer struct {
	*rand.Rand
	data      *dataset
	elsewhere []record.Name

	names   []record.Name // owners and empty non-terminals
	wild    []record.Name // names with a label "*"
	targets []record.Name
	labels  []string
}

func (d *drawer) enter(zones []Zone) {
	seen, labels := map[record.Name]bool{}, map[string]bool{}
	for _, z := range zones {
		for _, s := range z.Sets {
			for n := s.Owner; n != "" && n.IsSubdomainOf(z.Apex) && !seen[n]; n = n.Parent() {
				seen[n] = true
				d.names = append(d.names, n)
				labels[n.FirstLabel()] = true
				if strings.Contains(string(n), "\x01*") {
					d.wild = append(d.wild, n)
				}
			}
			before, names := layout(s.Type)
			for _, rd := range s.Data {
				if names > 0 && len(d.targets) < 10000 {
					if n, _, err := record.NameFromWire([]byte(rd[before:])); err == nil && !seen[n] {
						d.targets = append(d.targets, n)
					}
				}
			}
		}
	}
	for l := range labels {
		if l != "" {
			d.labels = append(d.labels, l)
		}
	}
	slices.Sort(d.labels) // a map has no order, and seeds shall
}

func (d *drawer) of(names []record.Name) record.Name {
	if len(names) == 0 {
		return record.Root
	}
	return names[d.IntN(len(names))]
}

func (d *drawer) label() string {
	if d.IntN(2) == 0 {
		return [...]string{"a", "b", "c", "nobody", "*", "ns", "x"}[d.IntN(7)]
	}
	return d.labels[d.IntN(len(d.labels))]
}

// below puts a label before the name when there is room.
func below(n record.Name, label string) record.Name {
	if c, err := n.Child(label); err == nil {
		return c
	}
	return n
}

func (d *drawer) name() record.Name {
	n := d.of(d.names)
	switch k := d.IntN(1000); {
	case k < 400:
		return n
	case k < 530:
		return below(n, d.label())
	case k < 580:
		for range 2 + d.IntN(4) {
			n = below(n, d.label())
		}
		return n
	case k < 710:
		return d.expand(d.of(d.wild))
	case k < 770:
		if n == record.Root {
			return n
		}
		return below(n.Parent(), d.label())
	case k < 820:
		for range 1 + d.IntN(3) {
			if n != record.Root {
				n = n.Parent()
			}
		}
		return n
	case k < 880:
		return d.of(d.targets)
	case k < 910:
		return below(n, "*")
	case k < 940:
		return d.replace(n)
	case k < 965:
		return d.stretch(n)
	case k < 985:
		odd := make([]byte, 1+d.IntN(20))
		for i := range odd {
			odd[i] = byte(d.IntN(256))
		}
		return below(n, string(odd))
	default:
		return below(d.of(d.elsewhere), d.label())
	}
}

// expand puts labels in place of some or all asterisks.
func (d *drawer) expand(n record.Name) record.Name {
	if n == record.Root || n == "" {
		return record.Root
	}
	up, label := d.expand(n.Parent()), n.FirstLabel()
	if label == "*" && d.IntN(4) > 0 {
		label = d.label()
		if d.IntN(4) == 0 { // a wildcard is for more than one label
			up = below(up, d.label())
		}
	}
	return below(up, label)
}

// replace puts another label in place of one.
func (d *drawer) replace(n record.Name) record.Name {
	if n == record.Root {
		return n
	}
	if d.IntN(3) == 0 {
		return below(n.Parent(), d.label())
	}
	return below(d.replace(n.Parent()), n.FirstLabel())
}

// stretch puts labels before the name until it is as long as names get, or nearly.
func (d *drawer) stretch(n record.Name) record.Name {
	most := 255 - d.IntN(4)
	if d.IntN(3) == 0 {
		most = 100 + d.IntN(155) // for DNAMEs: the target decides
	}
	for len(n)+2 <= most {
		n = below(n, strings.Repeat("s", 1+d.IntN(min(63, most-len(n)-1))))
	}
	return n
}

func (d *drawer) typ(n record.Name) record.Type {
	switch k := d.IntN(1000); {
	case k < 500:
		if types := d.typesAt(n); len(types) > 0 {
			return types[d.IntN(len(types))]
		}
		return record.TypeA
	case k < 560:
		return record.TypeANY
	case k < 620:
		return record.TypeDS
	case k < 680:
		return record.TypeNS
	case k < 740:
		return record.TypeCNAME
	case k < 840:
		return record.TypeA
	}
	return drawTypes[d.IntN(len(drawTypes))]
}

// typesAt are the types of the name or of the closest wildcard above it. Who has a
// CNAME is asked for other types, too: nil.
func (d *drawer) typesAt(n record.Name) []record.Type {
	types := d.data.types[n]
	for up := n; len(types) == 0 && up != record.Root && up != ""; {
		up = up.Parent()
		if w, err := up.Wildcard(); err == nil {
			types = d.data.types[w]
		}
	}
	if slices.Contains(types, record.TypeCNAME) && d.IntN(2) == 0 {
		return []record.Type{record.TypeTXT, record.TypeA, record.TypeMX}
	}
	return types
}
