//go:build acceptance && linux

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestSnapshotToFleet carries a snapshot of about 1 GiB, 45 million records, to 20 hosts at once, from each other
// and by HTTP from the publisher alone; each is a process in a namespace of its own, with a line of
// 100 Mbit/s. ZONECAST_WAYS=swarm or http runs one way; ZONECAST_SERVERS, ZONECAST_HOSTS,
// ZONECAST_SITES and ZONECAST_MBIT change the rest. docs/benchmarks.md has the table.
func TestSnapshotToFleet(t *testing.T) {
	c := toFleet{
		Servers: int(setting(t, "ZONECAST_SERVERS", 5_600_000)), Hosts: int(setting(t, "ZONECAST_HOSTS", 20)),
		Sites: int(setting(t, "ZONECAST_SITES", 4)), Mbit: int(setting(t, "ZONECAST_MBIT", 100)),
		Ways: []string{"swarm", "http"},
	}
	c.Within = 20*time.Minute + time.Duration(4000/c.Mbit)*time.Minute // by HTTP 1 GiB to 20 hosts takes 2,900 minutes at 1 Mbit/s
	if ways := os.Getenv("ZONECAST_WAYS"); ways != "" {
		c.Ways = strings.Split(ways, ",")
	}
	_, f := c.run(t)
	swarm, ok := f["swarm"]
	if !ok {
		return
	}
	if swarm.egress > 2.5 {
		t.Errorf("the publisher sent %.2f times the file, the aim is less than 2.5", swarm.egress)
	}
	if http, ok := f["http"]; ok {
		ratio := http.last.Seconds() / swarm.last.Seconds()
		t.Logf("HTTP from one source took %.1f times as long", ratio)
		if ratio < 4 {
			t.Errorf("HTTP from one source took %.1f times as long, the aim is 4", ratio)
		}
	}
}
