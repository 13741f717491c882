//go:build interop || acceptance

package e2e

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/formats"
	"github.com/zonecast/zonecast/geo/formats/formatstest"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/record"
)

// mostRanges is how many ranges of a map the authority looks at for the widest scope
// (docs/maps.md).
const mostRanges = 1024

// besideGDNSD imports Wikimedia's maps by the command into a fleet, with databases as they lie
// at paths, and asks its authority and a real gdnsd, which has the database whole, for the same
// clients over UDP with ECS. Every answer is the same but for clients in private networks, who
// are nowhere here unless the map has an entry within them, and get what the resolver gets (RFC
// 7871 §10). Scopes are held against what the map says of every address in them.
func besideGDNSD(t *testing.T, gdnsd formatstest.GDNSD, paths []string, clients []netip.Addr) {
	t.Helper()
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	u := StartUp(t, UpOptions{Hosts: 1, Zones: in.zones})
	dir := filepath.Join(Root(), "geo", "formats", "testdata", "wikimedia")
	args := []string{
		"map", "import", "world", filepath.Join(dir, "geo-maps"), "--format", "gdnsd", "--resources", filepath.Join(dir, "geo-resources"), "--resource", "text-addrs",
		"--for", "www.example.net", "--ttl", "60", "--embedded-ipv4", "--unknown-pops", "add", "--reason", "from gdnsd", "--wait", "--timeout", "5m",
	}
	for _, p := range paths {
		args = append(args, "--mmdb", p)
	}
	if stdout, stderr, status := u.Run(args...); status != 0 {
		t.Fatalf("map import: status %d: %s%s", status, stdout, stderr)
	}
	ranges, plain := wikimediaRanges(t, dir, paths, netip.MustParseAddr("127.0.0.1"))
	ours := formatstest.AskAll(t, u.Hosts[0].String(), "www.example.net.", dns.TypeA, append(clients, netip.Addr{}))
	theirs := formatstest.AskAll(t, gdnsd.Address, "www.example.net.", dns.TypeA, append(clients, netip.Addr{}))
	faults, differ := 0, 0
	tell := func(format string, args ...any) {
		if faults++; faults <= 20 {
			t.Errorf(format, args...)
		}
	}
	same, wider, longer, private := 0, 0, 0, 0
	answers := map[string]int{}
	for n, c := range clients {
		a, b := ours[n], theirs[n]
		answers[b.Records]++
		if a.Records != ranges.At(c) || b.Records != plain.At(c) {
			tell("client %s: %s and %s by gdnsd, the map says %s and %s", c, a.Records, b.Records, ranges.At(c), plain.At(c))
		}
		switch {
		case a.Records == b.Records && a.TTL == b.TTL:
		case a.TTL == b.TTL && a.Records == ranges.At(c) && b.Records == plain.At(c): // which is so in private networks alone
			private++
		default:
			differ++
			tell("client %s: %s for %d s, gdnsd answers %s for %d s", c, a.Records, a.TTL, b.Records, b.TTL)
		}
		switch {
		case a.Scope == b.Scope:
			same++
		case a.Scope < b.Scope:
			wider++
		default:
			longer++
		}
		if fault := ranges.ScopeFault(c, a.Scope, true, mostRanges); fault != "" {
			tell("client %s: scope /%d, gdnsd says /%d: %s", c, a.Scope, b.Scope, fault)
		}
		if fault := plain.ScopeFault(c, b.Scope, false, 0); fault != "" {
			tell("client %s: gdnsd's scope /%d: %s", c, b.Scope, fault)
		}
	}
	if a, b := ours[len(clients)], theirs[len(clients)]; a.Records != b.Records || a.Scope != -1 {
		tell("without ECS: %s with scope %d, gdnsd answers %s with %d", a.Records, a.Scope, b.Records, b.Scope)
	}
	t.Logf("%d clients: %d answers differ, and %d of private networks; scopes: %d as gdnsd's, %d wider, %d longer; answers %v", len(clients), differ, private, same, wider, longer, answers)
	if len(answers) < 5 {
		t.Errorf("answers %v, expected all five PoPs", answers)
	}
}

