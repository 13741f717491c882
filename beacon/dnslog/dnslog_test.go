package dnslog

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// message is a query with a client subnet; none when subnet is "".
func message(t testing.TB, name, subnet string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeAAAA)
	m.SetEdns0(1232, true)
	if subnet != "" {
		p := netip.MustParsePrefix(subnet)
		e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: net.IP(p.Addr().AsSlice())}
		if p.Addr().Is6() {
			e.Family = 2
		}
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}, e)
	}
	return m
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ subnet, want string }{
		{"", "invalid Prefix"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.1/32", "192.0.2.1/32"},
		{"192.0.0.0/17", "192.0.0.0/17"},
		{"2001:db8::/56", "2001:db8::/56"},
		{"0.0.0.0/0", "invalid Prefix"},
		{"::/0", "invalid Prefix"},
	} {
		m := message(t, "Tok.eSams.beacon.example.net.", c.subnet)
		for _, reply := range []bool{false, true} {
			if reply {
				r := new(dns.Msg)
				r.SetReply(m)
				for _, text := range []string{"Tok.eSams.beacon.example.net. 5 IN AAAA 2001:db8::1", "beacon.example.net. 5 IN NS ns.example.net."} {
					rr, err := dns.NewRR(text)
					if err != nil {
						t.Fatal(err)
					}
					r.Answer = append(r.Answer, rr)
				}
				r.Extra = append(r.Extra, m.IsEdns0())
				r.Compress = true
				m = r
			}
			name, subnet, err := parse(pack(t, m))
			if err != nil || subnet.String() != c.want || string(name) != "\x03Tok\x05eSams\x06beacon\x07example\x03net\x00" {
				t.Errorf("%q: %q, %v, %v", c.subnet, name, subnet, err)
			}
		}
	}
	b := pack(t, message(t, "tok.esams.beacon.example.net.", "192.0.2.0/24"))
	for i := range b {
		if _, _, err := parse(b[:i]); err == nil {
			t.Errorf("cut off at %d it was read", i)
		}
	}
}

// Client subnets that say nothing, or what they do not say.
func TestSubnet(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{"\x00\x01\x18\x00\xc0\x00\x02", "192.0.2.0/24"},
		{"\x00\x01\x18\x18\xc0\x00\x02", "192.0.2.0/24"},
		{"\x00\x01\x14\x00\xc0\x00\x00", "192.0.0.0/20"},
		{"\x00\x01\x00\x00", ""},                     // the client wants none told
		{"\x00\x01\x14\x00\xc0\x00\x02", ""},         // bits behind its length (§6: MUST be 0)
		{"\x00\x01\x18\x00\xc0\x00\x02\x00", ""},     // an octet too many (§6)
		{"\x00\x01\x18\x00\xc0\x00", ""},             // one too few
		{"\x00\x01\x21\x00\xc0\x00\x02\x01\x80", ""}, // longer than an address
		{"\x00\x00\x18\x00\xc0\x00\x02", ""},         // family 0
		{"\x00\x03\x18\x00\xc0\x00\x02", ""},         // another family
		{"\x00\x02\x30\x00\x20\x01\x0d\xb8\x00\x01", "2001:db8:1::/48"},
		{"\x00\x02\x78\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02", "192.0.2.0/24"}, // mapped
		{"\x00\x02\x60\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff", ""},                         // all of IPv4
		{"\x00\x01\x18", ""},
		{"", ""},
	} {
		got := ""
		if p := Subnet([]byte(c.data)); p.IsValid() {
			got = p.String()
		}
		if got != c.want {
			t.Errorf("%x: %q, expected %q", c.data, got, c.want)
		}
	}
}

