package dnswire_test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// texts are RDATA with what they are in wire form; origin is example.net.
var texts = []struct {
	rtype record.Type
	text  string
	wire  string
	back  string // as FormatRdata says it, when not as text
}{
	{record.TypeA, "192.0.2.1", "\xc0\x00\x02\x01", ""},
	{record.TypeAAAA, "2001:DB8::1", "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01", "2001:db8::1"},
	{record.TypeAAAA, "::ffff:192.0.2.1", strings.Repeat("\x00", 10) + "\xff\xff\xc0\x00\x02\x01", ""},
	{record.TypeNS, "NS1", "\x03ns1\x07example\x03net\x00", "ns1.example.net."},
	{record.TypePTR, "@", "\x07example\x03net\x00", "example.net."},
	{record.TypeCNAME, ".", "\x00", ""},
	{record.TypeDNAME, `a\.b\000c.`, "\x05a.b\x00c\x00", ""},
	{record.TypeMX, "( 10\n mail )", "\x00\x0a\x04mail\x07example\x03net\x00", "10 mail.example.net."},
	{record.TypeSRV, "1 2 3 T.", "\x00\x01\x00\x02\x00\x03\x01t\x00", "1 2 3 t."},
	{record.TypeTXT, `a "b c" "" \"`, "\x01a\x03b c\x00\x01\"", `"a" "b c" "" "\""`},
	{record.TypeTXT, `"\001\255;"`, "\x03\x01\xff;", ""},
	{record.TypeSOA, ". . 1 1h 3 4 5", "\x00\x00\x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x05", ". . 1 3600 3 4 5"},
	{record.TypeCAA, `0 issue "CA.example"`, "\x00\x05issueCA.example", ""},
	{record.TypeHTTPS, "0 Target.", "\x00\x00\x06Target\x00", ""}, // newer than RFC 3597: case stays
	{35, `1 2 "U" "E2U" "!^.*$!x!" REP`, "\x00\x01\x00\x02\x01U\x03E2U\x08!^.*$!x!\x03rep\x07example\x03net\x00", `1 2 "U" "E2U" "!^.*$!x!" rep.example.net.`},
	{65280, `\# 3 01 02ff`, "\x01\x02\xff", `\# 3 0102ff`},
	{65280, `\# 0`, "", ""},
	{record.TypeA, `\# 4 c0000201`, "\xc0\x00\x02\x01", "192.0.2.1"},
	{record.TypeMX, `\# 5 000a 0141 00`, "\x00\x0a\x01a\x00", "10 a."},
}

func TestRdata(t *testing.T) {
	for _, c := range texts {
		rd, err := dnswire.ParseRdata(c.rtype, c.text, name(t, "example.net."))
		if err != nil || string(rd) != c.wire {
			t.Errorf("%s %s is %x, %v; want %x", c.rtype, c.text, string(rd), err, c.wire)
			continue
		}
		if c.back == "" {
			c.back = c.text
		}
		if got := dnswire.FormatRdata(c.rtype, rd); got != c.back {
			t.Errorf("%s %x is written as %s, want %s", c.rtype, c.wire, got, c.back)
		}
	}
}

func TestRdataRefused(t *testing.T) {
	for _, c := range []struct {
		rtype      record.Type
		text, want string
	}{
		{record.TypeA, "", "A: an IPv4 address is missing"},
		{record.TypeA, "1", `A: expected an IPv4 address, found "1"`},
		{record.TypeA, "192.0.2.1\n192.0.2.2", "A: RDATA goes on after the end of the line"},
		{record.TypeTXT, `"a`, "TXT: quoted text is not closed"},
		{record.TypeMX, "65536 a", "MX: expected a number from 0 to 65535"},
		{record.TypeTXT, `\25`, `TXT: escape "\\25"`},
		{record.TypeTXT, `\256`, `TXT: escape "\\256"`},
		{record.TypeANY, "x", "type ANY is for questions"},
		{65280, "x", "TYPE65280: expected RDATA"},
		{65280, `\# 1 0`, "TYPE65280: expected octets in hexadecimal"},
		{record.TypeDS, "1 2", "DS: "},
		{record.TypeCAA, `0 issue`, "CAA: "},
	} {
		rd, err := dnswire.ParseRdata(c.rtype, c.text, record.Root)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %q is %x, error %v; want %s", c.rtype, c.text, string(rd), err, c.want)
		}
	}
}

