package compliance

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// all has the cases of every combination of features.
func all() (cases []Case) {
	for i := range 4 {
		cases = append(cases, Cases(Features{NSID: i&1 != 0, Cookies: i&2 != 0})...)
	}
	return cases
}

func find(t *testing.T, name string, f Features) Case {
	t.Helper()
	for _, c := range Cases(f) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no case %q", name)
	return Case{}
}

func TestNamesAndReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases(Features{}) {
		if c.Name == "" || !strings.HasPrefix(c.Reason, "RFC ") || seen[c.Name] {
			t.Errorf("case %q: reason %q, seen before %v; want a name of its own and an RFC", c.Name, c.Reason, seen[c.Name])
		}
		seen[c.Name] = true
	}
}

// TestISCNames holds the names of ISC's tests: none is forgotten.
func TestISCNames(t *testing.T) {
	for _, name := range strings.Fields(`dns aa ad cd ra rd tc zflag opcode opcodeflg type666 tcp edns edns1 edns@512 ednsopt edns1opt do
		docd edns1do ednsflags optlist ednsnsid ednscookie ednsexpire ednssubnet edns1nsid edns1cookie edns1expire edns1subnet ednstcp bind11 dig11 dnswkk`) {
		find(t, name, Features{})
	}
}

// TestQueries reads what is well formed by another library: the cases ask what they
// are called after.
func TestQueries(t *testing.T) {
	for name, want := range map[string]string{
		"dns":      "example.net. IN SOA",
		"rd":       "example.net. IN SOA rd",
		"opcode":   "opcode 15",
		"edns@512": "example.net. IN DNSKEY edns 0 512 do",
		"edns1opt": "example.net. IN SOA edns 1 4096 option 100",
		"optlist":  "example.net. IN SOA edns 0 4096 option 3 option 8 option 9 option 10",
		"dnswkk":   "example.net. IN SOA tsig . hmac-sha256.",
		"AXFR":     "example.net. IN AXFR",
	} {
		var m dns.Msg
		if err := m.Unpack(find(t, name, Features{}).Query); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := text(&m); got != want {
			t.Errorf("%s asks %q, want %q", name, got, want)
		}
	}
}

func text(m *dns.Msg) string {
	var words []string
	for _, q := range m.Question {
		words = append(words, q.Name, dns.ClassToString[q.Qclass], dns.TypeToString[q.Qtype])
	}
	if m.Opcode != 0 {
		words = append(words, fmt.Sprint("opcode ", m.Opcode))
	}
	if m.RecursionDesired {
		words = append(words, "rd")
	}
	if o := m.IsEdns0(); o != nil {
		words = append(words, fmt.Sprintf("edns %d %d", o.Version(), o.UDPSize()))
		if o.Do() {
			words = append(words, "do")
		}
		for _, p := range o.Option {
			words = append(words, fmt.Sprint("option ", p.Option()))
		}
	}
	if s := m.IsTsig(); s != nil {
		words = append(words, "tsig", s.Hdr.Name, s.Algorithm)
	}
	return strings.Join(words, " ")
}

