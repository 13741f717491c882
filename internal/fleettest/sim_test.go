package fleettest

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

var simSeed = flag.Uint64("sim.seed", 1, "seed of the first simulated world")

// simulate plays a scene, and gives what was broken.
func simulate(t *testing.T, s scene) (broken promise, report string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s)
		w.play()
		w.end()
		broken = w.p.first
		if broken != "" {
			report = w.report()
		}
		t.Logf("seed %d: %d steps, %d versions, %d states served, %s of simulated time", s.seed, w.n-1, w.p.head.Version, w.p.checks, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)))
	})
	return broken, report
}

// TestSimulatedFleet plays what happens to a fleet, in all its kinds at once.
func TestSimulatedFleet(t *testing.T) {
	for i := range uint64(1) {
		s := scene{seed: *simSeed + i, hosts: 24, steps: 240}
		t.Run(fmt.Sprint("seed", s.seed), func(t *testing.T) {
			if broken, report := simulate(t, s); broken != "" {
				t.Fatal(report)
			}
		})
	}
}
