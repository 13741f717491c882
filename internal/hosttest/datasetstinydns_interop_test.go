//go:build interop

package hosttest

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/tinydns"
)

// TestInteropTinydnsOfDatasets: real tinydns answers the names of every dataset that its host carries, says
// so of each, and not any more when one is dropped.
func TestInteropTinydnsOfDatasets(t *testing.T) {
	if _, err := daemon.Find("tinydns"); err != nil {
		t.Skip("tinydns is not installed: apt-get install tinydns")
	}
	if os.Getuid() != 0 {
		t.Skip("tinydns takes port 53 and changes its root, which needs root")
	}
	h := newJournals(t)
	h.publish(zoneText)
	edge := h.besides("edge")
	edge.publish(edgeText + `
		www.example.net. 300 IN A 192.0.2.99
		example.net. 300 IN NS ns.example.net.
		example.net. 300 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400`)
	cfg := tinydns.DefaultConfig()
	cfg.Address, cfg.Dir, cfg.Every = "127.53.6.1", filepath.Join(h.dir, "tinydns"), 10*time.Millisecond
	cfg.Journal, cfg.StatusDir, cfg.Keys = h.config.Journal, h.config.StatusDir, h.config.Keys
	s, err := tinydns.New(cfg, tinydns.Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	h.config.Listen = []string{cfg.Address + ":53"}
	stop := h.run("tinydns", s.Run)
	serves := func(dataset string, version uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s is answered at version %d", dataset, version), func() bool {
			said, _ := serving.Read(datasets.Beside(h.config.StatusDir, "internal", dataset)) // 0 when there is none
			return said.Version == version
		})
	}
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	h.carries("internal", "edge")
	h.see("www.edge.example", "A", "NOERROR 192.0.2.10")
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	serves("internal", 1)
	serves("edge", 1)
	if n := s.Status().Unsaid[tinydns.Beside]; n != 3 {
		t.Errorf("%d RRsets are another dataset's to answer, want 3", n)
	}
	edge.publish("www.edge.example. 86400 IN A 192.0.2.11")
	h.see("www.edge.example", "A", "NOERROR 192.0.2.11")
	serves("edge", 2)
	h.carries("edge")
	h.see("www.example.net", "A", "NOERROR 192.0.2.99") // which edge has, too
	serves("internal", 0)
	serves("edge", 2)
	if all := strings.Join(s.Troubles(), ""); all != "" {
		t.Errorf("troubles: %s", all)
	}
	stop()
	serves("edge", 0)
}
