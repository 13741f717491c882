package dnsload

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// zone has the records that a test's server answers from.
const zone = `
www.example.net. 300 IN A 192.0.2.80
www.example.net. 300 IN A 192.0.2.81
example.net. 300 IN SOA ns1.example.net. hostmaster.example.net. 1 7200 1800 604800 300
example.net. 300 IN MX 10 mail.example.net.
_http._tcp.example.net. 300 IN SRV 10 1 8080 www.example.net.
ptr.example.net. 300 IN PTR www.example.net.
alias.example.net. 300 IN CNAME www.example.net.
text.example.net. 300 IN TXT "two words" "more"
`

// library answers from zone with another library, compressed.
func library(t *testing.T) func(m []byte) []byte {
	var rrs []dns.RR
	zp := dns.NewZoneParser(strings.NewReader(zone), ".", "zone")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rrs = append(rrs, rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return func(m []byte) []byte {
		q, a := new(dns.Msg), new(dns.Msg)
		if err := q.Unpack(m); err != nil {
			t.Error(err)
			return nil
		}
		a.SetReply(q)
		a.Compress = true
		if q.IsEdns0() != nil {
			a.SetEdns0(1232, false)
		}
		for _, rr := range rrs {
			if rr.Header().Name == q.Question[0].Name && rr.Header().Rrtype == q.Question[0].Qtype {
				a.Answer = append(a.Answer, rr)
			}
		}
		if len(a.Answer) == 0 {
			a.Rcode = dns.RcodeNameError
		}
		switch firstLabel(m) {
		case "cookie":
			a.Rcode = dns.RcodeBadCookie // whose upper bits are in the OPT record
		case "cut":
			a.Truncated = true
		}
		b, err := a.Pack()
		if err != nil {
			t.Error(err)
		}
		return b
	}
}

func compareWith(t *testing.T, c Config, file string, e Encoding) ([]Finding, error) {
	t.Helper()
	want, err := ReadExpectations(strings.NewReader(file), "expect.txt", e)
	if err != nil {
		t.Fatal(err)
	}
	return Compare(t.Context(), c, want)
}

func TestCompare(t *testing.T) {
	answer := library(t)
	target := serve(t, "127.0.0.1:0", func(m []byte) ([][]byte, time.Duration) {
		if firstLabel(m) == "silence" {
			return nil, 0
		}
		b := answer(m)
		forged := append([]byte(nil), b...)
		forged[0] ^= 1
		return [][]byte{forged, b}, 0
	})
	const right = `# what the zone has
www.example.net A NOERROR 2
www.example.net A NOERROR 2 192.0.2.80
WWW.example.net A noerror 2 192.0.2.81
example.net SOA NOERROR 1 ns1.example.net. HOSTMASTER.example.net. 1 7200 1800 604800 300
example.net MX NOERROR 1 10 mail.example.net.
_http._tcp.example.net SRV NOERROR 1 10 1 8080 www.example.net.
ptr.example.net PTR NOERROR 1 www.example.net.
alias.example.net CNAME NOERROR 1 www.example.net
text.example.net TXT NOERROR 1 "two words" more
; nothing there
none.example.net A NXDOMAIN 0
none.example.net A RCODE3 0
`
	for _, threads := range []int{1, 3} {
		for _, e := range []Encoding{{}, {DO: true}, {Subnet: netip.MustParsePrefix("192.0.2.0/24")}} {
			found, err := compareWith(t, Config{Target: target, Threads: threads}, right, e)
			if err != nil || len(found) > 0 {
				t.Errorf("%d threads, %+v: %v, %v", threads, e, found, err)
			}
		}
	}
	const wrong = `www.example.net A NOERROR 1
www.example.net A NOERROR 2
www.example.net A NOERROR 2 192.0.2.82
www.example.net A NXDOMAIN 2
none.example.net AAAA NOERROR 1 2001:db8::1
cookie.example.net A NOERROR 0
silence.example.net A NOERROR 1
`
	found, err := compareWith(t, Config{Target: target, Threads: 2, Timeout: 200 * time.Millisecond}, wrong, Encoding{EDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Name.String()+" "+f.Expectation.String()+": "+f.Found)
	}
	if diff := cmp.Diff([]string{
		"www.example.net. NOERROR 1: NOERROR 2 A 192.0.2.80, A 192.0.2.81",
		"www.example.net. NOERROR 2 192.0.2.82: NOERROR 2 A 192.0.2.80, A 192.0.2.81",
		"www.example.net. NXDOMAIN 2: NOERROR 2 A 192.0.2.80, A 192.0.2.81",
		"none.example.net. NOERROR 1 2001:db8::1: NXDOMAIN 0",
		"cookie.example.net. NOERROR 0: BADCOOKIE 0",
		"silence.example.net. NOERROR 1: no answer within 200ms",
	}, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// A truncated response is asked for again over TCP; --tcp does so from the start.
func TestCompareOverTCP(t *testing.T) {
	answer := library(t)
	var queries atomic.Int32
	target := serve(t, "127.0.0.1:0", func(m []byte) ([][]byte, time.Duration) {
		queries.Add(1)
		b := answer(m)
		b[2] |= 2
		return [][]byte{b}, 0
	})
	l, err := net.Listen("tcp4", target.String())
	if err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 512)
			if n, err := c.Read(b); err == nil && n > 2 {
				a := answer(b[2:n])
				c.Write(append([]byte{byte(len(a) >> 8), byte(len(a))}, a...))
			}
			c.Close()
		}
	}()
	const file = "www.example.net A NOERROR 2 192.0.2.80\n"
	for i, tcp := range []bool{true, false} {
		found, err := compareWith(t, Config{Target: target, TCP: tcp}, file, Encoding{})
		if err != nil || len(found) > 0 || int(queries.Load()) != i {
			t.Errorf("tcp %v: %v, %v, %d queries over UDP", tcp, found, err, queries.Load())
		}
	}
}

