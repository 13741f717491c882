package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
)

// askedFor asks a host as a resolver on behalf of a client (ECS).
func askedFor(t *testing.T, host netip.AddrPort, name, client string) string {
	t.Helper()
	a := netip.MustParseAddr(client)
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeA)
	q.SetEdns0(1232, false)
	family := uint16(1)
	if a.Is6() {
		family = 2
	}
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(a.BitLen()), Address: a.AsSlice()})
	c := dns.Client{Timeout: 2 * time.Second}
	m, _, err := c.Exchange(q, host.String())
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			all = append(all, a.A.String())
		}
	}
	return strings.Join(all, " ")
}

// TestMapImport takes gdnsd's map of the Wikimedia Foundation into a fleet, has it answered,
// exported and taken back as CSV, changed and taken away.
func TestMapImport(t *testing.T) {
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	u := StartUp(t, UpOptions{Hosts: 1, Zones: in.zones, Guarded: true})
	host := u.Hosts[0]
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")

	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{"geo-maps", "geo-resources"} {
		b, err := os.ReadFile(filepath.Join(Root(), "geo", "formats", "testdata", "wikimedia", name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(b))
	}
	db := write("city.mmdb", string(mmdbtest.Build(t, "Test-City", 6, map[string]mmdbtest.Record{
		"198.51.100.0/24": mmdbtest.City("EU", "CH", "ZH", "Zurich", 47.4, 8.5), "203.0.113.0/24": mmdbtest.City("AS", "JP", "13", "Tokyo", 35.7, 139.7),
		"2001:db8::/32": mmdbtest.City("NA", "US", "CA", "San Jose", 37.3, -121.9),
	})))
	run := func(want int, args ...string) string {
		t.Helper()
		stdout, stderr, status := u.Run(args...)
		if status != want {
			t.Fatalf("zonecast %s: status %d, expected %d\n%s%s", strings.Join(args, " "), status, want, stdout, stderr)
		}
		return stdout + stderr
	}
	gdnsd := []string{
		"map", "import", "world", filepath.Join(dir, "geo-maps"), "--format", "gdnsd", "--mmdb", db, "--resources", filepath.Join(dir, "geo-resources"),
		"--resource", "text-addrs", "--for", "www.example.net",
	}
	if out := run(0, append(gdnsd, "--dry-run")...); !strings.Contains(out, "there is no such map yet") || !strings.Contains(out, "nothing was changed") {
		t.Errorf("plan: %s", out)
	}
	run(0, append(gdnsd, "--reason", "from gdnsd", "--wait", "--timeout", "1m")...)
	clients := map[string]string{
		"198.51.100.7": "91.198.174.192", "203.0.113.7": "103.102.166.224", "2001:db8::7": "198.35.26.96", "233.252.0.1": "208.80.154.224", "208.80.153.1": "208.80.153.224",
	}
	answers := func(want map[string]string) {
		t.Helper()
		until(t, func() string {
			for client, address := range want {
				if got := askedFor(t, host, "www.example.net", client); got != address {
					return fmt.Sprintf("%s gets %s, expected %s", client, got, address)
				}
			}
			return ""
		})
	}
	answers(clients)
	if out := run(0, "map", "list"); !strings.Contains(out, "world") || !strings.Contains(out, "geo-maps") || !strings.Contains(out, "www.example.net. by subnet") {
		t.Errorf("list: %s", out)
	}
	if out := run(0, "why", "www.example.net"); !strings.Contains(out, "map/world") || !strings.Contains(out, "from gdnsd") {
		t.Errorf("why: %s", out)
	}

	// CSV, there and back, says the same.
	csv := filepath.Join(dir, "world.csv")
	run(0, "map", "export", "world", "--out", csv)
	b, err := os.ReadFile(csv)
	if err != nil {
		t.Fatal(err)
	}
	if out := run(0, "map", "import", "world", csv, "--for", "www.example.net", "--dry-run"); !strings.Contains(out, "0.00 % of IPv4") || !strings.Contains(out, "0 created, 0 replaced, 0 removed") {
		t.Errorf("plan of the same: %s", out)
	}
	changed := strings.Replace(string(b), "198.51.100.0/24,esams/", "198.51.100.0/24,eqsin/", 1)
	for _, c := range []struct{ text, want string }{
		{changed + "192.0.2.0/33,x,\n", "prefix is \"192.0.2.0/33\""},
		{changed + "198.51.100.0/24,eqsin,\n", "198.51.100.0/24 is there twice"},
		{"prefix,location\n::ffff:192.0.2.0/120,eqsin\n", "IPv4 in the form of IPv6"},
	} {
		if out := run(1, "map", "import", "world", write("bad.csv", c.text), "--for", "www.example.net"); !strings.Contains(out, "bad.csv:") || !strings.Contains(out, c.want) {
			t.Errorf("%s, expected %q", out, c.want)
		}
	}
	for _, c := range []struct {
		db, text, want string
	}{
		{"truncated.mmdb", string(mmdbtest.Chain(t))[:500], "truncated.mmdb is no MaxMind database"},
		{"asn.mmdb", string(mmdbtest.Build(t, "GeoLite2-ASN", 6, map[string]mmdbtest.Record{"192.0.2.0/24": mmdbtest.System(64500, "Example")})), "asn.mmdb (GeoLite2-ASN) has no places"},
	} {
		if out := run(1, "map", "import", "world", filepath.Join(dir, "geo-maps"), "--format", "gdnsd", "--mmdb", write(c.db, c.text)); !strings.Contains(out, c.want) {
			t.Errorf("%s, expected %q", out, c.want)
		}
	}
	answers(clients)

	// A whole source that goes waits for a person.
	run(0, "map", "import", "world", "--remove", "--reason", "enough")
	until(t, func() string {
		var held []struct {
			ID     string `json:"id"`
			Source string `json:"source"`
		}
		if u.JSON(&held, "holds"); len(held) != 1 || held[0].Source != "map/world" {
			return fmt.Sprint("holds: ", held)
		}
		run(0, "release", held[0].ID, "--reason", "enough")
		return ""
	})
	until(t, func() string {
		if got := askedFor(t, host, "www.example.net", "198.51.100.7"); got != "192.0.2.80" {
			return got
		}
		return ""
	})
	if out := run(0, "map", "list"); !strings.Contains(out, "no maps") {
		t.Errorf("list: %s", out)
	}
}
