//go:build interop

package hosttest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/announcer"
	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/internal/memstore"
)

// freshText is a zone for a dataset's freshness record, and the record.
func freshText(dataset string, version int) string {
	return fmt.Sprintf(`
		%[1]s.zonecast.internal. 300 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 60
		%[1]s.zonecast.internal. 300 IN NS ns.example.net.
		_fresh.%[1]s.zonecast.internal. 0 IN TXT "v=%[2]d t=%[3]d d=00"`, dataset, version, time.Now().UnixMilli())
}

// TestInteropAnnouncerOfDatasets: the announcer's checks of a real authority that carries two datasets. One is
// taken up that has no record of freshness, gets one, stands still, and is dropped.
func TestInteropAnnouncerOfDatasets(t *testing.T) {
	h := newDNSHost(t)
	edge := h.besides("edge")
	version := 0
	moves := func() {
		version++
		h.publish(freshText("internal", version))
	}
	moves()
	edge.publish(edgeText)
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	cfg := announcer.DefaultConfig()
	cfg.Host, cfg.Speaker, cfg.Loopback, cfg.LastPrepend = "dns1", announcer.SpeakerExaBGP, "", 0
	cfg.Authority, cfg.Journal = []netip.AddrPort{netip.MustParseAddrPort(h.config.Authority)}, h.config.Journal
	cfg.VIPs = []route.VIP{{Name: "dns", Address: netip.MustParseAddr("192.0.2.53"), Prefix: netip.MustParsePrefix("192.0.2.53/32")}}
	cfg.Check.StaleAfter = 2 * time.Second
	var log strings.Builder
	r := &router{}
	a, err := announcer.New(cfg, announcer.Deps{
		Store: st.Peer(), Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: prometheus.NewRegistry(),
		Speaker: func(func()) (announcer.Speaker, error) { return r, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := h.run("announcer", func(ctx context.Context) error {
		if err := a.Run(ctx); ctx.Err() == nil {
			return err
		}
		return nil
	})
	is := func(state, why string) {
		t.Helper()
		eventually(t, state+" because of "+why, func() bool {
			moves()
			got := a.Report()[0]
			return got.State == state && strings.Contains(got.Why, why) && (r.routes.Load() == 1) == got.Announced
		})
	}
	is("up", "")
	h.carries("internal", "edge")
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		moves()
		if got := a.Report()[0]; got.State != "up" {
			t.Fatalf("a dataset without a record of freshness: %+v", got)
		}
	}
	edge.publish(freshText("edge", 1))
	is("degraded", "of dataset edge: its freshness record stands still")
	edge.publish("-_fresh.edge.zonecast.internal. 0 IN TXT \"x\"")
	is("held", "of dataset edge: ")
	h.carries("internal")
	is("up", "")
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		moves()
	}
	stop()
	if n := strings.Count(log.String(), "is=held"); n != 1 {
		t.Errorf("it was held %d times, want once:\n%s", n, &log)
	}
}
