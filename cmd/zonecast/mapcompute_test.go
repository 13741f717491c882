package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/rtt"
)

// planner is a directory with the inputs of map compute.
type planner struct {
	t   *testing.T
	dir string
}

func (p *planner) put(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// run runs a command of map on the inputs.
func (p *planner) run(args ...string) (stdout string, err error) {
	var out bytes.Buffer
	root := newRoot(strings.NewReader(""), &out, &out)
	root.SetArgs(append(append([]string{"map"}, args...), "--pops", filepath.Join(p.dir, "pops.json"), "--demand", filepath.Join(p.dir, "demand.csv")))
	err = root.ExecuteContext(p.t.Context())
	return out.String(), err
}

func (p *planner) compute(args ...string) (v mapView, lines map[string]string) {
	p.t.Helper()
	file := filepath.Join(p.dir, "map.csv")
	out, err := p.run(append([]string{"compute", "--json", "--out", file}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &v)
	}
	if err != nil {
		p.t.Fatalf("%v in\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	lines = map[string]string{}
	for line := range strings.Lines(string(b)) {
		prefix, order, _ := strings.Cut(strings.TrimSpace(line), ",")
		lines[prefix] = order
	}
	return v, lines
}

func newPlanner(t *testing.T) (p *planner, rtts string) {
	p = &planner{t, t.TempDir()}
	p.put("pops.json", `[{"name": "esams", "latitude": 52.3, "longitude": 4.9, "capacity": 100}, {"name": "eqiad", "latitude": 39, "longitude": -77.5, "capacity": 100}]`)
	p.put("demand.csv", "prefix,weight\n192.0.2.0/25,10\n192.0.2.128/25,10\n198.51.100.0/24,10\n203.0.113.0/24,10\n")
	text := "prefix,pop,milliseconds\n"
	for _, prefix := range []string{"192.0.2.0/25", "192.0.2.128/25", "198.51.100.0/24", "203.0.113.0/24"} {
		text += fmt.Sprintf("%s,esams,10\n%[1]s,eqiad,90\n", prefix)
	}
	return p, p.put("rtt.csv", text)
}

// People say who is where by prefix, autonomous system and country; it is said what of it is not so.
func TestMapComputePins(t *testing.T) {
	p, rtts := newPlanner(t)
	city := p.put("city.mmdb", string(mmdbtest.Build(t, "Test-City", 6, map[string]mmdbtest.Record{
		"198.51.100.0/24": mmdbtest.City("EU", "NL", "", "Amsterdam", 52.3, 4.9), "192.0.2.0/24": mmdbtest.City("EU", "NL", "", "Amsterdam", 52.3, 4.9),
	})))
	asn := p.put("asn.mmdb", string(mmdbtest.Build(t, "ASN", 6, map[string]mmdbtest.Record{"203.0.113.0/24": mmdbtest.System(64500, "Example"), "192.0.2.0/25": mmdbtest.System(64501, "Example")})))
	file := p.put("pins.csv", "match,pop\nNL,eqiad\nAS64501,esams\nAS64500,eqiad\n192.0.2.128/26,eqiad\n192.0.2.128/25,esams\nDE,gone\n")
	v, lines := p.compute("--rtt", rtts, "--pins", file, "--city", city, "--asn", asn)
	for prefix, want := range map[string]string{"192.0.2.0/25": "esams,eqiad,", "192.0.2.128/25": "esams,eqiad,", "198.51.100.0/24": "eqiad,esams,", "203.0.113.0/24": "eqiad,esams,"} {
		if lines[prefix] != want {
			t.Errorf("%s is at %q, expected %q", prefix, lines[prefix], want)
		}
	}
	if v.Pinned != 4 || v.PinnedAway != 0 || len(v.Warnings) != 1 || !strings.HasSuffix(v.Warnings[0], "has not: gone") {
		t.Errorf("%d pinned, %d away, warnings %q", v.Pinned, v.PinnedAway, v.Warnings)
	}
	// A drain counts more.
	p.put("pops.json", `[{"name": "esams", "capacity": 100}, {"name": "eqiad", "capacity": 100, "drained": true}]`)
	if v, lines = p.compute("--rtt", rtts, "--pins", file, "--city", city, "--asn", asn); v.Pinned != 4 || v.PinnedAway != 2 || lines["198.51.100.0/24"] != "esams,," {
		t.Errorf("%d pinned, %d away, %q", v.Pinned, v.PinnedAway, lines)
	}
	out, err := p.run("what-if", "--undrain", "eqiad", "--rtt", rtts, "--pins", file, "--city", city, "--asn", asn)
	if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), "eqiad 0 (drained) 0 (0.0 %) 20 (20.0 %)") {
		t.Errorf("%v\n%s", err, out)
	}
	for want, args := range map[string][]string{
		"pins.csv: 2 pins of autonomous systems hold for nobody": {"--pins", file, "--city", city},
		"pins.csv: 2 pins of countries hold for nobody":          {"--pins", file, "--asn", asn},
		"bad.csv:2: match is \"Holland\"":                        {"--pins", p.put("bad.csv", "AS1,esams\nHolland,esams\n")},
		"nowhere.csv: no such file":                              {"--pins", filepath.Join(p.dir, "nowhere.csv")},
	} {
		if out, err := p.run(append([]string{"compute", "--rtt", rtts}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q\n%s", err, want, out)
		}
	}
}

// What beacons wrote is taken as run mapper would: enough clients say it, and resolvers are not clients.
func TestMapComputeOfBeacons(t *testing.T) {
	p, _ := newPlanner(t)
	tab := rtt.New(rtt.Limit{})
	for _, m := range []struct {
		kind    rtt.Kind
		prefix  string
		clients int
		pop     string
		ms      time.Duration
	}{
		{rtt.Client, "192.0.2.0/25", 10, "esams", 90},
		{rtt.Client, "192.0.2.0/25", 10, "eqiad", 10},
		{rtt.Client, "192.0.2.0/25", 10, "gone", 1},
		{rtt.Client, "198.51.100.0/24", 10, "esams", 10},
		{rtt.Client, "198.51.100.0/24", 10, "eqiad", 90},
		{rtt.Client, "203.0.113.0/24", 1, "esams", 90},
		{rtt.Resolver, "203.0.113.0/24", 10, "eqiad", 1},
	} {
		for client := range 2 * m.clients {
			err := tab.Add(rtt.Measurement{Key: rtt.Key{Kind: m.kind, Prefix: netip.MustParsePrefix(m.prefix)}, PoP: m.pop, RTT: m.ms * time.Millisecond, Client: uint64(client % m.clients), At: time.Unix(1_800_000_000, 0)})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	var b bytes.Buffer
	if _, err := tab.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(p.put("rtt/b1@1800000000.rtt", b.String()))
	v, lines := p.compute("--rtt", dir)
	if v.Demand != 40 || v.Prefixes != 4 || lines["192.0.2.0/25"] != "eqiad,esams," || lines["198.51.100.0/24"] != "esams,eqiad," || v.Cells["measured"] != 4 {
		t.Errorf("%+v, %q", v, lines)
	}
	if len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "times are of PoP gone, which") {
		t.Errorf("warnings %q", v.Warnings)
	}
	if v, _ = p.compute("--rtt", dir, "--clients", "1", "--measurements", "2"); v.Cells["measured"] != 5 {
		t.Errorf("%v, expected that the one client is believed", v.Cells)
	}
	if _, err := p.run("compute", "--rtt", dir, "--clients", "0"); err == nil || !strings.Contains(err.Error(), "--clients 0, --enough 100, expected at least") {
		t.Error(err)
	}
}