// wikimediaRanges is what the map says of every address: read as the command reads it, and
// looked up by formatstest's own ranges; in plain private networks are like any other.
func wikimediaRanges(t *testing.T, dir string, paths []string, resolver netip.Addr) (ranges, plain *formatstest.Ranges) {
	t.Helper()
	var dbs []*mmdb.DB
	for _, p := range paths {
		db, err := mmdb.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, db)
	}
	i, err := formats.GDNSD{
		FS: os.DirFS(dir), File: "geo-maps", Resources: "geo-resources", Resource: "text-addrs", Databases: dbs,
		EmbeddedIPv4: true, Names: []record.Name{mustName("www.example.net")}, TTL: 60,
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	at := map[record.Location]string{}
	for _, s := range i.Sets {
		if s.Type == record.TypeA {
			a, _ := netip.AddrFromSlice([]byte(s.Data[0]))
			at[s.Location] = a.String()
		}
	}
	return rangesOf(t, i.Map.Entries, func(l record.Location) string {
		if order := i.Map.Orders[l]; order != nil {
			l = order[0]
		}
		return at[l]
	}, resolver)
}

// rangesOf is what clients get by entries: what of says of a location. In ranges private networks
// of which no entry is get what the resolver gets.
func rangesOf(t *testing.T, entries []geo.Entry, of func(record.Location) string, resolver netip.Addr) (ranges, plain *formatstest.Ranges) {
	t.Helper()
	var said []formatstest.Said
	there := map[netip.Prefix]bool{}
	for _, e := range entries {
		said = append(said, formatstest.Said{Prefix: e.Prefix, Value: of(e.Location)})
		there[e.Prefix] = true
	}
	plain = formatstest.NewRanges(said)
	own := plain.At(resolver)
	for _, text := range []string{"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"} {
		if p := netip.MustParsePrefix(text); !there[p] {
			said = append(said, formatstest.Said{Prefix: p, Value: own})
		}
	}
	return formatstest.NewRanges(said), plain
}

// TestInteropGDNSDServed is TestGDNSDServed in small, with places drawn at random.
func TestInteropGDNSDServed(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	drawn := map[string]mmdbtest.Record{}
	places := strings.Fields("EU/CH/ZH EU/FR/IDF NA/US/CA NA/US/VA NA/US/TX NA/CA/BC AS/JP/13 AS/IN/MH OC/NZ/OTA SA/BR/SP AF/ZA/GP EU/RU/MOW")
	embedding := formatstest.Embedding()
	var clients []netip.Addr
	for n := range 2000 {
		within, bits := netip.MustParsePrefix("0.0.0.0/0"), 8+r.IntN(17)
		if n%2 == 1 {
			within, bits = netip.MustParsePrefix("2000::/3"), 16+r.IntN(33)
		}
		p := netip.PrefixFrom(formatstest.Random(r, within), bits).Masked()
		if overlaps(p, embedding) {
			continue
		}
		at := strings.Split(places[r.IntN(len(places))], "/")
		drawn[p.String()] = mmdbtest.City(at[0], at[1], at[2], "", 1, 1)
		client := formatstest.Random(r, p)
		clients = append(clients, client, formatstest.Random(r, within))
		if client.Is4() && n%10 == 0 {
			clients = append(clients, formatstest.Forms(client)...)
		}
	}
	for _, private := range []string{"10.2.1.7", "10.0.0.1", "10.64.7.7", "192.168.1.1", "127.0.0.5", "100.64.0.1", "fd00::1", "fe80::1", "::1"} {
		clients = append(clients, netip.MustParseAddr(private))
	}
	kept := clients[:0]
	for _, c := range clients {
		if !overlaps(netip.PrefixFrom(c, c.BitLen()), []netip.Prefix{netip.MustParsePrefix("2001::/32")}) { // Teredo, which no prefix can say
			kept = append(kept, c)
		}
	}
	whole := mmdbtest.Build(t, "Test-City", 6, drawn)
	path := filepath.Join(t.TempDir(), "x.mmdb")
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(Root(), "geo", "formats", "testdata", "wikimedia")
	gdnsd := formatstest.StartGDNSD(t, formatstest.Wikimedia(t, dir), map[string][]byte{"x.mmdb": whole}, 30*time.Second)
	besideGDNSD(t, gdnsd, []string{path}, kept)
}

func overlaps(p netip.Prefix, all []netip.Prefix) bool {
	for _, q := range all {
		if p.Overlaps(q) {
			return true
		}
	}
	return false
}
