//go:build acceptance

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api/controlapi"
)

// TestControlAtScale sets overrides and rolls a mistake of 10,000 records back among
// ZONECAST_CONTROL_NAMES (1,000,000) names in 20 zones.
func TestControlAtScale(t *testing.T) {
	const zones, mistake = 20, 10_000
	names := int(setting(t, "ZONECAST_CONTROL_NAMES", 1_000_000))
	in := newSources(t)
	many := func(zone, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "h%d A 198.18.%d.%d\n", i, zone, i%250)
		}
		return b.String()
	}
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	for z := range zones {
		in.zone(fmt.Sprintf("z%d.example.org", z), zoneOf(many(z, names/zones)))
	}
	u := StartUp(t, UpOptions{Zones: in.zones, Args: []string{"--log-level", "warn"}})
	t.Logf("%d names in %d zones answered by %d hosts after %v; %s", names, zones, len(u.Hosts), u.Took, Machine())
	c := u.Client()
	var took Figures
	for i := range 200 {
		address := fmt.Sprintf("192.0.2.%d", 100+i%100)
		began := time.Now()
		d, err := c.Control.SetOverride(t.Context(), addresses("www.example.net", address), 3_600_000, false, doer)
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.Control.Wait(t.Context(), d.Change.Revision, "override", "internal", 10_000)
		if err != nil || !a.Done {
			t.Fatal(a, err)
		}
		took = append(took, time.Since(began))
	}
	t.Logf("an override, until all hosts answered it: %s", took)

	list, err := c.Control.Overrides(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	// once with an override above, once without
	for _, clear := range []bool{false, true} {
		if clear {
			if _, err := c.Control.ClearOverride(t.Context(), list[0].ID, doer); err != nil {
				t.Fatal(err)
			}
			holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
		}
		h, err := c.Control.History(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		in.zone("z0.example.org", zoneOf(many(0, names/zones-mistake)))
		last := fmt.Sprintf("h%d.z0.example.org", names/zones-1)
		holds(t, u, last, "A", "NXDOMAIN")
		arrives := func(what string, d *controlapi.Done, err error, began time.Time) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			a, err := c.Control.Wait(t.Context(), d.Change.Revision, "version", "internal", 60_000)
			if err != nil || !a.Done {
				t.Fatal(a, err)
			}
			t.Logf("%s, until all hosts answered (an override above: %v): %v", what, !clear, time.Since(began))
		}
		began := time.Now()
		d, err := c.Control.Rollback(t.Context(), h.Versions[0].Version, doer)
		arrives(fmt.Sprintf("rollback of %d records", mistake), d, err, began)
		holds(t, u, last, "A", fmt.Sprintf("NOERROR 198.18.0.%d", (names/zones-1)%250))
		began = time.Now()
		d, err = c.Control.ReleasePin(t.Context(), doer)
		arrives("release", d, err, began)
		holds(t, u, last, "A", "NXDOMAIN")
		in.zone("z0.example.org", zoneOf(many(0, names/zones)))
		holds(t, u, last, "A", fmt.Sprintf("NOERROR 198.18.0.%d", (names/zones-1)%250))
	}
}
