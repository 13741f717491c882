package mapper_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/mapper"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rtt"
	"github.com/zonecast/zonecast/store"
)

// world is a store, a directory of a beacon, and a mapper, in a bubble of time.
type world struct {
	t    *testing.T
	st   *memstore.Store
	dir  string
	cfg  mapper.Config
	m    *mapper.Mapper
	reg  *prometheus.Registry
	stop func()
	// client is that of the mapper; nil: its own.
	client *http.Client
}

const cycle = 30 * time.Second

// in runs a test in a bubble of time. The directory is made outside: it outlives it.
func in(t *testing.T, do func(*world)) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		w := &world{t: t, st: memstore.New(), dir: dir, cfg: mapper.DefaultConfig()}
		defer w.st.Close()
		w.cfg.RTT, w.cfg.Uses, w.cfg.Headroom = []string{dir}, []string{"www.example.net", "*.cdn.example.net"}, 0
		w.pop("esams", 52.3, 4.9, 100)
		w.pop("eqiad", 39.0, -77.5, 100)
		w.pop("eqsin", 1.3, 103.8, 100)
		do(w)
		if w.stop != nil {
			w.stop()
		}
	})
}

func (w *world) change(name string, do func(*tree.PoP)) {
	w.t.Helper()
	_, _, err := steering.Do(context.Background(), w.st, name, steering.Change{Action: "test", Apply: func(p *tree.PoP, _ bool) error { do(p); return nil }}, steering.By{Author: "alice", Reason: "test", From: "test"}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pop(name string, latitude, longitude, capacity float64) {
	w.t.Helper()
	w.change(name, func(p *tree.PoP) { p.Latitude, p.Longitude, p.Capacity = latitude, longitude, capacity })
}

// start starts a mapper, in the place of one that runs.
func (w *world) start() {
	w.t.Helper()
	if w.stop != nil {
		w.stop()
	}
	w.reg = prometheus.NewRegistry()
	m, err := mapper.New(w.cfg, mapper.Deps{Store: w.st, Log: slog.New(slog.DiscardHandler), Metrics: w.reg, Name: "test", Client: w.client})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	w.m, w.stop = m, func() { cancel(); <-done }
	w.pass(time.Second)
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// measures are round-trip times to esams, eqiad and eqsin in milliseconds, of 20 clients each; 0
// was not measured. demand is page loads.
type measures struct {
	kind   rtt.Kind
	prefix string
	demand uint64
	ms     [3]float64
}

// measured writes a table as of now.
func (w *world) measured(name string, all ...measures) {
	w.t.Helper()
	w.table(name, func(t *rtt.Table) {
		for _, m := range all {
			k := rtt.Key{Kind: m.kind, Prefix: netip.MustParsePrefix(m.prefix)}
			if err := t.AddDemand(k, m.demand, 0, time.Now()); err != nil {
				w.t.Fatal(err)
			}
			for j, pop := range []string{"esams", "eqiad", "eqsin"} {
				for client := range uint64(20) {
					if m.ms[j] > 0 {
						w.add(t, k, pop, m.ms[j], client)
					}
				}
			}
		}
	})
}

func (w *world) add(t *rtt.Table, k rtt.Key, pop string, ms float64, client uint64) {
	w.t.Helper()
	if err := t.Add(rtt.Measurement{Key: k, PoP: pop, RTT: time.Duration(ms * float64(time.Millisecond)), Client: client, At: time.Now()}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) table(name string, fill func(*rtt.Table)) {
	w.t.Helper()
	t := rtt.New(rtt.Limit{})
	fill(t)
	f, err := os.Create(filepath.Join(w.dir, name+rtt.Suffix))
	if err == nil {
		_, err = t.WriteTo(f)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// claimed gives the maps that are claimed.
func (w *world) claimed() []geo.Map {
	w.t.Helper()
	claims, err := claimtree.Load(context.Background(), w.st, "map/users")
	if err != nil {
		w.t.Fatal(err)
	}
	var rrsets []record.RRset
	for _, c := range claims {
		if _, err := geo.PartOf(c.Key); err == nil {
			rrsets = append(rrsets, c.RRset)
		}
		if c.Author != "mapper" || c.Reason == "" && !c.Fallback {
			w.t.Errorf("%s: author %q, reason %q", c.Key, c.Author, c.Reason)
		}
	}
	maps, _, err := geo.ParseMaps(rrsets)
	if err != nil {
		w.t.Fatal(err)
	}
	return maps
}

// at is the order for an address in map number i.
func (w *world) at(i int, address string) string {
	w.t.Helper()
	maps := w.claimed()
	if i >= len(maps) {
		return ""
	}
	best := geo.Entry{}
	for _, e := range maps[i].Entries {
		if e.Prefix.Contains(netip.MustParseAddr(address)) && (!best.Prefix.IsValid() || e.Prefix.Bits() > best.Prefix.Bits()) {
			best = e
		}
	}
	return string(best.Location)
}

func (w *world) want(address, order string) {
	w.t.Helper()
	if got := w.at(0, address); got != order {
		w.t.Errorf("%s is served by %q, expected %q", address, got, order)
	}
}

func (w *world) source() tree.Source {
	w.t.Helper()
	var s tree.Source
	n, err := w.st.Get(context.Background(), tree.SourcePath("map/users"))
	if err != nil {
		return s
	}
	if err := tree.Decode(n, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// revision is the store's.
func (w *world) revision() int64 {
	w.t.Helper()
	_, rev, err := w.st.List(context.Background(), tree.Claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return int64(rev)
}

var (
	europe  = measures{rtt.Client, "192.0.2.0/24", 50, [3]float64{10, 95, 170}}
	america = measures{rtt.Client, "198.51.100.0/24", 50, [3]float64{90, 12, 220}}
	asia    = measures{rtt.Client, "2001:db8::/48", 20, [3]float64{170, 230, 15}}
)

// From measurements to claims: everybody is served by the nearest, and the next one takes over. Without
// a change nothing is written, also by the next process. A PoP that slows down loses its users
// within two cycles.
func TestFollowsMeasurements(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, america, asia)
		w.start()
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		w.want("198.51.100.1", "eqiad/esams/eqsin")
		w.want("2001:db8::1", "eqsin/esams/eqiad")
		if s := w.source(); s.Error != "" || s.Records == 0 || s.Revision == "" {
			t.Errorf("source %+v", s)
		}
		uses := w.claimed()[0].Uses
		if len(uses) != 4 || !slices.ContainsFunc(uses, func(u geo.Use) bool { return u.Below && u.Kind == geo.ByResolver }) {
			t.Errorf("uses %v, expected two names by subnet and by resolver", uses)
		}
		before := w.revision()
		w.pass(10 * cycle)
		w.start()
		w.pass(3 * cycle)
		if now := w.revision(); now != before {
			// The election's node is written, and nothing else.
			changed, _, err := w.st.List(context.Background(), tree.Claims+"map/users/")
			for _, n := range changed {
				if int64(n.Modified) > before {
					t.Errorf("%s was written again (%v)", n.Path, err)
				}
			}
		}
		w.measured("a@2", measures{rtt.Client, "192.0.2.0/24", 50, [3]float64{150, 95, 170}}, america, asia)
		w.measured("a@3", measures{rtt.Client, "192.0.2.0/24", 50, [3]float64{150, 95, 170}}, america, asia)
		w.cfg.Enough = 20
		w.start()
		w.pass(2 * cycle)
		w.want("192.0.2.1", "eqiad/esams/eqsin")
		if r := w.m.Report(); !r.Leading || r.Trouble != "" || r.Prefixes != 3 || r.Churn.Moved < 0.3 {
			t.Errorf("report %+v", r)
		}
	})
}

// A prefix that a longer one is in is at home where its own addresses are, however few entries the map
// has: it does not move for a gain below the threshold.
func TestNested(t *testing.T) {
	in(t, func(w *world) {
		outer := measures{rtt.Client, "10.0.0.0/16", 5, [3]float64{40, 60, 250}}
		inner := measures{rtt.Client, "10.0.0.0/17", 5, [3]float64{90, 15, 230}}
		many := asia
		many.demand = 90
		w.measured("a@1", outer, inner, many)
		w.start()
		w.want("10.0.0.1", "eqiad/esams/eqsin")
		w.want("10.0.128.1", "esams/eqiad/eqsin")
		outer.ms = [3]float64{45, 43, 250}
		w.measured("a@1", outer, inner, many)
		w.pass(2 * cycle)
		w.want("10.0.0.1", "eqiad/esams/eqsin")
		w.want("10.0.128.1", "esams/eqiad/eqsin")
		if r := w.m.Report(); r.Churn.Moved != 0 {
			t.Errorf("%+v, expected that nobody moves", r.Churn)
		}
	})
}

// A drained PoP moves its own users at once, and theirs alone; when none is open the map stays.
func TestDrain(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, america, asia)
		w.start()
		w.change("esams", func(p *tree.PoP) { p.Drained = true })
		w.pass(time.Second) // not a whole cycle
		w.want("192.0.2.1", "eqiad/eqsin")
		w.want("198.51.100.1", "eqiad/eqsin")
		w.want("2001:db8::1", "eqsin/eqiad")
		w.stop() // one after the other, and nobody looks between
		w.stop = nil
		for _, name := range []string{"eqiad", "eqsin"} {
			w.change(name, func(p *tree.PoP) { p.Capacity = 0 })
		}
		w.start()
		w.pass(time.Second)
		w.want("192.0.2.1", "eqiad/eqsin")
		if s := w.source(); !strings.Contains(s.Error, "no PoP is open") || w.m.Trouble() != s.Error || s.Since == 0 {
			t.Errorf("source %+v, trouble %q", s, w.m.Trouble())
		}
		w.change("esams", func(p *tree.PoP) { p.Drained = false })
		w.pass(time.Second)
		w.want("198.51.100.1", "esams")
		if s := w.source(); s.Error != "" || w.m.Trouble() != "" {
			t.Errorf("source %+v, trouble %q", s, w.m.Trouble())
		}
	})
}

// What was wrong is taken back when the inputs are again what they were.
func TestInputsAsBefore(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, america, asia)
		w.change("eqiad", func(p *tree.PoP) { p.Drained = true })
		w.change("eqsin", func(p *tree.PoP) { p.Drained = true })
		w.start()
		w.want("192.0.2.1", "esams")
		w.change("esams", func(p *tree.PoP) { p.Drained = true })
		w.pass(time.Second)
		if s := w.source(); !strings.Contains(s.Error, "no PoP is open") {
			t.Errorf("source %+v", s)
		}
		w.change("esams", func(p *tree.PoP) { p.Drained = false })
		w.pass(2 * cycle)
		if s := w.source(); s.Error != "" || w.m.Trouble() != "" {
			t.Errorf("source %+v, trouble %q, expected neither", s, w.m.Trouble())
		}
	})
}

