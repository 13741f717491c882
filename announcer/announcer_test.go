package announcer

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/zonecast/zonecast/announcer/check"
	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// routers is a Speaker that keeps what routers would have.
type routers struct {
	mu        sync.Mutex // guards below
	routes    map[netip.Prefix]route.Route
	withdrawn int
	stopped   bool
	fails     error // what Announce says
}

func (r *routers) Connect(context.Context) error { return nil }

func (r *routers) Announce(_ context.Context, routes []route.Route) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range routes {
		if r.fails == nil {
			r.routes[x.Prefix] = x
		}
	}
	return r.fails
}

func (r *routers) Withdraw(_ context.Context, prefixes []netip.Prefix) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range prefixes {
		delete(r.routes, p)
	}
	r.withdrawn++
	return nil
}

func (r *routers) Peers() []route.PeerState {
	return []route.PeerState{{Peer: "198.51.100.1@65000", State: "established", Established: true}}
}

func (r *routers) Stop(bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped, r.routes = true, map[netip.Prefix]route.Route{}
	return nil
}

func (r *routers) has() (n, withdrawn int, one route.Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.routes {
		one = x
	}
	return len(r.routes), r.withdrawn, one
}

// daemons are the daemons of a host as their checks find them.
type daemons struct {
	mu     sync.Mutex // guards below
	health state.Health
	why    string
}

func (d *daemons) set(h state.Health, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health, d.why = h, why
}

// Run implements checker.
func (d *daemons) Run(ctx context.Context, changed func()) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			changed()
		}
	}
}

// Verdict implements checker.
func (d *daemons) Verdict() (check.Verdict, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return check.Verdict{Target: "authority", Health: d.health, Why: d.why}, d.health != state.Unknown
}

// machine is one host of a simulated fleet.
type machine struct {
	*Announcer
	*routers
	*daemons
	store *memstore.Store
	cfg   Config
	log   *strings.Builder
	end   func() error
}

func config(host string) Config {
	cfg := DefaultConfig()
	cfg.Host, cfg.BGP.AS, cfg.BGP.Local = host, 65101, netip.MustParseAddr("198.51.100.2")
	cfg.BGP.Peers = []route.Peer{{Addr: netip.MustParseAddrPort("198.51.100.1:179"), AS: 65000}}
	cfg.VIPs = []route.VIP{{Name: "dns", Address: netip.MustParseAddr("192.0.2.53"), Prefix: netip.MustParsePrefix("192.0.2.53/32")}}
	return cfg
}

// boot starts a host whose daemons are as h says.
func boot(t *testing.T, st *memstore.Store, cfg Config, h state.Health) *machine {
	t.Helper()
	return bootWith(t, st, cfg, h, func(*Announcer) {})
}

