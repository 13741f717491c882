package script

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/rules"
)

func TestMain(m *testing.M) {
	sandbox.Main(map[string]func() (sandbox.Handler, error){SandboxName: SandboxHandler})
	m.Run()
}

func newHost(t testing.TB) *Host {
	h := NewHost()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestRemoteIsLocal holds that rules make the same in a child as here, asked for ahead or not.
func TestRemoteIsLocal(t *testing.T) {
	files := os.DirFS("../../examples/rules")
	here, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	there, err := newHost(t).Load(files)
	if err != nil {
		t.Fatal(err)
	}
	servers := wikimedia(t)
	for i := range servers {
		if i%3 == 0 {
			servers[i].Options = map[string]string{fleet.OptionPort: "443"}
		}
	}
	if len(here) != 5 || len(there) != len(here) {
		t.Fatalf("%d rules here, %d there", len(here), len(there))
	}
	for i, l := range here {
		r := there[i].Rule
		if there[i].Source != l.Source || r.Digest() != l.Rule.Digest() {
			t.Fatalf("%s here, %s there", l.Source, there[i].Source)
		}
		if i%2 == 0 {
			r.(*remote).Ahead(servers)
		}
		all := shards(t, l.Rule.Shards, servers)
		if i%2 == 1 {
			r.(*remote).AheadOf(slices.Collect(maps.Keys(all)), func(shard string) []fleet.Server { return all[shard] })
			if n := len(r.(*remote).shards); n != len(all) {
				t.Errorf("%s: %d of %d shards are known ahead", l.Source, n, len(all))
			}
		}
		for shard, members := range all {
			want, err := l.Rule.Claims(shard, func() []fleet.Server { return members })
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Claims(shard, func() []fleet.Server { return members })
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Fatalf("%s %s: %v\n%s", l.Source, shard, err, diff)
			}
		}
		if n := len(r.(*remote).shards); n != 0 {
			t.Errorf("%s: %d shards are kept", l.Source, n)
		}
		for _, s := range servers[:20] {
			want, _ := l.Rule.Shards(s)
			if got, err := r.Shards(s); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: %s is in %q, %v, want %q", l.Source, s.ID(), got, err, want)
			}
		}
	}
}

// TestRuleThatEatsMemory costs an error for the server that it does it for, whose call is not
// made again; other servers and other rules go on. A rule that does it for many is no longer
// run for a while.
func TestRuleThatEatsMemory(t *testing.T) {
	all, err := newHost(t).Load(fstest.MapFS{
		"eats.star": {Data: []byte("def server(s):\n  x = 'x' * 1000\n  if s.role == 'hungry':\n    for i in range(40):\n      x = x + x\n  return a(s.name, '192.0.2.1')\n"), Mode: 0o444},
		"good.star": {Data: []byte("def server(s):\n  return a(s.name, '192.0.2.1')\n"), Mode: 0o444},
	})
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	eats, good := all[0].Rule, all[1].Rule
	servers := wikimedia(t)[:60]
	for i := range 5 {
		servers[10*i+5].Role = "hungry"
	}
	claims := func(r Rule, s fleet.Server) error {
		claims, err := r.Claims("s."+s.ID(), func() []fleet.Server { return []fleet.Server{s} })
		if err == nil && len(claims) != 1 {
			return fmt.Errorf("claims %v", claims)
		}
		return err
	}
	eats.(*remote).Ahead(servers[:20]) // dies of two, and so nothing is known ahead
	began := time.Now()
	for range 3 {
		if err := claims(eats, servers[5]); !errors.Is(err, ErrLater) || !strings.Contains(err.Error(), sandbox.ErrMemory.Error()) {
			t.Fatal(err)
		}
	}
	for i, s := range servers[:15] {
		if err := claims(eats, s); (err != nil) != (i == 5) {
			t.Errorf("server %d: %v", i, err)
		}
	}
	if err := claims(eats, servers[15]); err == nil || !strings.Contains(err.Error(), sandbox.ErrMemory.Error()) {
		t.Errorf("the third time: %v", err)
	}
	for _, s := range servers[20:22] {
		if err := claims(eats, s); !errors.Is(err, ErrLater) || !strings.Contains(err.Error(), "is not run for a while") {
			t.Errorf("after the third time: %v", err)
		}
		if err := claims(good, s); err != nil {
			t.Errorf("the other rule: %v", err)
		}
	}
	t.Logf("%d children ended after %v", strikes, time.Since(began))
}