// One liar among many, and one alone, move nobody.
func TestLiars(t *testing.T) {
	in(t, func(w *world) {
		w.table("a@1", func(tab *rtt.Table) {
			k := rtt.Key{Kind: rtt.Client, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
			for client := range uint64(10) {
				w.add(tab, k, "esams", 10, client)
				w.add(tab, k, "eqiad", 95, client)
				w.add(tab, k, "eqsin", 170, client)
			}
			for range 9 {
				w.add(tab, k, "eqsin", 1, 11) // fewer than half
			}
			alone := rtt.Key{Kind: rtt.Client, Prefix: netip.MustParsePrefix("198.51.100.0/24")}
			for range 1000 {
				w.add(tab, alone, "eqsin", 1, 12) // one client, often
			}
			for _, key := range []rtt.Key{k, alone} {
				if err := tab.AddDemand(key, 10, 0, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		})
		w.start()
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		w.want("198.51.100.1", "esams/eqiad/eqsin")
		if r := w.m.Report(); r.Thin != 1 {
			t.Errorf("%d thin times, expected 1", r.Thin)
		}
	})
}

// Inputs that are missing, too old, or damaged leave the map as it is, and it is said.
func TestInputsMissing(t *testing.T) {
	in(t, func(w *world) {
		const cycle = 10 * time.Minute
		w.cfg.Every = cycle
		w.start()
		w.pass(cycle)
		if maps := w.claimed(); len(maps) != 0 || !strings.Contains(w.source().Error, "nothing was measured in the last 24h0m0s") {
			t.Errorf("maps %v, source %+v", maps, w.source())
		}
		w.measured("a@1", europe, america)
		w.pass(cycle)
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		// One file of two is damaged: the other counts.
		if err := os.WriteFile(filepath.Join(w.dir, "b@1"+rtt.Suffix), []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.measured("c@1", asia)
		w.pass(cycle)
		w.want("2001:db8::1", "eqsin/esams/eqiad")
		if r := w.m.Report(); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "b@1.rtt") {
			t.Errorf("warnings %q", r.Warnings)
		}
		// Beacons are silent.
		w.pass(2 * time.Hour)
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		if s := w.source(); !strings.Contains(s.Error, "are beacons running?") {
			t.Errorf("source %+v", s)
		}
		if n := testutil.ToFloat64(gauge(t, w.reg, "zonecast_mapper_measurement_age_seconds")); n < 7000 {
			t.Errorf("age %v s", n)
		}
		w.pass(23 * time.Hour)
		if s := w.source(); !strings.Contains(s.Error, "no round-trip times") || len(w.claimed()) != 1 {
			t.Errorf("source %+v", s)
		}
		// Nobody has demand any more: the loads are not known.
		idle := europe
		idle.demand = 0
		w.measured("a@2", idle)
		w.pass(cycle)
		if s := w.source(); !strings.Contains(s.Error, "nobody has any demand") || len(w.claimed()) != 1 {
			t.Errorf("source %+v", s)
		}
	})
}

// gauge reads a metric.
func gauge(t *testing.T, reg *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "copy"})
	for _, f := range all {
		if f.GetName() == name {
			g.Set(f.Metric[0].GetGauge().GetValue())
		}
	}
	return g
}

// Resolvers have a map of their own; clients and resolvers share the capacity. Who is not measured
// as a resolver is served as its clients are.
func TestResolvers(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, measures{rtt.Resolver, "192.0.2.0/24", 50, [3]float64{95, 9, 200}}, measures{rtt.Resolver, "203.0.113.0/24", 10, [3]float64{180, 240, 15}}, asia)
		w.start()
		maps := w.claimed()
		if len(maps) != 2 || maps[0].Name != "users" || maps[1].Name != "users-resolvers" || len(maps[0].Uses) != 2 || len(maps[1].Uses) != 2 {
			t.Fatalf("maps %+v", maps)
		}
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		for address, want := range map[string]string{"192.0.2.1": "eqiad/esams/eqsin", "203.0.113.1": "eqsin/esams/eqiad", "2001:db8::1": "eqsin/esams/eqiad"} {
			if got := w.at(1, address); got != want {
				t.Errorf("resolver %s is served by %q, expected %q", address, got, want)
			}
		}
	})
}