// bootWith is boot of an announcer that is changed before it runs.
func bootWith(t *testing.T, st *memstore.Store, cfg Config, h state.Health, change func(*Announcer)) *machine {
	t.Helper()
	m := &machine{routers: &routers{routes: map[netip.Prefix]route.Route{}}, daemons: &daemons{health: h}, store: st.Peer(), cfg: cfg, log: &strings.Builder{}}
	a, err := New(cfg, Deps{
		Store: m.store, Log: slog.New(slog.NewTextHandler(m.log, nil)), Metrics: prometheus.NewRegistry(),
		Speaker: func(func()) (Speaker, error) { return m.routers, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	a.daemons = []*daemon{{checker: m.daemons, target: "authority", counts: true}}
	change(a)
	m.Announcer = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	m.end = func() error {
		cancel()
		err := <-done
		_ = m.store.Close()
		return err
	}
	return m
}

// is tells whether the routers have the VIP, and as what.
func (m *machine) is(t *testing.T, want state.State) {
	t.Helper()
	n, _, r := m.has()
	got := m.Report()[0]
	if got.State != want.String() || (n == 1) != want.Announced() {
		t.Errorf("%s is %s (%s), and routers have %d routes; want %v", m.cfg.Host, got.State, got.Why, n, want)
	}
	if med := map[state.State]uint32{state.Up: 100, state.Degraded: 200, state.Draining: 1000, state.Held: 1000}[want]; r.MED != med {
		t.Errorf("%s is %v with MED %d, want %d", m.cfg.Host, want, r.MED, med)
	}
}

func fleet(t *testing.T, st *memstore.Store, n int) []*machine {
	t.Helper()
	var all []*machine
	for i := range n {
		all = append(all, boot(t, st, config(fmt.Sprintf("d%d", i)), state.Good))
	}
	time.Sleep(5 * time.Second)
	for _, m := range all {
		m.is(t, state.Up)
	}
	return all
}

func halt(t *testing.T, all []*machine) {
	t.Helper()
	for _, m := range all {
		if err := m.end(); err != context.Canceled {
			t.Errorf("Run of %s: %v", m.cfg.Host, err)
		}
		if !m.stopped {
			t.Errorf("%s goes on speaking", m.cfg.Host)
		}
	}
}

// TestOctober2021: every store node and the control plane are away for hours. Data goes stale
// everywhere: not one route is withdrawn. One host's checks fail meanwhile: it is held. One whose
// daemon is dead goes. When the store is back, the one that fails gets its lease.
func TestOctober2021(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		all := fleet(t, st, 6)
		st.SetAvailable(false)
		time.Sleep(10 * time.Second)
		for _, m := range all {
			m.set(state.Stale, "its freshness record stands still at version 7")
		}
		time.Sleep(time.Hour)
		for _, m := range all {
			m.is(t, state.Degraded)
			if _, withdrawn, _ := m.has(); withdrawn != 0 {
				t.Errorf("%s took its route back", m.cfg.Host)
			}
			if why := m.Report()[0].Why; !strings.Contains(why, "stands still at version 7") {
				t.Errorf("%s says %s", m.cfg.Host, why)
			}
		}
		all[0].set(state.Bad, "it answers SERVFAIL")
		all[1].set(state.Dead, "nobody listens")
		time.Sleep(10 * time.Minute)
		all[0].is(t, state.Held)
		if why := all[0].Report()[0].Why; !strings.Contains(why, "without it nothing is withdrawn") {
			t.Errorf("the one that is held says %s", why)
		}
		all[1].is(t, state.Down)
		st.SetAvailable(true)
		for _, m := range all[2:] {
			m.set(state.Good, "")
		}
		time.Sleep(time.Minute)
		all[0].is(t, state.Down)
		for _, m := range all[2:] {
			m.is(t, state.Up)
		}
		if got := testutil.ToFloat64(all[0].metrics.leases.WithLabelValues("dns", "granted")); got != 1 {
			t.Errorf("%v leases granted, want 1", got)
		}
		if got := testutil.ToFloat64(all[0].metrics.leases.WithLabelValues("dns", "unreachable")); got == 0 {
			t.Error("no lease was asked for in vain")
		}
		halt(t, all)
		st.Close()
	})
}

// TestBrokenEverywhere: a check that is wrong fails everywhere in the same moment: as many hosts as
// the floor wants stay. Announcers that are restarted change nothing of it. When it is mended, all
// are back, and no lease is left.
func TestBrokenEverywhere(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		dir := t.TempDir()
		var all []*machine
		for i := range 7 {
			cfg := config(fmt.Sprintf("d%d", i))
			cfg.State = filepath.Join(dir, cfg.Host)
			all = append(all, boot(t, st, cfg, state.Good))
		}
		time.Sleep(5 * time.Second)
		for _, m := range all {
			m.set(state.Bad, "it answers without the record")
		}
		count := func(want state.State) (n int) {
			for _, m := range all {
				if m.Report()[0].State == want.String() {
					m.is(t, want)
					n++
				}
			}
			return n
		}
		time.Sleep(10 * time.Minute)
		if held, down := count(state.Held), count(state.Down); held != 4 || down != 3 {
			t.Errorf("%d are held and %d are down, want 4 (half of 7) and 3", held, down)
		}
		// The release that broke the check restarts everything, and the store is away.
		st.SetAvailable(false)
		for i, m := range all {
			was := m.Report()[0].State
			if err := m.end(); err != context.Canceled {
				t.Error(err)
			}
			all[i] = boot(t, st, m.cfg, state.Unknown)
			time.Sleep(time.Second)
			if now := all[i].Report()[0].State; now != was {
				t.Errorf("%s was %s, and is %s after a restart, before a verdict", m.cfg.Host, was, now)
			}
			all[i].set(state.Bad, "it answers without the record")
		}
		time.Sleep(10 * time.Minute)
		if held := count(state.Held); held != 4 {
			t.Errorf("%d are held after a restart, want 4", held)
		}
		st.SetAvailable(true)
		time.Sleep(time.Minute)
		for _, m := range all {
			m.set(state.Good, "")
		}
		time.Sleep(time.Minute)
		if up := count(state.Up); up != 7 {
			t.Errorf("%d are up, want all", up)
		}
		n, err := st.Get(t.Context(), tree.VIPFloorPath("dns"))
		var f tree.VIPFloor
		if err != nil || tree.Decode(n, &f) != nil || len(f.Leases) != 0 {
			t.Errorf("leases are left: %s, %v", n.Value, err)
		}
		halt(t, all)
		st.Close()
	})
}

