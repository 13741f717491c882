package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/registry"
	"github.com/zonecast/zonecast/store"
)

func deps(st store.Store) registry.Deps {
	return registry.Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
}

// start runs a registry on the store.
func start(t testing.TB, st store.Store, cfg registry.Config) *registry.Registry {
	t.Helper()
	r, err := registry.New(cfg, deps(st))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func newStore(t testing.TB) *memstore.Store {
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	return st
}

func reg(name string, addresses ...string) *registryapi.Registration {
	return &registryapi.Registration{Name: name, Addresses: addresses, Role: "web", Site: "sfo"}
}

// mustHold asserts that nodes and indexes say the same, and returns servers by ID.
func mustHold(t interface {
	Helper()
	Fatalf(string, ...any)
}, st store.Store,
) map[string]fleet.Server {
	t.Helper()
	ctx := context.Background()
	list := func(prefix string) []store.Node {
		nodes, _, err := st.List(ctx, prefix)
		if err != nil {
			t.Fatalf("list %s: %v", prefix, err)
		}
		return nodes
	}
	names, owners := make(map[string]string), make(map[string]string)
	servers := make(map[string]fleet.Server)
	for _, n := range list(tree.Servers) {
		s, err := fleet.Decode(n.Value)
		if err != nil {
			t.Fatalf("%s: %v", n.Path, err)
		}
		names[tree.NameIndexPath(s.ID())] = n.Path
		for _, a := range s.Addresses {
			if other := owners[tree.AddressIndexPath(a.String())]; other != "" {
				t.Fatalf("address %s has two owners, %s and %s", a, other, s.ID())
			}
			owners[tree.AddressIndexPath(a.String())] = s.ID()
		}
		servers[s.ID()] = s
	}
	index := func(prefix string) map[string]string {
		out := make(map[string]string)
		for _, n := range list(prefix) {
			out[n.Path] = string(n.Value)
		}
		return out
	}
	if d := cmp.Diff(names, index("/index/name/")); d != "" {
		t.Fatalf("index of names (-nodes +index):\n%s", d)
	}
	if d := cmp.Diff(owners, index("/index/address/")); d != "" {
		t.Fatalf("index of addresses (-nodes +index):\n%s", d)
	}
	for _, n := range list(tree.Leases) {
		if _, ok := servers[strings.TrimPrefix(n.Path, tree.Leases)]; !ok {
			t.Fatalf("%s is the lease of no server", n.Path)
		}
	}
	return servers
}

func serve(t testing.TB, r *registry.Registry) *api.Client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := api.Serve(ctx, ln, map[string]api.Processor{api.RegistryService: r.Processor()}, api.DefaultServerConfig(), slog.New(slog.DiscardHandler)); err != nil {
			t.Error(err)
		}
	})
	c, err := api.Dial(ctx, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); cancel(); wg.Wait() })
	return c
}

// The whole life of a server, over the network.
func TestLife(t *testing.T) {
	st := newStore(t)
	c := serve(t, start(t, st, registry.DefaultConfig())).Registry
	ctx := t.Context()
	first, err := c.RegisterServer(ctx, reg("WEB1.example.net.", "192.0.2.1", "2001:db8::1"))
	if err != nil || !first.Changed {
		t.Fatalf("register: %v, %v", first, err)
	}
	same, err := c.RegisterServer(ctx, reg("web1.example.net", "2001:db8::1", "192.0.2.1"))
	if err != nil || same.Changed || same.Revision != first.Revision {
		t.Errorf("register again: %v, %v, want unchanged at %d", same, err, first.Revision)
	}
	moved := reg("web1.example.net", "192.0.2.2")
	moved.Cluster, moved.TTL, moved.Author = "edge", 60, "alice"
	second, err := c.RegisterServer(ctx, moved)
	if err != nil || !second.Changed || second.Revision <= first.Revision {
		t.Fatalf("move: %v, %v", second, err)
	}
	mustHold(t, st)
	got, err := c.GetServer(ctx, "web1.example.net")
	if err != nil {
		t.Fatal(err)
	}
	if got.TimeMs == 0 {
		t.Error("no registration time")
	}
	got.TimeMs = 0
	want := &registryapi.Server{
		Name: "web1.example.net", Addresses: []string{"192.0.2.2"}, Role: "web", Site: "sfo", Cluster: "edge", TTL: 60,
		Options: map[string]string{}, Origin: "call", Author: "alice", Revision: second.Revision,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("get (-want +got):\n%s", d)
	}
	// The addresses it gave up are free again.
	if _, err := c.RegisterServer(ctx, reg("web2.example.net", "192.0.2.1")); err != nil {
		t.Error(err)
	}
	_, err = c.RegisterServer(ctx, reg("web3.example.net", "192.0.2.3", "192.0.2.2"))
	if api.Code(err) != api.AddressTaken || !strings.Contains(api.Message(err), "address 192.0.2.2 belongs to server web1.example.net") {
		t.Errorf("duplicate address: %v", err)
	}
	gone, err := c.DeregisterServer(ctx, "web1.example.net", "alice", "old")
	if err != nil || !gone.Changed {
		t.Errorf("deregister: %v, %v", gone, err)
	}
	if again, err := c.DeregisterServer(ctx, "web1.example.net", "", ""); err != nil || again.Changed {
		t.Errorf("deregister again: %v, %v", again, err)
	}
	if _, err := c.GetServer(ctx, "web1.example.net"); api.Code(err) != api.NotFound {
		t.Errorf("get what is gone: %v", err)
	}
	if left := mustHold(t, st); len(left) != 1 {
		t.Errorf("%d servers are left, want 1", len(left))
	}
}

