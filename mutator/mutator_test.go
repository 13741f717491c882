package mutator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

// failer is a test or a property.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// web makes a server; n chooses name and addresses.
func web(n int, change func(*fleet.Server)) fleet.Server {
	name, err := record.ParseName(fmt.Sprintf("web%d.example.net", n))
	if err != nil {
		panic(err)
	}
	s := fleet.Server{
		Name: name, Role: "web", Site: "sfo", Origin: fleet.OriginCall, Time: 1700000000000 + int64(n),
		Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}),
			netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 5: byte(n % 3), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}),
		},
	}
	if change != nil {
		change(&s)
	}
	return s.Normal()
}

func put(t failer, st store.Store, servers ...fleet.Server) store.Revision {
	t.Helper()
	txn := store.Txn{}
	for _, s := range servers {
		txn.Do = append(txn.Do, store.Op{Path: tree.ServerPath(s.Cluster, s.ID()), Value: s.Encode()})
	}
	return commit(t, st, txn)
}

func commit(t failer, st store.Store, txn store.Txn) store.Revision {
	t.Helper()
	rev, err := st.Commit(context.Background(), txn)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func builtInRules(t failer) []rules.Rule {
	t.Helper()
	rs, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// fromScratch is what must be in the store for the servers in it.
func fromScratch(t failer, st store.Store) map[string]string {
	t.Helper()
	nodes, _, err := st.List(context.Background(), tree.Servers)
	if err != nil {
		t.Fatal(err)
	}
	rs := builtInRules(t)
	members := make(map[key][]fleet.Server)
	for _, n := range nodes {
		s, err := fleet.Decode(n.Value)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			names, err := r.Shards(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				members[key{i, name}] = append(members[key{i, name}], s)
			}
		}
	}
	out := make(map[string]string)
	for k, m := range members {
		slices.SortFunc(m, func(a, b fleet.Server) int { return strings.Compare(string(a.Name), string(b.Name)) })
		claims, err := rs[k.rule].Claims(k.shard, func() []fleet.Server { return m })
		if err != nil {
			t.Fatal(err)
		}
		if op := claimtree.Ops(rs[k.rule].Source(), k.shard, claims); !op.Delete {
			out[op.Path] = string(op.Value)
		}
	}
	return out
}

// claims lists what is in the store of the built-in rules, and the newest revision
// among them.
func claims(t failer, st store.Store) (map[string]string, store.Revision) {
	t.Helper()
	out := make(map[string]string)
	newest := store.Revision(0)
	for _, r := range builtInRules(t) {
		nodes, _, err := st.List(context.Background(), tree.ClaimsPrefix(r.Source()))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			out[n.Path], newest = string(n.Value), max(newest, n.Modified)
		}
	}
	return out, newest
}

func mustBeRight(t failer, st store.Store) {
	t.Helper()
	got, _ := claims(t, st)
	if d := cmp.Diff(fromScratch(t, st), got); d != "" {
		t.Fatalf("claims (-from scratch +in the store):\n%s", d)
	}
}

// here evaluates rules in this process: a child has no part in a bubble's time.
type here struct{}

func (here) Load(files fs.FS) ([]script.Loaded, error) { return script.Load(files) }
func (here) Close() error                              { return nil }

func newMutator(t failer, st store.Store, change func(*Config)) *Mutator {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Fresh.Interval = 0
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Rules: here{}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func progress(t failer, st store.Store) (tree.Progress, store.Revision) {
	t.Helper()
	n, err := st.Get(context.Background(), tree.MutatorProgress)
	if err != nil {
		t.Fatal(err)
	}
	var p tree.Progress
	if err := tree.Decode(n, &p); err != nil {
		t.Fatal(err)
	}
	return p, n.Modified
}

// bubble runs f with a store and a running mutator; the bubble's time is its own.
func bubble(t *testing.T, change func(*Config), f func(t *testing.T, st *memstore.Store)) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		t.Cleanup(func() { st.Close() })
		run(t, st, change)
		f(t, st)
	})
}

