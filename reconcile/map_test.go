package reconcile_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestMapsAreChecked: what is no map is left out, with a conflict that says where and why; and
// so is a map of a robot that has no say in them.
func TestMapsAreChecked(t *testing.T) {
	m := geo.Map{Name: "eu", Entries: []geo.Entry{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "esams"}}}
	rr, err := m.RRsets(geo.Zone)
	if err != nil {
		t.Fatal(err)
	}
	block := rr[0]
	damaged := record.NewRRset(block.Owner, block.Type, block.TTL, "\x04\xc0\x00\x02\x01\x18esams")
	terms := record.NewRRset("\x03www"+geo.Zone, record.TypeTerms, 300, "\x00\x01\x07")
	soa := record.NewRRset(geo.Zone, record.TypeSOA, 300, "\x00\x00"+record.Rdata(make([]byte, 20)))
	claim := func(source record.Source, r record.RRset) record.Claim {
		return record.Claim{RRset: r, Source: source, Place: "p"}
	}
	for _, c := range []struct {
		claim record.Claim
		says  string // empty: it is in the dataset
	}{
		{claim("map/eu", block), ""},
		{claim("config/maps", block), ""},
		{claim("map/eu", damaged), "192.0.2.1/24 has bits behind its length, expected 192.0.2.0/24"},
		{claim("rule/eu", block), "a source of kind rule says nothing of maps"},
		{claim("update/eu", block), "a source of kind update says nothing of maps"},
		{claim("rule/eu", terms), "kind 7"},
	} {
		s := reconcile.New(reconcile.DefaultPolicy())
		s.Replace("zone/z", "0", []record.Claim{claim("zone/z", soa)})
		s.Replace(c.claim.Source, "1", []record.Claim{c.claim})
		change := s.Reconcile()
		var found strings.Builder
		for x := range s.Conflicts() {
			found.WriteString(x.String() + "\n")
		}
		there := false
		for _, r := range change.Put {
			there = there || r.Key == c.claim.Key
		}
		if there != (c.says == "") || !strings.Contains(found.String(), c.says) {
			t.Errorf("%s of %s: in the dataset: %v, conflicts: %s, want %q", c.claim.Key, c.claim.Source, there, &found, c.says)
		}
	}
}
