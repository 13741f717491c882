package protocol

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/ratelimit"
)

// fromClient asks as a client of an address.
func fromClient(t *testing.T, k *Worker, q *dns.Msg, client string, transport Transport, now time.Time) *dns.Msg {
	t.Helper()
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	batch := []Message{{Query: b, Client: netip.AddrPortFrom(netip.MustParseAddr(client), 5353)}}
	k.Answer(clientView(t), batch, transport, now)
	if len(batch[0].Response) == 0 {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(batch[0].Response); err != nil {
		t.Fatalf("response %x: %v", batch[0].Response, err)
	}
	return m
}

var clientView = func() func(t *testing.T) *data.View {
	var v *data.View
	return func(t *testing.T) *data.View {
		if v == nil {
			v = hardZone(t).view(t)
		}
		return v
	}
}()

func question(name string, qtype uint16, cookie string) *dns.Msg {
	q := new(dns.Msg).SetQuestion(name, qtype)
	if cookie != "" {
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
	}
	return q
}

func cookieOf(m *dns.Msg) string {
	if m != nil && m.IsEdns0() != nil {
		for _, o := range m.IsEdns0().Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

// TestCookies holds RFC 7873 §5.2 and RFC 9018: every response to a cookie has one,
// on the short way of answering and the long one; a wrong one harms nothing.
func TestCookies(t *testing.T) {
	secrets, err := cookie.New(cookie.Secret{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	k := NewWorker(Config{Cookies: func() *cookie.Secrets { return secrets }})
	const client, mine = "2001:db8::5", "0102030405060708"
	now := time.Unix(1_800_000_000, 0)
	made := secrets.Make([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, netip.MustParseAddr(client), uint32(now.Unix()))
	fresh := mine + hex.EncodeToString(made[:])
	old := secrets.Make([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, netip.MustParseAddr(client), uint32(now.Unix()-100))
	for _, c := range []struct {
		what, sent string
		now        time.Time
		want       string
		empty      int // rcode without a question
	}{
		{"client alone", mine, now, fresh, dns.RcodeSuccess},
		{"good", fresh, now, fresh, dns.RcodeSuccess},
		{"good, of a while ago", mine + hex.EncodeToString(old[:]), now, mine + hex.EncodeToString(old[:]), dns.RcodeSuccess},
		{"forged", mine + "0100000000000000ffffffffffffffff", now, fresh, dns.RcodeBadCookie},
		{"of another maker", mine + "ffffffffffffffffff", now, fresh, dns.RcodeBadCookie},
	} {
		for _, name := range []string{"www.example.net.", "nobody.example.net.", "example.net.", "www.cut.example.net."} {
			for _, transport := range []Transport{UDP, TCP} {
				plain := fromClient(t, k, question(name, dns.TypeA, ""), client, transport, c.now)
				m := fromClient(t, k, question(name, dns.TypeA, c.sent), client, transport, c.now)
				if got := cookieOf(m); got != c.want {
					t.Errorf("%s: %s: cookie %s, want %s", c.what, name, got, c.want)
				}
				if m.Rcode != plain.Rcode || len(m.Answer) != len(plain.Answer) || len(m.Ns) != len(plain.Ns) {
					t.Errorf("%s: %s: another answer than without a cookie:\n%s\n%s", c.what, name, m, plain)
				}
			}
		}
		q := question("example.net.", dns.TypeA, c.sent)
		q.Question = nil
		if m := fromClient(t, k, q, client, UDP, c.now); m.Rcode != c.empty || cookieOf(m) != c.want {
			t.Errorf("%s, and no question: %s, cookie %s, want %s and %s", c.what, dns.RcodeToString[m.Rcode], cookieOf(m), dns.RcodeToString[c.empty], c.want)
		}
	}
	without := NewWorker(Config{})
	q := question("example.net.", dns.TypeA, mine)
	if m := fromClient(t, without, q, client, UDP, now); cookieOf(m) != "" || m.IsEdns0() == nil {
		t.Errorf("cookies are off: %s", m)
	}
	q.Question = nil
	if m := fromClient(t, without, q, client, UDP, now); m.Rcode != dns.RcodeFormatError {
		t.Errorf("cookies are off, and no question: %s", m)
	}
}

// TestLimits floods: equal responses are limited, and those that are counted together
// although their questions differ; TCP and clients with a good cookie are not.
func TestLimits(t *testing.T) {
	secrets := cookie.Random()
	now := time.Now()
	for _, c := range []struct {
		what    string
		name    func(i int) string
		qtype   uint16
		cookie  bool
		via     Transport
		limited bool
	}{
		{"one name", func(int) string { return "www.example.net." }, dns.TypeA, false, UDP, true},
		{"random names of a zone", func(i int) string { return hex.EncodeToString([]byte{'x', byte(i)}) + ".example.net." }, dns.TypeA, false, UDP, true},
		{"random names below a wildcard", func(i int) string { return hex.EncodeToString([]byte{byte(i)}) + ".wild.example.net." }, dns.TypeA, false, UDP, true},
		{"random names below a wildcard, ANY", func(i int) string { return hex.EncodeToString([]byte{byte(i)}) + ".wild.example.net." }, dns.TypeANY, false, UDP, true},
		{"random names below a cut", func(i int) string { return hex.EncodeToString([]byte{byte(i)}) + ".cut.example.net." }, dns.TypeA, false, UDP, true},
		{"random names below a DNAME", func(i int) string { return hex.EncodeToString([]byte{byte(i)}) + ".dn.example.net." }, dns.TypeA, false, UDP, true},
		{"random names of nobody", func(i int) string { return hex.EncodeToString([]byte{byte(i)}) + ".example.com." }, dns.TypeA, false, UDP, true},
		{"over TCP", func(int) string { return "www.example.net." }, dns.TypeA, false, TCP, false},
		{"with a cookie", func(int) string { return "www.example.net." }, dns.TypeA, true, UDP, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			l, err := ratelimit.New(ratelimit.Config{PerSecond: 10, Slip: 2}, ratelimit.Seed{7})
			if err != nil {
				t.Fatal(err)
			}
			k := NewWorker(Config{Limiter: l, Cookies: func() *cookie.Secrets { return secrets }})
			const client = "192.0.2.77"
			sent := ""
			if c.cookie {
				sent = cookieOf(fromClient(t, k, question("example.com.", dns.TypeA, "0102030405060708"), client, UDP, now))
			}
			whole, slipped, dropped := 0, 0, 0
			for i := range 100 {
				m := fromClient(t, k, question(c.name(i), c.qtype, sent), client, c.via, now)
				switch {
				case m == nil:
					dropped++
				case m.Truncated:
					slipped++
					if len(m.Answer)+len(m.Ns) > 0 || len(m.Question) != 1 {
						t.Errorf("a slipped response is not empty: %s", m)
					}
				default:
					whole++
				}
			}
			want := [3]int{100, 0, 0}
			if c.limited {
				want = [3]int{10, 45, 45}
			}
			if got := [3]int{whole, slipped, dropped}; got != want {
				t.Errorf("%v whole, slipped and dropped, want %v", got, want)
			}
			if m := fromClient(t, k, question(c.name(0), c.qtype, sent), "198.51.100.1", UDP, now); m == nil || m.Truncated {
				t.Errorf("another client is limited, too: %v", m)
			}
		})
	}
}

// TestSlipGivesCookie: an honest client in a prefix that is flooded learns a cookie
// and goes on over UDP.
func TestSlipGivesCookie(t *testing.T) {
	secrets := cookie.Random()
	l, err := ratelimit.New(ratelimit.Config{PerSecond: 1, Slip: 1}, ratelimit.Seed{})
	if err != nil {
		t.Fatal(err)
	}
	k := NewWorker(Config{Limiter: l, Cookies: func() *cookie.Secrets { return secrets }})
	now := time.Now()
	ask := func(c string) *dns.Msg {
		return fromClient(t, k, question("www.example.net.", dns.TypeA, c), "192.0.2.1", UDP, now)
	}
	for range 5 {
		ask("")
	}
	m := ask("0102030405060708")
	if !m.Truncated || len(cookieOf(m)) != 48 {
		t.Fatalf("want TC and a cookie: %s", m)
	}
	if m := ask(cookieOf(m)); m.Truncated || len(m.Answer) == 0 {
		t.Errorf("limited in spite of the cookie: %s", m)
	}
}

// TestTSIG holds RFC 8945 §5.2.1: no key is known here, and a client is told so, in a
// record that is not signed.
func TestTSIG(t *testing.T) {
	k := NewWorker(Config{})
	for _, size := range []int{0, 1232} {
		q := question("www.example.net.", dns.TypeA, "")
		if size > 0 {
			q.SetEdns0(uint16(size), false)
		}
		q.SetTsig("key.example.net.", dns.HmacSHA256, 300, 1_800_000_000)
		b, _, err := dns.TsigGenerate(q, "c2VjcmV0", "", false)
		if err != nil {
			t.Fatal(err)
		}
		out := k.Respond(clientView(t), b, UDP, time.Now(), nil)
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatal(err)
		}
		s := m.IsTsig()
		if m.Rcode != dns.RcodeNotAuth || s == nil || s.Error != dns.RcodeBadKey || s.MACSize != 0 || s.Hdr.Name != "key.example.net." || s.OrigId != q.Id ||
			s.Algorithm != dns.HmacSHA256 || s.TimeSigned != 1_800_000_000 || s.Fudge != 300 || len(m.Answer) > 0 || (m.IsEdns0() != nil) != (size > 0) {
			t.Errorf("%s", m)
		}
		for cut := 1; cut < 60; cut++ { // the record's RDLENGTH does not fit any more
			broken := bytes.Clone(b[:len(b)-cut])
			if out := k.Respond(clientView(t), broken, UDP, time.Now(), nil); Rcode(out[3]&15) != FormErr {
				t.Errorf("%d octets cut off: %s, want FORMERR", cut, Rcode(out[3]&15))
			}
		}
	}
}
