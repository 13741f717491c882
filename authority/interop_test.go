//go:build interop

package authority_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/internal/difftest"
	"github.com/zonecast/zonecast/record"
)

// TestAgainstNamed asks Debian's named and this server everything about the zones
// in testdata/interop, or about those in the directory ZONECAST_INTEROP_ZONES.
func TestAgainstNamed(t *testing.T) {
	dir, own := "testdata/interop/zones", true
	if d := os.Getenv("ZONECAST_INTEROP_ZONES"); d != "" {
		dir, own = d, false
	}
	zones, err := difftest.LoadZones(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/interop/allowed-differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	allowed, err := difftest.ReadAllowed(f, f.Name())
	if err != nil {
		t.Fatal(err)
	}
	named, err := difftest.StartNamed(t.Context(), dir, zones, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer named.Stop()

	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // what was compared until then is worth knowing
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-10*time.Second))
		defer cancel()
	}
	report, err := difftest.Compare(ctx, difftest.Options{
		Zones: zones, Ours: []netip.AddrPort{serve(t, zones)}, Peer: named, Allowed: allowed, Workers: 16, Most: 200,
	})
	t.Log(report)
	if err != nil {
		t.Fatal(err)
	}
	if report.Differences > 0 {
		t.Errorf("%d differences, expected none that the list does not allow", report.Differences)
	}
	if own && len(report.Unused) > 0 {
		t.Errorf("%d rules allow nothing: take them out of the list", len(report.Unused))
	}
	if report.Questions < 1000 {
		t.Errorf("only %d questions were asked", report.Questions)
	}
}

// serve answers zones on a loopback port until the test ends.
func serve(t *testing.T, zones []difftest.Zone) netip.AddrPort {
	var sets []record.Set
	for _, z := range zones {
		for _, s := range z.Sets {
			sets = append(sets, record.Set{RRset: s})
		}
	}
	im, err := imagetest.Build(filepath.Join(t.TempDir(), "image"), sets, image.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	view := data.New(im)
	s, err := wire.Listen(wire.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}},
		func() (wire.Handler, func()) {
			return zoneHandler{view, protocol.NewWorker(protocol.Config{})}, func() {}
		}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0]
}

// zoneHandler answers from one view.
type zoneHandler struct {
	view   *data.View
	worker *protocol.Worker
}

func (h zoneHandler) Answer(batch []wire.Message, t protocol.Transport) {
	h.worker.Answer(h.view, batch, t, time.Now())
}
