package tinytest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// Timestamps that tests need not wait for: 2001 and 2100, TAI64.
const (
	past   = "400000003b9aca00"
	future = "40000000f48656fa"
)

// Zones are those that Generate writes; further names lie below them, at most two
// labels deep, or below "sub", which is delegated.
func Zones() []string {
	return []string{"example.net", "z1.example.net", "example.org", "2.0.192.in-addr.arpa"}
}

// Labels are the labels of names below the zones.
func Labels() []string {
	return []string{"www", "mail", "a", "b", "*", "_sip._tcp", "deep.er", "x-1", `odd\056dot`, `\052`, "UPPER", "sub", "host.sub", "*.wild", "txt"}
}

// Generate gives n lines of every kind behind those that make the zones. Locations are
// "aa", "bb" and "c", for 127.0.0.1 and 127.0.1 and the rest of 127.
func Generate(seed uint64, n int) []byte {
	g := &generator{r: rand.New(rand.NewPCG(seed, 1))}
	for _, line := range []string{"# made by seed " + fmt.Sprint(seed), "%aa:127.0.0.1", "%bb:127.0.1", "%c:127", "-www.example.net:192.0.2.1", ""} {
		g.line("%s", line)
	}
	for i, z := range Zones() {
		g.line(".%s:192.0.2.%d:a:259200", z, i+1)
		g.line("&%s::b.ns.example.com", z)
		g.line("&sub.%s:198.51.100.%d:ns.sub.%s:3600", z, i+1, z)
	}
	for range n {
		g.record()
	}
	return g.b.Bytes()
}

type generator struct {
	r *rand.Rand
	b bytes.Buffer
	// zones counts those of Z lines: each is another one, since of two SOA records
	// the first counts.
	zones int
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.b, format, args...)
	g.b.WriteString([]string{"\n", "\n", "\n", " \n", "\t\n"}[g.r.IntN(5)])
}

func pick[T any](g *generator, from ...T) T { return from[g.r.IntN(len(from))] }

func (g *generator) owner() string {
	return pick(g, Labels()...) + "." + pick(g, Zones()...)
}

func (g *generator) address() string {
	return fmt.Sprintf("%s.%d", pick(g, "192.0.2", "198.51.100", "203.0.113"), g.r.IntN(256))
}

// tail is TTL, timestamp and location, or as much of them as a line has.
func (g *generator) tail() string {
	ttl := pick(g, "", "60", "300", "86400", "0")
	switch g.r.IntN(8) {
	case 0:
		return ttl + "::" + pick(g, "aa", "bb", "c")
	case 1:
		return "300:" + pick(g, past, future) + pick(g, "", ":aa")
	case 2:
		// Not one that has passed: the same record may have a start in the future.
		return "0:" + future + pick(g, "", ":bb")
	case 3:
		return ttl + pick(g, "::", ":::", "")
	}
	return ttl
}

func (g *generator) text() string {
	switch g.r.IntN(4) {
	case 0:
		return `v=spf1 ip4\07219` + `2.0.2.0/24 -all`
	case 1:
		return `octets \000\377\012 and \\ and \"`
	case 2:
		return string(bytes.Repeat([]byte("long "), 20+g.r.IntN(60)))
	}
	return fmt.Sprintf("text %d", g.r.IntN(50))
}

// generic is type and RDATA of a line that says both octet by octet.
func (g *generator) generic() string {
	switch g.r.IntN(4) {
	case 0: // AAAA
		return fmt.Sprintf(`28:\040\001\015\270%s\%03o`, string(bytes.Repeat([]byte(`\000`), 11)), g.r.IntN(256))
	case 1: // SRV
		return fmt.Sprintf(`33:\000\001\000\002\000\%03o\003www\007example\003net\000`, g.r.IntN(256))
	case 2: // TXT of two strings
		return `16:\003one\003two`
	}
	return fmt.Sprintf(`65400:%d\000\072octets`, g.r.IntN(9))
}

func (g *generator) record() {
	owner, x := g.owner(), pick(g, "", "a", "b", "mail.example.net", "ns.example.com.")
	switch g.r.IntN(15) {
	case 0, 1, 2, 3:
		g.line("+%s:%s:%s", owner, g.address(), g.tail())
	case 4:
		g.line("=%s:%s:%s", owner, g.address(), g.tail())
	case 5:
		g.line("@%s:%s:%s:%s:%s", owner, pick(g, "", g.address()), x, pick(g, "", "10", "20"), g.tail())
	case 6, 7:
		g.line("'%s:%s:%s", owner, g.text(), g.tail())
	case 8:
		g.line("^%s:%s:%s", owner, g.owner(), g.tail())
	case 9:
		g.line("Calias%d.%s:%s:%s", g.r.IntN(99), owner, g.owner(), g.tail())
	case 10, 11:
		g.line(":%s:%s:%s", owner, g.generic(), g.tail())
	case 12:
		g.line("&cut%d.%s:%s:%s:%s", g.r.IntN(9), pick(g, Zones()...), pick(g, "", g.address()), x, g.tail())
	case 13:
		g.line("+over%d.%s:%s:0:%s%s", g.r.IntN(9), owner, g.address(), past, pick(g, "", ":aa"))
	default:
		g.zones++
		g.line("Zzone%d.example.org:ns.example.com:h\\056m.example.com:%s:7200:1800:604800:%d:%s", g.zones, pick(g, "", "0", "4294967295"), g.r.IntN(9999), g.tail())
	}
}