func run(t *testing.T, st store.Store, change func(*Config)) (stop func()) {
	m := newMutator(t, st, change)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func TestFollowsServers(t *testing.T) {
	bubble(t, nil, func(t *testing.T, st *memstore.Store) {
		check := func(rev store.Revision) {
			t.Helper()
			synctest.Wait()
			mustBeRight(t, st)
			p, modified := progress(t, st)
			if p.Servers < rev {
				t.Errorf("progress says %d, want at least %d", p.Servers, rev)
			}
			_, newest := claims(t, st)
			if at := max(p.Claims, 0); (at == 0 && newest > modified) || (at > 0 && newest > at) {
				t.Errorf("progress says claims up to %d, written in %d, but some are of %d", p.Claims, modified, newest)
			}
		}
		check(put(t, st, web(1, nil), web(2, nil)))
		if got, _ := claims(t, st); len(got) != 2*2+3+1 { // address and ptr each, three reverse zones, the service
			t.Errorf("%d shards", len(got))
		}
		check(put(t, st, web(1, func(s *fleet.Server) { s.TTL = 60; s.Options = map[string]string{"port": "80"} })))
		check(put(t, st, web(3, func(s *fleet.Server) { s.Cluster = "edge" })))
		moved := web(1, func(s *fleet.Server) { s.Cluster, s.Role = "db.sfo", "db" })
		check(commit(t, st, store.Txn{Do: []store.Op{
			{Path: tree.ServerPath("web.sfo", moved.ID()), Delete: true},
			{Path: tree.ServerPath("db.sfo", moved.ID()), Value: moved.Encode()},
		}}))
		// Nothing changes in the claims, but whoever waits must hear of it.
		check(put(t, st, moved))
		for _, s := range []fleet.Server{moved, web(2, nil), web(3, func(s *fleet.Server) { s.Cluster = "edge" })} {
			check(commit(t, st, store.Txn{Do: []store.Op{{Path: tree.ServerPath(s.Cluster, s.ID()), Delete: true}}}))
		}
		if got, _ := claims(t, st); len(got) != 0 {
			t.Errorf("%d shards are left", len(got))
		}
	})
}

// A restart writes nothing that is there, and removes what no server wants.
func TestRestart(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		stop := run(t, st, nil)
		for i := range 300 {
			put(t, st, web(i, nil))
		}
		synctest.Wait()
		stop()
		before, newest := claims(t, st)
		commit(t, st, store.Txn{Do: []store.Op{
			{Path: tree.ServerPath("web.sfo", "web7.example.net"), Delete: true},
			{Path: claimtree.Path("rule/address", "ghost.example.net"), Value: []byte("old")},
		}})
		run(t, st, nil)
		synctest.Wait()
		mustBeRight(t, st)
		after, _ := claims(t, st)
		nodes, _, err := st.List(t.Context(), tree.ClaimsPrefix("rule/address"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.Modified > newest {
				t.Errorf("%s was written again", n.Path)
			}
		}
		if len(after) != len(before)-2 {
			t.Errorf("%d shards, want %d", len(after), len(before)-2)
		}
	})
}

