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
	for _, more := range []string{"--dry-run", "--reason=from gdnsd"} {
		if out := run(1, append(gdnsd, more)...); !strings.Contains(out, `geo-maps:3: "codfw" is no PoP, expected one that there is (there are none)`) || !strings.Contains(out, "--unknown-pops add makes") {
			t.Errorf("PoPs that are not known, %s: %s", more, out)
		}
	}
	if out := run(0, append(gdnsd, "--dry-run", "--unknown-pops", "add")...); !strings.Contains(out, "there is no such map yet") || !strings.Contains(out, "PoPs that would be made: codfw, eqiad,") || !strings.Contains(out, "nothing was changed") {
		t.Errorf("plan: %s", out)
	}
	run(0, append(gdnsd, "--unknown-pops", "add", "--reason", "from gdnsd", "--wait", "--timeout", "1m")...)
	if out, _, _ := Run(t, "pop", "list", "--store", "embedded", "--dir", u.Dir); !strings.Contains(out, "eqsin") || !strings.Contains(out, "from gdnsd") {
		t.Errorf("pop list: %s", out)
	}
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

	if out := run(0, "get", "www.example.net", "--client", "198.51.100.0/24"); !strings.Contains(out, "A\t91.198.174.192 ; at esams") || !strings.Contains(out, "AAAA\t2620:0:862:ed1a::1 ; at esams") || strings.Count(out, "\n") != 2 {
		t.Errorf("get for a client: %s", out)
	}
	if out := run(0, "get", "www.example.net", "A"); strings.Count(out, "\n") < 6 { // of all PoPs, and everybody
		t.Errorf("get: %s", out)
	}
	if out := run(1, "get", "www.example.net", "A", "--client", "198.51.100.256"); !strings.Contains(out, `client is "198.51.100.256"`) {
		t.Errorf("get for no client: %s", out)
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
	if out := run(1, "map", "import", "world", write("bad.csv", changed+"192.0.2.0/24,esasm,\n"), "--for", "www.example.net", "--dry-run"); !strings.Contains(out, `bad.csv:`) || !strings.Contains(out, `: "esasm" is no PoP, expected one of "codfw", `) {
		t.Errorf("a name that was mistyped: %s", out)
	}
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

	// Maps of dnsrocks and tinydns data, with the records of names by location.
	rocks := write("rocks", `%eu,198.51.100.0/24,mn
%us,203.0.113.0/24,mn
%jp,203.0.113.0/24,other
8rocks.example.net,mn
Mrocks.example.net,other
+rocks.example.net,192.0.2.11,60,,eu,3
+rocks.example.net,192.0.2.12,60,,eu,1
+rocks.example.net,192.0.2.13,60,,us
+rocks.example.net,192.0.2.14,60
`)
	if out := run(1, "map", "import", "rocks", rocks, "--format", "dnsrocks", "--for", "rocks.example.net"); !strings.Contains(out, `has the maps "mn", "other", expected that one is chosen`) || !strings.Contains(out, "--map NAME") {
		t.Errorf("no map is chosen: %s", out)
	}
	run(0, "map", "import", "rocks", rocks, "--format", "dnsrocks", "--map", "mn", "--for", "rocks.example.net", "--reason", "from dnsrocks", "--wait")
	if out := run(0, "map", "list"); !strings.Contains(out, "rocks.example.net. by subnet\n") || strings.Contains(out, "rocks.example.net. by resolver") {
		t.Errorf("list: %s", out)
	}
	eu, us := map[string]int{}, map[string]int{}
	for range 40 { // one of each location's and everybody's, by weight
		eu[askedFor(t, host, "rocks.example.net", "198.51.100.7")]++
		us[askedFor(t, host, "rocks.example.net", "203.0.113.7")]++
	}
	if eu["192.0.2.11"]+eu["192.0.2.12"]+eu["192.0.2.14"] != 40 || eu["192.0.2.11"] < 10 || us["192.0.2.13"]+us["192.0.2.14"] != 40 || len(us) != 2 {
		t.Errorf("answers in Europe %v and in the United States %v", eu, us)
	}
	if out := run(1, "map", "import", "tiny", write("tiny", ".example.net:192.0.2.53:a\n"), "--format", "tinydns", "--for", "www.example.net"); !strings.Contains(out, "tiny has no locations (% lines), expected a map") {
		t.Errorf("no map: %s", out)
	}
	if out := run(1, "map", "import", "tiny", write("tiny", "%lo:192.0.2.0/24\n"), "--format", "tinydns", "--for", "www.example.net"); !strings.Contains(out, "tiny:1:") {
		t.Errorf("a prefix of dnsrocks in tinydns data: %s", out)
	}
	run(0, "map", "import", "tiny", write("tiny", "%aa:127.0.0\n%bb:192.0.2\n+tiny.example.net:192.0.2.21:60::aa\n+tiny.example.net:192.0.2.22:60::bb\n"), "--format", "tinydns", "--for", "tiny.example.net", "--reason", "from tinydns", "--wait")
	if got := askedFor(t, host, "tiny.example.net", "192.0.2.9"); got != "192.0.2.21" { // by the address that asks alone, as tinydns
		t.Errorf("tiny.example.net is %s", got)
	}

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
	if out := run(0, "map", "list"); strings.Contains(out, "world") || !strings.Contains(out, "rocks") || !strings.Contains(out, "tiny") {
		t.Errorf("list: %s", out)
	}
}
