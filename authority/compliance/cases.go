package compliance

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
)

// Apex is the zone that the server must have.
const Apex = "example.net."

//go:embed zones
var zones embed.FS

// Zones has the zone's file, as a directory of zone files each called as its zone.
func Zones() (fs.FS, error) {
	sub, err := fs.Sub(zones, "zones")
	if err != nil {
		return nil, fmt.Errorf("open zones of compliance: %w", err)
	}
	return sub, nil
}

// Features is what the server is configured to do beyond what all must.
type Features struct {
	NSID    bool // it has an identity (RFC 5001)
	Cookies bool // it answers cookies (RFC 7873)
}

// when is must when the feature is on, and mustNot when it is off.
func when(on bool) presence {
	if on {
		return must
	}
	return mustNot
}

// Cases is the whole table.
func Cases(f Features) []Case {
	return slices.Concat(plainCases(), opcodeCases(), classCases(), typeCases(), nameCases(), ednsCases(f), optionCases(),
		cookieCases(f), tsigCases(), malformedCases())
}

// apex asks for the SOA of the zone.
func apex() query {
	return query{questions: []string{question(wire(Apex), typeSOA, classIN)}}
}

func ask(name string, qtype, class int) query {
	return query{questions: []string{question(wire(name), qtype, class)}}
}

func (q query) with(flags uint16) query {
	q.flags |= flags
	return q
}

// and adds a record to the additional section.
func (q query) and(records ...string) query {
	q.additional = append(slices.Clone(q.additional), records...)
	return q
}

// good is the want of a question for data.
func good(c content) want {
	return want{rcodes: []int{noError}, set: flagAA, clear: flagTC, content: c, opt: mustNot, echo: true}
}

// bad is the want of a query that is refused in one of several ways.
func bad(rcodes ...int) want {
	return want{rcodes: rcodes, clear: flagAA | flagTC, content: nothing, opt: mustNot}
}

// edns makes it the want of a query with an OPT that offers size octets.
func (w want) edns(size int) want {
	w.opt, w.limit = must, max(size, 512)
	return w
}

// optional allows options, which are not demanded.
func (w want) optional(codes ...int) want { return w.option(may, codes...) }

func (w want) option(p presence, codes ...int) want {
	options := map[int]presence{}
	for code, old := range w.options {
		options[code] = old
	}
	for _, code := range codes {
		options[code] = p
	}
	w.options = options
	return w
}

func plainCases() []Case {
	const reason = "RFC 1035 §4.1.1: what a query says in this flag does not change the answer"
	var cases []Case
	for _, c := range []struct {
		name, reason string
		flags        uint16
	}{
		{"dns", "RFC 1034 §4.3.2", 0},
		{"aa", reason, flagAA},
		{"tc", reason, flagTC},
		{"rd", "RFC 1035 §4.1.1: RD is copied", flagRD},
		{"ra", reason, flagRA},
		{"zflag", "RFC 1035 §4.1.1: Z is zero in all responses", flagZ},
		{"ad", "RFC 4035 §3.1.6, RFC 6840 §5.7: an authoritative server does not set AD for data it has not validated", flagAD},
		{"cd", "RFC 4035 §3.1.6: CD does not change the answer", flagCD},
		{"all flags", reason, flagAA | flagTC | flagRD | flagRA | flagZ | flagAD | flagCD},
	} {
		cases = append(cases, Case{Name: c.name, Reason: c.reason, Query: apex().with(c.flags).octets(), want: good(soa)})
	}
	return append(cases,
		Case{Name: "tcp", Reason: "RFC 7766 §5: every server answers over TCP", Over: TCP, Query: apex().octets(), want: good(soa)},
		Case{Name: "truncated", Reason: "RFC 2181 §9, RFC 1035 §4.2.1: 512 octets without EDNS, and TC for what does not fit", Query: ask("big.example.net", typeTXT, classIN).octets(), want: want{
			rcodes: []int{noError}, set: flagAA | flagTC, opt: mustNot, echo: true,
		}},
		Case{Name: "large over tcp", Reason: "RFC 7766 §5", Over: TCP, Query: ask("big.example.net", typeTXT, classIN).octets(), want: good(records)},
	)
}

func opcodeCases() []Case {
	const reason = "RFC 1035 §4.1.1, RFC 8906 §3.1.4: an opcode that is not supported is NOTIMP"
	rcodes := map[int][]int{
		// NOTIFY (RFC 1996 §3.10), also acknowledged, and UPDATE (RFC 2136 §2.2, §3.1) may
		// be known, and not wanted here.
		4: {noError, notImp, notAuth, refused}, 5: {notImp, notAuth, refused, formErr},
		6: {notImp, formErr}, // DSO (RFC 8490 §5.1): over TLS or TCP, and without a question
	}
	var cases []Case
	for opcode := 1; opcode < 16; opcode++ {
		w := bad(notImp)
		if r := rcodes[opcode]; r != nil {
			w = bad(r...)
		}
		if opcode == 4 {
			w.clear = flagTC // AA in the acknowledgement is open (RFC 1996 §3.10)
		}
		cases = append(cases, Case{
			Name: fmt.Sprintf("opcode %d with a question", opcode), Reason: reason,
			Query: apex().with(uint16(opcode) << opcodeShift).octets(), want: w,
		})
	}
	header := query{flags: 15 << opcodeShift}
	w := bad(notImp)
	w.content = empty
	return append(cases,
		Case{Name: "opcode", Reason: reason, Query: header.octets(), want: w},
		Case{Name: "opcodeflg", Reason: reason, Query: header.with(flagAA | flagTC | flagRD | flagRA | flagZ | flagAD | flagCD).octets(), want: w},
	)
}

