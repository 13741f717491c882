//go:build acceptance && interop

package e2e

import (
	"path/filepath"
	"testing"
	"time"
)

// TestThroughUnbound: 1,000 changes of addresses and 1,000 created names on the whole data
// set, each with its old answer in Unbound's cache for a day, are seen through Unbound; 99
// of 100 within aimThrough.
func TestThroughUnbound(t *testing.T) {
	const aimThrough = time.Second
	data := NeedData(t)
	changed, created := throughUnbound(t, filepath.Join(data, "zones"), filepath.Join(data, "fleet.jsonl"), 1000)
	t.Logf("until seen through Unbound; %s\nchanged: %s\ncreated: %s", Machine(), changed, created)
	for what, f := range map[string]Figures{"changes": changed, "created names": created} {
		if p99 := f.At(99); p99 >= aimThrough {
			t.Errorf("p99 of %s is %v, the aim is under %v", what, p99, aimThrough)
		}
	}
}
