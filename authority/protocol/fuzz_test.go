package protocol

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/cookie"
)

// hardZone has one of everything that answers are made of.
func hardZone(t testing.TB) oracle {
	var o oracle
	p := dns.NewZoneParser(strings.NewReader(hardZoneText), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		o = append(o, rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	return o
}

const hardZoneText = `
$TTL 300
example.net. SOA ns1.example.net. hostmaster.example.net. 1 2 3 4 60
example.net. NS ns1.example.net.
example.net. NS ns2.example.org.
example.net. MX 10 www.example.net.
ns1.example.net. A 192.0.2.1
www.example.net. A 192.0.2.2
www.example.net. AAAA 2001:db8::2
*.wild.example.net. CNAME www.example.net.
*.any.example.net. TXT "wild"
dn.example.net. DNAME example.org.
loop.example.net. CNAME pool.example.net.
pool.example.net. CNAME loop.example.net.
cut.example.net. NS ns.cut.example.net.
cut.example.net. DS 1 13 2 abababababababababababababababababababababababababababababababab
ns.cut.example.net. A 192.0.2.3
_sip._tcp.example.net. SRV 1 1 5060 www.example.net.
odd.example.net. TYPE65280 \# 3 C00C00
` + "big.example.net. TXT " + `"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" ` +
	`"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" ` +
	`"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" ` +
	`"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" ` +
	`"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" x` + "\n"

// FuzzRespond sends any octets. What holds for every response is checked.
func FuzzRespond(f *testing.F) {
	for _, name := range []string{"www.example.net.", "x.wild.example.net.", "a.dn.example.net.", "loop.example.net.", "a.cut.example.net.", "big.example.net.", "version.bind.", "."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeANY, dns.TypeDS, dns.TypeAXFR} {
			q := new(dns.Msg)
			q.SetQuestion(name, qtype)
			b, _ := q.Pack()
			f.Add(b, false)
			q.SetEdns0(1232, true)
			b, _ = q.Pack()
			f.Add(b, true)
			b = bytes.Clone(b)
			b[len(b)-6] = 1 // EDNS version
			f.Add(b, false)
		}
	}
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), false)
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01A\x01"), false)
	f.Add([]byte("\x00\x01\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00"), true)

	for _, c := range []string{"0102030405060708", "01020304050607080100000000000000ffffffffffffffff"} {
		b, _ := question("www.example.net.", dns.TypeA, c).Pack()
		f.Add(b, false)
		q := question("www.example.net.", dns.TypeA, c).SetTsig("key.", dns.HmacSHA256, 300, 1_800_000_000)
		b, _, _ = dns.TsigGenerate(q, "c2VjcmV0", "", false)
		f.Add(b, true)
	}

	view := hardZone(f).view(f)
	secrets, err := cookie.New(cookie.Secret{1})
	if err != nil {
		f.Fatal(err)
	}
	k := NewWorker(Config{Version: "v", Identity: "i", Cookies: func() *cookie.Secrets { return secrets }})
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		transport, most := UDP, 1232
		if tcp {
			transport, most = TCP, 65535
		}
		before := bytes.Clone(msg)
		out := k.Respond(view, msg, transport, time.Unix(0, 0), nil)
		if !bytes.Equal(msg, before) {
			t.Fatal("the query was changed")
		}
		isQuery := len(msg) >= 12 && msg[2]&0x80 == 0
		if isQuery != (len(out) > 0) {
			t.Fatalf("a query gets a response and nothing else does: query %v, response of %d octets", isQuery, len(out))
		}
		if !isQuery {
			return
		}
		if again := k.Respond(view, msg, transport, time.Unix(0, 0), nil); !bytes.Equal(out, again) {
			t.Fatal("equal queries get different responses")
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatalf("response %x does not parse: %v", out, err)
		}
		if m.Id != binary.BigEndian.Uint16(msg) || !m.Response {
			t.Fatalf("response has ID %d and QR %v", m.Id, m.Response)
		}
		if len(out) > most {
			t.Fatalf("response has %d octets, at most %d", len(out), most)
		}
		var q dns.Msg
		if q.Unpack(msg) == nil && q.IsEdns0() == nil && !tcp && len(out) > 512 {
			t.Fatalf("response without EDNS has %d octets, at most 512", len(out))
		}
	})
}
