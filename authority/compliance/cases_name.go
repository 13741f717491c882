package compliance

import "strings"

// labels repeats a label of one octet.
func labels(n int) string { return strings.Repeat("\x01a", n) }

// octetLabels has all octets from first on, in four labels of 32.
func octetLabels(first int) string {
	var sb strings.Builder
	for l := range 4 {
		sb.WriteByte(32)
		for i := range 32 {
			sb.WriteByte(byte(first + 32*l + i))
		}
	}
	return sb.String()
}

func nameCases() []Case {
	zone := wire(Apex)
	missing := want{rcodes: []int{nxDomain}, set: flagAA, clear: flagTC, content: noData, opt: mustNot, echo: true}
	elsewhere := bad(refused)
	elsewhere.echo = true
	// 121 labels of 2 octets and the zone's 13 are 255.
	longest := labels(121) + zone
	var cases []Case
	for _, c := range []struct {
		name, reason, qname string
		want                want
	}{
		{"case of the question", "RFC 4343 §3, RFC 1035 §7.3: letters match in any case, the question is copied as it is", "\x07ExAmPlE\x03nET\x00", good(soa)},
		{"octets 0 to 127 in a name", "RFC 2181 §11: any octet may be in a label", octetLabels(0) + zone, missing},
		{"octets 128 to 255 in a name", "RFC 2181 §11", octetLabels(128) + zone, missing},
		{"label of dots", "RFC 2181 §11: a dot in a label is no border", "\x03...\x07example\x03net\x00", missing},
		{"label of 63 octets", "RFC 1035 §2.3.4", "\x3f" + strings.Repeat("x", 63) + zone, missing},
		{"name of 255 octets", "RFC 1035 §2.3.4", longest, missing},
		{"127 labels", "RFC 1035 §2.3.4", labels(127) + "\x00", elsewhere},
		{"name of 256 octets", "RFC 1035 §2.3.4: 255 is the most", "\x02bb" + labels(120) + zone, bad(formErr)},
		{"128 labels", "RFC 1035 §2.3.4: they do not fit 255 octets", labels(128) + "\x00", bad(formErr)},
		{"root", "RFC 1034 §4.3.2: not a zone it has", "\x00", elsewhere},
		{"zone of others", "RFC 1034 §4.3.2: not a zone it has", wire("example.org."), elsewhere},
		{"parent of the zone", "RFC 1034 §4.3.2: not a zone it has", wire("net."), elsewhere},
		{"dot in the place of a border", "RFC 1034 §4.3.2: it is no name of the zone", "\x0bexample.net\x00", elsewhere},
	} {
		cases = append(cases, Case{Name: c.name, Reason: c.reason, Query: query{questions: []string{question(c.qname, typeSOA, classIN)}}.octets(), want: c.want})
	}
	return append(cases,
		Case{Name: "referral", Reason: "RFC 1034 §4.3.2 3b: below a cut it is not authoritative", Query: ask("www.sub.example.net", typeA, classIN).octets(), want: want{
			rcodes: []int{noError}, clear: flagAA | flagTC, content: referral, opt: mustNot, echo: true,
		}},
		Case{Name: "empty label inside", Reason: "RFC 1035 §3.1: the name ends there, and the rest is no type and class of it", Query: query{questions: []string{"\x07example\x00\x03net\x00\x00\x06\x00\x01"}}.octets(), want: want{
			rcodes: []int{formErr, refused, notImp}, clear: flagAA | flagTC, content: nothing, opt: mustNot,
		}},
	)
}
