package configurator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

func TestMain(m *testing.M) {
	sandbox.Main(map[string]func() (sandbox.Handler, error){compile.SandboxName: compile.SandboxHandler, script.SandboxName: script.SandboxHandler})
	os.Exit(m.Run())
}

// bench is a configurator that runs over a store and a repository.
type bench struct {
	*testing.T
	store store.Store
	dir   string
	cfg   Config
	stop  func()
	s     *Service

	considered []plan.Change
}

func newBench(t *testing.T) *bench {
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	b := &bench{T: t, store: st, dir: filepath.Join(t.TempDir(), "config.git")}
	b.cfg = DefaultConfig()
	b.cfg.Dir, b.cfg.SessionTTL = b.dir, time.Second
	return b
}

func (b *bench) start() {
	b.Helper()
	b.startOver(b.store)
}

func (b *bench) startOver(st store.Store) {
	b.Helper()
	s, err := New(b.cfg, Deps{
		Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Rules: rules.DefaultParams(),
		Consider: func(_ context.Context, changes []plan.Change, configs []plan.Config, _ bool) (*plan.Plan, error) {
			b.considered = changes
			var moves []plan.Move
			for _, c := range changes {
				moves = append(moves, plan.Moves(c)...)
			}
			return &plan.Plan{Configurations: configs, Digest: plan.DigestOf(configs, moves)}, nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	b.s = s
	b.stop = func() { cancel(); <-done }
	b.Cleanup(b.stop)
}

// desk waits until the service leads.
func (b *bench) desk() *Desk {
	b.Helper()
	var d *Desk
	b.eventually(func() (err error) { d, err = b.s.Desk(b.Context()); return err })
	return d
}

func (b *bench) eventually(f func() error) {
	b.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	b.Fatal(err)
}

// land proposes, approves and lands a change of files and waits until it is in force.
func (b *bench) land(who, title string, files map[string]string) (*review.Landing, int64) {
	b.Helper()
	d := b.desk()
	l, err := b.landOne(d, b.approved(d, who, title, files), who)
	if err != nil {
		b.Fatal(err)
	}
	rev, err := b.s.Landed(b.Context(), l.Commit)
	if err != nil {
		b.Fatal(err)
	}
	return l, rev
}

// approved proposes a change of files, which zoe approves.
func (b *bench) approved(d *Desk, who, title string, files map[string]string) int {
	b.Helper()
	p, err := d.Review.Propose(b.Context(), review.Act{Who: who}, review.Draft{Title: title, Reason: "because", Files: octets(files)})
	if err != nil {
		b.Fatal(err)
	}
	look, err := d.Review.Examine(b.Context(), p.Number)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := d.Review.Approve(b.Context(), p.Number, review.Act{Who: "zoe"}, look.Plan.Digest); err != nil {
		b.Fatal(err)
	}
	return p.Number
}

func (b *bench) landOne(d *Desk, n int, who string) (*review.Landing, error) {
	return d.Review.Land(b.Context(), n, review.Act{Who: who})
}

func tip(d *Desk) repo.Hash {
	h, err := d.Repo.Tip(context.Background())
	if err != nil {
		panic(err)
	}
	return h
}

func octets(files map[string]string) map[string][]byte {
	out := map[string][]byte{}
	for name, text := range files {
		out[name] = []byte(text)
		if text == "" {
			out[name] = nil
		}
	}
	return out
}

// zone is a program for a zone with some addresses of www.
func zone(apex string, addresses ...string) string {
	var sb strings.Builder
	fmt.Fprintf(&sb, `load("//zonecast.star", "a", "ns", "soa", "zone")

export(zone(
    %q,
    ttl = 300,
    soa = soa("ns1", "hostmaster", serial = 1, refresh = 2, retry_after = 3, expire = 4, minimum = 5),
    records = [
        ns("@", "ns1"),
        a("ns1", "192.0.2.53"),
`, apex)
	for i, x := range addresses {
		fmt.Fprintf(&sb, "        a(\"www%d\", %q),\n", i, x)
	}
	sb.WriteString("    ],\n))\n")
	return sb.String()
}

func (b *bench) claims(s record.Source) []record.Claim {
	b.Helper()
	claims, err := claimtree.Load(b.Context(), b.store, s)
	if err != nil {
		b.Fatal(err)
	}
	return claims
}

func (b *bench) configs() (*configtree.Fold, map[string]string) {
	b.Helper()
	nodes, rev, err := b.store.List(b.Context(), tree.Config)
	if err != nil {
		b.Fatal(err)
	}
	f := configtree.NewFold(func(string) bool { return true })
	f.Apply(store.Batch{Revision: rev, Reset: true, Puts: nodes})
	out := map[string]string{}
	for _, p := range f.Paths() {
		v, err := f.Get(p).Fetch(b.Context(), b.store)
		if err != nil {
			b.Fatal(err)
		}
		out[p] = string(v)
	}
	return f, out
}

func (b *bench) state() tree.Source {
	b.Helper()
	s, err := readState(b.Context(), b.store)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func TestWhatLandsIsInForce(t *testing.T) {
	b := newBench(t)
	b.start()
	if _, err := b.s.Landed(t.Context(), tip(b.desk())); err != nil {
		t.Fatal(err)
	}
	if nodes, _, err := b.store.List(t.Context(), "/"); err != nil || len(nodes) != 1 || nodes[0].Path != tree.ElectConfigurator {
		t.Errorf("with nothing landed the store has %v, %v", nodes, err)
	}
	l, rev := b.land("alice", "Add example.net", map[string]string{"zones/example.net.star": zone("example.net", "192.0.2.1", "192.0.2.2")})
	claims := b.claims("config/zones/example.net")
	if len(claims) != 5 {
		t.Fatalf("%d claims, want SOA, NS, ns1, www0, www1", len(claims))
	}
	for _, c := range claims {
		if c.Author != "alice" || c.Reason != "Add example.net" || c.Revision != l.Commit.String()[:12] || c.Source != "config/zones/example.net" {
			t.Errorf("%s: provenance %+v", c.Key, c.Provenance)
		}
		if c.Owner.String() == "www1.example.net." && c.Place != "zones/example.net.star:11" {
			t.Errorf("%s is from %s, want zones/example.net.star:11", c.Key, c.Place)
		}
	}
	f, configs := b.configs()
	head, headRev := f.Head()
	if head.Revision != l.Commit.String() || len(configs) != 1 || !strings.Contains(configs["zones/example.net"], "192.0.2.2") {
		t.Errorf("head %+v, configurations %v", head, configs)
	}
	if int64(headRev) != rev {
		t.Errorf("configurations are visible at revision %d, claims at %d", headRev, rev)
	}
	if s := b.state(); s.Revision != l.Commit.String()[:12] || s.Records != 5 || s.Error != "" || !strings.HasSuffix(s.Where, "config.git main") {
		t.Errorf("state %+v", s)
	}

	// Another file, and another record: what was there stays who brought it.
	second, _ := b.land("bob", "Third address", map[string]string{
		"zones/example.net.star": zone("example.net", "192.0.2.1", "192.0.2.3"),
		"zones/example.org.star": zone("example.org"),
	})
	by := map[string]string{}
	for _, c := range b.claims("config/zones/example.net") {
		by[c.Owner.String()+" "+c.Type.String()] = c.Author
	}
	want := map[string]string{"example.net. SOA": "alice", "example.net. NS": "alice", "ns1.example.net. A": "alice", "www0.example.net. A": "alice", "www1.example.net. A": "bob"}
	if !maps.Equal(by, want) {
		t.Errorf("authors %v, want %v", by, want)
	}
	if c := b.claims("config/zones/example.org"); len(c) != 3 || c[0].Author != "bob" {
		t.Errorf("example.org: %v", c)
	}
	if e := f.Get("zones/example.net"); e.Revision != l.Commit.String()[:12] {
		t.Errorf("entry %+v", e)
	}

	// A restart does nothing.
	_, before, err := b.store.List(t.Context(), tree.Claims)
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.start()
	if _, err := b.s.Landed(t.Context(), second.Commit); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{tree.Claims, tree.Config, tree.Sources} {
		nodes, _, err := b.store.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.Modified > before {
				t.Errorf("%s was written by a restart", n.Path)
			}
		}
	}

	// What goes is gone, with all it claimed.
	b.land("bob", "Away with it", map[string]string{"zones/example.org.star": ""})
	if c := b.claims("config/zones/example.org"); len(c) != 0 {
		t.Errorf("claims of a file that is gone: %v", c)
	}
	if _, configs := b.configs(); len(configs) != 1 {
		t.Errorf("configurations %v", slices.Collect(maps.Keys(configs)))
	}
}

func TestRulesLand(t *testing.T) {
	b := newBench(t)
	b.start()
	d := b.desk()
	propose := func(files map[string]string) error {
		_, err := d.Review.Propose(t.Context(), review.Act{Who: "alice"}, review.Draft{Title: "Rules", Reason: "because", Files: octets(files)})
		return err
	}
	for _, tt := range []struct {
		files map[string]string
		says  string
	}{
		{map[string]string{"rules/web.star": "def server(s):\n    return nonsense\n"}, "rules/web.star:2:12: undefined: nonsense"},
		{map[string]string{"rules/web.star": "def server(s):\n    return []\n", "rules/params.json": "[]"}, "params.json: expected a JSON object"},
	} {
		var bad *review.SourceError
		if err := propose(tt.files); !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: error %v, want %q", tt.files, err, tt.says)
		}
	}
	b.land("alice", "Rules", map[string]string{
		"rules/web.star": "load(\"lib/x.star\", \"x\")\ndef server(s):\n    return x\n", "rules/lib/x.star": "x = []\n",
		"rules/web_test.star": "def test_x():\n    equal(1, 1)\n", "rules/params.json": `{"ttl": 60}`, "rules/README": "<not a rule>",
		"zones/example.net.star": zone("example.net"),
	})
	_, configs := b.configs()
	const want = `{"files":{"lib/x.star":"x = []\n","params.json":"{\"ttl\": 60}","web.star":"load(\"lib/x.star\", \"x\")\ndef server(s):\n    return x\n"}}`
	if configs["rules"] != want {
		t.Errorf("rules are %s, want %s", configs["rules"], want)
	}
	f, _ := b.configs()
	if e := f.Get("rules"); e.Type != "zonecast.Rules" || !slices.Equal(e.Sources, []string{"rules/lib/x.star", "rules/params.json", "rules/web.star"}) {
		t.Errorf("entry %+v", e)
	}
	b.land("alice", "No rules", map[string]string{"rules/web.star": "", "rules/lib/x.star": "", "rules/params.json": "", "rules/web_test.star": "", "rules/README": ""})
	if _, configs := b.configs(); configs["rules"] != "" || configs["zones/example.net"] == "" {
		t.Errorf("configurations %v", configs)
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=carol", "-c", "user.email=carol@example.net"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A repository that is followed is landed as it is; a commit with a mistake leaves the one
// before in force, says where the mistake is, and the next one mends it. A branch that is
// rewritten is not taken.
func TestFollowing(t *testing.T) {
	origin := filepath.Join(t.TempDir(), "origin")
	git(t, ".", "init", "-q", "-b", "main", origin)
	commit := func(message string, files map[string]string) repo.Hash {
		t.Helper()
		for name, text := range files {
			p := filepath.Join(origin, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		git(t, origin, "add", "-A")
		git(t, origin, "commit", "-qm", message)
		h, err := repo.ParseHash(git(t, origin, "rev-parse", "HEAD"))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := commit("First", map[string]string{"zones/example.net.star": zone("example.net", "192.0.2.1")})
	b := newBench(t)
	b.cfg.Remote, b.cfg.Every = origin, time.Second
	b.start()
	d := b.desk()
	if d.Review != nil {
		t.Error("a repository that is followed has a review")
	}
	if _, err := b.s.Landed(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if c := b.claims("config/zones/example.net"); len(c) != 4 || c[3].Author != "carol" || c[3].Reason != "First" {
		t.Fatalf("claims %v", c)
	}
	bad := commit("Second", map[string]string{"zones/example.net.star": zone("example.net", "192.0.2.300")})
	fetch := func() {
		t.Helper()
		if _, err := d.Repo.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fetch()
	if _, err := b.s.Landed(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "zones/example.net.star:10:") {
		t.Errorf("landing of a mistake: %v", err)
	}
	if _, err := b.s.Landed(t.Context(), first); err != nil {
		t.Errorf("what landed before the mistake is in force, and it says %v", err)
	}
	b.eventually(func() error {
		if s := b.state(); !strings.HasPrefix(s.Error, "zones/example.net.star:10:") || s.Revision != first.String()[:12] {
			return fmt.Errorf("state %+v", s)
		}
		return nil
	})
	if c := b.claims("config/zones/example.net"); len(c) != 4 {
		t.Errorf("a mistake changed the claims: %v", c)
	}
	third := commit("Third", map[string]string{"zones/example.net.star": zone("example.net", "192.0.2.3"), "zones/example.org.star": zone("example.org")})
	fetch()
	if _, err := b.s.Landed(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if s := b.state(); s.Error != "" {
		t.Errorf("state %+v", s)
	}
	// Two commits at once: each change is its own author's.
	commit("Fourth", map[string]string{"zones/example.org.star": zone("example.org", "192.0.2.4")})
	fifth := commit("Fifth", map[string]string{"zones/example.net.star": zone("example.net", "192.0.2.5")})
	fetch()
	if _, err := b.s.Landed(t.Context(), fifth); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[record.Source]string{"config/zones/example.org": "Fourth", "config/zones/example.net": "Fifth"} {
		if c := b.claims(s); c[3].Reason != want {
			t.Errorf("%s: %q, want %q", c[3].Key, c[3].Reason, want)
		}
	}
	git(t, origin, "reset", "-q", "--hard", first.String())
	commit("Other", map[string]string{"zones/example.net.star": zone("example.net")})
	if _, err := d.Repo.Fetch(t.Context()); err == nil || d.Repo.Trouble() == nil {
		t.Error("a branch that was rewritten is fetched without an error")
	}
	b.eventually(func() error {
		if s := b.state(); !strings.Contains(s.Error, "rewritten by force") || s.Revision != fifth.String()[:12] {
			return fmt.Errorf("state %+v", s)
		}
		return nil
	})
}

// A repository that has not the commit whose configuration is in force is not landed.
func TestAnotherRepository(t *testing.T) {
	b := newBench(t)
	b.start()
	b.land("alice", "First", map[string]string{"zones/example.net.star": zone("example.net", "192.0.2.1")})
	b.stop()
	lost := b.dir
	b.cfg.Dir = filepath.Join(t.TempDir(), "other.git")
	b.start()
	b.eventually(func() error {
		if s := b.state(); !strings.Contains(s.Error, "which branch main of "+b.cfg.Dir+" does not have") || !strings.Contains(s.Error, "--configurator-adopt") {
			return fmt.Errorf("state %+v", s)
		}
		return nil
	})
	if _, configs := b.configs(); len(configs) != 1 {
		t.Errorf("configurations %v", configs)
	}
	b.stop()
	b.cfg.Adopt = git(t, b.cfg.Dir, "rev-parse", "main")
	b.start()
	b.land("bob", "Anew", map[string]string{"zones/example.org.star": zone("example.org")})
	if _, configs := b.configs(); len(configs) != 1 || configs["zones/example.org"] == "" {
		t.Errorf("configurations %v", configs)
	}
	if c := b.claims("config/zones/example.net"); len(c) != 0 {
		t.Errorf("claims of the other repository: %v", c)
	}
	b.stop()
	b.cfg.Dir, b.cfg.Adopt = lost, ""
	b.start()
	b.eventually(func() error {
		if s := b.state(); !strings.Contains(s.Error, "does not have") {
			return fmt.Errorf("state %+v", s)
		}
		return nil
	})
}

// flaky fails at the nth commit from now, which happens or not; then it works again.
type flaky struct {
	store.Store
	left   atomic.Int64
	happen bool
}

func (f *flaky) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if f.left.Add(-1) != 0 {
		return f.Store.Commit(ctx, txn)
	}
	if f.happen {
		if _, err := f.Store.Commit(ctx, txn); err != nil {
			return 0, err
		}
	}
	return 0, store.ErrUnavailable
}

// A landing of many files is visible at once, whichever commit of the store fails.
func TestLandingIsWholeOrNot(t *testing.T) {
	files := func(address string) map[string]string {
		all := map[string]string{}
		for i := range 60 {
			all[fmt.Sprintf("zones/z%02d.example.star", i)] = zone(fmt.Sprintf("z%02d.example", i), address)
		}
		return all
	}
	b := newBench(t)
	fl := &flaky{Store: b.store}
	b.startOver(fl)
	b.land("alice", "Many", files("192.0.2.1"))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type seen struct {
		rev  store.Revision
		what string
	}
	states := make(chan seen, 1000)
	go func() {
		defer close(states)
		fold := claimtree.NewFold()
		live := map[string]string{}
		for batch := range b.store.Watch(ctx, tree.Claims, 0) {
			changes, err := fold.Apply(batch)
			if err != nil {
				t.Error(err)
			}
			for _, c := range changes {
				delete(live, string(c.Source)+c.Shard)
				for _, k := range c.Claims {
					if strings.HasPrefix(k.Owner.String(), "www0.") {
						live[string(c.Source)+c.Shard] = netip.AddrFrom4([4]byte([]byte(k.Data[0]))).String()
					}
				}
			}
			count := map[string]int{}
			for _, v := range live {
				count[v]++
			}
			states <- seen{batch.Revision, fmt.Sprint(count)}
		}
	}()
	for i := range 7 {
		fl.happen = i%2 == 1
		address := fmt.Sprintf("192.0.2.%d", 10+i)
		fl.left.Store(int64(1 + i))
		b.land("bob", "Again", files(address))
		want := fmt.Sprintf("map[%s:60]", address)
		for s := range states {
			if s.what == want {
				break
			}
			if !strings.HasSuffix(s.what, ":60]") || strings.Count(s.what, ":") != 1 {
				t.Fatalf("landing %d: seen at revision %d: %s", i, s.rev, s.what)
			}
		}
	}
}

// A plan of other rules says what they would claim for the servers that there are, and for
// which they fail; what is agreed to does not depend on the servers.
func TestPlanOfRules(t *testing.T) {
	b := newBench(t)
	b.start()
	d := b.desk()
	server := func(i int) store.Op {
		s := fleet.Server{Name: record.Name(fmt.Sprintf("\x04web%d\x07example\x03net\x00", i)), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}, Role: "web", Site: "ams", Cluster: "web.ams", TTL: 300, Origin: "call"}
		return store.Op{Path: tree.ServerPath(s.Cluster, s.Name.String()), Value: s.Encode()}
	}
	put := func(ops ...store.Op) {
		t.Helper()
		if _, err := b.store.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
			t.Fatal(err)
		}
	}
	put(server(1), server(2), server(3))
	base := d.Repo.Empty()
	result, err := base.With(map[string][]byte{"rules/racks.star": []byte("def server(s):\n  if s.label == 'web2':\n    fail('no rack')\n  return cname('rack-' + s.name, s.name)\n")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Plan(t.Context(), base, result)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Fails) != 1 || !strings.Contains(p.Fails[0], "racks.star:3:9: server web2.example.net: fail: no rack") {
		t.Errorf("fails %q", p.Fails)
	}
	if c := b.considered; len(c) != 1 || c[0].Source != "rule/racks" || !c[0].Derived || len(c[0].Claims) != 2 || c[0].Claims[0].Place != "rules/racks.star:4, server web1.example.net" {
		t.Errorf("considered %+v", c)
	}
	// What the rule claims already does not change.
	put(claimtree.Ops("rule/racks", "server.web1", b.considered[0].Claims[:1]))
	put(server(4))
	again, err := d.Plan(t.Context(), base, result)
	if err != nil || again.Digest != p.Digest {
		t.Errorf("another digest with another server: %v", err)
	}
	if c := b.considered; len(c) != 1 || len(plan.Moves(c[0])) != 2 {
		t.Errorf("considered %+v", c)
	}
	// Where it fails, what it claimed before stays: that is no change.
	put(claimtree.Ops("rule/racks", "s.web2.example.net", []record.Claim{{
		RRset: record.NewRRset("\x04kept\x07example\x03net\x00", record.TypeTXT, 60, "\x01x"), Source: "rule/racks", Place: "rules/racks.star:9, server web2.example.net",
	}}))
	if _, err := d.Plan(t.Context(), base, result); err != nil {
		t.Fatal(err)
	}
	if c := b.considered; len(c) != 1 || len(c[0].Claims) != 4 || len(plan.Moves(c[0])) != 2 {
		t.Errorf("considered %+v", c)
	}
	put(store.Op{Path: claimtree.Path("rule/racks", "s.web2.example.net"), Delete: true})
	// Rules that go take their claims with them.
	gone, err := d.Plan(t.Context(), result, base)
	if err != nil || len(gone.Fails) != 0 {
		t.Fatal(gone, err)
	}
	if c := b.considered; len(c) != 1 || len(c[0].Claims) != 0 || len(c[0].Before) != 1 {
		t.Errorf("considered %+v", c)
	}
	// Where one goes that has the name of a built-in rule, that one takes over.
	result, err = base.With(map[string][]byte{"rules/address.star": []byte("def server(s):\n  return None\n")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = d.Plan(t.Context(), result, base); err != nil {
		t.Fatal(err)
	}
	if c := b.considered; len(c) != 1 || c[0].Source != "rule/address" || len(c[0].Claims) != 4 || c[0].Claims[3].Key.Owner.String() != "web4.example.net." {
		t.Errorf("considered %+v", c)
	}
}

// What is wrong is refused when it is proposed, with its place, and nothing of it lands: also
// what breaks files that are not in the proposal.
func TestBadProposals(t *testing.T) {
	b := newBench(t)
	b.start()
	landed, _ := b.land("alice", "Good", map[string]string{
		"types.thrift":   "struct Vip {\n  1: required string name\n}\n",
		"lib/vip.star":   "load(\"//types.thrift\", \"Vip\")\n\ndef vip(n):\n    return Vip(name = n)\n",
		"vips/web.star":  "load(\"//lib/vip.star\", \"vip\")\n\nexport(vip(\"web\"))\n",
		"zones/a.b.star": zone("a.b", "192.0.2.1"),
	})
	d := b.desk()
	for what, tt := range map[string]struct {
		files map[string]string
		says  string
	}{
		"a schema that breaks what is there": {
			map[string]string{"types.thrift": "struct Vip {\n  1: required string name\n  2: required i32 port\n}\n"}, "lib/vip.star:4:15: ",
		},
		"a type error deep in a helper": {
			map[string]string{"vips/web.star": "load(\"//lib/vip.star\", \"vip\")\n\nexport(vip(80))\n"}, "lib/vip.star:4:",
		},
		"a ring of loads": {
			map[string]string{"lib/vip.star": "load(\"//vips/web.star\", \"x\")\n"}, "vips/web.star",
		},
		"a validator that loops": {
			map[string]string{"Vip.validate.star": "def validate(v):\n    for i in range(1000000000):\n        pass\n"}, "Vip.validate.star:",
		},
		"a zone without its SOA": {
			map[string]string{"zones/a.b.star": "load(\"//zonecast.star\", \"a\", \"zone\")\n\nexport(zone(\"a.b\", records = [a(\"www\", \"192.0.2.1\")]))\n"}, "zones/a.b.star:3:",
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := d.Review.Propose(t.Context(), review.Act{Who: "alice"}, review.Draft{Title: what, Reason: "because", Files: octets(tt.files)})
			var bad *review.SourceError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one at %s", err, tt.says)
			}
		})
	}
	if got := tip(d); got != landed.Commit {
		t.Errorf("the branch is at %s, want %s", got, landed.Commit)
	}
	if _, configs := b.configs(); len(configs) != 2 {
		t.Errorf("configurations %v", configs)
	}
}
