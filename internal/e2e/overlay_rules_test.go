//go:build interop || acceptance

package e2e

import (
	"net/netip"
	"testing"
	"testing/fstest"

	"github.com/zonecast/zonecast/internal/difftest"
	"github.com/zonecast/zonecast/record"
)

// TestOverlayExplains holds that a difference is explained when the fleet makes it,
// and that one which only looks like it is not.
func TestOverlayExplains(t *testing.T) {
	zones, err := difftest.LoadZones(fstest.MapFS{"example.net": {Data: []byte("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\nwww 60 A 192.0.2.1\nalias 60 CNAME web1.ent\n")}})
	if err != nil {
		t.Fatal(err)
	}
	address := record.Rdata(netip.MustParseAddr("198.51.100.1").AsSlice())
	made := &fleetData{zones: map[record.Name]bool{ownApex: true, mustName("100.51.198.in-addr.arpa"): true}, sets: map[record.Key]record.RRset{}}
	for _, s := range []record.RRset{
		record.NewRRset(mustName("web1.ent.example.net"), record.TypeA, 60, address),
		record.NewRRset(mustName("www.example.net"), record.TypeA, 60, address),
		record.NewRRset(mustName("alias.example.net"), record.TypeA, 60, address),
	} {
		made.sets[s.Key] = s
	}
	o, err := overlayOf(zones, made)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.yielded) != 2 {
		t.Errorf("%v yield, expected those of www and alias", o.yielded)
	}
	web1 := "[web1.ent.example.net. 60 A 198.51.100.1]"
	for _, c := range []struct {
		kind, name   string
		t            record.Type
		ours, theirs string
		want         string
	}{
		{"answer", "web1.ent.example.net", record.TypeA, web1, "[]", ruleRecord},
		{"rcode", "web1.ent.example.net", record.TypeA, "0", "3", ruleRecord},
		{"rcode", "web1.ent.example.net", record.TypeTXT, "0", "3", ruleNode},
		{"rcode", "ent.example.net", record.TypeA, "0", "3", ruleNode},
		{"rcode", "1.100.51.198.in-addr.arpa", record.TypePTR, "3", "5", ruleZone},
		{"aa", "100.51.198.in-addr.arpa", record.TypeSOA, "true", "false", ruleZone},
		{"answer", "alias.example.net", record.TypeA, "[alias.example.net. 60 CNAME web1.ent.example.net. | web1.ent.example.net. 60 A 198.51.100.1]", "[alias.example.net. 60 CNAME web1.ent.example.net.]", ruleAfterIt},
		// Not what the fleet makes:
		{"answer", "web1.ent.example.net", record.TypeA, "[web1.ent.example.net. 60 A 198.51.100.2]", "[]", ""},
		{"answer", "web1.ent.example.net", record.TypeA, web1, web1, ""},
		{"rcode", "web1.ent.example.net", record.TypeA, "3", "0", ""},
		{"rcode", "web1.ent.example.net", record.TypeA, "2", "3", ""},
		{"aa", "web1.ent.example.net", record.TypeA, "false", "true", ""},
		{"tc", "web1.ent.example.net", record.TypeA, "true", "false", ""},
		{"answer", "www.example.net", record.TypeA, "[www.example.net. 60 A 198.51.100.1]", "[www.example.net. 60 A 192.0.2.1]", ""},
		{"rcode", "other.example.net", record.TypeA, "0", "3", ""},
		{"rcode", "below.www.example.net", record.TypeA, "0", "3", ""},
		{"rcode", "100.51.198.in-addr.arpa", record.TypeSOA, "3", "5", ""},
		{"rcode", "1.0.0.10.in-addr.arpa", record.TypePTR, "3", "5", ""},
		{"serial", "example.net", record.TypeSOA, "2", "1", ""},
	} {
		d := difftest.Difference{Question: difftest.Question{Name: mustName(c.name), Type: c.t}, Kind: c.kind, Ours: c.ours, Theirs: c.theirs}
		if got := o.explain(d); got != c.want {
			t.Errorf("%s %s %s: ours %s, theirs %s: explained by %q, want %q", c.kind, c.name, c.t, c.ours, c.theirs, got, c.want)
		}
	}
}