// The number of rules run for one change is the number of shards it concerns, how
// large the fleet may be.
func TestEvaluations(t *testing.T) {
	s := newState(builtIn(builtInRules(t)))
	b := store.Batch{Revision: 1, Reset: true}
	for i := range 1000 {
		f := web(i, func(s *fleet.Server) { s.Role = fmt.Sprintf("role%d", i%10) })
		b.Puts = append(b.Puts, store.Node{Path: tree.ServerPath(f.Cluster, f.ID()), Value: f.Encode(), Modified: 1})
	}
	settle := func(b store.Batch) (evaluations, writes int) {
		t.Helper()
		if err := s.apply(b); err != nil {
			t.Fatal(err)
		}
		before := s.evaluations
		for _, k := range s.changed() {
			w, ok, err := s.evaluate(k)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				s.done(w)
				writes++
			}
			delete(s.dirty, k)
		}
		return s.evaluations - before, writes
	}
	settle(b)
	change := func(n int, rev store.Revision, f func(*fleet.Server)) store.Batch {
		srv := web(n, func(s *fleet.Server) { s.Role = fmt.Sprintf("role%d", n%10); f(s) })
		return store.Batch{Revision: rev, Puts: []store.Node{{Path: tree.ServerPath("role0.sfo", srv.ID()), Value: srv.Encode(), Modified: rev}}}
	}
	for _, tc := range []struct {
		what                string
		b                   store.Batch
		evaluations, writes int
	}{
		// address, ptr, two reverse zones, one service; the zones stay as they are, and
		// so does the service while another member has the least TTL.
		{"ttl up", change(10, 2, func(s *fleet.Server) { s.TTL = 7200 }), 5, 2},
		{"same again", change(10, 3, func(s *fleet.Server) { s.TTL = 7200 }), 5, 0},
		{"ttl down", change(10, 4, func(s *fleet.Server) { s.TTL = 60 }), 5, 3},
		// An SRV comes beside them.
		{"port", change(10, 5, func(s *fleet.Server) { s.TTL = 60; s.Options = map[string]string{"port": "80"} }), 6, 1},
		// The SRV goes without being evaluated; the service of web10 is that of before.
		{"no port", change(10, 6, func(s *fleet.Server) { s.TTL = 60 }), 5, 1},
		{"known already", store.Batch{Revision: 7, Reset: true, Puts: slices.Concat(b.Puts[:10], change(10, 6, func(*fleet.Server) {}).Puts, b.Puts[11:])}, 0, 0},
		{"gone", store.Batch{Revision: 8, Deletes: []string{tree.ServerPath("role0.sfo", "web10.example.net")}}, 3, 3},
	} {
		if e, w := settle(tc.b); e != tc.evaluations || w != tc.writes {
			t.Errorf("%s: %d evaluations and %d writes, want %d and %d", tc.what, e, w, tc.evaluations, tc.writes)
		}
	}
}

// driver is a term of leadership in the hands of a test.
type driver struct {
	*term
	batches <-chan store.Batch
	seen    store.Revision
	end     func()
}

// noFence always holds.
var noFence = store.Cond{Path: "/elect/nobody"}

func begin(t failer, st store.Store, fence store.Cond) *driver {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &driver{term: newTerm(newMutator(t, st, nil), fence), end: cancel}
	if err := d.load(ctx); err != nil {
		t.Fatal(err)
	}
	d.batches = st.Watch(ctx, tree.Servers, 0)
	return d
}

// settle takes batches until the servers are seen up to rev.
func (d *driver) settle(t failer, rev store.Revision) {
	t.Helper()
	for d.seen == 0 || d.seen < rev {
		select {
		case b := <-d.batches:
			if err := d.take(context.Background(), b, d.batches); err != nil {
				t.Fatal(err)
			}
			d.seen = max(d.seen, d.said.Servers)
		case <-time.After(10 * time.Second):
			t.Fatalf("no batch up to %d, seen %d", rev, d.seen)
		}
	}
}

// Whatever happens to the fleet and the mutator, the claims end as from scratch.
func TestIncrementalIsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := memstore.New()
		defer st.Close()
		clusters := []string{"a", "b", "c"}
		at := make(map[int]string) // where each server is now
		var last store.Revision
		r := begin(t, st, noFence)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n := rapid.IntRange(0, 8).Draw(t, "server")
				s := web(n, func(s *fleet.Server) {
					s.Cluster = rapid.SampledFrom(clusters).Draw(t, "cluster")
					s.Role = rapid.SampledFrom([]string{"web", "db"}).Draw(t, "role")
					s.TTL = rapid.SampledFrom([]uint32{60, 3600}).Draw(t, "ttl")
					s.Time = rapid.Int64Range(0, 3).Draw(t, "time")
					if rapid.Bool().Draw(t, "one address") {
						s.Addresses = s.Addresses[:1]
					}
					if rapid.Bool().Draw(t, "port") {
						s.Options = map[string]string{"port": "80"}
					}
				})
				txn := store.Txn{Do: []store.Op{{Path: tree.ServerPath(s.Cluster, s.ID()), Value: s.Encode()}}}
				if old := at[n]; old != "" && old != s.Cluster {
					txn.Do = append(txn.Do, store.Op{Path: tree.ServerPath(old, s.ID()), Delete: true})
				}
				last = commit(t, st, txn)
				at[n] = s.Cluster
			},
			"delete": func(t *rapid.T) {
				n := rapid.IntRange(0, 8).Draw(t, "server")
				if at[n] == "" {
					t.Skip("not there")
				}
				last = commit(t, st, store.Txn{Do: []store.Op{{Path: tree.ServerPath(at[n], web(n, nil).ID()), Delete: true}}})
				delete(at, n)
			},
			"compact": func(*rapid.T) { st.Compact() },
			"settle":  func(t *rapid.T) { r.settle(t, last); mustBeRight(t, st) },
			"restart": func(*rapid.T) { r.end(); r = begin(t, st, noFence) },
			"":        func(*rapid.T) {},
		})
		r.settle(t, last)
		mustBeRight(t, st)
		r.end()
	})
}