// TestOrders: what people want: drain, with a lease and its grace; hold; up and down; of one host
// before that of all. The last one known stands while the store is away.
func TestOrders(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		all := fleet(t, st, 4)
		order := func(host, order string) {
			t.Helper()
			op := store.Op{Path: tree.VIPOrderPath("dns", host), Delete: order == "", Value: tree.Encode(tree.VIPOrder{Order: order, Author: "alice", Reason: "a test"})}
			if order == "" {
				op.Value = nil
			}
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
				t.Fatal(err)
			}
		}
		order("d0", "drain")
		time.Sleep(2 * time.Second)
		all[0].is(t, state.Draining)
		time.Sleep(20 * time.Second)
		all[0].is(t, state.Down)
		if r := all[0].Report()[0]; r.Order != "drain" || !strings.Contains(r.Why, "drain by alice: a test") {
			t.Errorf("%+v", r)
		}
		// Half have to stay, and only those that can answer count.
		all[1].set(state.Bad, "it hangs")
		order("d2", "drain")
		time.Sleep(time.Minute)
		all[1].is(t, state.Down)
		all[2].is(t, state.Draining)
		order("d0", "")
		time.Sleep(time.Minute)
		all[0].is(t, state.Up)
		all[2].is(t, state.Down)
		order("d2", "")
		all[1].set(state.Good, "")
		time.Sleep(time.Minute)
		// Hold: robots change nothing, up and down of one host go before it.
		order(tree.AllHosts, "hold")
		time.Sleep(time.Second)
		all[0].set(state.Bad, "it hangs")
		order("d3", "down")
		time.Sleep(time.Minute)
		all[0].is(t, state.Held)
		all[3].is(t, state.Down)
		order(tree.AllHosts, "")
		order("d0", "up")
		order("d3", "sideways") // of a release to come
		time.Sleep(time.Minute)
		all[0].is(t, state.Held)
		all[3].is(t, state.Down)
		order("d0", "")
		order("d3", "")
		time.Sleep(time.Minute)
		all[0].is(t, state.Down)
		all[3].is(t, state.Up)
		// The last order that is known stands.
		order("d3", "drain")
		time.Sleep(time.Second)
		st.SetAvailable(false)
		time.Sleep(10 * time.Minute)
		all[3].is(t, state.Draining)
		st.SetAvailable(true)
		time.Sleep(time.Minute)
		all[3].is(t, state.Down)
		halt(t, all)
		st.Close()
	})
}

// TestRouteRefused: a speaker that does not take a route is told again, and it is said.
func TestRouteRefused(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		m := boot(t, st, config("d0"), state.Unknown)
		m.with(func(r *routers) { r.fails = fmt.Errorf("no room") })
		m.set(state.Good, "")
		time.Sleep(5 * time.Second)
		if n, _, _ := m.has(); n != 0 || !strings.Contains(strings.Join(m.Troubles(), " ")+m.Report()[0].Why, "no room") {
			t.Errorf("%d routes, and it says %v, %+v", n, m.Troubles(), m.Report())
		}
		m.with(func(r *routers) { r.fails = nil })
		time.Sleep(time.Second)
		m.is(t, state.Up)
		halt(t, []*machine{m})
		st.Close()
	})
}

// with changes the routers.
func (m *machine) with(f func(*routers)) {
	m.routers.mu.Lock()
	defer m.routers.mu.Unlock()
	f(m.routers)
}

// TestLeaseOfALifeBefore: a lease that lies in the store from before goes when the host can answer
// again, also when the floor has refused another one meanwhile.
func TestLeaseOfALifeBefore(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		cfg := config("d0")
		cfg.State = filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(cfg.State, fmt.Appendf(nil, `{"boot":%q,"vips":{"dns":{"announced":true}}}`, bootID()), 0o644); err != nil {
			t.Fatal(err)
		}
		floor := store.Op{Path: tree.VIPFloorPath("dns"), Value: tree.Encode(tree.VIPFloor{Leases: []tree.VIPLease{{Host: "d0"}}})}
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{floor}}); err != nil {
			t.Fatal(err)
		}
		m := boot(t, st, cfg, state.Bad)
		time.Sleep(5 * time.Second)
		m.is(t, state.Held)
		m.set(state.Good, "")
		time.Sleep(5 * time.Second)
		m.is(t, state.Up)
		n, err := st.Get(t.Context(), tree.VIPFloorPath("dns"))
		var f tree.VIPFloor
		if err != nil || tree.Decode(n, &f) != nil || len(f.Leases) != 0 {
			t.Errorf("a lease is left: %s, %v", n.Value, err)
		}
		halt(t, []*machine{m})
		st.Close()
	})
}