func TestCompareWithNobody(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := c.LocalAddr().(*net.UDPAddr).AddrPort()
	c.Close()
	found, err := compareWith(t, Config{Target: nobody}, strings.Repeat("www.example.net A NOERROR 1\n", 50), Encoding{})
	if !errors.Is(err, unix.ECONNREFUSED) || len(found) != 10 {
		t.Errorf("%d findings, %v", len(found), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want, err := ReadExpectations(strings.NewReader("a A NOERROR 0"), "x", Encoding{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(ctx, Config{Target: nobody}, want); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestReadExpectationsRefuses(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"# a\n", "x: no question in it, expected lines NAME TYPE RCODE COUNT and perhaps RDATA"},
		{"\na A NOERROR\n", "x:2: 3 words, expected NAME TYPE RCODE COUNT and perhaps RDATA"},
		{"a A OK 1\n", `x:1: rcode "OK", expected a mnemonic such as NOERROR or NXDOMAIN, or RCODEnnn`},
		{"a A RCODE 1\n", `x:1: rcode "RCODE", expected a mnemonic such as NOERROR or NXDOMAIN, or RCODEnnn`},
		{"a A NOERROR -1\n", `x:1: count "-1", expected the number of records in the answer section`},
		{"a A NOERROR 70000\n", `x:1: count "70000", expected the number of records in the answer section`},
	} {
		_, err := ReadExpectations(strings.NewReader(tt.file), "x", Encoding{})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q: %v, want %s", tt.file, err, tt.want)
		}
	}
	if _, err := ReadExpectations(strings.NewReader("a A NOERROR 1 192.0.2.256\n"), "x", Encoding{}); err == nil || !strings.HasPrefix(err.Error(), "x:1: ") {
		t.Errorf("RDATA that is none: %v", err)
	}
}

// FuzzReadExpectations: what is read says itself again.
func FuzzReadExpectations(f *testing.F) {
	for _, s := range []string{"a.example.net A NOERROR 1 192.0.2.1\n", "# x\nb MX rcode3 0 10 c.\n", "t TXT 5 2 \"a b\" c", "s SRV NXDOMAIN 0\n;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ReadExpectations(strings.NewReader(string(b)), "x", Encoding{})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "x:") {
				t.Fatalf("error without its place: %v", err)
			}
			return
		}
		for i, x := range e.want {
			line := x.Name.String() + " " + x.Type.String() + " " + x.String()
			again, err := ReadExpectations(strings.NewReader(line), "x", Encoding{})
			if err != nil && len(line) > maxLine {
				return // written out, escapes are longer than what was read
			}
			if err != nil || again.want[0] != x {
				t.Fatalf("line %d, %q: %v", i, line, err)
			}
		}
	})
}