// A burst longer than what is gathered is taken to its end: the batch at which
// gathering ends is not passed over.
func TestBurstIsTakenWhole(t *testing.T) {
	const batches, each = 100, 100 // decoding them takes several times gather
	st := memstore.New()
	defer st.Close()
	m := newMutator(t, st, func(c *Config) { c.Fresh.Interval = 0 })
	fence := store.Cond{Path: tree.ElectMutator, Modified: commit(t, st, store.Txn{Do: []store.Op{{Path: tree.ElectMutator, Value: []byte("me")}}})}
	r := newTerm(m, fence)
	if err := r.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ch := make(chan store.Batch, batches)
	for i := range batches {
		b := store.Batch{Revision: store.Revision(i + 1)}
		for n := range each {
			s := web(i*each+n, nil)
			b.Puts = append(b.Puts, store.Node{Path: tree.ServerPath(s.Cluster, s.ID()), Value: s.Encode(), Modified: b.Revision})
		}
		ch <- b
	}
	turns := 0
	for ; len(ch) > 0; turns++ {
		if err := r.take(t.Context(), <-ch, ch); err != nil {
			t.Fatal(err)
		}
	}
	if turns < 2 {
		t.Errorf("the burst was gathered in %d turn, and this test needs several", turns)
	}
	if got := len(r.state.servers); got != batches*each {
		t.Errorf("%d servers are known after a burst of %d taken in %d turns", got, batches*each, turns)
	}
}

func TestOutageAndFence(t *testing.T) {
	bubble(t, nil, func(t *testing.T, st *memstore.Store) {
		put(t, st, web(1, nil))
		synctest.Wait()
		st.SetAvailable(false)
		time.Sleep(30 * time.Second)
		st.SetAvailable(true)
		put(t, st, web(2, nil))
		time.Sleep(30 * time.Second)
		synctest.Wait()
		mustBeRight(t, st)
		// A deposed leader writes nothing more.
		r := begin(t, st, store.Cond{Path: tree.ElectMutator, Modified: 1})
		defer r.end()
		commit(t, st, store.Txn{Do: []store.Op{{Path: tree.MutatorProgress, Delete: true}}})
		if err := r.take(t.Context(), <-r.batches, r.batches); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a deposed leader wrote: %v", err)
		}
	})
}

// A server that cannot be read keeps its claims, also when the process is new.
func TestBrokenServer(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		stop := run(t, st, nil)
		put(t, st, web(1, nil), web(2, nil))
		synctest.Wait()
		before, _ := claims(t, st)
		broken := tree.ServerPath("web.sfo", "web1.example.net")
		commit(t, st, store.Txn{Do: []store.Op{{Path: broken, Value: []byte("{")}}})
		synctest.Wait()
		if got, _ := claims(t, st); cmp.Diff(before, got) != "" {
			t.Error("a broken server changed claims")
		}
		stop()
		run(t, st, nil)
		synctest.Wait()
		got, _ := claims(t, st)
		for p := range before {
			if _, ok := got[p]; !ok {
				t.Errorf("%s went after a restart beside a broken server", p)
			}
		}
		commit(t, st, store.Txn{Do: []store.Op{{Path: broken, Delete: true}}})
		synctest.Wait()
		mustBeRight(t, st)
	})
}

