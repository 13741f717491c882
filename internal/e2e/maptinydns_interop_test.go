//go:build interop

package e2e

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/tinydns/tinytest"
)

// TestInteropTinydnsMap has Debian's tinydns answer data with locations, and beside it a fleet
// into which the same file was imported by the command. Locations go by the address that asks,
// so that it is asked from addresses of 127/8.
func TestInteropTinydnsMap(t *testing.T) {
	const text = `%aa:127.20
%bb:127.20.7
%cc:127.21
.example.net:192.0.2.53:ns1:300
+www.example.net:192.0.2.1:300::aa
+www.example.net:192.0.2.2:300::bb
+www.example.net:192.0.2.9:300
+all.example.net:192.0.2.8:300
+other.example.net:192.0.2.3:60::aa
+other.example.net:192.0.2.4:60::cc
+other.example.net:192.0.2.5:60
'text.example.net:here:300::aa
'text.example.net:everywhere:300
`
	tiny := netip.MustParseAddrPort("127.53.1.2:53")
	tinytest.Serve(t, []byte(text), time.Time{}, tiny.Addr().String())
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.9\nall A 192.0.2.8\nother 60 A 192.0.2.5\ntext TXT everywhere\n"))
	u := StartUp(t, UpOptions{Hosts: 1, Zones: in.zones})
	file := filepath.Join(t.TempDir(), "data")
	in.must(os.WriteFile(file, []byte(text), 0o644))
	if stdout, stderr, status := u.Run("map", "import", "tiny", file, "--format", "tinydns", "--for", "www.example.net", "--for", "other.example.net", "--for", "text.example.net", "--reason", "from tinydns", "--wait"); status != 0 {
		t.Fatalf("map import: status %d: %s%s", status, stdout, stderr)
	}
	got := map[string]bool{}
	for _, from := range []string{"127.20.1.1", "127.20.7.1", "127.20.7.255", "127.20.8.0", "127.21.255.255", "127.22.0.1", "127.19.255.255", "127.0.0.1"} {
		for name, qtype := range map[string]uint16{"www": dns.TypeA, "all": dns.TypeA, "other": dns.TypeA, "text": dns.TypeTXT} {
			ours, theirs := askedFrom(t, from, u.Hosts[0], name+".example.net.", qtype), askedFrom(t, from, tiny, name+".example.net.", qtype)
			if ours != theirs {
				t.Errorf("%s from %s: %s, tinydns answers %s", name, from, ours, theirs)
			}
			got[theirs] = true
		}
	}
	if len(got) != 9 { // www: three kinds of clients, other: three, all: one, text: two
		t.Errorf("answers %v, expected 9", got)
	}
}

// askedFrom asks from an address: rcode, TTL and data, in order. A server that starts is asked
// again.
func askedFrom(t *testing.T, from string, server netip.AddrPort, name string, qtype uint16) string {
	t.Helper()
	c := dns.Client{Timeout: time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		q := new(dns.Msg).SetQuestion(name, qtype)
		m, _, err := c.Exchange(q, server.String())
		if err != nil {
			if time.Now().After(end) {
				t.Fatal(err)
			}
			continue
		}
		var all []string
		for _, rr := range m.Answer {
			all = append(all, strings.ToLower(rr.String()))
		}
		slices.Sort(all)
		return dns.RcodeToString[m.Rcode] + " " + strings.Join(all, " ")
	}
}