// TestLibraryReadsTheSame: the types read here come out as the library reads them.
func TestLibraryReadsTheSame(t *testing.T) {
	for _, c := range texts {
		zp := dns.NewZoneParser(strings.NewReader("x. 0 IN "+c.rtype.String()+" "+c.text+"\n"), "example.net.", "")
		rr, ok := zp.Next()
		if !ok || c.wire == "" {
			continue // it cannot say "no octets"
		}
		rr.Header().Name = "."
		buf := make([]byte, 1000)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dnswire.Canonical(c.rtype, buf[11:n])
		if err != nil || string(got) != c.wire {
			t.Errorf("%s %s: the library has %x, %v; want %x", c.rtype, c.text, string(got), err, c.wire)
		}
	}
}

// TestFormatIsExact: whatever the octets, well formed or not, they are written so
// that they read back the same; of well-formed ones Canonical is idempotent.
func TestFormatIsExact(t *testing.T) {
	types := []record.Type{
		record.TypeA, record.TypeNS, record.TypeSOA, record.TypeMX, record.TypeTXT, record.TypeAAAA, record.TypeSRV, 35, 29, 42,
		record.TypeDS, record.TypeRRSIG, record.TypeNSEC, 50, 52, 55, 61, record.TypeSVCB, record.TypeHTTPS, 108, 256, record.TypeCAA, 65280,
	}
	rapid.Check(t, func(t *rapid.T) {
		rt := rapid.SampledFrom(types).Draw(t, "type")
		var wire []byte
		if rapid.Bool().Draw(t, "mutate a good one") {
			c := rapid.SampledFrom(texts).Draw(t, "good")
			rt, wire = c.rtype, []byte(c.wire)
			if len(wire) > 0 && rapid.Bool().Draw(t, "flip") {
				wire[rapid.IntRange(0, len(wire)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "to")
			}
		} else {
			wire = rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "wire")
		}
		rd, err := dnswire.Canonical(rt, wire)
		if err != nil {
			rd = record.Rdata(wire) // still must be written exactly
		} else if again, err := dnswire.Canonical(rt, []byte(rd)); err != nil || again != rd {
			t.Fatalf("%s %x: canonical of canonical is %x, %v", rt, string(rd), string(again), err)
		}
		text := dnswire.FormatRdata(rt, rd)
		if strings.ContainsAny(text, "\n\r") {
			t.Fatalf("%s %x is written on several lines: %q", rt, string(rd), text)
		}
		back, backErr := dnswire.ParseRdata(rt, text, record.Root)
		if err == nil && (backErr != nil || back != rd) {
			t.Fatalf("%s %x is written as %s, which reads as %x, %v", rt, string(rd), text, string(back), backErr)
		}
		if err != nil && backErr == nil && back != rd {
			t.Fatalf("%s %x, malformed, is written as %s, which reads as %x", rt, string(rd), text, string(back))
		}
	})
}

func FuzzParseRdata(f *testing.F) {
	for _, c := range texts {
		f.Add(uint16(c.rtype), c.text)
	}
	f.Fuzz(func(t *testing.T, rt uint16, text string) {
		rd, err := dnswire.ParseRdata(record.Type(rt), text, "\x07example\x03net\x00")
		if err != nil {
			return
		}
		back, err := dnswire.ParseRdata(record.Type(rt), dnswire.FormatRdata(record.Type(rt), rd), record.Root)
		if err != nil || back != rd {
			t.Errorf("type %d %q: %x reads back as %x, %v", rt, text, string(rd), string(back), err)
		}
	})
}
