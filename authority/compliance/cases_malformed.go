package compliance

func malformedCases() []Case {
	silent := want{silent: true}
	formError := bad(formErr)
	formError.opt = may
	// Octets behind the message are no error that an RFC names, and records that come
	// with a query and are not OPT or TSIG need not be looked at.
	garbage := good(soa)
	garbage.rcodes, garbage.set, garbage.echo = []int{noError, formErr}, 0, false
	plain := apex()
	counted := func(counts ...uint16) query {
		q := plain
		q.counts = counts
		return q
	}
	of := func(octets string) query { return query{counts: []uint16{1, 0, 0, 0}, questions: []string{octets}} }
	response := plain.with(flagQR)
	behind := plain
	behind.tail = "\xff\xff\xff"
	ednsBehind := plain.and(opt(1232, 0))
	ednsBehind.tail = "x"
	garbageEDNS := garbage
	garbageEDNS.opt, garbageEDNS.limit = may, 1232
	two := query{questions: []string{plain.questions[0], question(wire("www.example.net"), typeA, classIN)}}
	const (
		short    = "RFC 8906 §3, RFC 1035 §4.1.1: no header, so that there is nobody to answer"
		loop     = "RFC 1035 §4.1.4: a pointer points to a prior name"
		one      = "RFC 9619 §4: one question; more are FORMERR"
		cut      = "RFC 1035 §4.1: what the header counts is there"
		reserved = "RFC 1035 §4.1.4, RFC 6891 §5: label types 01 and 10 mean nothing"
	)
	return []Case{
		{Name: "one octet", Reason: short, Query: []byte{0}, want: silent},
		{Name: "11 octets", Reason: short, Query: plain.octets()[:11], want: silent},
		{Name: "11 octets over tcp", Reason: short, Over: TCP, Query: plain.octets()[:11], want: silent},
		{Name: "a response", Reason: "RFC 8906 §3: answering responses goes on for ever between two servers", Query: response.octets(), want: silent},
		{Name: "a malformed response", Reason: "RFC 8906 §3", Query: response.octets()[:20], want: silent},

		{Name: "no question", Reason: "RFC 9619 §4, RFC 7873 §5.4: only a cookie can be asked for without one", Query: query{}.octets(), want: formError},
		{Name: "no question with EDNS", Reason: "RFC 9619 §4, RFC 7873 §5.4", Query: query{}.and(opt(1232, 0)).octets(), want: formError},
		{Name: "two questions", Reason: one, Query: two.octets(), want: formError},
		{Name: "two equal questions", Reason: one, Query: query{questions: []string{plain.questions[0], plain.questions[0]}}.octets(), want: formError},
		{Name: "65535 questions announced", Reason: one, Query: counted(65535, 0, 0, 0).octets(), want: formError},
		{Name: "question announced and not there", Reason: cut, Query: of("").octets(), want: formError},
		{Name: "name without its end", Reason: cut, Query: of("\x07example").octets(), want: formError},
		{Name: "label cut off", Reason: cut, Query: of("\x07exam").octets(), want: formError},
		{Name: "question without type", Reason: cut, Query: of(wire(Apex)).octets(), want: formError},
		{Name: "question without class", Reason: cut, Query: of(wire(Apex) + "\x00\x01").octets(), want: formError},
		{Name: "half of a class", Reason: cut, Query: of(wire(Apex) + "\x00\x01\x00").octets(), want: formError},
		{Name: "answer announced and not there", Reason: cut, Query: counted(1, 1, 0, 0).octets(), want: formError},
		{Name: "authority announced and not there", Reason: cut, Query: counted(1, 0, 1, 0).octets(), want: formError},
		{Name: "additional announced and not there", Reason: cut, Query: counted(1, 0, 0, 1).octets(), want: formError},
		{Name: "65535 additional announced", Reason: cut, Query: counted(1, 0, 0, 65535).octets(), want: formError},
		{Name: "additional with RDATA cut off", Reason: cut, Query: plain.and("\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\xc0\x00").octets(), want: formError},

		{Name: "pointer to itself", Reason: loop, Query: of("\xc0\x0c\x00\x06\x00\x01").octets(), want: formError},
		{Name: "pointer to itself behind a label", Reason: loop, Query: of("\x07example\xc0\x0c\x00\x06\x00\x01").octets(), want: formError},
		{Name: "two pointers to each other", Reason: loop, Query: of("\xc0\x0e\xc0\x0c\x00\x06\x00\x01").octets(), want: formError},
		{Name: "pointer forwards", Reason: loop, Query: of("\xc0\x12\x00\x06\x00\x01\x07example\x03net\x00").octets(), want: formError},
		{Name: "pointer behind the message", Reason: loop, Query: of("\xff\xff\x00\x06\x00\x01").octets(), want: formError},
		{Name: "half of a pointer", Reason: loop, Query: of("\x07example\xc0").octets(), want: formError},
		{Name: "label type 01", Reason: reserved, Query: of("\x41x\x00\x00\x06\x00\x01").octets(), want: formError},
		{Name: "label type 10", Reason: reserved, Query: of("\x81x\x00\x00\x06\x00\x01").octets(), want: formError},
		{Name: "additional with an owner that points to itself", Reason: loop, Query: plain.and(record("\xc0\x1d", typeA, classIN, 0, "\xc0\x00\x02\x01")).octets(), want: garbage},

		{Name: "octets behind the message", Reason: "RFC 1035 §4.1", Query: behind.octets(), want: garbage},
		{Name: "octets behind the OPT", Reason: "RFC 1035 §4.1", Query: ednsBehind.octets(), want: garbageEDNS},
		{Name: "octets behind the message over tcp", Reason: "RFC 1035 §4.1", Over: TCP, Query: behind.octets(), want: garbage},
	}
}
