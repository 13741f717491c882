//go:build interop

package hosttest

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/announcer"
	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/internal/memstore"
)

// router takes the routes of one announcer.
type router struct{ routes atomic.Int32 }

func (r *router) Connect(context.Context) error { return nil }

func (r *router) Announce(_ context.Context, routes []route.Route) error {
	r.routes.Store(int32(len(routes)))
	return nil
}

func (r *router) Withdraw(context.Context, []netip.Prefix) error {
	r.routes.Store(0)
	return nil
}

func (r *router) Peers() []route.PeerState { return nil }

func (r *router) Stop(bool) error { return nil }

// TestInteropAnnouncerAsksUnbound: the announcer's checks of a real Unbound and a real authority: both
// answer, Unbound hangs and comes back, the data stand still and move on, and Unbound ends: nobody
// listens, and for the one host of a VIP the floor decides.
func TestInteropAnnouncerAsksUnbound(t *testing.T) {
	h := newDNSHost(t)
	fresh := func(version int) {
		t.Helper()
		h.publish("_fresh.internal.zonecast.internal. 0 IN TXT \"v=" + strconv.Itoa(version) + " t=" + strconv.FormatInt(time.Now().UnixMilli(), 10) + " d=00\"")
	}
	h.publish(zoneText + `
		zonecast.internal. 300 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 60
		zonecast.internal. 300 IN NS ns.example.net.`)
	fresh(1)
	_, stop := h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")

	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	cfg := announcer.DefaultConfig()
	cfg.Host, cfg.Speaker, cfg.Loopback, cfg.LastPrepend = "dns1", announcer.SpeakerExaBGP, "", 0
	cfg.Authority = []netip.AddrPort{netip.MustParseAddrPort(h.config.Authority)}
	cfg.Recursor = []netip.AddrPort{netip.MustParseAddrPort(h.config.Listen[0])}
	cfg.VIPs = []route.VIP{{Name: "dns", Address: netip.MustParseAddr("192.0.2.53"), Prefix: netip.MustParsePrefix("192.0.2.53/32")}}
	cfg.Check.StaleAfter = 2 * time.Second
	r := &router{}
	a, err := announcer.New(cfg, announcer.Deps{
		Store: st.Peer(), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Speaker: func(func()) (announcer.Speaker, error) { return r, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.run("announcer", func(ctx context.Context) error {
		if err := a.Run(ctx); ctx.Err() == nil {
			return err
		}
		return nil
	})
	is := func(state, why string) {
		t.Helper()
		eventually(t, state+" because of "+why, func() bool {
			got := a.Report()[0]
			return got.State == state && strings.Contains(got.Why, why) && (r.routes.Load() == 1) == got.Announced
		})
	}
	version := 1
	moves := func() { // until the test ends
		version++
		fresh(version)
	}
	eventually(t, "up", func() bool { moves(); return a.Report()[0].State == "up" })
	is("degraded", "stands still")
	eventually(t, "up again", func() bool { moves(); return a.Report()[0].State == "up" })

	b, err := os.ReadFile(filepath.Join(h.config.Dir, "unbound.pid"))
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	is("held", "recursor")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "up after it hung", func() bool { moves(); return a.Report()[0].State == "up" })
	stop()
	is("held", "nobody listens")
}