func classCases() []Case {
	const reason = "RFC 1034 §4.3.2: not a class of which it has a zone"
	var cases []Case
	for _, c := range []struct {
		name, qname string
		class       int
		rcodes      []int
	}{
		{"class 0", Apex, 0, []int{formErr, refused, notImp}},
		{"class CS", Apex, 2, []int{refused, notImp}},
		{"class CH", Apex, classCH, []int{refused, notImp, nxDomain}},
		{"class HS", Apex, classHS, []int{refused, notImp}},
		{"class NONE", Apex, classNone, []int{formErr, refused, notImp}},
		{"class 65280", Apex, 65280, []int{refused, notImp}},
	} {
		cases = append(cases, Case{Name: c.name, Reason: reason, Query: ask(c.qname, typeSOA, c.class).octets(), want: bad(c.rcodes...)})
	}
	// RFC 1035 §3.2.5 allows the class ANY in questions; what an answer has then is open.
	return append(cases, Case{Name: "class ANY", Reason: "RFC 1035 §3.2.5", Query: ask(Apex, typeSOA, classAny).octets(), want: want{
		rcodes: []int{noError, refused, notImp, formErr}, clear: flagTC, opt: mustNot,
	}})
}

func typeCases() []Case {
	var cases []Case
	// What ISC's tests ask for, and types that nobody knows.
	for _, t := range []int{
		3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 33, 35, 36, 37, 38, 39, 42, 43, 44, 45, 46, 47, 48,
		49, 50, 51, 52, 53, 55, 59, 60, 61, 62, 63, 64, 65, 99, 104, 105, 106, 107, 108, 109, 256, 257, 258, 259, 260, 666, 1000, 32769, 65280, 65534, 65535, typeA,
	} {
		name := fmt.Sprintf("type %d", t)
		if t == 666 {
			name = "type666"
		}
		cases = append(cases, Case{Name: name, Reason: "RFC 3597 §3, RFC 2308 §2.2: a type that is not there, known or not, is NODATA", Query: ask(Apex, t, classIN).octets(), want: good(noData)})
	}
	for _, c := range []struct {
		name, reason string
		over         Transport
		qtype        int
		rcodes       []int
	}{
		{"qtype OPT", "RFC 6891 §6.1.1: no type to ask for", UDP, typeOPT, []int{formErr, notImp, refused}},
		{"qtype TSIG", "RFC 8945 §4.2: a meta type", UDP, typeTSIG, []int{formErr, notImp, refused}},
		{"qtype TKEY", "RFC 2930 §4: it comes with a TKEY record", UDP, typeTKEY, []int{formErr, notImp, refused}},
		{"qtype MAILA", "RFC 1035 §3.2.3: obsolete", UDP, typeMAILA, []int{notImp, refused}},
		{"qtype MAILB", "RFC 1035 §3.2.3: obsolete", UDP, typeMAILB, []int{notImp, refused}},
		{"AXFR over udp", "RFC 5936 §4.2: not specified", UDP, typeAXFR, []int{formErr, notImp, refused}},
		{"AXFR", "RFC 5936 §2.2.1: not for everybody", TCP, typeAXFR, []int{refused, notAuth}},
		{"IXFR without a SOA", "RFC 1995 §3: the authority section has the client's SOA", TCP, typeIXFR, []int{formErr, refused, notAuth}},
	} {
		cases = append(cases, Case{Name: c.name, Reason: c.reason, Over: c.over, Query: ask(Apex, c.qtype, classIN).octets(), want: want{
			rcodes: c.rcodes, clear: flagTC, content: nothing, opt: mustNot,
		}})
	}
	// RFC 6895 §3.1 reserves 0; what asking for it means is open.
	odd := want{rcodes: []int{noError, formErr, refused, notImp}, clear: flagTC, opt: mustNot}
	cases = append(cases, Case{Name: "type 0", Reason: "RFC 6895 §3.1", Query: ask(Apex, 0, classIN).octets(), want: odd})
	return append(cases,
		Case{Name: "ANY", Reason: "RFC 8482 §4: a subset will do, an empty one will not", Query: ask(Apex, typeANY, classIN).octets(), want: good(records)},
		Case{Name: "ANY over tcp", Reason: "RFC 8482 §4.4", Over: TCP, Query: ask(Apex, typeANY, classIN).octets(), want: good(records)},
	)
}