// FuzzReadResponse: what another library reads in a message is what is found here,
// and nothing panics or runs for ever.
func FuzzReadResponse(f *testing.F) {
	q := OneQuery("\x03www\x07example\x03net\x00", record.TypeMX, Encoding{})
	for _, text := range []string{
		"www.example.net. 1 IN MX 10 mail.www.example.net.", "www.example.net. 1 IN SOA a.example.net. b.example.net. 1 2 3 4 5",
		"www.example.net. 1 IN SRV 1 2 3 www.example.net.", "www.example.net. 1 IN A 192.0.2.1", "www.example.net. 1 IN PX 10 a.net. b.example.net.",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion("www.example.net.", dns.TypeMX)
		m.Response, m.Compress, m.Id, m.RecursionDesired = true, true, 0x1234, false
		m.Answer = []dns.RR{rr, rr}
		m.SetEdns0(1232, true)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readResponse(b, 0x1234, q.question(0))
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return // the library looks into RDATA of more types
		}
		if len(m.Answer) != len(r.answers) {
			t.Fatalf("%d answers, the library finds %d", len(r.answers), len(m.Answer))
		}
		for i, rr := range m.Answer {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			// The library takes some RDATA that is cut off for RDATA that ends in
			// zeros: it reads ours as it did the message.
			h := dns.RR_Header{Name: ".", Rrtype: rr.Header().Rrtype, Class: dns.ClassINET, Rdlength: uint16(len(r.answers[i].rdata))}
			ours, _, err := dns.UnpackRRWithHeader(h, []byte(r.answers[i].rdata), 0)
			if err != nil {
				t.Fatalf("RDATA %x: %v", string(r.answers[i].rdata), err)
			}
			if want, got := canonical(t, rr), canonical(t, ours); want != got {
				t.Fatalf("RDATA %x, the library has %x", string(got), string(want))
			}
		}
	})
}

// canonical is the RDATA of the library's record, in our canonical form; "" when it
// has none.
func canonical(t *testing.T, rr dns.RR) record.Rdata {
	t.Helper()
	rr.Header().Name = "."
	wire := make([]byte, 70000)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return ""
	}
	rd, err := dnswire.Canonical(record.Type(rr.Header().Rrtype), wire[11:n])
	if err != nil {
		return ""
	}
	return rd
}

func TestExpandNameRefuses(t *testing.T) {
	long := append(slices.Repeat(append([]byte{63}, make([]byte, 63)...), 4), 0)
	for _, tt := range []struct {
		name string
		m    []byte
		at   int
	}{
		{"to itself", []byte{0xc0, 0}, 0},
		{"forward", []byte{0xc0, 2, 0}, 0},
		{"in a circle", []byte{1, 'a', 0xc0, 0}, 0},
		{"half a pointer", []byte{0, 0xc0}, 1},
		{"cut label", []byte{5, 'a'}, 0},
		{"no end", []byte{1, 'a'}, 0},
		{"label type 0x40", []byte{0x41, 0}, 0},
		{"256 octets and more", long, 0},
		{"behind the message", []byte{0}, 1},
	} {
		if n, _, err := expandName(nil, tt.m, tt.at); err == nil {
			t.Errorf("%s: read as %x", tt.name, n)
		}
	}
	n, next, err := expandName([]byte{9}, []byte{1, 'a', 0, 1, 'b', 0xc0, 0, 7}, 3)
	if err != nil || string(n) != "\x09\x01b\x01a\x00" || next != 7 {
		t.Errorf("%x, next %d, %v", n, next, err)
	}
}
