package update

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/store"
)

// A stop does not wait until all files of a directory have been read.
func TestScanStops(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	cfg := DefaultConfig()
	cfg.Dir, cfg.Settle = t.TempDir(), 0
	for _, name := range []string{"example.com", "example.net"} {
		zone := "@ 300 SOA ns1 admin 1 7200 900 604800 60\n@ 300 NS ns1\n"
		if err := os.WriteFile(filepath.Join(cfg.Dir, name), []byte(zone), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	im, err := New(cfg, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d, err := im.newDirectory(ctx, store.Cond{Path: "/elect"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := d.scan(ctx, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("scan: error is %v, expected %v", err, context.Canceled)
	}
	for name, f := range d.files {
		if f.seen != nil {
			t.Errorf("%s was read after the stop", name)
		}
	}
	if _, err := d.scan(t.Context(), time.Now()); err != nil {
		t.Errorf("scan: %v", err)
	}
	for _, name := range []string{"example.com", "example.net"} {
		if f := d.files[name]; f == nil || f.seen == nil {
			t.Errorf("%s was not read by a scan that goes on", name)
		}
	}
}
