//go:build acceptance

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/zonecast/zonecast/internal/difftest"
)

// TestDifferentialWikimedia is TestDifferentialCut with all zones and all servers of
// a real fleet, and with changes that really were made.
func TestDifferentialWikimedia(t *testing.T) {
	data := NeedData(t)
	up, zones, fleet := startOn(t, filepath.Join(data, "zones"), filepath.Join(data, "fleet.jsonl"))
	a := newAgainst(t, up, zones.Dir, fleet)
	a.identical(t, 100_000)
	a.compare(t, difftest.Named(), difftest.Questions(a.all.zones), 4, true)
	churn, err := ReadChurn(filepath.Join(data, "churn.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	a.change(t, zones, churn[:50])
}
