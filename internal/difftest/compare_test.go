package difftest

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
)

func TestReadAllowed(t *testing.T) {
	a, err := ReadAllowed(strings.NewReader("# comment\n\n^tc udp  # too small\n^never # not used\n"), "list")
	if err != nil {
		t.Fatal(err)
	}
	d := Difference{Question: Question{Name: record.Root, Type: record.TypeA}, Kind: "tc", Ours: "true", Theirs: "false"}
	if !a.allows(d.String(), "") || a.allows("answer udp1232", "") {
		t.Fatalf("rules do not match as written: %s", d)
	}
	used, unused := a.use()
	if used["^tc udp  # too small"] != 1 || len(unused) != 1 || !strings.HasPrefix(unused[0], "^never") {
		t.Errorf("used %v, unused %v", used, unused)
	}
	for text, want := range map[string]string{"^x\n": "list:1: rule without a reason", "\n^x # \n": "list:2: rule without a reason", "^( # y": "list:1: error parsing regexp"} {
		if _, err := ReadAllowed(strings.NewReader(text), "list"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	var none *Allowed
	if none.allows("x", "y") {
		t.Error("no list allows something")
	}
}

// message builds a response: header flags, counts, and the octets behind them.
func message(flags uint16, counts [4]uint16, rest string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 7}, flags)
	for _, n := range counts {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, rest...)
}

const question = "\x03WWW\x07example\x03net\x00\x00\x01\x00\x01" // www at 12, example at 16

func TestDecode(t *testing.T) {
	b := message(0x8403, [4]uint16{1, 2, 1, 1}, question+
		"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01A\xc0\x10"+ // CNAME a.example.net
		"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x04\x00\x0a\xc0\x10"+ // MX 10 example.net
		"\xc0\x10\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x18\xc0\x10\xc0\x0c\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x05"+
		"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00") // OPT with the upper rcode 1
	r, err := decode(b, 7)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{sorted(r.answer, keepSerial), sorted(r.authority, zeroSerial)}
	want := []string{
		"[www.example.net. 60 CNAME a.example.net. | www.example.net. 60 MX 10 example.net.]",
		"[example.net. 60 SOA example.net. www.example.net. 0 2 3 4 5]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.rcode != 19 || !r.aa || r.tc || len(r.additional) != 0 || string(r.question) != question {
		t.Errorf("rcode %d, aa %v, tc %v, %d additional, question %q", r.rcode, r.aa, r.tc, len(r.additional), r.question)
	}
	for i := range len(b) {
		if _, err := decode(b[:i], 7); err == nil {
			t.Errorf("a message cut off at %d of %d octets is accepted", i, len(b))
		}
	}
	if _, err := decode(b, 8); err == nil {
		t.Error("another ID is accepted")
	}
	loop := message(0x8000, [4]uint16{1, 0, 0, 0}, "\xc0\x0c\x00\x01\x00\x01")
	if _, err := decode(loop, 7); err == nil {
		t.Error("a pointer to itself is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message(0x8400, [4]uint16{1, 1, 0, 0}, question+"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01A\xc0\x10"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b, 7)
		if err == nil {
			sorted(append(r.answer, append(r.authority, r.additional...)...), zeroSerial)
		}
	})
}

// TestDifferences holds that each kind of difference is noticed, and equality is not.
func TestDifferences(t *testing.T) {
	a := rr{owner: name("www.example.net"), t: record.TypeA, ttl: 60, rdata: "\xc0\x00\x02\x01"}
	b := a
	b.ttl = 61
	soa := rr{owner: name("example.net"), t: record.TypeSOA, ttl: 60, rdata: record.Rdata("\x00\x00" + strings.Repeat("\x00\x00\x00\x01", 5))}
	newer := soa
	newer.rdata = "\x00\x00\x00\x00\x00\x02" + soa.rdata[6:]
	ns := rr{owner: name("cut.example.net"), t: record.TypeNS, ttl: 60, rdata: record.Rdata(name("ns.cut.example.net"))}
	glue := rr{owner: name("ns.cut.example.net"), t: record.TypeA, ttl: 60, rdata: "\xc0\x00\x02\x01"}
	base := func() *response {
		return &response{aa: true, answer: []rr{a, soa}, authority: []rr{soa}, question: []byte("q")}
	}
	for want, change := range map[string]func(*response){
		"":              func(r *response) { r.answer = []rr{soa, a}; r.additional = []rr{glue} },
		"rcode":         func(r *response) { r.rcode = 3 },
		"aa":            func(r *response) { r.aa = false },
		"tc":            func(r *response) { r.tc = true; r.answer = nil },
		"question":      func(r *response) { r.question = []byte("Q") },
		"answer":        func(r *response) { r.answer = []rr{b, soa} },
		"authority":     func(r *response) { r.authority = nil },
		"serial":        func(r *response) { r.authority = []rr{newer} },
		"answer serial": func(r *response) { r.answer = []rr{a} },
	} {
		changed := base()
		change(changed)
		var kinds []string
		for _, d := range differences(Question{Name: record.Root}, base(), changed) {
			kinds = append(kinds, d.Kind)
		}
		want = strings.TrimSuffix(want, " serial") // more than the serial: not called serial
		if got := strings.Join(kinds, " "); got != want {
			t.Errorf("kinds %q, want %q", got, want)
		}
	}
	with, without := &response{authority: []rr{ns}, additional: []rr{glue}}, &response{authority: []rr{ns}}
	if ds := differences(Question{Name: record.Root}, with, without); len(ds) != 1 || ds[0].Kind != "glue" {
		t.Errorf("missing glue gives %v", ds)
	}
}

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

func TestQuestions(t *testing.T) {
	zones, err := LoadZones(fstest.MapFS{"example.net": {Data: []byte("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\nx.ent 60 HINFO a b\n*.w 60 TXT x\n")}})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]int{}
	mixed := false
	for q := range Questions(zones) {
		asked[q.Via.String()+" "+q.Name.String()+" "+q.Type.String()]++
		mixed = mixed || q.Mixed
	}
	for _, want := range []string{
		"udp1232 x.ent.example.net. HINFO", "udp1232 x.ent.example.net. AAAA", "tcp x.ent.example.net. HINFO", "udp512 x.ent.example.net. HINFO",
		"udp4096 x.ent.example.net. ANY", "udp1232 ent.example.net. A", "udp1232 zz-absent.x.ent.example.net. A", "udp1232 *.zz-absent.ent.example.net. TXT",
		"udp1232 zz-made.w.example.net. TXT", "tcp zz-made.w.example.net. TXT", "udp1232 example.net. SOA", "udp1232 zz-nobody.invalid. A",
	} {
		if asked[want] != 1 {
			t.Errorf("%s asked %d times, want once", want, asked[want])
		}
	}
	for q, n := range asked {
		if n != 1 {
			t.Errorf("%s asked %d times", q, n)
		}
	}
	if !mixed {
		t.Error("nothing is asked in mixed case")
	}
	if _, err := LoadZones(fstest.MapFS{"example.net": {Data: []byte("@ 60 A nonsense\n")}}); err == nil || !strings.HasPrefix(err.Error(), "example.net:1:") {
		t.Errorf("a broken zone file: %v", err)
	}
}
