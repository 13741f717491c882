//go:build acceptance && linux

package e2e

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestFleetOnBadLines has 20 hosts behind shaped lines, delays of 5 to 80 ms, connections that
// break, stalls, and datagrams lost, doubled and out of order; five hosts are cut off for some
// seconds, a publisher is killed, a host starts again and one joins late, while a server is
// registered again and again. In the end all hosts answer the last version, and none has
// ever answered anything else than a version that was published. ZONECAST_HOSTS (20) and
// ZONECAST_CHANGES (50 and 2 times 20) change how many, ZONECAST_SEED the draws.
func TestFleetOnBadLines(t *testing.T) {
	seed := setting(t, "ZONECAST_SEED", rand.Uint64())
	changes := int(setting(t, "ZONECAST_CHANGES", 50))
	t.Logf("seed: ZONECAST_SEED=%d", seed)
	badLines{
		Hosts: int(setting(t, "ZONECAST_HOSTS", 20)), Quiet: changes, Trouble: max(4, changes*2/5), Pause: 300 * time.Millisecond,
		Life: 10 * time.Second, Ask: 50 * time.Millisecond, Seed: seed, Within: 10 * time.Minute, MostWait: 80 * time.Millisecond,
	}.run(t)
}
