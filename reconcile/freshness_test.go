package reconcile

import (
	"testing"

	"github.com/zonecast/zonecast/record"
)

// The least TTL of a policy does not hold for the freshness record, which would
// otherwise be left out, and all hosts look stale.
func TestFreshnessHasNoLeastTTL(t *testing.T) {
	p := DefaultPolicy()
	p.MinTTL = 60
	fresh := record.Name("\x06_fresh\x08internal\x00")
	for _, c := range []struct {
		owner record.Name
		typ   record.Type
		data  record.Rdata
		bad   bool
	}{
		{fresh, record.TypeTXT, "\x01x", false},
		{fresh, record.TypeA, "\xc0\x00\x02\x01", true},
		{fresh.Parent(), record.TypeTXT, "\x01x", true},
	} {
		one := claim{RRset: record.NewRRset(c.owner, c.typ, 0, c.data), src: &source{name: "rule/fresh"}}
		if why := p.check(&one, "rule/fresh"); (why != "") != c.bad {
			t.Errorf("%s %s: %q", c.owner, c.typ, why)
		}
	}
}
