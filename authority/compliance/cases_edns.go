package compliance

import "strings"

// clientCookie is the one of ISC's tests.
const clientCookie = "\x01\x02\x03\x04\x05\x06\x07\x08"

// Options as ISC's tests send them.
var (
	nsid      = option(optionNSID, "")
	subnet    = option(optionSubnet, "\x00\x01\x00\x00")
	expire    = option(optionExpire, "")
	cookie    = option(optionCookie, clientCookie)
	unknown   = option(optionUnknown, "")
	keepalive = option(optionKeepalive, "")
)

func ednsCases(f Features) []Case {
	const unknownVersion = "RFC 6891 §6.1.3: a version above 0 is BADVERS, whatever else is there"
	v0 := good(soa).edns(4096)
	v1 := bad(badVers).edns(4096)
	v1Cookie := v1.optional(optionCookie)
	if !f.Cookies {
		v1Cookie = v1
	}
	withCookie := v0.option(when(f.Cookies), optionCookie)
	version1 := func(flags uint16, options ...string) []byte {
		return apex().and(optVersion(1, 4096, flags, options...)).octets()
	}
	edns := func(flags uint16, options ...string) []byte { return apex().and(opt(4096, flags, options...)).octets() }
	return []Case{
		{Name: "edns", Reason: "RFC 6891 §6.1.1: an OPT is answered by an OPT", Query: edns(0), want: v0},
		{Name: "edns1", Reason: unknownVersion, Query: version1(0), want: v1},
		{Name: "edns@512", Reason: "RFC 6891 §6.2.3", Query: ask(Apex, typeDNSKEY, classIN).and(opt(512, flagDO)).octets(), want: good(noData).edns(512)},
		{Name: "ednsopt", Reason: "RFC 6891 §6.1.2: unknown options are ignored", Query: edns(0, unknown), want: v0},
		{Name: "edns1opt", Reason: unknownVersion, Query: version1(0, unknown), want: v1},
		{Name: "do", Reason: "RFC 3225 §3: DO is copied", Query: edns(flagDO), want: v0},
		{Name: "docd", Reason: "RFC 3225 §3, RFC 4035 §3.1.6", Query: apex().with(flagCD).and(opt(4096, flagDO)).octets(), want: v0},
		{Name: "edns1do", Reason: unknownVersion, Query: version1(flagDO), want: v1},
		{Name: "ednsflags", Reason: "RFC 6891 §6.1.4: unknown flags are zero in responses", Query: edns(0x80), want: v0},
		{Name: "all ednsflags", Reason: "RFC 6891 §6.1.4", Query: edns(0xffff), want: v0},
		{Name: "optlist", Reason: "RFC 6891 §6.1.2", Query: edns(0, nsid, subnet, expire, cookie), want: withCookie.option(when(f.NSID), optionNSID).optional(optionSubnet, optionExpire)},
		{Name: "ednsnsid", Reason: "RFC 5001 §2.1", Query: edns(0, nsid), want: v0.option(when(f.NSID), optionNSID)},
		{Name: "ednscookie", Reason: "RFC 7873 §5.2.3", Query: edns(0, cookie), want: withCookie},
		{Name: "ednsexpire", Reason: "RFC 7314 §3", Query: edns(0, expire), want: v0.optional(optionExpire)},
		{Name: "ednssubnet", Reason: "RFC 7871 §7.1.3", Query: edns(0, subnet), want: v0.optional(optionSubnet)},
		{Name: "edns1nsid", Reason: unknownVersion, Query: version1(0, nsid), want: v1.optional(optionNSID)},
		{Name: "edns1cookie", Reason: unknownVersion, Query: version1(0, cookie), want: v1Cookie},
		{Name: "edns1expire", Reason: unknownVersion, Query: version1(0, expire), want: v1},
		{Name: "edns1subnet", Reason: unknownVersion, Query: version1(0, subnet), want: v1.optional(optionSubnet)},
		{Name: "edns255", Reason: unknownVersion, Query: apex().and(optVersion(255, 4096, 0)).octets(), want: v1},
		{Name: "ednstcp", Reason: "RFC 7766 §5, RFC 6891 §6.2.5", Over: TCP, Query: ask(Apex, typeDNSKEY, classIN).and(opt(512, flagDO)).octets(), want: good(noData).edns(65535)},
		{Name: "bind11", Reason: "RFC 6891, RFC 7873 §5.2.3", Query: edns(flagDO, cookie), want: withCookie},
		{Name: "dig11", Reason: "RFC 6891, RFC 7873 §5.2.3", Query: apex().with(flagRD | flagAD).and(opt(4096, 0, cookie)).octets(), want: withCookie},

		{Name: "edns size 0", Reason: "RFC 6891 §6.2.3: less than 512 means 512", Query: apex().and(opt(0, 0)).octets(), want: good(soa).edns(512)},
		{Name: "edns size 65535", Reason: "RFC 6891 §6.2.5: what the client offers is a limit and no wish", Query: apex().and(opt(65535, 0)).octets(), want: good(soa).edns(65535)},
		{Name: "edns truncated", Reason: "RFC 6891 §7: a truncated response has its OPT", Query: ask("big.example.net", typeTXT, classIN).and(opt(512, 0)).octets(), want: want{
			rcodes: []int{noError}, set: flagAA | flagTC, opt: must, limit: 512, echo: true,
		}},
		{Name: "edns of a name that is not there", Reason: "RFC 6891 §6.1.1", Query: ask("nobody.example.net", typeA, classIN).and(opt(1232, 0)).octets(), want: want{
			rcodes: []int{nxDomain}, set: flagAA, clear: flagTC, content: noData, opt: must, limit: 1232, echo: true,
		}},
		{Name: "edns of a zone of others", Reason: "RFC 6891 §6.1.1", Query: ask("example.org", typeA, classIN).and(opt(1232, 0)).octets(), want: bad(refused).edns(1232)},
		{Name: "edns with an opcode that is not supported", Reason: "RFC 6891 §6.1.1: the OPT is part of all responses", Query: apex().with(15 << opcodeShift).and(opt(1232, 0)).octets(), want: bad(notImp).edns(1232)},
		{Name: "record before the OPT", Reason: "RFC 6891 §6.1.1: it may stand anywhere in the additional section", Query: apex().and(record(wire("x."), typeA, classIN, 0, "\xc0\x00\x02\x01"), opt(1232, 0)).octets(), want: good(soa).edns(1232)},
		{Name: "record behind the OPT", Reason: "RFC 6891 §6.1.1", Query: apex().and(opt(1232, 0), record("\xc0\x0c", typeA, classIN, 0, "\xc0\x00\x02\x01")).octets(), want: good(soa).edns(1232)},
		{Name: "record without an OPT", Reason: "RFC 1035 §4.1.3: other records of a query are of no interest", Query: apex().and(record(wire("x."), typeA, classIN, 0, "\xc0\x00\x02\x01")).octets(), want: good(soa)},
		{Name: "keepalive over udp", Reason: "RFC 7828 §3.2.1: ignored over UDP", Query: edns(0, keepalive), want: v0},
		{Name: "keepalive over tcp", Reason: "RFC 7828 §3.3.2", Over: TCP, Query: edns(0, keepalive), want: good(soa).edns(65535).optional(optionKeepalive)},
		{Name: "padding over udp", Reason: "RFC 7830 §4", Query: edns(0, option(optionPadding, strings.Repeat("\x00", 64))), want: v0.optional(optionPadding)},
		{Name: "padding over tcp", Reason: "RFC 7830 §4", Over: TCP, Query: edns(0, option(optionPadding, "")), want: good(soa).edns(65535).optional(optionPadding)},
		{Name: "100 unknown options", Reason: "RFC 6891 §6.1.2", Query: edns(0, strings.Repeat(unknown, 100)), want: v0},
		{Name: "unknown option of 1000 octets", Reason: "RFC 6891 §6.1.2", Query: edns(0, option(65001, strings.Repeat("x", 1000))), want: v0},
	}
}