// The maps of a dataset beside the first are in its own zone, and are followed there by the next mapper.
func TestDataset(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, asia)
		w.cfg.Dataset = "edge"
		w.start()
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		claims, err := claimtree.Load(t.Context(), w.st, "map/users")
		if err != nil || len(claims) < 4 {
			t.Fatalf("%d claims, %v", len(claims), err)
		}
		for _, c := range claims {
			if zone := datasets.MapsZone("edge"); !c.Owner.IsSubdomainOf(zone) {
				t.Errorf("%s is not in %s", c.Key, zone)
			}
		}
	})
}

// Pins by prefix, AS and country, and demand from a file; each mistake names file and line.
func TestPinsAndDemand(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, america)
		w.cfg.PinsFile, w.cfg.DemandFile = filepath.Join(w.dir, "pins.csv"), filepath.Join(w.dir, "demand.csv")
		put := func(file, text string) {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		put(w.cfg.PinsFile, "match,pop\n# moved by hand\n192.0.2.0/25,eqsin\n192.0.2.0/24,eqiad\nAS64500,eqsin\nNL,gone\n")
		put(w.cfg.DemandFile, "prefix,weight\n192.0.2.0/25,7\n198.51.100.0/24,1\n192.0.2.128/25,2\n")
		w.start()
		w.want("192.0.2.1", "eqsin/esams/eqiad")
		w.want("192.0.2.200", "eqiad/esams/eqsin")
		w.want("198.51.100.1", "eqiad/esams/eqsin")
		if f := w.m.Report().Figures; f.Demand != 10 {
			t.Errorf("demand %v, expected 10", f.Demand)
		}
		x, ok := w.m.Explain(netip.MustParseAddr("192.0.2.1"), false)
		if !ok || x.Why != "pinned to eqsin" || x.Prefix != "192.0.2.0/25" {
			t.Errorf("%+v", x)
		}
		for text, want := range map[string]string{
			"192.0.2.0/24,a\n192.0.2.0/24,b\n": "pins.csv:2: 192.0.2.0/24 is on line 1 already",
			"AS0,a\n":                          "pins.csv:1: AS0 is no autonomous system",
			"AS99999999999,a\n":                "is no autonomous system",
			"Netherlands,a\n":                  `match is "Netherlands", expected a prefix`,
			"192.0.2.0/24,a b\n":               `PoP: name is "a b"`,
			"192.0.2.0/24\n":                   "wrong number of fields, expected match,pop",
		} {
			put(w.cfg.PinsFile, text)
			w.pass(cycle)
			if s := w.source(); !strings.Contains(s.Error, want) {
				t.Errorf("%q: %q, expected %q", text, s.Error, want)
			}
		}
		w.want("192.0.2.1", "eqsin/esams/eqiad")
		put(w.cfg.PinsFile, "192.0.2.0/24,gone\n")
		w.pass(cycle)
		if r := w.m.Report(); r.Trouble != "" || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "there are not: gone") {
			t.Errorf("report %+v", r)
		}
	})
}

