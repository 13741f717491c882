package mutator

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

// failures gives what is written of where rules fail, by path below tree.Failures.
func failures(t *testing.T, st store.Store) map[string]tree.Failure {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.Failures)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]tree.Failure{}
	for _, n := range nodes {
		var f tree.Failure
		if err := tree.Decode(n, &f); err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(n.Path, tree.Failures)] = f
	}
	return all
}

const racks = `
def server(s):
    if s.options.get("port") == "7":
        fail("no rack")
    return cname("rack-" + s.name, s.name, ttl = s.ttl)

def groups(s):
    if s.options.get("port") == "8":
        fail("no site")
    return s.site

def group(g):
    return txt(g.name + ".example.net", str(len(g.servers)))
`

// TestFailingRule has a rule that fails for 1 % of the servers: the others move, what it
// claimed for those stays, and each is written with its error and since when, also by the
// process that leads next. It goes when the rule fails no more.
func TestFailingRule(t *testing.T) {
	d := &rulesDir{t: t, dir: t.TempDir()}
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		use := func(c *Config) { c.RulesDir = d.dir }
		const n = 300
		servers := make([]fleet.Server, n)
		for i := range servers {
			servers[i] = web(i, nil)
		}
		for some := range slices.Chunk(servers, 100) {
			put(t, st, some...)
		}
		d.write("racks.star", racks)
		stop := run(t, st, use)
		d.settle()
		if got := failures(t, st); len(got) != 0 {
			t.Fatalf("%+v", got)
		}
		began := time.Now().UnixMilli()
		for i := range servers {
			servers[i] = web(i, func(s *fleet.Server) {
				s.TTL = 60
				if i%100 == 7 {
					s.Options = map[string]string{"port": "7"}
				}
			})
		}
		for some := range slices.Chunk(servers, 100) {
			put(t, st, some...)
		}
		d.settle()
		moved := 0
		for _, c := range claimed(t, st, "rule/racks") {
			if strings.Contains(c, " 60 CNAME") {
				moved++
			}
		}
		if moved != n-3 || len(claimed(t, st, "rule/racks")) != n+1 {
			t.Errorf("%d of %d moved; all claims are %d", moved, n, len(claimed(t, st, "rule/racks")))
		}
		before := failures(t, st)
		if got := slices.Sorted(maps.Keys(before)); !slices.Equal(got, []string{"rule/racks/s.web107.example.net", "rule/racks/s.web207.example.net", "rule/racks/s.web7.example.net"}) {
			t.Errorf("it fails at %q", got)
		}
		if f := before["rule/racks/s.web7.example.net"]; f.Server != "web7.example.net" || f.Shard != "s.web7.example.net" || f.Since < began || f.Since > began+2000 ||
			f.Error != "racks.star:4:13: server web7.example.net: fail: no rack" {
			t.Errorf("%+v", f)
		}
		s := sourceOf(t, st, "rule/racks")
		if s.Failing != 3 || s.Since < began || !strings.Contains(s.Error, "racks.star:4:13: server web107.example.net: fail: no rack (and 2 more)") {
			t.Errorf("source %+v", s)
		}

		stop()
		time.Sleep(time.Hour)
		stop = run(t, st, use)
		defer func() { stop() }()
		d.settle()
		if diff := cmp.Diff(before, failures(t, st)); diff != "" {
			t.Errorf("failures of another process (-before +now):\n%s", diff)
		}
		if now := sourceOf(t, st, "rule/racks"); now.Since != s.Since {
			t.Errorf("it fails since %d, now since %d", s.Since, now.Since)
		}

		put(t, st, web(8, func(s *fleet.Server) { s.Options = map[string]string{"port": "8"} }), web(7, nil))
		d.settle()
		after := failures(t, st)
		if f, lost := after["rule/racks/@groups.web8.example.net"]; !lost || f.Shard != "" || f.Server != "web8.example.net" || !strings.Contains(f.Error, "racks.star:9:13: groups of server web8.example.net: fail: no site") {
			t.Errorf("%+v", after)
		}
		if _, still := after["rule/racks/s.web7.example.net"]; still || len(after) != 3 {
			t.Errorf("%+v", after)
		}
		d.write("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name)\n")
		if got := failures(t, st); len(got) != 0 {
			t.Errorf("mended, and it fails at %+v", got)
		}
		if s := sourceOf(t, st, "rule/racks"); s.Failing != 0 || s.Since != 0 || s.Error != "" {
			t.Errorf("mended: %+v", s)
		}
		d.remove("racks.star")
		if s := sourceOf(t, st, "rule/racks"); s.Source != "" {
			t.Errorf("gone: %+v", s)
		}
	})
}

// TestManyFailures are counted, and not all written.
func TestManyFailures(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		files := fstest.MapFS{"x.star": {Data: []byte("def server(s):\n  fail('" + strings.Repeat("long ", 1000) + "')\n"), Mode: 0o444}}
		m := newMutator(t, st, func(c *Config) { c.RulesDir = t.TempDir() })
		m.host = given{files: files}
		(&rulesDir{t: t, dir: m.cfg.RulesDir}).write("x.star", "")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.Run(ctx) }()
		defer func() { cancel(); <-done }()
		for i := range maxFailures + 10 {
			put(t, st, web(i, nil))
		}
		time.Sleep(2 * sourcesInterval)
		all := failures(t, st)
		for _, f := range all {
			if len(f.Error) > maxError+4 {
				t.Fatalf("an error of %d octets", len(f.Error))
			}
		}
		if s := sourceOf(t, st, "rule/x"); len(all) != maxFailures || s.Failing != maxFailures+10 {
			t.Errorf("%d are written, %d are said", len(all), s.Failing)
		}
		var metric dto.Metric
		if err := m.metrics.failing.WithLabelValues("rule/x").Write(&metric); err != nil {
			t.Fatal(err)
		}
		if got := metric.Gauge.GetValue(); got != maxFailures+10 {
			t.Errorf("the metric says %v", got)
		}
	})
}

