package mmdb

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
)

func TestCity(t *testing.T) {
	b := mmdbtest.Build(t, "Test-City", 6, map[string]mmdbtest.Record{
		"192.0.2.0/24":  mmdbtest.City("EU", "CH", "GE", "Geneva", 46.2, 6.1),
		"2001:db8::/32": mmdbtest.City("OC", "NZ", "OTA", "Dunedin", -45.9, 170.5),
		"2001:db8::/48": {"country": mmdbtest.Record{"iso_code": mmdbtest.Text("NZ")}},
	})
	db, err := OpenBytes("city.mmdb", b)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.CheckPlaces(true); err != nil {
		t.Error(err)
	}
	found := map[string]Place{}
	var order []netip.Prefix
	for n, err := range db.Networks() {
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, n.Prefix)
		p, err := n.Place()
		if err != nil {
			t.Fatal(err)
		}
		if n.Found() && len(p.Subdivisions) > 0 && p.City != "Dunedin" || n.Prefix.String() == "2001:db8::/48" {
			found[n.Prefix.String()] = p
		}
	}
	want := map[string]Place{
		"192.0.2.0/24":  {"EU", "CH", []string{"GE"}, "Geneva", 46.2, 6.1, true},
		"2001:db8::/48": {Country: "NZ"},
	}
	if d := cmp.Diff(want, found); d != "" {
		t.Error(d)
	}
	for i := 1; i < len(order); i++ {
		if order[i-1].Compare(order[i]) >= 0 {
			t.Fatalf("%s before %s", order[i-1], order[i])
		}
	}
	n, err := db.Lookup(netip.MustParseAddr("::ffff:192.0.2.7"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"country/iso_code": "CH", "city/names/en": "Geneva", "subdivisions/0/iso_code": "GE", "country": "", "country/iso_code/x": "", "isp": ""} {
		if got, ok, err := n.Value(strings.Split(path, "/")...); err != nil || got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, %v, expected %q", path, got, ok, err, want)
		}
	}
}

func TestFlat(t *testing.T) {
	b := mmdbtest.Build(t, "city ipv4", 4, map[string]mmdbtest.Record{
		"192.0.2.0/24": mmdbtest.Flat("US", "California", "San Jose", 37.3, -121.9),
	})
	db, err := OpenBytes("flat.mmdb", b)
	if err != nil {
		t.Fatal(err)
	}
	n, err := db.Lookup(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.Place()
	if d := cmp.Diff(Place{"NA", "US", []string{"CA"}, "San Jose", 37.3, -121.9, true}, p); d != "" || err != nil {
		t.Error(err, d)
	}
	if n, err := db.Lookup(netip.MustParseAddr("2001:db8::1")); err != nil || n.Found() {
		t.Errorf("IPv6 in a database of IPv4: %v, %v", n, err)
	}
}

func TestSystems(t *testing.T) {
	b := mmdbtest.Build(t, "Test-ASN", 6, map[string]mmdbtest.Record{
		"192.0.2.0/24": mmdbtest.System(64500, "Example"),
	})
	db, err := OpenBytes("asn.mmdb", b)
	if err != nil {
		t.Fatal(err)
	}
	n, err := db.Lookup(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := n.System(); err != nil || s != (System{64500, "Example"}) {
		t.Errorf("%v, %v", s, err)
	}
	err = db.CheckPlaces(false)
	if want := "asn.mmdb (Test-ASN) has no places: its records have autonomous_system_number, autonomous_system_organization; expected a City or Country database"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, expected %q", err, want)
	}
}

func TestRefused(t *testing.T) {
	whole := mmdbtest.Build(t, "Test-City", 6, map[string]mmdbtest.Record{
		"192.0.2.0/24": mmdbtest.City("EU", "CH", "GE", "Geneva", 46.2, 6.1),
	})
	for name, b := range map[string][]byte{
		"empty":           nil,
		"text":            []byte("prefix,location\n"),
		"truncated":       whole[:len(whole)/2],
		"only its end":    whole[len(whole)/2:],
		"nothing is said": mmdbtest.Build(t, "Test-City", 6, nil),
	} {
		_, err := OpenBytes("x.mmdb", b)
		if err == nil || !strings.Contains(err.Error(), "x.mmdb") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.mmdb")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestDamaged flips each octet of a database: it is read, or refused with the file's
// name, and never without end.
func TestDamaged(t *testing.T) {
	whole := mmdbtest.Build(t, "Test-City", 6, map[string]mmdbtest.Record{
		"192.0.2.0/24":  mmdbtest.City("EU", "CH", "GE", "Geneva", 46.2, 6.1),
		"2001:db8::/32": mmdbtest.City("OC", "NZ", "OTA", "Dunedin", -45.9, 170.5),
	})
	refused := 0
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0xff
		if err := readAll(b, 1<<12); err != nil {
			refused++
			if !strings.Contains(err.Error(), "x.mmdb") {
				t.Errorf("octet %d: %v", i, err)
			}
		}
	}
	if refused < len(whole)/4 {
		t.Errorf("%d of %d were refused", refused, len(whole))
	}
}

func readAll(b []byte, most int) error {
	db, err := OpenBytes("x.mmdb", b)
	if err != nil {
		return err
	}
	for n, err := range db.Networks() {
		if err != nil {
			return err
		}
		if _, err := n.Place(); err != nil {
			return err
		}
		if _, err := n.System(); err != nil {
			return err
		}
		if _, _, err := n.Value("subdivisions", "0", "iso_code"); err != nil {
			return err
		}
		if most--; most == 0 {
			return nil
		}
	}
	return nil
}

// TestSharedNodes is a tree of 128 nodes, both halves of each being the next: 2^128
// networks.
func TestSharedNodes(t *testing.T) {
	whole := mmdbtest.Chain(t)
	const nodes = 128
	if !bytes.Contains(whole, make([]byte, 16)) || len(whole) < nodes*6 {
		t.Fatal("not the tree that was expected")
	}
	var last [3]byte
	copy(last[:], whole[nodes*6-6:]) // one of the two is the record
	if binary.BigEndian.Uint32(append([]byte{0}, last[:]...)) <= nodes {
		copy(last[:], whole[nodes*6-3:])
	}
	for i := range nodes {
		next := [3]byte{0, 0, byte(i + 1)}
		if i == nodes-1 {
			next = last
		}
		copy(whole[6*i:], next[:])
		copy(whole[6*i+3:], next[:])
	}
	db, err := OpenBytes("x.mmdb", whole)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, err = range db.networks(1000) {
		count++
	}
	if want := "has more than 1000 networks"; count != 1001 || err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%d networks, then %v, expected %q", count, err, want)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(mmdbtest.Build(f, "Test-City", 6, map[string]mmdbtest.Record{
		"192.0.2.0/24": mmdbtest.City("EU", "CH", "GE", "Geneva", 46.2, 6.1),
	}))
	f.Add(mmdbtest.Build(f, "city ipv4", 4, map[string]mmdbtest.Record{
		"192.0.2.0/24": mmdbtest.Flat("US", "California", "San Jose", 37.3, -121.9),
	}))
	f.Fuzz(func(_ *testing.T, b []byte) { readAll(b, 1<<12) })
}