func TestFreshness(t *testing.T) {
	fresh := func(c *Config) {
		c.Fresh.Interval = time.Second
		c.Fresh.Datasets = []string{"internal", "external"}
	}
	bubble(t, fresh, func(t *testing.T, st *memstore.Store) {
		commit(t, st, store.Txn{Do: []store.Op{
			{Path: tree.HeadPath("internal"), Value: tree.Encode(tree.Head{Version: 7, Digest: "0123456789abcdef0123"})},
			{Path: claimtree.Path(freshSource, "fresh.gone"), Value: []byte("x")},
		}})
		zoneAt := store.Revision(0)
		for range 3 {
			time.Sleep(time.Second)
			synctest.Wait()
			nodes, _, err := st.List(t.Context(), tree.ClaimsPrefix(freshSource))
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for _, n := range nodes {
				claims, err := record.DecodeShard(n.Value)
				if err != nil && !strings.HasSuffix(n.Path, "gone") {
					t.Fatal(err)
				}
				for _, c := range claims {
					got[c.Key.String()] = fmt.Sprintf("%d %t %q", c.TTL, c.Fallback, string(c.Data[0][min(len(c.Data[0]), 1):]))
				}
				if strings.HasSuffix(n.Path, "/zone") {
					if zoneAt == 0 {
						zoneAt = n.Modified
					}
					if n.Modified != zoneAt {
						t.Error("the zone is written again")
					}
				}
			}
			want := map[string]string{
				"_fresh.internal.zonecast.internal. TXT": fmt.Sprintf(`0 false "v=7 t=%d d=0123456789abcdef"`, time.Now().UnixMilli()),
				"_fresh.external.zonecast.internal. TXT": fmt.Sprintf(`0 false "v=0 t=%d d="`, time.Now().UnixMilli()),
			}
			for k, w := range want {
				if got[k] != w {
					t.Errorf("%s: got %s, want %s", k, got[k], w)
				}
			}
			// Its zone, and one for each dataset, as there are several.
			for _, apex := range []string{"", "internal.", "external."} {
				if soa := got[apex+"zonecast.internal. SOA"]; !strings.HasPrefix(soa, "3600 true") || len(got) != 8 {
					t.Errorf("%sSOA %q, %d claims", apex, soa, len(got))
				}
			}
		}
	})
}

func TestConfig(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"session":  func(c *Config) { c.SessionTTL = 0 },
		"zone":     func(c *Config) { c.Fresh.Zone = "" },
		"dataset":  func(c *Config) { c.Fresh.Datasets = []string{"a/b"} },
		"interval": func(c *Config) { c.Fresh.Interval = 1 },
		"ns":       func(c *Config) { c.Rules.NS = "" },
		"mailbox":  func(c *Config) { c.Rules.Mailbox = "" },
	} {
		c := DefaultConfig()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// BenchmarkOneChange is one server's change among 100,000.
func BenchmarkOneChange(b *testing.B) {
	s := newState(builtIn(builtInRules(b)))
	const n = 100_000
	batch := store.Batch{Revision: 1, Reset: true}
	server := func(i int, ttl uint32) fleet.Server {
		return web(i, func(s *fleet.Server) { s.Role, s.TTL = fmt.Sprintf("role%d", i/100), ttl })
	}
	for i := range n {
		f := server(i, 0)
		batch.Puts = append(batch.Puts, store.Node{Path: tree.ServerPath(f.Cluster, f.ID()), Value: f.Encode(), Modified: 1})
	}
	settle := func(batch store.Batch) {
		if err := s.apply(batch); err != nil {
			b.Fatal(err)
		}
		changed := s.changed()
		for _, k := range changed {
			w, ok, err := s.evaluate(k)
			if err != nil {
				b.Fatal(err)
			}
			if ok {
				s.done(w)
			}
			delete(s.dirty, k)
		}
		s.tidy(len(changed))
	}
	began := time.Now()
	settle(batch)
	b.Logf("start with %d servers: %s", n, time.Since(began))
	rev := store.Revision(1)
	for b.Loop() {
		rev++
		f := server(int(rev)*7919%n, 60+uint32(rev%2))
		settle(store.Batch{Revision: rev, Puts: []store.Node{{Path: tree.ServerPath(f.Cluster, f.ID()), Value: f.Encode(), Modified: rev}}})
	}
}