// given evaluates rules here, whatever the directory has, as change makes of them.
type given struct {
	here
	files  fs.FS
	change func(script.Rule) script.Rule
}

func (g given) Load(fs.FS) ([]script.Loaded, error) {
	all, err := script.Load(g.files)
	for i := range all {
		if g.change != nil {
			all[i].Rule = g.change(all[i].Rule)
		}
	}
	return all, err
}

// moody is a rule that cannot be evaluated for a while.
type moody struct {
	script.Rule
	until time.Time
}

func (m moody) err() error {
	if time.Now().Before(m.until) {
		return fmt.Errorf("it rests: %w", script.ErrLater)
	}
	return nil
}

func (m moody) Shards(s fleet.Server) ([]string, error) {
	if err := m.err(); err != nil && s.ID() == "web1.example.net" {
		return nil, err
	}
	return m.Rule.Shards(s)
}

func (m moody) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	if err := m.err(); err != nil {
		return nil, err
	}
	return m.Rule.Claims(shard, members)
}

// TestTriedAgain holds that what failed for a while is evaluated when that is over, though
// nothing changes.
func TestTriedAgain(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMutator(t, st, func(c *Config) { c.RulesDir = t.TempDir() })
		(&rulesDir{t: t, dir: m.cfg.RulesDir}).write("x.star", "")
		until := time.Now().Add(time.Minute)
		m.host = given{
			files:  fstest.MapFS{"x.star": {Data: []byte("def server(s):\n  return cname('x-' + s.name, s.name)\n"), Mode: 0o444}},
			change: func(r script.Rule) script.Rule { return moody{r, until} },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.Run(ctx) }()
		defer func() { cancel(); <-done }()
		put(t, st, web(1, nil), web(2, nil))
		time.Sleep(30 * time.Second)
		if got := claimed(t, st, "rule/x"); len(got) != 0 || len(failures(t, st)) != 2 {
			t.Fatalf("claims %q, failures %+v", got, failures(t, st))
		}
		time.Sleep(time.Minute)
		if got := claimed(t, st, "rule/x"); len(got) != 2 || len(failures(t, st)) != 0 {
			t.Errorf("claims %q, failures %+v", got, failures(t, st))
		}
	})
}

// TestRulesBeforeServers holds that rules which change before the servers were read take
// nothing for gone.
func TestRulesBeforeServers(t *testing.T) {
	d := &rulesDir{t: t, dir: t.TempDir()}
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		use := func(c *Config) { c.RulesDir = d.dir }
		put(t, st, web(1, nil))
		d.write("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name)\n")
		stop := run(t, st, use)
		d.settle()
		stop()
		before, rev := claims(t, st)
		r := newTerm(newMutator(t, st, use), noFence)
		if _, err := r.openLanded(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.readRules()
		if err := r.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.write("racks.star", "def server(s):\n  return cname('r-' + s.name, s.name)\n")
		for _, f := range []func(context.Context) error{r.changeRules, r.again, r.report} {
			if err := f(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		after, now := claims(t, st)
		if diff := cmp.Diff(before, after); diff != "" || rev != now || len(claimed(t, st, "rule/racks")) != 1 || sourceOf(t, st, "rule/racks").Source == "" {
			t.Errorf("something is written or gone: %s", diff)
		}
	})
}

// TestDirectoryAndLanded: a directory takes the place of rules that landed, and that is said
// once.
func TestDirectoryAndLanded(t *testing.T) {
	d := &rulesDir{t: t, dir: t.TempDir()}
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		var log bytes.Buffer
		cfg := DefaultConfig()
		cfg.Fresh.Interval, cfg.RulesDir = 0, d.dir
		m, err := New(cfg, Deps{Store: st, Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: prometheus.NewRegistry(), Rules: here{}})
		if err != nil {
			t.Fatal(err)
		}
		w, err := configtree.Open(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Land(t.Context(), configtree.Landing{Revision: "r", All: true, Put: []configtree.Config{{
			Path: "rules", Type: "zonecast.Rules", Revision: "r",
			Value: []byte(`{"files":{"landed.star":"def server(s):\n  return cname('landed-' + s.name, s.name)\n"}}`),
		}}}); err != nil {
			t.Fatal(err)
		}
		put(t, st, web(1, nil))
		d.write("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name)\n")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.Run(ctx) }()
		d.settle()
		cancel()
		<-done
		if got := len(claimed(t, st, "rule/racks")); got != 1 || len(claimed(t, st, "rule/landed")) != 0 {
			t.Errorf("%d claims of the directory, %q", got, claimed(t, st, "rule/landed"))
		}
		if n := strings.Count(log.String(), "rules landed and are not taken"); n != 1 {
			t.Errorf("said %d times:\n%s", n, &log)
		}
	})
}

// TestRulesAreKnownFromTheStart holds that the states of rules do not wait for a clock: who
// looks right after the start sees them all.
func TestRulesAreKnownFromTheStart(t *testing.T) {
	bubble(t, nil, func(t *testing.T, st *memstore.Store) {
		synctest.Wait()
		nodes, _, err := st.List(t.Context(), tree.Sources)
		if err != nil {
			t.Fatal(err)
		}
		builtIn, err := rules.BuiltIn(rules.DefaultParams())
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) != len(builtIn) {
			t.Errorf("%d states of %d rules", len(nodes), len(builtIn))
		}
	})
}
