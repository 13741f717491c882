//go:build interop

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/formats/formatstest"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/record"
)

const knotTTL = 77 // seconds, of the module's records

// knotZone is what both answer beside the module's records: the names of the tests have
// something for everybody.
const knotZone = `$TTL 300
@ SOA ns1 admin 1 7200 900 604800 60
@ NS ns1
ns1 A 192.0.2.53
www A 192.0.2.80
text TXT everybody
alias CNAME target0
*.wild A 192.0.2.81
target0 A 192.0.2.90
target1 A 192.0.2.91
target2 A 192.0.2.92
target3 A 192.0.2.93
`

// knotAsked is a question of a name, and the records that an entry of Knot's file gets for it.
var knotAsked = []struct {
	owner, asked string
	qtype        uint16
	records      []string // by number: the lines of an entry
}{
	{"www", "www", dns.TypeA, []string{"A: 198.51.100.1", "A: [ 198.51.100.2, 198.51.100.3 ]", "A: 198.51.100.4"}},
	{"text", "text", dns.TypeTXT, []string{"TXT: one", "TXT: two"}},
	{"alias", "alias", dns.TypeA, []string{"CNAME: target1.example.net.", "CNAME: target2.example.net.", "CNAME: target3.example.net."}},
	{"*.wild", "any.wild", dns.TypeA, []string{"A: 198.51.100.7", "A: 198.51.100.8"}},
}

// knotUp is a fleet that has knotZone, and a knotd.
func knotUp(t *testing.T, z formatstest.KnotZone) (u *Up, knot string, geoconf string) {
	t.Helper()
	in := newSources(t)
	in.zone("example.net", knotZone)
	u = StartUp(t, UpOptions{Hosts: 1, Zones: in.zones})
	z.Name, z.Records, z.TTL = "example.net", knotZone, knotTTL
	geoconf = filepath.Join(t.TempDir(), "geo.conf")
	if err := os.WriteFile(geoconf, []byte(z.Geo), 0o644); err != nil {
		t.Fatal(err)
	}
	return u, formatstest.StartKnot(t, z), geoconf
}

func importKnot(t *testing.T, u *Up, args ...string) string {
	t.Helper()
	args = append([]string{"map", "import", "knot"}, append(args, "--format", "knot", "--ttl", fmt.Sprint(knotTTL), "--reason", "from Knot", "--wait", "--timeout", "1m")...)
	stdout, stderr, status := u.Run(args...)
	if status != 0 {
		t.Fatalf("zonecast %s: status %d: %s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout + stderr
}

// besideKnot asks both for a name on behalf of all clients. It gives the answers of Knot.
func besideKnot(t *testing.T, u *Up, knot, name string, qtype uint16, clients []netip.Addr) (ours, theirs []formatstest.Answer) {
	t.Helper()
	ours = formatstest.AskAll(t, u.Hosts[0].String(), name, qtype, clients)
	theirs = formatstest.AskAll(t, knot, name, qtype, clients)
	wrong := 0
	for n, c := range clients {
		if a, b := ours[n], theirs[n]; a.Records != b.Records || a.TTL != b.TTL {
			if wrong++; wrong <= 10 {
				t.Errorf("%s %s for %s: %q for %d s with scope %d, Knot answers %q for %d s with scope %d", name, dns.TypeToString[qtype], c, a.Records, a.TTL, a.Scope, b.Records, b.TTL, b.Scope)
			}
		}
	}
	t.Logf("%s %s: %d clients, %d answers differ", name, dns.TypeToString[qtype], len(clients), wrong)
	return ours, theirs
}

// TestInteropKnotSubnets has a real knotd with mod-geoip in mode subnet, and a fleet into which
// the same file was imported by the command, answer some thousand clients over UDP with ECS:
// the same records and TTLs. No scope of ours has an address that gets the records of another
// entry, and none could be wider. Knot's scopes are the length of the entry, whatever lies in
// it, and 0 where there is none, so that some are false (RFC 7871 §7.2.1): they are counted.
func TestInteropKnotSubnets(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var geoconf strings.Builder
	entries := map[string][]geo.Entry{}
	clients := map[netip.Addr]bool{}
	for _, q := range knotAsked {
		fmt.Fprintf(&geoconf, "%s.example.net:\n", q.owner)
		there := map[netip.Prefix]bool{}
		for len(there) < 60 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(r.IntN(8)), byte(r.Uint32()), byte(r.Uint32())}), 8+r.IntN(25))
			if r.IntN(3) == 0 {
				p = netip.PrefixFrom(formatstest.Random(r, netip.MustParsePrefix("2001:db8::/32")), 28+r.IntN(101))
			}
			if p = p.Masked(); there[p] {
				continue
			}
			there[p] = true
			n := r.IntN(len(q.records))
			fmt.Fprintf(&geoconf, "  - net: %s\n    %s\n", p, q.records[n])
			entries[q.owner] = append(entries[q.owner], geo.Entry{Prefix: p, Location: record.Location(p.String())})
			for range 6 {
				clients[formatstest.Random(r, p)] = true
			}
			clients[p.Addr()], clients[formatstest.Last(p)] = true, true
			for _, beside := range []netip.Addr{p.Addr().Prev(), formatstest.Last(p).Next()} {
				clients[beside] = true
			}
		}
	}
	geoconf.WriteString(`lacks.example.net:
  - net: 20.0.0.0/8
    A: 198.51.100.9
    AAAA: 2001:db8::9
  - net: 20.0.0.0/16
    A: 198.51.100.10
`)
	all := slices.SortedFunc(maps.Keys(clients), netip.Addr.Compare)
	u, knot, file := knotUp(t, formatstest.KnotZone{Geo: geoconf.String(), Mode: "subnet"})
	notes := importKnot(t, u, file)
	// The one difference, of which the import has a note.
	for server, want := range map[string]string{u.Hosts[0].String(): "2001:db8::9", knot: ""} {
		if got := formatstest.AskAll(t, server, "lacks.example.net.", dns.TypeAAAA, []netip.Addr{netip.MustParseAddr("20.0.0.1")}); got[0].Records != want {
			t.Errorf("lacks.example.net AAAA: %q, expected %q", got[0].Records, want)
		}
	}
	if !strings.Contains(notes, "20.0.0.0/16 has no AAAA, and 20.0.0.0/8 (") {
		t.Errorf("map import has no note of a type that an entry lacks: %s", notes)
	}
	for _, q := range knotAsked {
		name := q.asked + ".example.net."
		ours, theirs := besideKnot(t, u, knot, name, q.qtype, all)
		ranges, plain := rangesOf(t, entries[q.owner], func(l record.Location) string { return string(l) }, netip.MustParseAddr("127.0.0.1"))
		wrong, untrue, got := 0, 0, map[string]int{}
		for n, c := range all {
			got[theirs[n].Records]++
			if fault := ranges.ScopeFault(c, ours[n].Scope, true, mostRanges); fault != "" {
				if wrong++; wrong <= 10 {
					t.Errorf("%s for %s: scope /%d, Knot says /%d: %s", name, c, ours[n].Scope, theirs[n].Scope, fault)
				}
			}
			if plain.ScopeFault(c, max(theirs[n].Scope, 0), false, 0) != "" {
				untrue++
			}
		}
		t.Logf("%s: %d of %d scopes of Knot have clients of another entry", name, untrue, len(all))
		if len(got) != len(q.records)+1 {
			t.Errorf("%s: answers %v, expected those of %d entries and that for everybody", name, got, len(q.records))
		}
	}
}