// optionCases have options and OPT records that are malformed.
func optionCases() []Case {
	formError := bad(formErr)
	formError.opt, formError.limit = may, 4096 // whether the OPT was understood is open
	formError.options = map[int]presence{optionCookie: may, optionSubnet: may, optionNSID: may}
	either := formError
	either.rcodes, either.clear, either.content = []int{noError, formErr, refused}, flagTC, soa
	const ecs = "RFC 7871 §6, §7.1.2: a malformed subnet is FORMERR"
	edns := func(options ...string) []byte { return apex().and(opt(4096, 0, options...)).octets() }
	inAnswer := apex()
	inAnswer.answer = []string{opt(4096, 0)}
	return []Case{
		{Name: "two OPT", Reason: "RFC 6891 §6.1.1: more than one is FORMERR", Query: apex().and(opt(4096, 0), opt(4096, 0)).octets(), want: formError},
		{Name: "two OPT, the first of version 1", Reason: "RFC 6891 §6.1.1", Query: apex().and(optVersion(1, 4096, 0), opt(4096, 0)).octets(), want: formError},
		{Name: "OPT in the answer section", Reason: "RFC 6891 §6.1.1: its place is the additional section", Query: inAnswer.octets(), want: formError},
		{Name: "OPT with an owner", Reason: "RFC 6891 §6.1.2: the owner is the root", Query: apex().and(record(wire("x."), typeOPT, 4096, 0, "")).octets(), want: formError},
		{Name: "option longer than the OPT", Reason: "RFC 6891 §6.1.2", Query: edns("\x00\x64\x00\x05abcd"), want: formError},
		{Name: "three octets of an option", Reason: "RFC 6891 §6.1.2", Query: edns("\x00\x64\x00"), want: formError},
		{Name: "octet behind the options", Reason: "RFC 6891 §6.1.2", Query: edns(unknown, "\x00"), want: formError},
		{Name: "OPT longer than the message", Reason: "RFC 1035 §4.1.3", Query: apex().and(strings.TrimSuffix(opt(4096, 0), "\x00\x00") + "\x00\x10").octets(), want: formError},
		{Name: "subnet of 3 octets", Reason: ecs, Query: edns(option(optionSubnet, "\x00\x01\x18")), want: formError},
		{Name: "subnet with too few octets", Reason: ecs, Query: edns(option(optionSubnet, "\x00\x01\x18\x00\xc0\x00")), want: formError},
		{Name: "subnet with too many octets", Reason: ecs, Query: edns(option(optionSubnet, "\x00\x01\x18\x00\xc0\x00\x02\x00")), want: formError},
		{Name: "subnet of /33", Reason: ecs, Query: edns(option(optionSubnet, "\x00\x01\x21\x00\xc0\x00\x02\x00\x80")), want: formError},
		{Name: "subnet with a scope", Reason: ecs, Query: edns(option(optionSubnet, "\x00\x01\x18\x18\xc0\x00\x02")), want: formError},
		{Name: "subnet with bits behind its length", Reason: ecs, Query: edns(option(optionSubnet, "\x00\x01\x17\x00\xc0\x00\x03")), want: formError},
		{Name: "subnet of an unknown family", Reason: "RFC 7871 §7.1.1", Query: edns(option(optionSubnet, "\x00\x63\x08\x00\x01")), want: either},
	}
}