// Why an address is served where it is: nearest, full, stays, stranger.
func TestExplain(t *testing.T) {
	in(t, func(w *world) {
		near := europe
		near.prefix, near.ms = "192.0.3.0/24", [3]float64{10, 60, 170}
		w.measured("a@1", europe, america, near)
		w.change("esams", func(p *tree.PoP) { p.Capacity = 60 })
		w.start()
		for address, want := range map[string]string{
			"192.0.2.1": "esams is the nearest that is open", "192.0.3.1": "esams would be 50.", "203.0.113.1": "in no prefix that was measured",
		} {
			if x, ok := w.m.Explain(netip.MustParseAddr(address), false); !ok || !strings.HasPrefix(x.Why, want) || len(x.Order) != 3 {
				t.Errorf("%s: %+v, expected %q", address, x, want)
			}
		}
		get := func(query string) (int, string) {
			rec := httptest.NewRecorder()
			w.m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/mapper"+query, http.NoBody))
			return rec.Code, rec.Body.String()
		}
		if code, body := get("?address=::ffff:192.0.2.1&resolver=1"); code != 200 || !strings.Contains(body, `"kind":"resolver","demand":50,"order":["esams"`) {
			t.Errorf("%d %s", code, body)
		}
		if code, body := get("?address=host"); code != 400 || !strings.Contains(body, `address is "host", expected one such as`) {
			t.Errorf("%d %s", code, body)
		}
		code, body := get("")
		var r mapper.Report
		if err := json.Unmarshal([]byte(body), &r); err != nil || code != 200 || len(r.PoPs) != 3 || r.PoPs[2].Name != "esams" || r.PoPs[2].Load != 50 {
			t.Errorf("%d %s", code, body)
		}
		// Without prices no PoP is taken for closed.
		w.cfg.Algorithm = "argmin"
		w.start()
		if x, ok := w.m.Explain(netip.MustParseAddr("192.0.2.1"), false); !ok || slices.ContainsFunc(x.PoPs, func(c mapper.Choice) bool { return c.Price != 0 }) {
			t.Errorf("%+v, expected no prices", x)
		}
		// Who leads no longer knows nothing.
		w.stop()
		w.stop = nil
		if _, ok := w.m.Explain(netip.MustParseAddr("192.0.2.1"), false); ok || w.m.Report().Leading {
			t.Errorf("%+v of a mapper that does not lead", w.m.Report())
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The users of a beacon that is away stay where they are, until what it said is too old.
func TestBeaconAway(t *testing.T) {
	in(t, func(w *world) {
		w.measured("far", asia)
		far := filepath.Join(w.dir, "far"+rtt.Suffix)
		b, err := os.ReadFile(far)
		if err == nil {
			err = os.Remove(far)
		}
		if err != nil {
			t.Fatal(err)
		}
		var away atomic.Bool
		w.client = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			if away.Load() {
				return nil, errors.New("connection refused")
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(b))}, nil
		})}
		w.cfg.RTT = append(w.cfg.RTT, "http://beacon.example.net/rtt")
		w.cfg.MaxAge = time.Hour
		w.measured("a@1", europe, america)
		w.start()
		w.want("2001:db8::1", "eqsin/esams/eqiad")
		away.Store(true)
		w.pass(30 * time.Minute)
		w.measured("a@2", europe, america)
		w.pass(2 * cycle)
		w.want("2001:db8::1", "eqsin/esams/eqiad")
		if r := w.m.Report(); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "connection refused") {
			t.Errorf("warnings %q", r.Warnings)
		}
		w.pass(31 * time.Minute)
		w.measured("a@3", europe, america)
		w.pass(2 * cycle)
		if got := w.at(0, "2001:db8::1"); got == "eqsin/esams/eqiad" {
			t.Errorf("%q, of what is older than an hour", got)
		}
	})
}

