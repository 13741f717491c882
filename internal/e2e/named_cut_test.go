//go:build interop

package e2e

import (
	"testing"

	"github.com/zonecast/zonecast/internal/difftest"
)

// TestDifferentialCut asks zonecast, with the zones and the fleet that it is shipped
// with, and other servers, with the same zones, about every name there is.
func TestDifferentialCut(t *testing.T) {
	t.Parallel() // it waits more than it works
	if testing.Short() {
		t.Skip("starts zonecast and named")
	}
	zones, fleet := cut()
	up, copied, fleetFile := startOn(t, zones, fleet)
	a := newAgainst(t, up, copied.Dir, fleetFile)
	a.identical(t, 5000)
	a.compare(t, difftest.Named(), difftest.Questions(a.all.zones), 5, true)
	for _, p := range []difftest.Program{difftest.NSD(), difftest.Knot()} {
		if _, err := p.Path(); err != nil {
			t.Logf("not compared with %s: %v", p.Name, err)
			continue
		}
		a.compare(t, p, difftest.Questions(a.all.zones), 5, true)
	}
	// A server's own address goes, and the fleet's stands in for it; an alias takes a
	// name from the fleet; a wildcard, a delegation and new names come.
	a.change(t, copied, []Change{
		{Remove: []string{"mc1019.eqiad.wmnet. 3600 A 10.64.0.80"}},
		{Add: []string{"cp.eqiad.wmnet. 300 CNAME cp1075.eqiad.wmnet."}},
		{Add: []string{"*.wild.wmnet. 300 A 192.0.2.1", "deep.below.wild.wmnet. 300 TXT \"x\""}},
		{Add: []string{"cut.wmnet. 300 NS ns.cut.wmnet.", "ns.cut.wmnet. 300 A 192.0.2.53"}},
		{Add: []string{"zonecast-new.wikipedia.org. 300 A 192.0.2.2"}},
	})
}
