package authority

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/record"
)

// askWithCookie gives the cookie that comes back.
func (h *host) askWithCookie(sent string) (*dns.Msg, string) {
	h.t.Helper()
	q := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: sent}}
	m, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(q, h.Addrs()[0].String())
	if err != nil {
		h.t.Fatal(err)
	}
	if m.IsEdns0() == nil {
		return m, ""
	}
	for _, o := range m.IsEdns0().Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			return m, c.Cookie
		}
	}
	return m, ""
}

// TestSecretsAreReread rolls a secret over while the server runs; a file that is
// broken on the way changes nothing.
func TestSecretsAreReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const a, b, mine = "000102030405060708090a0b0c0d0e0f", "f00102030405060708090a0b0c0d0e0f", "0102030405060708"
	madeWith := func(secret, c string) bool {
		s, err := cookie.Parse([]byte(secret), "")
		if err != nil {
			t.Fatal(err)
		}
		raw, err := hex.DecodeString(c)
		return err == nil && s.Check(raw, netip.MustParseAddr("127.0.0.1"), uint32(time.Now().Unix())) == cookie.Good
	}
	write(a)
	h := startHost(t, func(c *Config) { c.CookieSecrets = path })
	_, first := h.askWithCookie(mine)
	if !madeWith(a, first) {
		t.Fatalf("cookie %q is not of the secret in the file", first)
	}
	write("broken")
	time.Sleep(2 * guardLook)
	if _, got := h.askWithCookie(mine); !madeWith(a, got) {
		t.Fatalf("cookie %q is not of the secret that was read before", got)
	}
	write(b + "\n" + a + "\n")
	eventually(t, "the new secret is used", func() bool {
		_, got := h.askWithCookie(mine)
		return madeWith(b, got)
	})
	if _, got := h.askWithCookie(first); !madeWith(b, got) {
		t.Errorf("a cookie of the retired secret is not replaced: %q", got)
	}
	m := h.metrics()
	if m["cookies_total client-only"] < 3 || m["cookies_total renew"] != 1 || m["cookies_total bad"] != 0 {
		t.Errorf("metrics of cookies: %v", m)
	}
}

func TestCookiesOff(t *testing.T) {
	h := startHost(t, func(c *Config) { c.CookieSecrets = "off" })
	if m, got := h.askWithCookie("0102030405060708"); got != "" || m.IsEdns0() == nil {
		t.Errorf("cookies are off: %s", m)
	}
}

// TestRateLimit floods a server from one prefix by UDP: most is dropped, and TCP goes
// on.
func TestRateLimit(t *testing.T) {
	h := startHost(t, func(c *Config) { c.RateLimit, c.UDPWorkers = 5, 1 })
	h.openJournal()
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1)}, nil)
	h.reach(1)
	conn, err := dns.Dial("udp", h.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const flood = 500
	for sent := 1; sent <= flood; sent++ {
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if sent%50 == 0 { // a socket holds some hundred
			eventually(t, "the flood was looked at", func() bool {
				m := h.metrics()
				return m["limited_responses_total send positive"]+m["limited_responses_total slip positive"]+m["limited_responses_total drop positive"] >= float64(sent)
			})
		}
	}
	if m := h.metrics(); m["limited_responses_total send positive"] > 100 || m["limited_responses_total slip positive"] < 100 || m["limited_responses_total drop positive"] < 100 {
		t.Errorf("of a flood of %d: %v", flood, m)
	}
	if m := h.ask("tcp", "www.example.net.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("over TCP: %s", m)
	}
}
