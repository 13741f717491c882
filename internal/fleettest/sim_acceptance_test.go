//go:build acceptance

package fleettest

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// setting is a number from the environment: make passes no flags on.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s is %q, expected a number", name, text)
	}
	return n
}

// TestMillionSteps plays worlds of 2,000 steps, one after another, each with the next seed. What
// is printed of one that broke a promise is enough to play it again alone: ZONECAST_SIM_SEED is
// its seed, ZONECAST_SIM_STEPS at most 2000.
func TestMillionSteps(t *testing.T) {
	const each = 2000
	seed, steps := setting(t, "ZONECAST_SIM_SEED", *simSeed), setting(t, "ZONECAST_SIM_STEPS", 1_000_000)
	began, last := time.Now(), seed+(steps+each-1)/each-1
	var done uint64
	for left := steps; left > 0; seed++ {
		n := min(left, each)
		left -= n
		s := scene{seed: seed, hosts: 5, steps: int(n)}
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			if broken, report := simulate(t, s); len(broken) > 0 {
				t.Error(report)
			}
		})
		done += n
	}
	took := time.Since(began)
	t.Logf("%d steps in %s: %.0f steps/s; the last seed was %d", done, took, float64(done)/took.Seconds(), last)
}

func TestWeekAloneThousand(t *testing.T) { weekAlone(t, int(setting(t, "ZONECAST_SIM_HOSTS", 1000))) }