// A beacon is asked by HTTP; one that is away, or that gives garbage, is left out.
func TestFetch(t *testing.T) {
	dir := t.TempDir()
	w := &world{t: t, dir: dir, st: memstore.New(), cfg: mapper.DefaultConfig()}
	defer w.st.Close()
	w.pop("esams", 52.3, 4.9, 100)
	w.pop("eqiad", 39.0, -77.5, 100)
	w.pop("eqsin", 1.3, 103.8, 100)
	w.measured("a", europe, america)
	b, err := os.ReadFile(filepath.Join(dir, "a"+rtt.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }))
	defer good.Close()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/garbage" {
			fmt.Fprint(w, "garbage")
			return
		}
		http.Error(w, "no", http.StatusInternalServerError)
	}))
	defer bad.Close()
	w.cfg.RTT = []string{good.URL + "/rtt", bad.URL + "/garbage", bad.URL + "/broken", filepath.Join(dir, "nowhere")}
	m, err := mapper.New(w.cfg, mapper.Deps{Store: w.st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for range 500 {
		if m.Report().Leading {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r := m.Report()
	if !r.Leading || r.Prefixes != 2 || len(r.Warnings) != 1 || strings.Count(r.Warnings[0], "\n") != 2 {
		t.Errorf("report %+v", r)
	}
}

func TestConfig(t *testing.T) {
	for want, spoil := range map[string]func(*mapper.Config){
		"map is":          func(c *mapper.Config) { c.Map = "Users" },
		"and not pops":    func(c *mapper.Config) { c.Map = "pops" },
		"everywhere is":   func(c *mapper.Config) { c.Everywhere = true },
		"does not end":    func(c *mapper.Config) { c.Map = "users-resolvers" },
		"dataset name":    func(c *mapper.Config) { c.Dataset = "a.b" },
		"uses:":           func(c *mapper.Config) { c.Uses = []string{"a..b"} },
		"rtt is":          func(c *mapper.Config) { c.RTT = []string{"ftp://192.0.2.1/rtt"} },
		"every is":        func(c *mapper.Config) { c.Every = 0 },
		"stale is":        func(c *mapper.Config) { c.Stale = 2 * c.MaxAge },
		"measurements is": func(c *mapper.Config) { c.Clients = 0 },
		"weight is":       func(c *mapper.Config) { c.Weight = 0 },
		"headroom is":     func(c *mapper.Config) { c.Headroom = -1 },
	} {
		cfg := mapper.DefaultConfig()
		spoil(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}

// What a clock measured that was ahead does not count as the newest for ever: it is left out until its time has
// come, and measurements that are old are old.
func TestClockAhead(t *testing.T) {
	in(t, func(w *world) {
		w.cfg.Enough = 20
		w.table("b@1", func(tab *rtt.Table) {
			k := rtt.Key{Kind: rtt.Client, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
			for client := range uint64(20) {
				at := time.Now().Add(365 * 24 * time.Hour)
				if err := tab.Add(rtt.Measurement{Key: k, PoP: "eqsin", RTT: time.Millisecond, Client: client, At: at}); err != nil {
					t.Fatal(err)
				}
			}
		})
		w.start()
		if s := w.source(); !strings.Contains(s.Error, "which is to come by this clock") {
			t.Errorf("source %+v", s)
		}
		w.measured("a@1", europe, america, asia)
		w.pass(cycle)
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		if r := w.m.Report(); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "which is to come by this clock, and left out") {
			t.Errorf("warnings %q", r.Warnings)
		}
		w.pass(2 * time.Hour)
		if s := w.source(); !strings.Contains(s.Error, "are beacons running?") {
			t.Errorf("source %+v, expected that what is left is too old", s)
		}
	})
}

// A PoP that has another name in the store than at the beacons is measured and not known, and known and not
// measured; both is said, and its users are served by others.
func TestRenamedPoP(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, america, asia)
		w.start()
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		w.pop("ams", 52.3, 4.9, 100)
		if _, _, err := steering.Do(context.Background(), w.st, "esams", steering.Change{Action: "test", Gone: true, Apply: func(*tree.PoP, bool) error { return nil }}, steering.By{Author: "alice", Reason: "test", From: "test"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.pass(cycle)
		w.want("192.0.2.1", "eqiad/eqsin/ams")
		r := w.m.Report()
		if text := strings.Join(r.Warnings, "; "); !strings.Contains(text, "measured are PoPs that there are not: esams") || !strings.Contains(text, "was measured to ams") {
			t.Errorf("warnings %q", r.Warnings)
		}
		// The beacons have the new name as well.
		w.table("a@2", func(tab *rtt.Table) {
			for _, m := range []measures{europe, america, asia} {
				for client := range uint64(20) {
					w.add(tab, rtt.Key{Kind: m.kind, Prefix: netip.MustParsePrefix(m.prefix)}, "ams", m.ms[0], client)
				}
			}
		})
		w.pass(2 * cycle)
		w.want("192.0.2.1", "ams/eqiad/eqsin")
	})
}

// Of two mappers on one store one writes; when it ends the other goes on from the map that is claimed.
func TestTwoMappers(t *testing.T) {
	in(t, func(w *world) {
		w.measured("a@1", europe, america, asia)
		w.start()
		before := w.revision()
		other, err := mapper.New(w.cfg, mapper.Deps{Store: w.st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- other.Run(ctx) }()
		defer func() { cancel(); <-done }()
		w.pass(3 * cycle)
		if other.Report().Leading || !w.m.Report().Leading {
			t.Errorf("leading: %v and %v", w.m.Report().Leading, other.Report().Leading)
		}
		w.stop()
		w.stop = nil
		// Less than the threshold: who is at a PoP stays there, whoever computes.
		near := europe
		near.ms = [3]float64{98, 95, 170}
		w.measured("a@2", near, america, asia)
		w.pass(3 * cycle)
		r := other.Report()
		if !r.Leading || r.Churn == nil || r.Churn.Moved != 0 {
			t.Errorf("report of the other %+v", r)
		}
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		for _, n := range w.nodes() {
			if int64(n.Modified) > before {
				t.Errorf("%s was written again", n.Path)
			}
		}
	})
}

// nodes are those of the claims of the map.
func (w *world) nodes() []store.Node {
	w.t.Helper()
	nodes, _, err := w.st.List(context.Background(), tree.Claims+"map/users/")
	if err != nil {
		w.t.Fatal(err)
	}
	return nodes
}

// A beacon that was started again and again gives more tables than a day has slots.
func TestManyTables(t *testing.T) {
	in(t, func(w *world) {
		var all bytes.Buffer
		for i := range 400 {
			tab := rtt.New(rtt.Limit{})
			for client := range uint64(5) {
				for j, pop := range []string{"esams", "eqiad", "eqsin"} {
					w.add(tab, rtt.Key{Kind: rtt.Client, Prefix: netip.MustParsePrefix("192.0.2.0/24")}, pop, europe.ms[j], client)
				}
			}
			if err := tab.AddDemand(rtt.Key{Kind: rtt.Client, Prefix: netip.MustParsePrefix("192.0.2.0/24")}, 1, 0, time.Now().Add(-time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := tab.WriteTo(&all); err != nil {
				t.Fatal(err)
			}
		}
		w.cfg.RTT = []string{"http://beacon.example.net/rtt"}
		w.client = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(all.Bytes()))}, nil
		})}
		w.start()
		w.want("192.0.2.1", "esams/eqiad/eqsin")
		if r := w.m.Report(); r.Trouble != "" || len(r.Warnings) != 0 {
			t.Errorf("report %+v", r)
		}
	})
}

// Who is in no prefix that was measured is where his country is measured to be, or where the distance says, and not
// where all together are nearest; a database that is replaced counts in the next cycle, and one that is
// half written changes nothing.
func TestEverywhere(t *testing.T) {
	in(t, func(w *world) {
		city := func(records map[string]mmdbtest.Record) []byte {
			records["192.0.2.0/24"] = mmdbtest.City("EU", "NL", "", "Amsterdam", 52.3, 4.9)
			return mmdbtest.Build(t, "Test-City", 6, records)
		}
		file := filepath.Join(w.dir, "city.mmdb")
		put := func(b []byte) {
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
			w.pass(cycle)
		}
		put(city(map[string]mmdbtest.Record{
			"203.0.113.0/24": mmdbtest.City("EU", "NL", "", "Amsterdam", 52.3, 4.9), "198.18.0.0/15": mmdbtest.City("AS", "SG", "", "Singapore", 1.3, 103.8),
			"198.18.7.0/24": mmdbtest.City("EU", "NL", "", "Amsterdam", 52.3, 4.9), "2001:db8:9::/48": mmdbtest.City("AS", "SG", "", "Singapore", 1.3, 103.8),
		}))
		all := []measures{america}
		for _, prefix := range []string{"192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26"} {
			m := europe
			m.prefix, m.demand = prefix, 5
			all = append(all, m)
		}
		w.cfg.City = []string{file}
		w.measured("a@1", all...)
		w.start()
		w.want("203.0.113.1", "eqiad/esams/eqsin") // where all together are nearest
		w.cfg.Everywhere = true
		w.start()
		w.pass(cycle)
		for address, want := range map[string]string{
			"192.0.2.1": "esams/eqiad/eqsin", "203.0.113.1": "esams/eqiad/eqsin", "198.18.7.1": "esams/eqiad/eqsin", "198.18.8.1": "eqsin/esams/eqiad", "2001:db8:9::1": "eqsin/esams/eqiad",
			"198.51.100.1": "eqiad/esams/eqsin", "233.252.0.1": "eqiad/esams/eqsin",
		} {
			w.want(address, want)
		}
		for address, want := range map[string]string{"203.0.113.1": "by country", "198.18.8.1": "by distance", "233.252.0.1": "nearest to all together"} {
			if x, ok := w.m.Explain(netip.MustParseAddr(address), false); !ok || !strings.HasSuffix(x.Why, want) || x.Order[0] != strings.Split(w.at(0, address), "/")[0] {
				t.Errorf("%s: %+v, expected %q", address, x, want)
			}
		}
		// Replaced by one that is cut off: nothing changes, and it is said. Then by a whole one.
		whole := city(map[string]mmdbtest.Record{"203.0.113.0/24": mmdbtest.City("AS", "SG", "", "Singapore", 1.3, 103.8)})
		put(whole[:len(whole)/2])
		w.want("203.0.113.1", "esams/eqiad/eqsin")
		if s := w.source(); !strings.Contains(s.Error, "city.mmdb is no MaxMind database") {
			t.Errorf("source %+v", s)
		}
		put(whole)
		w.pass(cycle)
		w.want("203.0.113.1", "eqsin/esams/eqiad")
		w.want("198.18.8.1", "eqiad/esams/eqsin") // nothing is said of it any more
		if s := w.source(); s.Error != "" {
			t.Errorf("source %+v", s)
		}
	})
}