// TestJudge spoils good responses in one way each: it must be seen.
func TestJudge(t *testing.T) {
	zoneSOA := record("\xc0\x0c", typeSOA, classIN, 60, wire("ns1.example.net.")+wire("host.example.net.")+strings.Repeat("\x00", 20))
	plain := query{flags: flagQR | flagAA, questions: apex().questions, answer: []string{zoneSOA}}
	withOPT := func(o ...string) query { return plain.and(opt(1232, 0, o...)) }
	cookies := option(optionCookie, clientCookie+strings.Repeat("s", 16))
	for _, c := range []struct {
		of       string
		what     string // "": nothing is wrong
		response query
	}{
		{"dns", "", plain},
		{"dns", "RA is set", plain.with(flagRA)},
		{"dns", "Z is set", plain.with(flagZ)},
		{"ad", "AD is set", plain.with(flagAD)},
		{"dns", "RD is set", plain.with(flagRD)},
		{"cd", "", plain.with(flagCD)},
		{"dns", "CD is set", plain.with(flagCD)},
		{"rd", "RD is not copied", plain},
		{"dns", "flags TC are set", plain.with(flagTC)},
		{"dns", "flags AA are clear", query{flags: flagQR, questions: plain.questions, answer: plain.answer}},
		{"dns", "QR is clear", query{flags: flagAA, questions: plain.questions, answer: plain.answer}},
		{"dns", "rcode REFUSED, want NOERROR", plain.with(refused)},
		{"dns", "opcode 2, want 0", plain.with(2 << opcodeShift)},
		{"dns", "the answer is not the SOA", query{flags: plain.flags, questions: plain.questions}},
		{"dns", "is not that of the query", query{flags: plain.flags, questions: ask("example.org", typeSOA, classIN).questions, answer: []string{zoneSOA}}},
		{"dns", "0 questions, want that of the query", query{flags: plain.flags, answer: []string{record(wire(Apex), typeSOA, classIN, 1, "")}}},
		{"dns", "an OPT, and the query had none", withOPT()},
		{"dns", "1 octets behind the message", query{flags: plain.flags, questions: plain.questions, answer: plain.answer, tail: "x"}},
		{"dns", "octets, want at most 512", plain.and(record("\x00", typeTXT, classIN, 0, strings.Repeat("x", 500)))},
		{"type 15", "want only an SOA in the authority", plain},
		{"zone of others", "want none", plain.with(refused)},
		{"opcode", "want none", query{flags: flagQR | 15<<opcodeShift | notImp, questions: plain.questions}},
		{"a response", "a response, want none", plain},
		{"edns", "", withOPT()},
		{"edns", "no OPT", plain},
		{"edns", "EDNS version 1, want 0", plain.and(optVersion(1, 1232, 0))},
		{"edns", "it has two OPT", withOPT().and(opt(1232, 0))},
		{"edns", "EDNS size 100", plain.and(opt(100, 0))},
		{"edns", "must be zero", plain.and(opt(1232, 1))},
		{"edns", "DO true, want it copied", plain.and(opt(1232, flagDO))},
		{"do", "DO false, want it copied", withOPT()},
		{"edns", "", withOPT(option(optionError, "\x00\x01"))},
		{"edns", "EDNS option 3, which", withOPT(option(optionNSID, "x"))},
		{"ednsopt", "EDNS option 100, which", withOPT(unknown)},
		{"ednsopt", "option is cut off", withOPT("\x00\x64\x00\x01")},
		{"ednsnsid", "no EDNS option 3", withOPT()},
		{"ednscookie", "", withOPT(cookies)},
		{"ednscookie", "no EDNS option 10", withOPT()},
		{"ednscookie", "cookie 0102030405060708, want", withOPT(cookie)},
		{"ednscookie", "server cookie of 8 to 32", withOPT(option(optionCookie, strings.Repeat("s", 24)))},
		{"ednsexpire", "EXPIRE of 3 octets", withOPT(option(optionExpire, "abc"))},
		{"edns1", "rcode NOERROR, want BADVERS", withOPT()},
		{"dnswkk", "TSIG error -1", query{flags: flagQR | notAuth, questions: plain.questions}},
		{"dnswkk", "", query{flags: flagQR | notAuth, questions: plain.questions}.and(strings.TrimSuffix(tsig(), "\x00\x00\x00\x00") + "\x00\x11\x00\x00")},
	} {
		kase := find(t, c.of, Features{NSID: true, Cookies: true})
		got := strings.Join(kase.Judge(kase.Query, c.response.octets()), "; ")
		if (c.what == "" && got != "") || !strings.Contains(got, c.what) {
			t.Errorf("%s: %q, want %q", c.of, got, c.what)
		}
	}
	if got := find(t, "dns", Features{}).Judge(apex().octets(), nil); !slices.Equal(got, []string{"no response"}) {
		t.Errorf("silence: %q", got)
	}
}

// TestEchoIsWrong gives every case its own query with QR set: whoever does that
// passes no case, but those where hardly anything can be demanded.
func TestEchoIsWrong(t *testing.T) {
	var pass []string
	for _, c := range all() {
		b := bytes.Clone(c.Query)
		if len(b) > 2 {
			b[2] |= flagQR >> 8
		}
		if len(c.Judge(c.Query, b)) == 0 {
			pass = append(pass, c.Name)
		}
	}
	slices.Sort(pass)
	want := []string{"class ANY", "opcode 4 with a question", "type 0"}
	if got := slices.Compact(pass); !slices.Equal(got, want) {
		t.Errorf("an echo passes %q, want %q", got, want)
	}
}

// FuzzParse gives responses of any octets to a case.
func FuzzParse(f *testing.F) {
	for _, c := range Cases(Features{}) {
		f.Add(c.Query)
	}
	loop, _ := hex.DecodeString("000080000001000000000000c00cc00c00010001")
	f.Add(loop)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if (r == nil) == (err == nil) {
			t.Fatalf("response %v and error %v", r, err)
		}
		plain := Case{Query: apex().octets(), want: good(soa)}
		if wrong := plain.Judge(plain.Query, b); err != nil && len(wrong) == 0 {
			t.Fatalf("nothing wrong with what is malformed: %v", err)
		}
	})
}
