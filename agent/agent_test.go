package agent

import (
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
)

// TestFullDiskMakesRoom: what is kept for inspection and for others goes when, and only when, the
// journal finds the disk full.
func TestFullDiskMakesRoom(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry(), "internal", func() float64 { return 0 }, func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	relieved := 0
	log := slog.New(slog.DiscardHandler)
	a := &Agent{cfg: DefaultConfig(), deps: Deps{Log: log, Relieve: func() { relieved++ }}, metrics: m, evidence: refused.New(faultfs.New(), "/r", log), changed: make(chan struct{}, 1)}
	for err, want := range map[error]int{syscall.EIO: 0, syscall.ENOSPC: 1, syscall.EDQUOT: 1} {
		relieved = 0
		if got := a.done(time.Now(), nil, nil, err); !errors.Is(got, err) || relieved != want {
			t.Errorf("%v: error is %v, relieved %d times, expected %d", err, got, relieved, want)
		}
	}
}
