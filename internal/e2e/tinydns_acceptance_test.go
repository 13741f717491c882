//go:build acceptance && interop

package e2e

import (
	"path/filepath"
	"testing"
)

// TestFleetThroughTinydns answers the whole data set by the authority and by the real
// tinydns, and compares every RRset: what differs must stand in unsaid.txt.
func TestFleetThroughTinydns(t *testing.T) {
	data := NeedData(t)
	up := StartUp(t, UpOptions{Zones: filepath.Join(data, "zones"), Fleet: filepath.Join(data, "fleet.jsonl"), Hosts: 1})
	startTinydns(t, up, "127.53.1.2").compare(t, 10)
}
