//go:build interop

package authority_test

import (
	"context"
	"net/netip"
	"os"
	"testing"

	"github.com/zonecast/zonecast/internal/difftest"
	"github.com/zonecast/zonecast/internal/difftest/hardzone"
	"github.com/zonecast/zonecast/internal/dnswire"
)

// TestInteropHardZones asks named, NSD and Knot and this server questions about
// generated zones. The seeds are fixed: what is found once stays found. With
// ZONECAST_REDUCE set, the first difference is shrunk to the records it needs.
func TestInteropHardZones(t *testing.T) {
	h := newHard(t)
	for seed := range uint64(2) {
		h.world(t, hardzone.Options{Seed: seed, Small: true}, 6000)
	}
	h.world(t, hardzone.Options{Seed: 20, Small: true, Only: hardzone.BIND}, 4000)
	h.world(t, hardzone.Options{Seed: 30, Small: true, Only: hardzone.NSD | hardzone.Knot}, 4000)
}

// hard adds up what was compared over worlds of zones.
type hard struct {
	allowed   map[string]*difftest.Allowed
	questions int // to each server
}

func newHard(t *testing.T) *hard {
	h := &hard{allowed: map[string]*difftest.Allowed{}}
	for _, p := range []string{"named", "nsd", "knotd"} {
		f, err := os.Open("testdata/interop/hard-" + p + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if h.allowed[p], err = difftest.ReadAllowed(f, f.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// oursHard gives the address of this project's server with the zones.
func oursHard(t *testing.T, zones []difftest.Zone) netip.AddrPort { return serve(t, zones) }

// world makes zones, starts all servers that load them and asks that many questions.
func (h *hard) world(t *testing.T, o hardzone.Options, questions int) []difftest.Report {
	t.Helper()
	w := hardzone.New(o)
	zones := zonesOf(w)
	dir := t.TempDir()
	if err := difftest.WriteZones(dir, zones); err != nil {
		t.Fatal(err)
	}
	var peers []*difftest.Server
	for _, p := range peersOf(o.Only) {
		s, err := difftest.Start(t.Context(), p, dir, zones, 0, t.TempDir())
		if err != nil {
			t.Fatalf("seed %d: %v", o.Seed, err)
		}
		defer s.Stop()
		peers = append(peers, s)
	}
	reports, err := difftest.CompareMany(t.Context(), difftest.ManyOptions{
		Zones: zones, Ours: oursHard(t, zones), Peers: peers, Allowed: h.allowed, Most: 50,
		Ask: difftest.First(questions, difftest.Draw(zones, w.Elsewhere, o.Seed)),
	})
	if err != nil {
		t.Fatalf("seed %d: %v", o.Seed, err)
	}
	for _, r := range reports {
		if r.Differences > 0 {
			t.Errorf("%+v: %d of %d questions get another answer from %s", o, r.Differences, r.Questions, r.Peer)
		}
		for _, d := range r.First {
			t.Log(clip(d.String()))
		}
		if len(r.First) > 0 && os.Getenv("ZONECAST_REDUCE") != "" {
			h.reduce(t, zones, r)
		}
	}
	if got := reports[0].Questions; got < questions {
		t.Errorf("seed %d: %d questions were asked, expected at least %d", o.Seed, got, questions)
	}
	h.questions += reports[0].Questions
	return reports
}

// reduce logs the fewest records with which the first difference is still there.
func (h *hard) reduce(t *testing.T, zones []difftest.Zone, r difftest.Report) {
	for _, p := range peersOf(0) {
		if p.Name != r.Peer {
			continue
		}
		left, err := difftest.Reduce(t.Context(), difftest.ReduceOptions{Zones: zones, Differs: func(ctx context.Context, zs []difftest.Zone) (ok bool, err error) {
			t.Run("try", func(t *testing.T) { // ends what serve began
				serve := func(zs []difftest.Zone) (netip.AddrPort, func(), error) { return oursHard(t, zs), func() {}, nil }
				ok, err = difftest.DiffersFrom(p, r.First[0].Question, t.TempDir(), h.allowed, serve)(ctx, zs)
			})
			return ok, err
		}})
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s, with these records alone:", clip(r.First[0].String()))
		for _, z := range left {
			for _, s := range z.Sets {
				t.Log(clip(dnswire.FormatRRset(s)))
			}
		}
	}
}

func peersOf(only hardzone.Servers) (ps []difftest.Program) {
	for s, p := range map[hardzone.Servers]difftest.Program{hardzone.BIND: difftest.Named(), hardzone.NSD: difftest.NSD(), hardzone.Knot: difftest.Knot()} {
		if only == 0 || only&s != 0 {
			ps = append(ps, p)
		}
	}
	return ps
}

func zonesOf(w hardzone.World) (zones []difftest.Zone) {
	for _, z := range w.Zones {
		zones = append(zones, difftest.Zone{Apex: z.Apex, Sets: z.Sets})
	}
	return zones
}

func clip(s string) string { return s[:min(len(s), 1000)] }
