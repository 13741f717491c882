//go:build acceptance

package fleettest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
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

// some gives every other world but some kinds of faults, by its seed: more of each of them meet, which in
// the mix of all hide each other ("Swarm Testing", Groce and others, ISSTA 2012).
func (s scene) some() scene {
	if s.seed%2 == 0 {
		return s
	}
	rng := rand.New(rand.NewPCG(s.seed, 3))
	s.hosts, s.quiet, s.only = 1+rng.IntN(s.hosts), []int{100, 200, 400}[rng.IntN(3)], map[string]int{}
	usual := []string{"claim", "register", "wait"}
	faults := 0
	for _, step := range steps() {
		if slices.Contains(usual, step.kind) {
			s.only[step.kind] = step.weight
			continue
		}
		switch step.kind {
		case "heist", "void", "late", "replay": // of no weight where all are mixed, or of little
			step.weight = 15
		}
		if rng.IntN(2) == 0 {
			s.only[step.kind] = step.weight
			faults += step.weight
		}
	}
	for kind, weight := range s.only {
		if !slices.Contains(usual, kind) { // of what is left as much happens as of all
			s.only[kind] = max(1, weight*500/faults)
		}
	}
	return s
}

// TestMillionSteps plays worlds of 2,000 steps, one after another, each with the next seed: every other
// one with all kinds of faults. What is printed of one that broke a promise is enough to play it again
// alone: ZONECAST_SIM_SEED is its seed, ZONECAST_SIM_STEPS at most 2000.
func TestMillionSteps(t *testing.T) {
	const each = 2000
	seed, steps := setting(t, "ZONECAST_SIM_SEED", *simSeed), setting(t, "ZONECAST_SIM_STEPS", 1_000_000)
	began, last := time.Now(), seed+(steps+each-1)/each-1
	var done uint64
	for left := steps; left > 0; seed++ {
		n := min(left, each)
		left -= n
		s := scene{seed: seed, hosts: 5, steps: int(n)}.some()
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			if broken, report := simulate(t, s); len(broken) > 0 {
				t.Errorf("%s\n%d hosts, steps %v", report, s.hosts, s.only)
			}
		})
		done += n
	}
	took := time.Since(began)
	t.Logf("%d steps in %s: %.0f steps/s; the last seed was %d", done, took, float64(done)/took.Seconds(), last)
}

func TestWeekAloneThousand(t *testing.T) { weekAlone(t, int(setting(t, "ZONECAST_SIM_HOSTS", 1000))) }