// TestLastGoodRule has a rule of which the newest text is broken, twice, while another
// changes: what was good last is evaluated all the same. A directory that cannot be read
// leaves all as they are.
func TestLastGoodRule(t *testing.T) {
	h := newHost(t)
	files := func(x, y string) fstest.MapFS {
		text := func(ttl string) []byte {
			return []byte("def server(s):\n  return a(s.name, '192.0.2.1', ttl = " + ttl + ")\n")
		}
		return fstest.MapFS{"x.star": {Data: text(x), Mode: 0o444}, "y.star": {Data: text(y), Mode: 0o444}}
	}
	ttl := func(r Rule, s fleet.Server) uint32 {
		t.Helper()
		claims, err := r.Claims("s."+s.ID(), func() []fleet.Server { return []fleet.Server{s} })
		if err != nil {
			t.Fatal(err)
		}
		return claims[0].TTL
	}
	one := wikimedia(t)[0]
	first, err := h.Load(files("1", "1"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.Load(files("(", "2"))
	if err != nil || second[0].Err == nil {
		t.Fatal(second, err)
	}
	third, err := h.Load(files(")", "3"))
	if err != nil || third[0].Err == nil {
		t.Fatal(third, err)
	}
	broken := files("4", "4")
	broken[ParamsFile] = &fstest.MapFile{Data: []byte("[]"), Mode: 0o444}
	if _, err := h.Load(broken); err == nil || !strings.HasPrefix(err.Error(), "rules: params.json: expected a JSON object") {
		t.Fatal(err)
	}
	if x, y := ttl(first[0].Rule, one), ttl(third[1].Rule, one); x != 1 || y != 3 {
		t.Errorf("x is that of %d, y that of %d", x, y)
	}
	if _, err := second[1].Rule.Shards(one); err == nil || !strings.Contains(err.Error(), "there are newer ones") {
		t.Errorf("a rule that was replaced: %v", err)
	}
	if len(h.sets) != 2 {
		t.Errorf("%d sets are kept", len(h.sets))
	}
	if _, err := h.Load(files("5", "5")); err != nil || len(h.sets) != 1 {
		t.Errorf("%d sets are kept, %v", len(h.sets), err)
	}
}

// BenchmarkFleet evaluates the addresses of 100,000 servers afresh, and one that changed, in
// a child: by a rule of one line, and by the one of the examples, which has parameters.
// cpu-ms are of both processes, and what a busy machine tells best.
func BenchmarkFleet(b *testing.B) {
	plain := fstest.MapFS{"address.star": {Data: []byte("def server(s):\n    return address(s.name, s.addresses, ttl = s.ttl)\n"), Mode: 0o444}}
	one := wikimedia(b)[0]
	servers := make([]fleet.Server, 100_000)
	for i := range servers {
		servers[i] = one
		var err error
		if servers[i].Name, err = fleet.ParseName(fmt.Sprintf("cp%d.eqiad.wmnet", i)); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		files fs.FS
	}{{"plain", plain}, {"example", os.DirFS("../../examples/rules")}} {
		run := func(name string, op func(b *testing.B, r *remote)) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				h := NewHost()
				all, err := h.Load(c.files)
				if err != nil {
					b.Fatal(err)
				}
				before := processorTime(b)
				for b.Loop() {
					op(b, all[0].Rule.(*remote))
				}
				if err := h.Close(); err != nil { // after which the child's is counted
					b.Fatal(err)
				}
				b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		}
		claims := func(b *testing.B, r *remote, s fleet.Server) {
			if c, err := r.Claims("s."+s.ID(), func() []fleet.Server { return []fleet.Server{s} }); err != nil || len(c) == 0 {
				b.Fatal(c, err)
			}
		}
		run("100,000", func(b *testing.B, r *remote) {
			r.Ahead(servers)
			for _, s := range servers {
				if _, err := r.Shards(s); err != nil {
					b.Fatal(err)
				}
				claims(b, r, s)
			}
		})
		run("one", func(b *testing.B, r *remote) { claims(b, r, servers[7]) })
	}
}

// BenchmarkBuiltIn is BenchmarkFleet of the built-in rule, which needs no child.
func BenchmarkBuiltIn(b *testing.B) {
	all, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		b.Fatal(err)
	}
	one := []fleet.Server{wikimedia(b)[0]}
	for b.Loop() {
		for range 100_000 {
			shards, err := all[0].Shards(one[0])
			if err != nil {
				b.Fatal(err)
			}
			if c, err := all[0].Claims(shards[0], func() []fleet.Server { return one }); err != nil || len(c) == 0 {
				b.Fatal(c, err)
			}
		}
	}
}

// processorTime is what this process and its ended children have used.
func processorTime(b *testing.B) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
