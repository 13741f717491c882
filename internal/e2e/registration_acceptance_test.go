//go:build acceptance

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Aims of the registration runs, on a machine left alone.
const (
	aimOne   = 100 * time.Millisecond // 99 of 100 registrations, from call to answered by all hosts
	aimFleet = 10 * time.Second       // the whole fleet at once
)

// TestRegistrationLatency registers servers one after another on the whole data set:
// 1,000 by call and 100 by the command.
func TestRegistrationLatency(t *testing.T) {
	data := NeedData(t)
	up := StartUp(t, UpOptions{Zones: filepath.Join(data, "zones"), Fleet: filepath.Join(data, "fleet.jsonl")})
	t.Logf("%s (%v from start); %s", up.Ready, up.Took, Machine())
	time.Sleep(3 * time.Second) // what follows a start: snapshots, folding

	before := up.Histograms(t)
	answered, asked := registerCalls(t, up, 0, 1000)
	t.Logf("registered by call, one after another; %s\nuntil all hosts answer: %s\nuntil asked by DNS, too: %s\n%s",
		Machine(), answered, asked, up.Histograms(t).Since(before))
	took, said := registerCommands(t, up, 1000, 100)
	t.Logf("registered by command; %s\nlife of the process: %s\nas it says: %s", Machine(), took, said)
	if p99 := answered.At(99); p99 >= aimOne {
		t.Errorf("p99 of registrations by call is %v, the aim is under %v", p99, aimOne)
	}
	if p99 := said.At(99); p99 >= aimOne {
		t.Errorf("p99 of registrations by command is %v, the aim is under %v", p99, aimOne)
	}
}

// TestFleetAtOnce registers the whole fleet at once on the zones alone: by call, and by
// a fleet file that appears.
func TestFleetAtOnce(t *testing.T) {
	data := NeedData(t)
	zones, file := filepath.Join(data, "zones"), filepath.Join(data, "fleet.jsonl")
	t.Run("call", func(t *testing.T) {
		up := StartUp(t, UpOptions{Zones: zones})
		w, err := NewWorld(zones, file)
		if err != nil {
			t.Fatal(err)
		}
		servers := readFleet(t, file)
		t.Logf("%s (%v from start); %s", up.Ready, up.Took, Machine())
		began := time.Now()
		took := registerAtOnce(t, up, servers)
		w.allAnswered(t, up, began)
		within(t, took)
	})
	t.Run("file", func(t *testing.T) {
		following := filepath.Join(t.TempDir(), "fleet.jsonl")
		if err := os.WriteFile(following, []byte(`{"servers": 0}`+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		up := StartUp(t, UpOptions{Zones: zones, Fleet: following})
		t.Logf("%s (%v from start); %s", up.Ready, up.Took, Machine())
		within(t, appear(t, up, zones, following, file))
	})
}

func within(t *testing.T, took time.Duration) {
	t.Helper()
	t.Logf("answered by all hosts after %v; %s", took, Machine())
	if took >= aimFleet {
		t.Errorf("the fleet was answered after %v, the aim is under %v", took, aimFleet)
	}
}
