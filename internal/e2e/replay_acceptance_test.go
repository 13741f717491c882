//go:build acceptance

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/zonecast/zonecast/store/zookeeper/zktest"
)

// TestReplayChurn replays a year of real changes of a real fleet's zones, in order.
func TestReplayChurn(t *testing.T) { replayChurn(t) }

// TestReplayChurnZooKeeper is TestReplayChurn through ZooKeeper: it ends in the digest
// of a start on an embedded etcd.
func TestReplayChurnZooKeeper(t *testing.T) {
	server, err := zktest.Start(t.TempDir(), "-Xmx768m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	replayChurn(t, "--store", "zookeeper://"+server.Address)
}

func replayChurn(t *testing.T, args ...string) {
	t.Helper()
	data := NeedData(t)
	fleet := filepath.Join(data, "fleet.jsonl")
	z, err := CopyZones(filepath.Join(data, "zones"), filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWorld(z.Dir, fleet)
	if err != nil {
		t.Fatal(err)
	}
	churn, err := ReadChurn(filepath.Join(data, "churn.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("before: %s", Machine())
	up := StartUp(t, UpOptions{Zones: z.Dir, Fleet: fleet, Args: args})
	t.Logf("%s (%v from start)", up.Ready, up.Took)
	before := up.Histograms(t)
	r := &Replay{Up: up, Zones: z, World: w, Sample: 40}
	r.Run(t, churn)
	t.Logf("%s\n%s\n%s", Machine(), r, up.Histograms(t).Since(before))

	// What the data set is known to hold. Every one of its states is a good zone, so
	// that nothing may be refused: a refusal is ours.
	for _, n := range []struct {
		what      string
		got, want int
	}{
		{"changes", r.Changes, 772},
		{"changes without a record in a zone file", r.Silent, 18},
		{"records left out (DYNA)", r.Skipped, 188},
		{"refused contents", r.Refused, 0},
		{"files that went", r.Gone, 4},
		{"answers from another zone's file", r.Asked[Foreign], 0},
	} {
		if n.got != n.want {
			t.Errorf("%d %s, expected %d", n.got, n.what, n.want)
		}
	}
	sameAsFresh(t, up, z.Dir, fleet, r.Digest)
}
