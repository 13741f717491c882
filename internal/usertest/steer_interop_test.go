//go:build interop && linux

package usertest

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/e2e"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rtt"
	"github.com/zonecast/zonecast/store/etcd"
)

// cycle is that of the mapper in this test; enough is how many of the newest measurements count.
const (
	cycle  = 2 * time.Second
	enough = 8
)

// steer makes what is to be steered, www.example.net and the mapped name of the beacon: records by
// location, PoPs, and the mapper.
func (l *lab) steer() {
	l.t.Helper()
	st, err := etcd.Open(l.t.Context(), etcd.Config{Endpoints: []string{"unix://" + l.path("up", "store", "socket")}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = st.Close() })
	var claims []record.Claim
	for _, text := range []string{"www.example.net", "*.map.beacon.example.net"} {
		name, err := record.ParseName(text)
		if err != nil {
			l.t.Fatal(err)
		}
		for i, pop := range pops {
			r := record.NewRRset(name, record.TypeA, 1, record.Rdata(popAddr(i).AsSlice()))
			r.Location = record.Location(pop)
			claims = append(claims, record.Claim{RRset: r, Source: "map/records", Place: "test"})
		}
	}
	if _, _, err := claimtree.Replace(l.t.Context(), st, "map/records", claims); err != nil {
		l.t.Fatal(err)
	}
	for _, pop := range pops {
		l.on(l.core, e2e.Build(l.t), "pop", "add", pop, "--latitude", "0", "--longitude", "0", "--capacity", "1000000", "--store", "embedded", "--dir", l.path("up"))
	}
	l.start(l.core, "mapper", "run", "mapper", "--store", "embedded", "--dir", l.path("up"), "--log-format", "text", "--mapper-rtt", l.path("rtt"), "--mapper-every", cycle.String(),
		"--mapper-uses", "www.example.net,*.map.beacon.example.net", "--mapper-measurements", "3", "--mapper-clients", "2", "--mapper-enough", fmt.Sprint(enough), "--mapper-max-churn", "1", "--mapper-max-age", "2m", "--mapper-stale", "1m")
}

// converged waits until the users of each group are sent to the nearest PoP.
func (l *lab) converged(what string, within time.Duration) time.Duration {
	l.t.Helper()
	began := time.Now()
	l.eventually(what, within, func() error {
		for _, g := range l.groups {
			want, _ := g.nearest()
			got, err := g.steered()
			if err == nil && got != want {
				err = fmt.Errorf("users of group %d go to %s, expected %s", g.number, got, want)
			}
			if err != nil {
				return fmt.Errorf("%w; %s", err, l.outcomes())
			}
		}
		return nil
	})
	return time.Since(began)
}

// TestInteropSteering: users behind a resolver with client subnet, one without and one that is a farm
// measure; the map comes to send each to the PoP that the lines make nearest; a PoP slows down for some,
// and they move.
func TestInteropSteering(t *testing.T) {
	if _, err := exec.LookPath("/usr/sbin/unbound"); err != nil {
		t.Skip("unbound is not there: scripts/install-test-deps.sh installs it")
	}
	l := newLab(t, "--beacon-write", "500ms", "--beacon-grace", "1500ms", "--beacon-slot", cycle.String(), "--beacon-keep", "2m")
	l.seat()
	const ms = time.Millisecond
	far := [][]time.Duration{{10 * ms, 120 * ms, 200 * ms}, {120 * ms, 10 * ms, 200 * ms}, {200 * ms, 120 * ms, 10 * ms}, {200 * ms, 10 * ms, 120 * ms}}
	for i, g := range l.groups {
		g.move(far[i]...)
	}
	l.steer()
	began := time.Now()
	l.crowd(500 * ms)
	took := l.converged("all go to their nearest PoP", 2*time.Minute)
	t.Logf("from no map to the true one in %v, cycles of %v", took.Round(100*ms), cycle)
	table, err := l.times()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range l.groups {
		for _, k := range g.seen {
			if err := holds(table, k, g, 1); err != nil {
				t.Error(err)
			}
		}
	}
	// esams slows down for those that it was nearest to, and is fast again.
	for _, delays := range [][]time.Duration{{250 * ms, 120 * ms, 200 * ms}, far[0]} {
		l.groups[0].move(delays...)
		measured := l.measured(l.groups[0])
		took := l.converged("users move", 2*time.Minute)
		t.Logf("ways of %v: the newest measurements say so after %v, users moved %v later, %.1f cycles", delays, measured.Round(100*ms), took.Round(100*ms), took.Seconds()/cycle.Seconds())
		// Two cycles, and what presenter, publisher, agent, resolver and a TTL of 1 s take on a busy machine.
		if most := 2*cycle + 5*time.Second; took > most {
			t.Errorf("users moved after %v, expected two cycles, %v", took, most)
		}
	}
	t.Logf("%d s in all; %s", int(time.Since(began).Seconds()), l.outcomes())
}

// measured waits until what the mapper reads says which PoP is the nearest of a group.
func (l *lab) measured(g *group) time.Duration {
	l.t.Helper()
	began := time.Now()
	want, _ := g.nearest()
	client, _ := rtt.OfAddr(rtt.Client, g.user(0))
	l.eventually("it is measured", 2*time.Minute, func() error {
		tables, err := rtt.ReadDir(l.path("rtt"), rtt.Limit{}, time.Time{})
		if err != nil {
			return err
		}
		table, err := rtt.Recent(tables, enough, rtt.Limit{})
		if err != nil {
			return err
		}
		row, _ := table.Get(client)
		best, least := "", time.Hour
		for _, c := range row.Cells {
			if d := c.Times.Quantile(0.5); d < least {
				best, least = c.PoP, d
			}
		}
		if best != want {
			return fmt.Errorf("%s is the nearest of %v, expected %s", best, client.Prefix, want)
		}
		return nil
	})
	return time.Since(began)
}
