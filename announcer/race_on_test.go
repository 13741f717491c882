//go:build race

package announcer

import "testing"

// withoutRace skips fleets of simulated hours under the race detector, whose own bookkeeping fails
// in them now and then (ThreadSanitizer: CHECK failed: tsan_rtl.cpp; Go 1.26). `make test` runs them
// without it.
func withoutRace(t *testing.T) {
	t.Skip("run without the race detector: go test ./announcer")
}
