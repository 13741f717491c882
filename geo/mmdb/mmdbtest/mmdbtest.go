package mmdbtest

import (
	"bytes"
	"cmp"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// Record is what a database says of a network.
type Record = mmdbtype.Map

// Text is a string in a record.
type Text = mmdbtype.String

// Build makes a database of a type such as "Test-City", of IP version 4 or 6. IPv4
// networks of version 6 are also at the usual aliases.
func Build(t testing.TB, kind string, version int, networks map[string]Record) []byte {
	t.Helper()
	return write(t, mmdbwriter.Options{DatabaseType: kind, IPVersion: version, RecordSize: 28, IncludeReservedNetworks: true}, networks)
}

// Chain makes a database of one address, of a tree of 128 nodes in a line, of 6 octets
// each.
func Chain(t testing.TB) []byte {
	t.Helper()
	return write(t, mmdbwriter.Options{DatabaseType: "Test-City", IPVersion: 6, RecordSize: 24, IncludeReservedNetworks: true, DisableIPv4Aliasing: true},
		map[string]Record{"2001:db8::1/128": Country("EU", "CH")})
}

func write(t testing.TB, o mmdbwriter.Options, networks map[string]Record) []byte {
	t.Helper()
	w, err := mmdbwriter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	var order []netip.Prefix // wider ones first: of two the later counts
	for text := range networks {
		order = append(order, netip.MustParsePrefix(text))
	}
	slices.SortFunc(order, func(a, b netip.Prefix) int { return cmp.Or(a.Bits()-b.Bits(), a.Compare(b)) })
	for _, p := range order {
		if err := w.Insert(&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, networks[p.String()]); err != nil {
			t.Fatal(p, err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Country is a record of a country, as in GeoLite2-Country.
func Country(continent, country string) Record {
	return Record{"continent": Record{"code": Text(continent)}, "country": Record{"iso_code": Text(country)}}
}

// City is a record of a city, as in GeoLite2-City; subdivisions are parted by spaces.
func City(continent, country, subdivisions, name string, latitude, longitude float64) Record {
	r := Country(continent, country)
	var all mmdbtype.Slice
	for _, s := range bytes.Fields([]byte(subdivisions)) {
		all = append(all, Record{"iso_code": Text(s)})
	}
	if all != nil {
		r["subdivisions"] = all
	}
	if name != "" {
		r["city"] = Record{"names": Record{"en": Text(name)}}
	}
	r["location"] = Record{"latitude": mmdbtype.Float64(latitude), "longitude": mmdbtype.Float64(longitude)}
	return r
}

// Flat is a record in the layout of ip-location-db.
func Flat(country, state, city string, latitude, longitude float64) Record {
	return Record{
		"country_code": Text(country), "state1": Text(state), "state2": Text(""), "city": Text(city),
		"latitude": mmdbtype.Float64(latitude), "longitude": mmdbtype.Float64(longitude),
	}
}

// System is a record of an autonomous system.
func System(number uint32, organization string) Record {
	return Record{"autonomous_system_number": mmdbtype.Uint32(number), "autonomous_system_organization": Text(organization)}
}