// TestDiskDelaysNothing: while the disk takes its time over the state file, routes come and go; at
// last it has what is.
func TestDiskDelaysNothing(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		var mu sync.Mutex // guards below
		var kept string
		slow := func(_ string, _ fs.FileMode, b []byte) error {
			time.Sleep(time.Hour)
			mu.Lock()
			defer mu.Unlock()
			kept = string(b)
			return nil
		}
		cfg := config("d0")
		cfg.State = "slow"
		m := bootWith(t, st, cfg, state.Good, func(a *Announcer) { a.write = slow })
		time.Sleep(5 * time.Second)
		m.is(t, state.Up)
		m.set(state.Dead, "nobody listens")
		time.Sleep(2 * time.Second)
		m.is(t, state.Down)
		time.Sleep(3 * time.Hour) // what was begun before is written first, and takes an hour, too
		mu.Lock()
		if !strings.Contains(kept, `"announced":false`) {
			t.Errorf("the file has %s", kept)
		}
		mu.Unlock()
		halt(t, []*machine{m})
		st.Close()
	})
}

// TestMemory: another boot, a broken file and none are a first start.
func TestMemory(t *testing.T) {
	m := memory{Boot: "b1", VIPs: map[string]memoryVIP{"dns": {Announced: true, Order: "drain"}}}
	for boot, want := range map[string]state.State{"b1": state.Held, "b2": state.Down} {
		v := &vip{name: "dns"}
		if v.begin(m, boot); v.state != want || v.order != state.Drain {
			t.Errorf("after boot %s: %v, %v", boot, v.state, v.order)
		}
	}
	if _, err := recall(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
	if _, err := recall(t.TempDir()); err == nil {
		t.Error("a directory is read")
	}
}

// TestConfig: what is wrong is said by the option's name.
func TestConfig(t *testing.T) {
	if err := config("d0").Validate(); err != nil {
		t.Fatal(err)
	}
	vip := func(text string) (v route.VIP) {
		if err := v.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for says, change := range map[string]func(*Config){
		"host is":       func(c *Config) { c.Host = "@all" },
		"vips is empty": func(c *Config) { c.VIPs = nil },
		"twice, in dns=192.0.2.53 and in web=192.0.2.53": func(c *Config) { c.VIPs = append(c.VIPs, vip("web=192.0.2.53")) },
		"the same route 192.0.2.0/24":                    func(c *Config) { c.VIPs = []route.VIP{vip("a=192.0.2.1/24"), vip("b=192.0.2.2/24")} },
		"no router has a session over that":              func(c *Config) { c.VIPs = []route.VIP{vip("a=2001:db8::53")} },
		"no VIP is called":                               func(c *Config) { c.Needs = []string{"web=authority"} },
		"expected NAME=authority":                        func(c *Config) { c.Needs = []string{"dns=x"} },
		"no recursor is checked":                         func(c *Config) { c.Needs = []string{"dns=recursor"} },
		"nothing would be checked":                       func(c *Config) { c.Authority = nil },
		"recursor-query is":                              func(c *Config) { c.RecursorQuery = "www.example.net." },
		"check-interval":                                 func(c *Config) { c.Check.Interval = 0 },
		"floor-keep is":                                  func(c *Config) { c.Floor.Keep = -1 },
		"speaker is":                                     func(c *Config) { c.Speaker = "bird" },
		"bgp-as is 0":                                    func(c *Config) { c.BGP.AS = 0 },
		"bgp-peers is empty":                             func(c *Config) { c.BGP.Peers = nil },
		"a router has one session":                       func(c *Config) { c.BGP.Peers = append(c.BGP.Peers, c.BGP.Peers[0]) },
		"bgp-hold-time":                                  func(c *Config) { c.BGP.HoldTime = time.Second },
		"bgp-graceful-restart":                           func(c *Config) { c.BGP.GracefulRestart = time.Millisecond },
		"bgp-router-id is empty":                         func(c *Config) { c.BGP.Local = netip.Addr{} },
		"bgp-multihop":                                   func(c *Config) { c.BGP.Multihop = 256 },
		"and routes are prepended":                       func(c *Config) { c.Speaker, c.BGP.AS = SpeakerExaBGP, 0 },
		"none may be less":                               func(c *Config) { c.MED = 2000 },
		"last-prepend is 21":                             func(c *Config) { c.LastPrepend = 21 },
		"drain-for":                                      func(c *Config) { c.DrainFor = -1 },
		"session-ttl":                                    func(c *Config) { c.SessionTTL = 0 },
	} {
		c := config("d0")
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}