func TestInvalid(t *testing.T) {
	r := start(t, newStore(t), registry.DefaultConfig())
	for want, change := range map[string]func(*registryapi.Registration){
		"address \"192.0.2.256\" is none":   func(r *registryapi.Registration) { r.Addresses = []string{"192.0.2.256"} },
		"label of 64 octets":                func(r *registryapi.Registration) { r.Name = strings.Repeat("a", 64) + ".example.net" },
		"longer than 255 octets":            func(r *registryapi.Registration) { r.Name = strings.Repeat("a.", 127) + "net" },
		`option "colour" is unknown`:        func(r *registryapi.Registration) { r.Options = map[string]string{"colour": "red"} },
		"ttl is -1":                         func(r *registryapi.Registration) { r.TTL = -1 },
		"lease is 1 ms, expected 5000":      func(r *registryapi.Registration) { r.LeaseMs = 1 },
		"lease is -1 ms":                    func(r *registryapi.Registration) { r.LeaseMs = -1 },
		"lease is 9223372036854775807 ms":   func(r *registryapi.Registration) { r.LeaseMs = 1<<63 - 1 },
		"addresses are missing":             func(r *registryapi.Registration) { r.Addresses = nil },
		"cluster \"a/b\" has the character": func(r *registryapi.Registration) { r.Cluster = "a/b" },
	} {
		in := reg("web1.example.net", "192.0.2.1")
		change(in)
		if _, err := r.RegisterServer(t.Context(), in); api.Code(err) != api.Invalid || !strings.Contains(api.Message(err), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := r.RegisterServer(t.Context(), nil); api.Code(err) != api.Invalid {
		t.Errorf("no registration: %v", err)
	}
}

func TestRegisterMany(t *testing.T) {
	st := newStore(t)
	r := start(t, st, registry.DefaultConfig())
	in := []*registryapi.Registration{
		reg("web1.example.net", "192.0.2.1"),
		reg("web2.example.net", "192.0.2.300"),
		reg("web3.example.net", "192.0.2.3", "192.0.2.1"),
		reg("WEB1.example.net", "192.0.2.4"),
		reg("web5.example.net", "192.0.2.5"),
	}
	out, err := r.RegisterServers(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for i, o := range out {
		codes = append(codes, o.Code)
		if (o.Change == nil) != (o.Code != "") || o.Name != in[i].Name {
			t.Errorf("outcome %d: %v", i, o)
		}
	}
	if want := []string{"", api.Invalid, api.AddressTaken, api.Invalid, ""}; !slices.Equal(codes, want) {
		t.Errorf("got %q, want %q", codes, want)
	}
	// Two swap, one takes what a third gives up: one call does it.
	out, err = r.RegisterServers(t.Context(), []*registryapi.Registration{
		reg("web1.example.net", "192.0.2.5"), reg("web5.example.net", "192.0.2.1"),
	})
	if err != nil || out[0].Code != "" || out[1].Code != "" {
		t.Fatalf("swap: %v, %v", out, err)
	}
	out, err = r.RegisterServers(t.Context(), []*registryapi.Registration{
		reg("web6.example.net", "192.0.2.5"), reg("web1.example.net", "192.0.2.6"),
	})
	if err != nil || out[0].Code != "" || out[1].Code != "" {
		t.Fatalf("hand on: %v, %v", out, err)
	}
	if got := mustHold(t, st); len(got) != 3 {
		t.Errorf("got %d servers, want 3", len(got))
	}
}

// A refusal of who gives an address up is one of who takes it.
func TestRefusalsSpread(t *testing.T) {
	st := newStore(t)
	r := start(t, st, registry.DefaultConfig())
	ctx := t.Context()
	for i := range 3 {
		if _, err := r.RegisterServer(ctx, reg(fmt.Sprintf("web%d.example.net", i), fmt.Sprintf("192.0.2.%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	before := mustHold(t, st)
	out, err := r.RegisterServers(ctx, []*registryapi.Registration{
		reg("web9.example.net", "192.0.2.0"), // wants what web0 would give up
		reg("web0.example.net", "192.0.2.1"), // wants what web1 would give up
		reg("web1.example.net", "192.0.2.2"), // wants what web2 keeps
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Code != api.AddressTaken {
			t.Errorf("item %d: %v, want address_taken", i, o)
		}
	}
	if d := cmp.Diff(before, mustHold(t, st), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("something changed:\n%s", d)
	}
}

// A circle larger than a transaction is refused whole; a chain of any length is not.
func TestLongChainAndCircle(t *testing.T) {
	st := newStore(t)
	r := start(t, st, registry.DefaultConfig())
	const n = 200
	all := func(shift, modulus int) []*registryapi.Registration {
		var in []*registryapi.Registration
		for i := range n {
			in = append(in, reg(fmt.Sprintf("web%d.example.net", i), fmt.Sprintf("198.51.100.%d", (i+shift)%modulus)))
		}
		return in
	}
	must := func(in []*registryapi.Registration, code string) {
		t.Helper()
		out, err := r.RegisterServers(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Code != code {
				t.Fatalf("%v, want code %q", o, code)
			}
		}
	}
	must(all(0, 1000), "")
	must(all(1, 1000), "") // everyone takes the next one's address
	mustHold(t, st)
	must(all(0, 1000), "")
	must(all(1, n), api.TooMany) // and the last one the first one's
	if got := mustHold(t, st)["web7.example.net"].Addresses[0]; got != netip.MustParseAddr("198.51.100.7") {
		t.Errorf("web7 has %s", got)
	}
}

func TestFightForAddress(t *testing.T) {
	for range 20 {
		st := newStore(t)
		r, other := start(t, st, registry.DefaultConfig()), start(t, st.Peer(), registry.DefaultConfig())
		var won atomic.Int32
		var wg sync.WaitGroup
		for i, r := range []*registry.Registry{r, other, r, other} {
			wg.Go(func() {
				_, err := r.RegisterServer(t.Context(), reg(fmt.Sprintf("web%d.example.net", i), "192.0.2.1"))
				switch api.Code(err) {
				case "":
					won.Add(1)
				case api.AddressTaken:
				default:
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d servers got the address, want exactly 1", won.Load())
		}
		mustHold(t, st)
	}
}

// Whatever is registered at once, nodes and indexes agree at the end.
func TestConcurrent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := memstore.New()
		defer st.Close()
		seed := rapid.Uint64().Draw(t, "seed")
		var wg sync.WaitGroup
		for w := range 3 {
			r, err := registry.New(registry.DefaultConfig(), deps(st.Peer()))
			if err != nil {
				t.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			wg.Go(func() {
				random := func() *registryapi.Registration {
					in := reg(fmt.Sprintf("web%d.example.net", rnd.IntN(6)))
					for _, k := range rnd.Perm(8)[:1+rnd.IntN(3)] {
						in.Addresses = append(in.Addresses, fmt.Sprintf("192.0.2.%d", k))
					}
					in.Cluster = []string{"a", "b"}[rnd.IntN(2)]
					in.LeaseMs = []int64{0, 60000}[rnd.IntN(2)]
					return in
				}
				for range 10 {
					switch rnd.IntN(4) {
					case 0:
						r.DeregisterServer(context.Background(), fmt.Sprintf("web%d.example.net", rnd.IntN(6)), "", "")
					case 1:
						r.RegisterServers(context.Background(), []*registryapi.Registration{random(), random(), random()})
					case 2:
						r.Renew(context.Background(), fmt.Sprintf("web%d.example.net", rnd.IntN(6)))
					default:
						r.RegisterServer(context.Background(), random())
					}
				}
			})
		}
		wg.Wait()
		mustHold(t, st)
	})
}

func TestListAndWatch(t *testing.T) {
	st := newStore(t)
	r := start(t, st, registry.DefaultConfig())
	ctx := t.Context()
	var in []*registryapi.Registration
	for i := range 25 {
		one := reg(fmt.Sprintf("web%02d.example.net", i), fmt.Sprintf("192.0.2.%d", i))
		if i%5 == 0 {
			one.Role = "db"
		}
		in = append(in, one)
	}
	if _, err := r.RegisterServers(ctx, in); err != nil {
		t.Fatal(err)
	}
	count := func(limit int32, f *registryapi.Filter) (n, pages int) {
		seen := make(map[string]bool)
		for after := ""; ; pages++ {
			p, err := r.ListServers(ctx, after, limit, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Servers {
				seen[s.Name] = true
			}
			if after = p.NextAfter; after == "" {
				return len(seen), pages + 1
			}
		}
	}
	if n, pages := count(10, nil); n != 25 || pages != 3 {
		t.Errorf("got %d servers in %d pages, want 25 in 3", n, pages)
	}
	if n, pages := count(5, &registryapi.Filter{Role: "db"}); n != 5 || pages != 1 {
		t.Errorf("got %d db servers in %d pages, want 5 in 1", n, pages)
	}
	if n, _ := count(0, &registryapi.Filter{Cluster: "web.sfo", Site: "sfo"}); n != 20 {
		t.Errorf("got %d servers of web.sfo, want 20", n)
	}
	if _, err := r.ListServers(ctx, "", 10001, nil); api.Code(err) != api.Invalid {
		t.Errorf("limit 10001: %v", err)
	}

	all, err := r.WatchServers(ctx, 0, 0)
	if err != nil || !all.Reset || len(all.Put) != 25 {
		t.Fatalf("watch from 0: %d servers, %v", len(all.Put), err)
	}
	if quiet, err := r.WatchServers(ctx, all.Revision, 1); err != nil || quiet.Reset || len(quiet.Put) > 0 || quiet.Revision != all.Revision {
		t.Errorf("nothing happened, but got %v, %v", quiet, err)
	}
	got := make(chan *registryapi.ServerEvents, 1)
	go func() { e, _ := r.WatchServers(ctx, all.Revision, 60000); got <- e }()
	change := reg("web07.example.net", "192.0.2.107")
	change.Cluster = "edge" // moves its node: a delete and a put
	c, err := r.RegisterServer(ctx, change)
	if err != nil {
		t.Fatal(err)
	}
	e := <-got
	if e == nil || e.Reset || len(e.Put) != 1 || e.Put[0].Addresses[0] != "192.0.2.107" || len(e.Removed) != 0 || e.Revision < c.Revision {
		t.Fatalf("got %v, want web07 moved", e)
	}
	if _, err := r.DeregisterServer(ctx, "web08.example.net", "", ""); err != nil {
		t.Fatal(err)
	}
	if e, err = r.WatchServers(ctx, e.Revision, 60000); err != nil || !slices.Equal(e.Removed, []string{"web08.example.net"}) || len(e.Put) != 0 {
		t.Errorf("got %v, %v, want web08 removed", e, err)
	}
	if e, err := r.WatchServers(ctx, 1<<60, 0); err != nil || !e.Reset {
		t.Errorf("a revision of another store: %v, %v, want a reset", e, err)
	}
}

func TestUnavailable(t *testing.T) {
	st := newStore(t)
	r := start(t, st, registry.DefaultConfig())
	if _, err := r.RegisterServer(t.Context(), reg("web1.example.net", "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ListServers(t.Context(), "", 0, nil); err != nil {
		t.Fatal(err)
	}
	st.SetAvailable(false)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.RegisterServer(ctx, reg("web2.example.net", "192.0.2.2"))
	if c := api.Code(err); c != api.Unavailable && c != api.Timeout {
		t.Errorf("got %v, want unavailable", err)
	}
	if p, err := r.ListServers(t.Context(), "", 0, nil); err != nil || len(p.Servers) != 1 {
		t.Errorf("list without the store: %v, %v, want what is known", p, err)
	}
	st.SetAvailable(true)
	if _, err := r.RegisterServer(t.Context(), reg("web2.example.net", "192.0.2.2")); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	if got := slices.Sorted(maps.Keys(mustHold(t, st))); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func BenchmarkRegister1302(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		st := memstore.New()
		r, err := registry.New(registry.DefaultConfig(), deps(st))
		if err != nil {
			b.Fatal(err)
		}
		var in []*registryapi.Registration
		for i := range 1302 {
			in = append(in, reg(fmt.Sprintf("web%d.example.net", i), fmt.Sprintf("198.18.%d.%d", i/256, i%256), fmt.Sprintf("2001:db8::%x", i)))
		}
		b.StartTimer()
		out, err := r.RegisterServers(b.Context(), in)
		b.StopTimer()
		if err != nil || out[1301].Code != "" {
			b.Fatal(err, out[1301])
		}
		st.Close()
		b.StartTimer()
	}
}
