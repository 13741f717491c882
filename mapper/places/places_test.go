package places_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/places"
)

func open(t *testing.T, name string, b []byte) *mmdb.DB {
	t.Helper()
	db, err := mmdb.OpenBytes(name, b)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Several files are asked one after the other, of both layouts; the continent is found where a
// file has none.
func TestLook(t *testing.T) {
	four := open(t, "four.mmdb", mmdbtest.Build(t, "City", 4, map[string]mmdbtest.Record{"192.0.2.0/25": mmdbtest.Flat("NL", "", "Amsterdam", 52.3, 4.9)}))
	six := open(t, "six.mmdb", mmdbtest.Build(t, "City", 6, map[string]mmdbtest.Record{"2001:db8::/32": mmdbtest.City("NA", "US", "VA", "Ashburn", 39, -77.5)}))
	asn := open(t, "asn.mmdb", mmdbtest.Build(t, "ASN", 6, map[string]mmdbtest.Record{"192.0.2.0/24": mmdbtest.System(64500, "Example"), "2001:db8::/32": mmdbtest.System(64501, "Example")}))
	var prefixes []netip.Prefix
	for _, p := range []string{"192.0.2.0/24", "192.0.2.128/25", "2001:db8:1::/48", "198.51.100.0/24"} {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	got, err := places.Databases{Systems: []*mmdb.DB{asn}, Cities: []*mmdb.DB{four, six}}.Look(prefixes)
	if err != nil {
		t.Fatal(err)
	}
	want := []fill.Place{
		{AS: 64500, Country: [2]byte{'N', 'L'}, Continent: [2]byte{'E', 'U'}, Located: true, Latitude: 52.3, Longitude: 4.9},
		{AS: 64500},
		{AS: 64501, Country: [2]byte{'U', 'S'}, Continent: [2]byte{'N', 'A'}, Located: true, Latitude: 39, Longitude: -77.5},
		{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if got, err := (places.Databases{}).Look(prefixes); got != nil || err != nil {
		t.Errorf("without a database: %v, %v", got, err)
	}
}

// A database that is damaged where it is asked is an error that names it, and no map.
func TestDamaged(t *testing.T) {
	networks := map[string]mmdbtest.Record{}
	var prefixes []netip.Prefix
	for i := range 200 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16)
		networks[p.String()] = mmdbtest.City("EU", "NL", "", strings.Repeat("x", i), float64(i)/4, float64(i))
		prefixes = append(prefixes, p)
	}
	b := mmdbtest.Build(t, "City", 6, networks)
	failed := 0
	for at := len(b) / 4; at < len(b)*3/4; at += len(b) / 50 {
		spoiled := append([]byte(nil), b...)
		for i := range 40 {
			spoiled[at+i] = 0xff
		}
		db, err := mmdb.OpenBytes("city.mmdb", spoiled)
		if err == nil {
			_, err = places.Databases{Cities: []*mmdb.DB{db}}.Look(prefixes)
		}
		if err != nil {
			failed++
			if !strings.Contains(err.Error(), "city.mmdb") {
				t.Errorf("error without the file: %v", err)
			}
		}
	}
	if failed < 10 {
		t.Errorf("%d of 25 damaged databases are refused", failed)
	}
}

// Every address of a land is where the databases say, and lands are the fewest networks that say it.
func TestLands(t *testing.T) {
	city := open(t, "city.mmdb", mmdbtest.Build(t, "City", 6, map[string]mmdbtest.Record{
		"192.0.2.0/24": mmdbtest.City("EU", "NL", "", "Amsterdam", 52.3, 4.9), "192.0.2.128/26": mmdbtest.City("NA", "US", "VA", "Ashburn", 39.4, -77.5),
		"2001:db8::/32": mmdbtest.City("EU", "NL", "", "Utrecht", 52.1, 5.1),
	}))
	asn := open(t, "asn.mmdb", mmdbtest.Build(t, "ASN", 6, map[string]mmdbtest.Record{
		"192.0.2.0/25": mmdbtest.System(64500, "Example"), "198.51.100.0/24": mmdbtest.System(64500, "Example"), "2001:db8:1::/48": mmdbtest.System(64501, "Example"),
	}))
	d := places.Databases{Systems: []*mmdb.DB{asn}, Cities: []*mmdb.DB{city}}
	l, err := d.Lands(100)
	if err != nil {
		t.Fatal(err)
	}
	nl, us := fill.Place{Country: [2]byte{'N', 'L'}, Continent: [2]byte{'E', 'U'}, Located: true, Latitude: 52, Longitude: 5}, fill.Place{Country: [2]byte{'U', 'S'}, Continent: [2]byte{'N', 'A'}, Located: true, Latitude: 39, Longitude: -78}
	of := func(p fill.Place, as uint32) fill.Place { p.AS = as; return p }
	for address, want := range map[string]fill.Place{
		"192.0.2.1": of(nl, 64500), "192.0.2.129": us, "192.0.2.200": nl, "198.51.100.1": {AS: 64500}, "2001:db8::1": nl, "2001:db8:1::1": of(nl, 64501),
	} {
		a, best := netip.MustParseAddr(address), -1
		for i, p := range l.Prefixes {
			if p.Contains(a) && (best < 0 || p.Bits() > l.Prefixes[best].Bits()) {
				best = i
			}
		}
		if best < 0 || l.Places[l.Class[best]] != want {
			t.Errorf("%s is of land %d of %v, expected %+v", address, best, l.Prefixes, want)
		}
	}
	for i, p := range l.Prefixes {
		if !p.Contains(l.Rests[i].Addr()) {
			t.Errorf("%s is not in %s", l.Rests[i], p)
		}
	}
	if _, err := d.Lands(2); err == nil || !strings.Contains(err.Error(), "more than 2 networks") {
		t.Error(err)
	}
}