// TestInteropKnotPlaces is the same for mode geodb.
func TestInteropKnotPlaces(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	drawn := map[string]mmdbtest.Record{}
	places := []string{"EU/CH/Geneva", "EU/CH/Zurich", "EU/FR/Paris", "NA/US/San Jose", "NA/US/Ashburn", "EU/NO/Oslo", "AS/JP/Tokyo"}
	clients := map[netip.Addr]bool{}
	for n := range 400 {
		within, bits := netip.MustParsePrefix("16.0.0.0/5"), 9+r.IntN(16)
		if n%2 == 1 {
			within, bits = netip.MustParsePrefix("2400::/8"), 20+r.IntN(29)
		}
		p := netip.PrefixFrom(formatstest.Random(r, within), bits).Masked()
		at := strings.Split(places[r.IntN(len(places))], "/")
		drawn[p.String()] = mmdbtest.City(at[0], at[1], "X", at[2], 1, 1)
		for range 3 {
			clients[formatstest.Random(r, p)] = true
		}
		clients[formatstest.Random(r, within)] = true
	}
	const geoconf = `www.example.net:
  - geo: "CH;Geneva"
    A: 198.51.100.1
  - geo: CH
    A: [ 198.51.100.2, 198.51.100.3 ]
  - geo: "US;San Jose"
    A: 198.51.100.4
  - geo: NO
    A: 198.51.100.5
text.example.net:
  - geo: "JP;*"
    TXT: one
  - geo: "US;Ashburn"
    TXT: two
alias.example.net:
  - geo: CH
    CNAME: target1.example.net.
  - geo: "*"
    CNAME: target2.example.net.
*.wild.example.net:
  - geo: FR
    A: 198.51.100.7
`
	whole := mmdbtest.Build(t, "Test-City", 6, drawn)
	u, knot, file := knotUp(t, formatstest.KnotZone{Geo: geoconf, Mode: "geodb", Keys: "country/iso_code, city/names/en", Database: whole})
	path := filepath.Join(t.TempDir(), "x.mmdb")
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	importKnot(t, u, file, "--mmdb", path, "--geodb-key", "country/iso_code,city/names/en")
	all := slices.SortedFunc(maps.Keys(clients), netip.Addr.Compare)
	for _, q := range knotAsked {
		_, theirs := besideKnot(t, u, knot, q.asked+".example.net.", q.qtype, all)
		got := map[string]int{}
		for _, a := range theirs {
			got[a.Records]++
		}
		if len(got) < 2 {
			t.Errorf("%s: answers %v, expected some", q.asked, got)
		}
	}
}

// TestInteropKnotWeights asks both for a name with weights: one record at a time, each as often.
func TestInteropKnotWeights(t *testing.T) {
	const geoconf = `pick.example.net:
  - weight: 3
    A: 198.51.100.1
  - weight: 1
    A: 198.51.100.2
`
	u, knot, file := knotUp(t, formatstest.KnotZone{Geo: geoconf, Mode: "weighted"})
	importKnot(t, u, file)
	const times = 1000
	for _, server := range []string{u.Hosts[0].String(), knot} {
		got := map[string]int{}
		for _, a := range formatstest.AskAll(t, server, "pick.example.net.", dns.TypeA, make([]netip.Addr, times)) {
			got[a.Records]++
		}
		// 3 of 4, within 6 standard deviations of 14.
		if n := got["198.51.100.1"]; n < 750-84 || n > 750+84 || n+got["198.51.100.2"] != times {
			t.Errorf("%s: %v, expected 198.51.100.1 three times as often as 198.51.100.2, and nothing else", server, got)
		}
	}
}