func cookieCases(f Features) []Case {
	const length = "RFC 7873 §5.2.2: 8, or 16 to 40 octets; another length is FORMERR"
	const forged = "RFC 7873 §5.2.4: as if there were no server cookie, or BADCOOKIE; and a new one"
	malformed := bad(formErr)
	malformed.opt, malformed.limit, malformed.options = may, 4096, map[int]presence{optionCookie: may}
	wrong := want{
		rcodes: []int{noError, badCookie}, clear: flagTC, content: soa, opt: must, limit: 4096,
		options: map[int]presence{optionCookie: when(f.Cookies)},
	}
	overTCP := good(soa).edns(65535).option(when(f.Cookies), optionCookie)
	if !f.Cookies {
		malformed.rcodes, malformed.clear, malformed.content = []int{noError, formErr}, flagTC, soa
	}
	edns := func(options ...string) []byte { return apex().and(opt(4096, 0, options...)).octets() }
	of := func(n int) string { return option(optionCookie, (clientCookie + strings.Repeat("\xaa", 60))[:n]) }
	cases := []Case{
		{Name: "forged server cookie of 8 octets", Reason: forged, Query: edns(of(16)), want: wrong},
		{Name: "forged server cookie of 16 octets", Reason: forged, Query: edns(of(24)), want: wrong},
		{Name: "forged server cookie of version 1", Reason: forged, Query: edns(option(optionCookie, clientCookie+"\x01\x00\x00\x00\x5c\xf7\x9f\x11\x1f\x81\x30\xc3\xee\xe2\x94\x80")), want: wrong},
		{Name: "forged server cookie of 32 octets", Reason: forged, Query: edns(of(40)), want: wrong},
		{Name: "forged server cookie over tcp", Reason: "RFC 7873 §5.2.3: over TCP the address is known", Over: TCP, Query: edns(of(24)), want: overTCP},
		{Name: "cookie over tcp", Reason: "RFC 7873 §5.2.3", Over: TCP, Query: edns(cookie), want: overTCP},
		{Name: "two cookies", Reason: "RFC 7873 §5: the first counts", Query: edns(cookie, option(optionCookie, "abcdefgh")), want: good(soa).edns(4096).option(when(f.Cookies), optionCookie)},
	}
	for _, c := range []struct {
		name string
		n    int
	}{{"cookie of no octet", 0}, {"cookie of 7 octets", 7}, {"cookie of 9 octets", 9}, {"cookie of 15 octets", 15}, {"cookie of 41 octets", 41}} {
		cases = append(cases, Case{Name: c.name, Reason: length, Query: edns(of(c.n)), want: malformed})
	}
	alone := want{rcodes: []int{formErr}, clear: flagTC | flagAA, content: nothing, opt: may, limit: 4096, options: map[int]presence{optionCookie: may}}
	if f.Cookies {
		alone.rcodes, alone.opt, alone.options = []int{noError}, must, map[int]presence{optionCookie: must}
	} else {
		alone.rcodes = []int{noError, formErr}
	}
	return append(cases, Case{Name: "cookie without a question", Reason: "RFC 7873 §5.4: asks for a cookie alone", Query: query{}.and(opt(4096, 0, cookie)).octets(), want: alone})
}

