package dnsload

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/record"
)

func name(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// unpack reads query i with another library.
func unpack(t testing.TB, q *Queries, i int) *dns.Msg {
	t.Helper()
	b := append([]byte{0x12, 0x34}, q.message(uint32(i))[2:]...)
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("query %d: %v in %x", i, err, b)
	}
	if len(m.Question) != 1 || m.Id != 0x1234 || m.Response || m.RecursionDesired {
		t.Fatalf("query %d is %v", i, m)
	}
	return m
}

func TestReadQueries(t *testing.T) {
	const file = `; a comment
# another

www.Example.NET A
  www.example.net.   aaaa
\065b.example.net TYPE65280 E
. NS D
_http._tcp.example.net SRV ED
`
	q, err := ReadQueries(strings.NewReader(file), "q.txt", Encoding{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"www.example.net. 1", "www.example.net. 28", "ab.example.net. 65280 edns", ". 2 edns do", "_http._tcp.example.net. 33 edns do",
	}
	if q.Len() != len(want) {
		t.Fatalf("%d queries, want %d", q.Len(), len(want))
	}
	for i, want := range want {
		m := unpack(t, q, i)
		got := fmt.Sprint(m.Question[0].Name, " ", m.Question[0].Qtype)
		if o := m.IsEdns0(); o != nil {
			got += " edns"
			if o.UDPSize() != ednsSize || len(o.Option) != 0 {
				t.Errorf("query %d has the OPT record %v", i, o)
			}
			if o.Do() {
				got += " do"
			}
		}
		if got != want {
			t.Errorf("query %d is %q, want %q", i, got, want)
		}
		if n := len(q.question(uint32(i))); n != len(name(t, m.Question[0].Name))+4 {
			t.Errorf("query %d has a question of %d octets", i, n)
		}
	}
}

func TestEncoding(t *testing.T) {
	for _, tt := range []struct {
		e      Encoding
		do     bool
		subnet string
	}{
		{Encoding{EDNS: true}, false, ""},
		{Encoding{DO: true}, true, ""},
		{Encoding{Subnet: netip.MustParsePrefix("192.0.2.77/24")}, false, "192.0.2.0/24/0"},
		{Encoding{Subnet: netip.MustParsePrefix("192.0.2.255/25")}, false, "192.0.2.128/25/0"},
		{Encoding{DO: true, Subnet: netip.MustParsePrefix("2001:db8:ffff:1::1/46")}, true, "2001:db8:fffc::/46/0"},
		{Encoding{Subnet: netip.MustParsePrefix("0.0.0.0/0")}, false, "0.0.0.0/0/0"},
		{Encoding{Subnet: netip.MustParsePrefix("2001:db8::1/128")}, false, "2001:db8::1/128/0"},
	} {
		long := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61)
		q := OneQuery(name(t, long), record.TypeA, tt.e)
		m := unpack(t, q, 0)
		o := m.IsEdns0()
		if o == nil || o.Do() != tt.do || o.UDPSize() != ednsSize {
			t.Fatalf("%+v: OPT record %v", tt.e, o)
		}
		got := ""
		for _, opt := range o.Option {
			s := opt.(*dns.EDNS0_SUBNET)
			got = fmt.Sprintf("%s/%d/%d", s.Address, s.SourceNetmask, s.SourceScope)
		}
		if got != tt.subnet {
			t.Errorf("%+v: subnet %q, want %q", tt.e, got, tt.subnet)
		}
		if n := len(q.arena); n > maxQuery {
			t.Errorf("%+v: a query of %d octets, at most %d", tt.e, n, maxQuery)
		}
	}
}

func TestReadQueriesRefuses(t *testing.T) {
	many := strings.Repeat("a A\n", MaxQueries)
	for _, tt := range []struct{ file, want string }{
		{"", "q.txt: no query in it, expected lines NAME TYPE"},
		{"# nothing\n", "q.txt: no query in it, expected lines NAME TYPE"},
		{"www.example.net A\nwww.example.net\n", "q.txt:2: 1 words, expected NAME TYPE and at most the flags E and D"},
		{"\n\nwww.example.net A E D\n", "q.txt:3: 4 words, expected NAME TYPE and at most the flags E and D"},
		{"www.example.net AAAAA", `q.txt:1: type "AAAAA" is unknown, expected a mnemonic such as AAAA or TYPEnnn (RFC 3597)`},
		{"www..example.net A", `q.txt:1: name "www..example.net" has an empty label at octet 5, expected a label of 1 to 63 octets`},
		{"www.example.net A X", `q.txt:1: flags "X", expected E (EDNS), D (EDNS with DNSSEC OK) or both`},
		{"a A\n" + strings.Repeat("x", maxLine+1), "q.txt:2: line longer than 4096 octets, expected NAME TYPE"},
		{many + "a A\n", "q.txt:1048577: more than 1048576 queries, take a part of the file (shuf -n 1048576)"},
	} {
		_, err := ReadQueries(strings.NewReader(tt.file), "q.txt", Encoding{})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%.40q: %v, want %s", tt.file, err, tt.want)
		}
	}
	if q, err := ReadQueries(strings.NewReader(many), "q.txt", Encoding{}); err != nil || q.Len() != MaxQueries {
		t.Errorf("%d queries are not taken: %v", MaxQueries, err)
	}
}

// What is read is asked as it stands there, whatever is in the file.
func FuzzReadQueries(f *testing.F) {
	for _, s := range []string{"www.example.net A\n", "; x\n\\000.example. TYPE1 ED\n", "a A D\r\nb AAAA", "*.example.net ANY\n. NS", "a\tA\n\n#"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ReadQueries(strings.NewReader(string(b)), "q.txt", Encoding{Subnet: netip.MustParsePrefix("2001:db8::/48")})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "q.txt:") {
				t.Fatalf("error without its place: %v", err)
			}
			return
		}
		for i := range q.Len() {
			m := unpack(t, q, i)
			got, err := record.ParseName(m.Question[0].Name)
			if err != nil || string(got) != string(q.question(uint32(i))[:len(got)]) || m.IsEdns0() == nil {
				t.Fatalf("query %d is %v (%v)", i, m, err)
			}
		}
	})
}

func BenchmarkReadQueries(b *testing.B) {
	file := strings.Repeat("web04166.abc2.prod.example.net AAAA\n", 1000)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := ReadQueries(strings.NewReader(file), "q.txt", Encoding{}); err != nil {
			b.Fatal(err)
		}
	}
}
