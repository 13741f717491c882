package authority

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/authority/heavy"
	"github.com/zonecast/zonecast/record"
)

// TestTop asks one name more than others: it comes first, whatever the case it was
// asked in.
func TestTop(t *testing.T) {
	h := startHost(t, func(c *Config) { c.UDPWorkers = 1 })
	h.openJournal()
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1)}, nil)
	h.reach(1)
	conn, err := dns.Dial("udp", h.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 1500 {
		name := []string{"www.example.net.", "WWW.example.NET.", "www.example.net.", "example.net."}[i*7/3%4]
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	h.Top().ServeHTTP(w, httptest.NewRequest("GET", "/top", nil))
	var r topReport
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Names) == 0 || r.Names[0].Name != "www.example.net." || r.Names[0].Type != "A" || r.Queries < 1000 || r.Queries > 2000 {
		t.Errorf("of 1500 queries: %+v", r)
	}
}

func TestQuestionKey(t *testing.T) {
	var buf [heavy.MaxKey]byte
	long := "\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	for range 4 {
		long += "\x3f" + string(make([]byte, 63))
	}
	for _, c := range []struct{ query, want string }{
		{"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01A\x00\x00\x01\x00\x01", "\x01a\x00\x00\x01"},
		{"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01", "\x00\x00\x02"},
		{"\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01", ""},
		{"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01A\x00\x00", ""},
		{"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01", ""},
		{"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01", ""},
		{long + "\x00\x00\x01", ""},
		{"short", ""},
	} {
		if got := questionKey(&buf, []byte(c.query)); string(got) != c.want {
			t.Errorf("%x: %x, want %x", c.query, got, c.want)
		}
	}
}

// TestDnstap: responses arrive in the file, and counters tell of them.
func TestDnstap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tap")
	h := startHost(t, func(c *Config) { c.DnstapFile, c.DnstapEvery = path, 1 })
	for range 10 {
		h.ask("udp", "www.example.net.", dns.TypeA)
	}
	eventually(t, "responses are written", func() bool { return h.metrics()["dnstap_written_total"] >= 10 })
	if b, err := os.ReadFile(path); err != nil || len(b) < 10*40 {
		t.Errorf("the file has %d octets: %v", len(b), err)
	}
}

// TestDnstapOfAnother: a server that cannot start leaves the file of the one that runs
// as it is.
func TestDnstapOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tap")
	if err := os.WriteFile(path, []byte("of the one that runs"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHost(t)
	c := h.config
	c.DnstapFile, c.Listen = path, []string{h.Addrs()[0].String()}
	if _, err := New(c, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}); err == nil {
		t.Fatal("two servers on one address")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "of the one that runs" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// TestDnstapAlways: each query below a name of beacons is given, with what the resolver said,
// whatever is sampled of others.
func TestDnstapAlways(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tap")
	h := startHost(t, func(c *Config) {
		c.DnstapFile, c.DnstapEvery, c.DnstapAlways = path, 1_000_000_000, []string{"Beacon.Example.NET"}
	})
	for i := range 10 {
		h.ask("udp", "www.example.net.", dns.TypeA)
		h.ask("udp", fmt.Sprintf("Token%d.esams.beacon.example.net.", i), dns.TypeA)
		h.ask("tcp", fmt.Sprintf("token%d.esams.beacon.example.net.", i), dns.TypeA)
	}
	eventually(t, "queries are written", func() bool { return h.metrics()["dnstap_written_total"] == 20 })
	b, err := os.ReadFile(path)
	if err != nil || bytes.Count(b, []byte("\x06esams\x06beacon")) != 0 || bytes.Count(b, []byte("\x05esams\x06beacon")) != 20 || bytes.Contains(b, []byte("www")) || bytes.Count(b, []byte("\x06Token")) != 10 {
		t.Errorf("the file has %q: %v", b, err)
	}
	bad := h.config
	bad.DnstapFile, bad.DnstapAlways = "", []string{"beacon.example.net"}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "dnstap-always: there is no") {
		t.Errorf("names without a socket: %v", err)
	}
	bad.DnstapFile, bad.DnstapAlways = path, []string{"."}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), `dnstap-always: "."`) {
		t.Errorf("the root: %v", err)
	}
}
