package hardzone

import (
	"fmt"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// maxName is the longest name in octets (RFC 1035 §2.3.4).
const maxName = 255

// limits adds what stands at a limit of the protocol.
func (z *zone) limits() {
	z.longNames()
	z.octets()
	z.sizes()
	z.deep()
	if !z.m.o.Small {
		z.huge()
	}
}

// longNames has owners and targets of 254 and 255 octets, and labels of 63.
func (z *zone) longNames() {
	m, base := z.m, child(z.apex, "long")
	for n := maxName - 2; n <= maxName; n++ {
		long := pad(base, n, 'o')
		z.add(long, record.TypeA, m.address())
		z.add(child(base, z.fresh("to")), record.TypeMX, before(long, 10), before(pad(base, n, 'p'), 20))
		z.ptr(child(base, z.fresh("c")), record.TypeCNAME, long)
		z.ptr(child(base, z.fresh("ptr")), record.TypePTR, pad(name("example.com"), n, 'q'))
		z.ptr(child(base, z.fresh("d")), record.TypeDNAME, pad(base, n, 'o'))
		z.add(pad(child(base, "*", z.fresh("w")), n, 'v'), record.TypeTXT, text(9, 'v')) // no room for one more label
	}
	z.add(pad(child(base, "room"), maxName-2, 'r'), record.TypeTXT, text(9, 'r')) // room for a label of one octet
	z.add(child(pad(child(base, "star"), maxName-2, 's'), "*"), record.TypeTXT, text(9, 's'))
	at := child(base, "labels")
	z.add(child(at, strings.Repeat("x", 63)), record.TypeA, m.address())
	z.add(child(at, strings.Repeat("x", 63), strings.Repeat("y", 63)), record.TypeA, m.address())
	z.add(child(at, strings.Repeat("x", 62)), record.TypeTXT, text(9, 'x'))
}

// octets has every octet in a label, at its begin, alone, and names that look alike.
func (z *zone) octets() {
	m, base := z.m, child(z.apex, "octets")
	for c := range 256 {
		label := string([]byte{byte(c)})
		if c%4 == m.IntN(4) {
			z.add(child(base, label), record.TypeTXT, text(3, 'o'))
		}
		if c%16 == 0 {
			var run []byte
			for k := range 16 {
				run = append(run, byte(c+k))
			}
			z.add(child(base, "run"+string(run)), record.TypeA, m.address())
		}
	}
	// A dot, a length octet and a zero octet inside a label are not the end of one.
	z.add(child(base, "a.b"), record.TypeTXT, text(5, 'd'))
	z.add(child(base, "a", "b"), record.TypeTXT, text(5, 's'))
	z.add(child(base, "a\x01b"), record.TypeTXT, text(5, 'l'))
	z.add(child(base, "zz\x00"), record.TypeTXT, text(5, 'z'))
	z.add(child(base, "\x01*"), record.TypeTXT, text(5, '*'))
	z.ptr(child(base, "to"), record.TypeCNAME, child(base, "\x00\xff.\\\"; "))
	z.add(child(base, "\x00\xff.\\\"; "), record.TypeA, m.address())
	z.ptr(child(base, "kinds"), record.TypePTR, child(base, "\x80\x00."))
	z.add(child(base, "kinds"), typeHINFO, "\x00\x00")
	z.add(child(base, "kinds"), typeUnknown, record.Rdata(strings.Repeat("\xc0\x0c", 8)))
	z.add(child(base, "kinds"), typeEmpty, "")
	z.add(child(base, "kinds"), record.TypeTXT, "\x00", "\x00\x00", "\x01\x00", "\x02\"\\")
}

// sizes has answers just below, at and above the sizes that are asked with.
func (z *zone) sizes() {
	m, base := z.m, child(z.apex, "size")
	for _, limit := range []int{512, 1232, 4096} {
		for d, label := range []string{"under", "fits", "over"} {
			for _, opt := range []int{0, 11} { // octets of the OPT record
				at := child(base, fmt.Sprintf("%s-%d-%d", label, limit, opt))
				z.add(at, record.TypeTXT, text(limit-opt-12-len(at)-4-12+d-1, 't')) // header, question, fields of the record
			}
		}
	}
	for _, n := range []int{2, 10, 28, 29, 30, 70, 75, 76, 77, 100, 300} {
		at := child(base, fmt.Sprintf("a%d", n))
		for i := range n {
			z.add(at, record.TypeA, record.Rdata([]byte{198, 51, byte(100 + i/256), byte(i)})) // RFC 5737, and beside it
		}
		z.ptr(child(base, fmt.Sprintf("c%d", n)), record.TypeCNAME, at)
		z.add(child(base, fmt.Sprintf("mx%d", n)), record.TypeMX, before(at, 10))
	}
	for i := range 20 {
		host := child(base, "many", fmt.Sprintf("h%d", i))
		z.add(host, record.TypeA, m.address())
		z.add(host, record.TypeAAAA, m.address6())
		z.add(child(base, "many"), record.TypeMX, before(host, i))
		z.add(child(base, "many"), record.TypeSRV, before(host, 0, i, 80))
	}
}

// huge has RRsets that only just fit a message over TCP.
func (z *zone) huge() {
	m, base := z.m, child(z.apex, "huge")
	z.add(child(base, "one"), record.TypeTXT, text(64000, 'h'))
	for i := range 150 {
		z.add(child(base, "texts"), record.TypeTXT, record.Rdata(string(text(240, 'h'))+string(text(2+i%200, 'i'))+string(text(2+i/200, 'j'))))
	}
	n := 3500 + m.IntN(500)
	for i := range n {
		z.add(child(base, "a"), record.TypeA, record.Rdata([]byte{10, 0, byte(i / 256), byte(i)}))
	}
	for i := range 700 {
		z.add(child(base, "ptr"), record.TypePTR, record.Rdata(child(base, fmt.Sprintf("h%d", i))))
	}
	for t := range 250 {
		z.add(child(base, "types"), typeEmpty+1+record.Type(t), "x")
	}
	z.ptr(child(base, "to-one"), record.TypeCNAME, child(base, "one"))
}

// deep has a name with as many labels as the zone allows, all empty non-terminals
// but the last.
func (z *zone) deep() {
	m := z.m
	n := z.apex
	for len(n)+2 <= maxName {
		n = child(n, string(rune('d'+m.IntN(3))))
	}
	z.add(n, record.TypeA, m.address())
	z.add(child(z.apex, "*", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x"), record.TypeA, m.address())
	z.ptr(child(z.apex, "to-deep"), record.TypeCNAME, n)
	for _, r := range m.zones {
		if r.apex != record.Root {
			continue
		}
		n := record.Root
		for len(n)+2 <= maxName { // 127 labels
			n = child(n, "r")
		}
		r.add(n, record.TypeTXT, text(9, 'r'))
	}
}

// pad puts labels before a name, so that it has that many octets.
func pad(n record.Name, octets int, fill byte) record.Name {
	for left := octets - len(n); left > 1; left = octets - len(n) {
		k := min(left-1, 63)
		if left-k-1 == 1 { // one octet would be left: too little for a label
			k--
		}
		n = child(n, strings.Repeat(string(rune(fill)), k))
	}
	return n
}
