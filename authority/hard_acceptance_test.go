//go:build interop && acceptance

package authority_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/difftest/hardzone"
)

// TestMillionHardQuestions asks 1,000,000 questions over 25 worlds of hard zones. The
// seed is that of the environment variable ZONECAST_SEED, or drawn from the clock.
func TestMillionHardQuestions(t *testing.T) {
	const questions, worlds = 1_000_000, 25
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ZONECAST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ZONECAST_SEED=%d", seed)
	h, started := newHard(t), time.Now()
	for i := range uint64(worlds) {
		o := hardzone.Options{Seed: seed + i, Small: i%5 != 0}
		switch i % 5 {
		case 3:
			o.Only = hardzone.BIND
		case 4:
			o.Only = hardzone.NSD | hardzone.Knot
		}
		h.world(t, o, questions/worlds)
	}
	t.Logf("%d questions in %d worlds in %s", h.questions, worlds, time.Since(started).Round(time.Second))
	for name, a := range h.allowed {
		for _, rule := range a.Unused() {
			t.Logf("of the rules for %s, this one allows nothing with this seed: %s", name, rule)
		}
	}
}