func tsigCases() []Case {
	unknownKey := want{rcodes: []int{notAuth}, clear: flagAA | flagTC, content: nothing, opt: mustNot, tsigError: badKey}
	formError := bad(formErr)
	formError.opt = may
	return []Case{
		{Name: "dnswkk", Reason: "RFC 8945 §5.2.1: a key that is not known is NOTAUTH, with a TSIG that says BADKEY and is not signed", Query: apex().and(tsig()).octets(), want: unknownKey},
		{Name: "TSIG before another record", Reason: "RFC 8945 §5.1: it is the last", Query: apex().and(tsig(), record(wire("x."), typeA, classIN, 0, "\xc0\x00\x02\x01")).octets(), want: formError},
		{Name: "TSIG before the OPT", Reason: "RFC 8945 §5.1", Query: apex().and(tsig(), opt(1232, 0)).octets(), want: formError},
		{Name: "two TSIG", Reason: "RFC 8945 §5.1: there is one", Query: apex().and(tsig(), tsig()).octets(), want: formError},
		{Name: "TSIG cut off", Reason: "RFC 8945 §5.2, §4.2", Query: apex().and(record("\x00", typeTSIG, classAny, 0, wire("hmac-sha256.")+"\x00\x00")).octets(), want: formError},
	}
}
