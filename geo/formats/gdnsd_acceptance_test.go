//go:build acceptance

package formats

import (
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/zonecast/zonecast/geo/formats/formatstest"
	"github.com/zonecast/zonecast/geo/mmdb"
)

// TestRealGDNSD asks Debian's gdnsd, with Wikimedia's maps and GeoLite2's cities, for
// 100,000 clients by ECS and 2,000 resolvers, and gdnsd_geoip_test for the whole lists of
// the same clients; by what was read of the flat databases as they are, and of the one
// that gdnsd has. The same for lists by distance.
func TestRealGDNSD(t *testing.T) {
	_, flat := formatstest.Cities(t)
	began := time.Now()
	whole := formatstest.ToGeoIP2(t, flat...)
	t.Logf("%s of %s as GeoIP2: %d octets in %v", flat[0].Type(), flat[0].Built().Format(time.DateOnly), len(whole), time.Since(began).Round(time.Second))
	converted, err := mmdb.OpenBytes("x.mmdb", whole)
	if err != nil {
		t.Fatal(err)
	}
	const distances = `
datacenters => [eqiad, codfw, ulsfo, esams, eqsin], geoip2_db => x.mmdb, auto_dc_limit => 0
auto_dc_coords => { eqiad => [38.95, -77.45], codfw => [32.78, -96.8], ulsfo => [37.77, -122.42], esams => [52.37, 4.9], eqsin => [1.35, 103.99] }`
	stanza := "maps => {\n near => {" + distances + "}\n" + formatstest.Wikimedia(t, "testdata/wikimedia")[len("maps => {\n"):]
	d := formatstest.StartGDNSD(t, stanza, map[string][]byte{"x.mmdb": whole}, 5*time.Minute)
	dir := formatstest.GDNSDDir(t, "", stanza, map[string][]byte{"x.mmdb": whole})

	r := rand.New(rand.NewPCG(5, 6))
	var clients, teredos, resolvers []netip.Addr
	clients = append(clients, formatstest.OfNetworks(r, flat[0], 60_000)...)
	clients = append(clients, formatstest.OfNetworks(r, flat[1], 20_000, embedding...)...)
	for len(clients) < 95_000 {
		clients = append(clients, formatstest.Random(r, netip.MustParsePrefix("0.0.0.0/0")))
	}
	for n := 0; len(clients) < 100_000; n++ {
		clients = append(clients, formatstest.Forms(clients[n*11])...)
	}
	for n := range 1000 {
		teredos = append(teredos, formatstest.Teredo(clients[n]))
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

func mapOf(text string) fs.FS { return fstest.MapFS{"maps": {Data: []byte(text)}} }