func event(kind dnstap.Message_Type, from string, query, response []byte) []byte {
	m := &dnstap.Message{Type: kind.Enum(), QueryMessage: query, ResponseMessage: response}
	if from != "" {
		m.QueryAddress = netip.MustParseAddr(from).AsSlice()
	}
	b, err := proto.Marshal(&dnstap.Dnstap{Type: dnstap.Dnstap_MESSAGE.Enum(), Message: m})
	if err != nil {
		panic(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	q := pack(t, message(t, "tok.esams.beacon.example.net.", "192.0.2.0/24"))
	for _, c := range []struct {
		name    string
		payload []byte
		from    string // "": refused
	}{
		{"a query", event(dnstap.Message_AUTH_QUERY, "198.51.100.7", q, nil), "198.51.100.7"},
		{"mapped", event(dnstap.Message_AUTH_QUERY, "::ffff:198.51.100.7", q, nil), "198.51.100.7"},
		{"a sample", event(dnstap.Message_AUTH_RESPONSE, "2001:db8::7", nil, q), "2001:db8::7"},
		{"with both", event(dnstap.Message_AUTH_RESPONSE, "2001:db8::7", q, []byte("x")), "2001:db8::7"},
		{"of a resolver", event(dnstap.Message_CLIENT_QUERY, "198.51.100.7", q, nil), ""},
		{"from nowhere", event(dnstap.Message_AUTH_QUERY, "", q, nil), ""},
		{"no message", event(dnstap.Message_AUTH_QUERY, "198.51.100.7", nil, nil), ""},
		{"damaged", []byte("\xff\xff"), ""},
		{"empty", nil, ""},
	} {
		var d dnstap.Dnstap
		got, err := decode(c.payload, &d)
		if (err == nil) != (c.from != "") || err == nil && (got.From.String() != c.from || got.Subnet.String() != "192.0.2.0/24") {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

// read gives what Read makes of what write sends.
func read(t *testing.T, write func(net.Conn)) (names []string, wrong int, err error) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(there)
		there.Close()
	}()
	err = Read(t.Context(), here, func(q Query) { names = append(names, strings.ToLower(string(q.Name[1:4]))) }, func() { wrong++ })
	<-done
	return names, wrong, err
}

func TestRead(t *testing.T) {
	q := event(dnstap.Message_AUTH_QUERY, "198.51.100.7", pack(t, message(t, "Tok.esams.beacon.example.net.", "")), nil)
	names, wrong, err := read(t, func(c net.Conn) {
		w, err := framestream.NewWriter(c, &framestream.WriterOptions{ContentTypes: [][]byte{dnstap.FSContentType}, Bidirectional: true})
		if err != nil {
			t.Error(err)
			return
		}
		for _, payload := range [][]byte{q, []byte("\xffno message"), q, bytes.Repeat([]byte{0}, 70_000), q} {
			if _, err := w.WriteFrame(payload); err != nil {
				t.Error(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil || strings.Join(names, " ") != "tok tok tok" || wrong != 2 {
		t.Errorf("%q, %d wrong, %v", names, wrong, err)
	}
	const ready, start = "\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x04", "\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x02"
	for name, c := range map[string]struct{ sent, want string }{
		"silent":        {"", "shake hands"},
		"another":       {"GET / HTTP/1.1\r\n\r\n", "shake hands"},
		"long control":  {"\x00\x00\x00\x00\xff\xff\xff\xff", "shake hands"},
		"cut off":       {ready + start + "\x00\x00\x00\x09abc", "read frame"},
		"a large frame": {ready + start + "\x7f\xff\xff\xff", "more than"},
	} {
		_, _, err := read(t, func(c2 net.Conn) {
			if rest, ok := strings.CutPrefix(c.sent, ready); ok {
				c2.Write([]byte(ready))
				c2.Read(make([]byte, 512)) // ACCEPT
				c.sent = rest
			}
			c2.Write([]byte(c.sent))
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
	}
}

// Who is silent is waited for until the context ends.
func TestReadEnds(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := Read(ctx, here, func(Query) {}, func() {}); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, subnet := range []string{"", "192.0.2.0/24", "2001:db8::/48"} {
		q := pack(f, message(f, "Tok.esams.beacon.example.net.", subnet))
		f.Add(event(dnstap.Message_AUTH_QUERY, "198.51.100.7", q, nil))
		f.Add(event(dnstap.Message_AUTH_RESPONSE, "2001:db8::1", nil, q))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d dnstap.Dnstap
		q, err := decode(b, &d)
		if err != nil {
			return
		}
		if !q.From.IsValid() || q.From.Is4In6() || len(q.Name) == 0 || len(q.Name) > maxName || q.Name[len(q.Name)-1] != 0 {
			t.Errorf("%+v", q)
		}
		if q.Subnet.IsValid() && (q.Subnet != q.Subnet.Masked() || q.Subnet.Bits() == 0 || q.Subnet.Addr().Is4In6()) {
			t.Errorf("subnet %v", q.Subnet)
		}
	})
}

// What is parsed here is what the library says, where it understands a message.
func FuzzParse(f *testing.F) {
	for _, subnet := range []string{"", "192.0.2.0/24", "2001:db8::/48"} {
		f.Add(pack(f, message(f, "Tok.esams.beacon.example.net.", subnet)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		name, subnet, err := parse(b)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || len(m.Question) != 1 {
			return
		}
		if text, _, err := dns.UnpackDomainName(name, 0); err != nil || text != m.Question[0].Name {
			t.Errorf("name %q, the library says %q", text, m.Question[0].Name)
		}
		if subnet.IsValid() && m.IsEdns0() == nil {
			t.Errorf("subnet %v, the library sees no EDNS", subnet)
		}
	})
}
