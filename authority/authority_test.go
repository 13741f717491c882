package authority

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

func soa(apex string) record.RRset {
	return record.NewRRset(name(apex), record.TypeSOA, 300, "\x02ns\x00\x04host\x00\x00\x00\x03\xe8\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x3c")
}

func address(owner string, last byte) record.RRset {
	return record.NewRRset(name(owner), record.TypeA, 300, record.Rdata([]byte{192, 0, 2, last}))
}

// host is an authority that runs, and the journal it follows.
type host struct {
	*Server
	t        *testing.T
	registry *prometheus.Registry
	status   string
	config   Config
	dir      string
	writer   *journal.Writer
	dataset  *snapshot.Dataset
	sign     func(*snapshot.Manifest) []byte
}

func startHost(t *testing.T, change ...func(*Config)) *host {
	t.Helper()
	work := t.TempDir()
	key, err := snapshot.LoadOrCreateKey(filepath.Join(work, "key"))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, registry: prometheus.NewRegistry(), status: filepath.Join(work, "status"), dir: filepath.Join(work, "journal")}
	h.sign = func(m *snapshot.Manifest) []byte {
		b, err := m.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := os.Mkdir(h.status, 0o755); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Listen, c.Journal, c.StatusDir, c.Keys = []string{"127.0.0.1:0"}, h.dir, h.status, []string{filepath.Join(work, "key.pub")}
	for _, f := range change {
		f(&c)
	}
	h.config = c
	if h.Server, err = New(c, Deps{Log: slog.New(slog.DiscardHandler), Metrics: h.registry}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) openJournal() {
	h.t.Helper()
	var err error
	if h.writer, h.dataset, err = journal.OpenWriter(h.dir, journal.Options{Dataset: "internal"}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.writer.Close() })
}

// publish appends one version to the journal.
func (h *host) publish(put []record.RRset, remove []record.Key) {
	h.t.Helper()
	delta, err := h.dataset.Change(int64(1000*h.dataset.Version()+1000), put, remove)
	if err != nil {
		h.t.Fatal(err)
	}
	h.append(delta)
}

// publishWhole appends a version that has the dataset whole.
func (h *host) publishWhole(all []record.RRset) {
	h.t.Helper()
	d := h.dataset
	delta := &snapshot.Delta{Dataset: d.Name(), Version: d.Version() + 1, Time: d.Time() + 1000, Full: true, Prev: d.Chain(), Put: all}
	slices.SortFunc(delta.Put, func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
	for _, r := range all {
		delta.Digest = delta.Digest.Add(snapshot.HashRRset(r))
	}
	h.append(delta)
}

func (h *host) append(delta *snapshot.Delta) {
	h.t.Helper()
	b, err := delta.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.dataset.Apply(delta); err != nil {
		h.t.Fatal(err)
	}
	d := h.dataset
	m := h.sign(&snapshot.Manifest{
		Dataset: d.Name(), Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(), Content: d.Content(), Oldest: 1,
	})
	if err := h.writer.Append([][]byte{b}, m); err != nil {
		h.t.Fatal(err)
	}
}

// askAt asks another server for the address of www.example.net.
func (h *host) askAt(addr string) *dns.Msg {
	h.t.Helper()
	q := new(dns.Msg)
	q.SetQuestion("www.example.net.", dns.TypeA)
	m, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(q, addr)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *host) ask(network, qname string, qtype uint16) *dns.Msg {
	h.t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(qname, qtype)
	c := dns.Client{Net: network, Timeout: 10 * time.Second}
	m, _, err := c.Exchange(q, h.Addrs()[0].String())
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *host) reach(version uint64) {
	h.t.Helper()
	eventually(h.t, fmt.Sprint("version ", version, " served"), func() bool { return h.Serving().Version == version })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// metrics gives each metric's value by name and labels other than the dataset.
func (h *host) metrics() map[string]float64 {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := strings.TrimPrefix(f.GetName(), "zonecast_authority_")
			for _, l := range m.GetLabel() {
				if l.GetName() != "dataset" {
					key += " " + l.GetValue()
				}
			}
			switch {
			case m.GetCounter() != nil:
				out[key] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				out[key] = m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				out[key] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return out
}

// TestFromJournalToAnswer goes the whole way: nothing, first version, change,
// damage of the journal, and what each leaves in the status file and the metrics.
func TestFromJournalToAnswer(t *testing.T) {
	h := startHost(t)
	if m := h.ask("udp", "www.example.net.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Fatalf("without data: %s, want SERVFAIL", dns.RcodeToString[m.Rcode])
	}

	h.openJournal()
	h.publish([]record.RRset{soa("example.net"), address("www.example.net", 1)}, nil)
	h.reach(1)
	if m := h.ask("udp", "WWW.example.net.", dns.TypeA); len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
		t.Fatalf("version 1 answers %v", m)
	}
	h.publish([]record.RRset{address("www.example.net", 2)}, nil)
	h.reach(2)
	for _, network := range []string{"udp", "tcp"} {
		if m := h.ask(network, "www.example.net.", dns.TypeA); len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.2" {
			t.Fatalf("version 2 answers over %s %v", network, m)
		}
	}
	if m := h.ask("udp", "example.net.", dns.TypeSOA); m.Answer[0].(*dns.SOA).Serial != 1000+2 {
		t.Errorf("serial is %d, want 1002: claimed 1000 and changed by version 2", m.Answer[0].(*dns.SOA).Serial)
	}

	var served tree.HostDataset
	eventually(t, "the status file says version 2", func() bool {
		b, err := os.ReadFile(filepath.Join(h.status, "serving"))
		if errors.Is(err, os.ErrNotExist) {
			return false
		}
		if err == nil {
			err = json.Unmarshal(b, &served)
		}
		if err != nil {
			t.Fatal(err) // never half written
		}
		return served.Version == 2
	})
	if !reflect.DeepEqual(served, h.Serving()) || served.Digest != h.dataset.Digest().String() || served.Time != 2000 || served.Since == 0 {
		t.Errorf("status file says %+v, served is %+v with digest %s", served, h.Serving(), h.dataset.Digest())
	}

	got := h.metrics()
	for key, want := range map[string]float64{
		"queries_total udp": 4, "queries_total tcp": 1, "responses_total SERVFAIL": 1, "responses_total NOERROR": 4, "dropped_total": 0,
		"truncated_total": 0, "version": 2, "version_timestamp_seconds": 2, "zones": 1, "rrsets": 2, "tcp_accepted_total": 1, "journal_problems_total": math.NaN(),
	} {
		if v, ok := got[key]; !ok || v != want && !math.IsNaN(want) {
			t.Errorf("metric %s is %v, want %v", key, v, want)
		}
	}
	if got["answer_seconds positive"]+got["answer_seconds failure"] < 1 {
		t.Errorf("no answer was timed: %v", got)
	}

	// The journal goes: the answers stay.
	h.writer.Close()
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.dir, []byte("no journal"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if m := h.ask("udp", "www.example.net.", dns.TypeA); len(m.Answer) != 1 {
			t.Fatalf("without a journal: %v", m)
		}
	}
}

func TestUnsignedIsNotServed(t *testing.T) {
	h := startHost(t)
	other, err := snapshot.LoadOrCreateKey(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	h.sign = func(m *snapshot.Manifest) []byte {
		b, err := m.Sign(other)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h.openJournal()
	h.publish([]record.RRset{soa("example.net")}, nil)
	eventually(t, "the problem is counted", func() bool { return h.metrics()["journal_problems_total"] > 0 })
	if h.Serving().Version != 0 {
		t.Fatalf("version %d is served, signed by an unknown key", h.Serving().Version)
	}
}

// testServer has no sockets.
func testServer(dir string) *Server {
	s := &Server{config: Config{Dataset: "internal"}, log: slog.New(slog.DiscardHandler), ready: make(chan struct{}), guard: &guard{}}
	s.images.dir = dir
	s.current.Store(&state{})
	return s
}

// TestSerialsFollowTheDataset applies random deltas and compares, after each, the
// serial answered in every SOA with the one the dataset gives its zone.
func TestSerialsFollowTheDataset(t *testing.T) {
	owners := []string{"net", "example.net", "a.example.net", "b.a.example.net", "c.b.a.example.net", "_fresh.internal.example.net", "example.org"}
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		s := testServer(dir)
		f := follower{server: s}
		d := snapshot.NewDataset("internal")
		if err := f.event(journal.Event{Reset: d.Clone()}); err != nil {
			t.Fatal(err)
		}
		for i := range byte(rapid.IntRange(1, 20).Draw(t, "versions")) {
			sets := map[record.Key]record.RRset{}
			for range rapid.IntRange(1, 3).Draw(t, "sets") {
				owner := rapid.SampledFrom(owners).Draw(t, "owner")
				r := address(owner, i)
				switch rapid.IntRange(0, 4).Draw(t, "type") {
				case 0, 1:
					r = soa(owner)
					r.Data[0] = snapshot.SOAWithSerial(r.Data[0], rapid.Uint32().Draw(t, "serial"))
				case 2:
					r = record.NewRRset(name(owner), record.TypeNS, uint32(i), record.Rdata(name("ns.example.org")))
				case 3:
					r = record.NewRRset(name(owner), record.TypeTXT, uint32(i), "\x01x")
				}
				if rapid.IntRange(0, 3).Draw(t, "located") == 0 {
					r.Location = rapid.SampledFrom([]record.Location{"attic", "lab"}).Draw(t, "location")
				}
				sets[r.Key] = r
			}
			var put []record.RRset
			var remove []record.Key
			for k, r := range sets {
				if _, there := d.Get(k); there && rapid.Bool().Draw(t, "remove") {
					remove = append(remove, k)
				} else {
					put = append(put, r)
				}
			}
			delta, err := d.Change(int64(i), put, remove)
			if rapid.IntRange(0, 9).Draw(t, "full") == 0 {
				delta, err = d.Replace(int64(i), put)
			}
			if err == nil {
				err = d.Apply(delta)
			}
			if err == nil {
				err = f.event(journal.Event{Delta: delta})
			}
			if err != nil {
				t.Fatal(err)
			}
			now := s.current.Load()
			if now.Version != d.Version() || now.Digest != d.Digest().String() || now.view.Sets() != d.Len() {
				t.Fatalf("served is %+v with %d RRsets, want version %d with %d", now.HostDataset, now.view.Sets(), d.Version(), d.Len())
			}
			if rapid.IntRange(0, 4).Draw(t, "fold") == 0 {
				if err := f.fold(context.Background()); err != nil {
					t.Fatal(err)
				}
				now = s.current.Load()
			}
			zones := 0
			for range d.Zones() {
				zones++
			}
			for r := range d.All() {
				if r.Type != record.TypeSOA {
					continue
				}
				answered, ok := now.view.RRset(r.Key)
				if !ok || len(answered.Data) != 1 {
					t.Fatalf("version %d: %v is answered with %v", d.Version(), r.Key, answered)
				}
				got, err := snapshot.SOASerial(answered.Data[0])
				if err != nil || got != d.Serial(r.Owner) {
					t.Fatalf("version %d: %s for %q is answered with serial %d, %v; the dataset says %d (claimed %v)", d.Version(), r.Owner, r.Location, got, err, d.Serial(r.Owner), r)
				}
			}
			if now.view.Zones() != zones {
				t.Fatalf("%d zones, want %d", now.view.Zones(), zones)
			}
		}
	})
}

func TestFollowerKeepsTheNewer(t *testing.T) {
	s := testServer(t.TempDir())
	f := follower{server: s}
	d := snapshot.NewDataset("internal")
	var states []*snapshot.Dataset
	for i := range byte(3) {
		delta, err := d.Change(int64(i), []record.RRset{soa("example.net"), address("www.example.net", i)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Apply(delta); err != nil {
			t.Fatal(err)
		}
		states = append(states, d.Clone())
	}
	other := snapshot.NewDataset("external")
	fork, err := snapshot.NewDataset("internal").Replace(9, []record.RRset{soa("example.org")})
	if err != nil {
		t.Fatal(err)
	}
	reset := func(d *snapshot.Dataset, want uint64, problems uint64) {
		t.Helper()
		if err := f.event(journal.Event{Reset: d}); err != nil {
			t.Fatal(err)
		}
		if got := s.Serving().Version; got != want || s.problems.Load() != problems {
			t.Fatalf("version %d served, %d problems, want %d and %d", got, s.problems.Load(), want, problems)
		}
	}
	reset(states[1].Clone(), 2, 0)
	reset(states[0].Clone(), 2, 1) // older
	reset(other, 2, 2)             // another dataset
	if err := f.event(journal.Event{Delta: fork}); err != nil || s.Serving().Version != 2 {
		t.Fatalf("a delta of a dataset that is not followed: %v, version %d", err, s.Serving().Version)
	}
	if err := f.event(journal.Event{Problem: errors.New("disk on fire")}); err != nil || s.problems.Load() != 3 {
		t.Fatalf("a problem: %v, %d counted", err, s.problems.Load())
	}
	reset(states[2].Clone(), 3, 3)
	if err := f.event(journal.Event{Delta: fork}); !errors.Is(err, snapshot.ErrMismatch) || s.Serving().Version != 3 {
		t.Fatalf("a delta that does not fit: %v, version %d", err, s.Serving().Version)
	}
	if err := d.Apply(must(d.Change(9, []record.RRset{address("x.example.net", 9)}, nil))); err != nil {
		t.Fatal(err)
	}
	reset(d.Clone(), 4, 3)
}

func TestPanicLosesOneQuery(t *testing.T) {
	var log strings.Builder
	s := testServer(t.TempDir())
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	h, done := s.newHandler()
	defer done()
	k := h.(*worker)
	answer := k.answer
	k.answer = func(v *data.View, batch []wire.Message, t protocol.Transport, now time.Time) {
		answer(v, batch, t, now)
		for i := range batch {
			if batch[i].Query[0] == 'b' {
				panic("a bug")
			}
		}
	}
	query := func(id byte) []byte { return append([]byte{id, id}, make([]byte, 10)...) }
	for range 5 {
		batch := []wire.Message{{Query: query('g')}, {Query: query('b')}, {Query: query('h')}}
		h.Answer(batch, protocol.UDP)
		for i := range batch {
			if answered := len(batch[i].Response) > 0; answered != (i != 1) {
				t.Fatalf("message %d is answered: %v", i, answered)
			}
		}
	}
	if n := strings.Count(log.String(), "query=6262"); n != 3 || s.panics.Load() != 5 { // the 1st, 2nd and 4th
		t.Errorf("%d panics were logged of %d, want 3 of 5:\n%s", n, s.panics.Load(), log.String())
	}
}

func TestStatusDirGone(t *testing.T) {
	var log strings.Builder
	s := &Server{config: Config{Dataset: "internal", StatusDir: filepath.Join(t.TempDir(), "gone")}, log: slog.New(slog.NewTextHandler(&log, nil)), ready: make(chan struct{})}
	s.images.dir = t.TempDir()
	s.current.Store(&state{})
	f := follower{server: s}
	d := snapshot.NewDataset("internal")
	for i := range byte(3) {
		if err := d.Apply(must(d.Change(int64(i), []record.RRset{soa("example.net"), address("www.example.net", i)}, nil))); err != nil {
			t.Fatal(err)
		}
		if err := f.event(journal.Event{Reset: d.Clone()}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "status file not written"); n != 1 || s.Serving().Version != 3 {
		t.Errorf("version %d is served and the problem logged %d times, want 3 and 1", s.Serving().Version, n)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNewErrors(t *testing.T) {
	deps := func() Deps {
		return Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	}
	good := func() Config {
		c := DefaultConfig()
		c.Listen, c.Journal = []string{"127.0.0.1:0"}, t.TempDir()
		return c
	}
	taken := good()
	s, err := New(taken, deps())
	if err != nil {
		t.Fatal(err)
	}
	defer s.packet.Close()
	for _, tt := range []struct {
		change func(*Config)
		says   string
	}{
		{func(c *Config) { c.Listen = nil }, "listen: no address"},
		{func(c *Config) { c.Listen = []string{"localhost"} }, `listen: "localhost" is no address and port`},
		{func(c *Config) { c.Journal = "" }, "journal: empty"},
		{func(c *Config) { c.Dataset = "" }, "dataset: empty"},
		{func(c *Config) { c.MaxUDP = 100 }, "max-udp: 100, expected 512 to 4096"},
		{func(c *Config) { c.UDPWorkers = -1 }, "udp-workers: -1"},
		{func(c *Config) { c.CookieSecrets = "/nonexistent/secrets" }, "read cookie secrets: open /nonexistent/secrets"},
		{func(c *Config) { c.RateLimit = -1 }, "rate-limit: -1, expected 0 to 1000000"},
		{func(c *Config) { c.RateLimitExempt = []string{"192.0.2.1"} }, `rate-limit-exempt: "192.0.2.1" is no prefix, expected for example 192.0.2.0/24`},
		{func(c *Config) { c.TCPIdle = -1 }, "tcp-idle: "},
		{func(c *Config) { c.Version = strings.Repeat("x", 256) }, "version-text: 256 octets"},
		{func(c *Config) { c.Keys = []string{"/nonexistent/key.pub"} }, "read public keys /nonexistent/key.pub"},
		{func(c *Config) { c.Listen = []string{s.Addrs()[0].String()} }, "is in use by another server"},
	} {
		c := good()
		tt.change(&c)
		if _, err := New(c, deps()); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("New: %v, want %q", err, tt.says)
		}
	}
	// Metrics that are taken: the sockets are given back.
	d := deps()
	if s, err = New(good(), d); err != nil {
		t.Fatal(err)
	}
	addr := s.Addrs()[0]
	if err := s.packet.Close(); err != nil {
		t.Fatal(err)
	}
	c := good()
	c.Listen = []string{addr.String()}
	if _, err := New(c, d); err == nil {
		t.Fatal("metrics registered twice")
	}
	if s, err = New(c, deps()); err != nil {
		t.Fatalf("the address is not given back: %v", err)
	}
	s.packet.Close()
	if got := netip.MustParseAddrPort(c.Listen[0]); got != s.Addrs()[0] {
		t.Errorf("listening on %s, want %s", s.Addrs()[0], got)
	}
}

// TestEarlierLifeIsUnsaid holds that an authority which has nothing to answer yet does
// not let the fleet believe what an earlier one said.
func TestEarlierLifeIsUnsaid(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	h.publish([]record.RRset{soa("example.net")}, nil)
	h.reach(1)
	path := filepath.Join(h.status, "serving")
	eventually(t, "status file", func() bool { _, err := os.Stat(path); return err == nil })
	c := h.config
	c.Journal = filepath.Join(t.TempDir(), "none")
	s, err := New(c, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "no status file", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lifetime runs a server of the host's journal with images of its own directory, until
// the function returned is called.
func (h *host) lifetime(images string) (*Server, func()) {
	h.t.Helper()
	c := h.config
	c.ImageDir = images
	s, err := New(c, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
}

// TestRestartNeverGoesBack starts a server on the journal and the images of one that is
// gone. It goes on from the image without the journal's snapshot, and what it serves
// first is what the journal ends with. Where the image does not lead on, the journal is
// read whole.
func TestRestartNeverGoesBack(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	images := t.TempDir()
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1)}, nil)
	if err := h.writer.Fold(); err != nil { // so that there is a snapshot
		t.Fatal(err)
	}
	h.publish([]record.RRset{address("www.example.net.", 2)}, nil)
	first := func(what string, s *Server, want uint64) {
		t.Helper()
		seen := uint64(0)
		eventually(t, what, func() bool {
			seen = s.Serving().Version
			return seen > 0
		})
		if seen != want || s.Serving().Digest != h.dataset.Digest().String() {
			t.Errorf("%s: version %d is served first, want %d", what, seen, want)
		}
		m := h.askAt(s.Addrs()[0].String())
		if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A[3] != byte(want) {
			t.Errorf("%s: %s, want the address of version %d", what, m, want)
		}
	}
	s, stop := h.lifetime(images)
	first("without an image", s, 2)
	stop()
	h.publish([]record.RRset{address("www.example.net.", 3)}, nil)

	snapshots, err := filepath.Glob(filepath.Join(h.dir, "snapshot-*"))
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("snapshots in the journal: %v, %v", snapshots, err)
	}
	for _, path := range snapshots {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}
	s, stop = h.lifetime(images)
	first("from the image", s, 3)
	// And on: digests follow from what the image has, the serial that is answered not
	// being the one that was claimed.
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 4)}, []record.Key{{Owner: name("www.example.net"), Type: record.TypeTXT}})
	eventually(t, "the next version", func() bool { return s.Serving().Version == 4 })
	if got := s.Serving().Digest; got != h.dataset.Digest().String() {
		t.Errorf("digest %s, want %s", got, h.dataset.Digest())
	}
	stop()
	for _, path := range snapshots {
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}

	// The log that the image leads on to is gone.
	h.publish([]record.RRset{address("www.example.net.", 5)}, nil)
	if err := h.writer.Fold(); err != nil {
		t.Fatal(err)
	}
	s, stop = h.lifetime(images)
	first("behind a fold of the journal", s, 5)
	stop()

	// Another journal, which is behind: it counts, not the image.
	other := startHost(t)
	other.openJournal()
	other.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1)}, nil)
	h.dataset = other.dataset
	h.config.Journal, h.config.Keys = other.config.Journal, other.config.Keys
	s, stop = h.lifetime(images)
	first("of another journal", s, 1)
	stop()
}

// TestHandOverAnswersThroughout starts a second server while the first answers: who
// asks meanwhile gets the answer from one or the other, and the first one ends.
func TestHandOverAnswersThroughout(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	h.publish([]record.RRset{soa("example.net"), address("www.example.net", 1)}, nil)
	c := h.config
	c.HandOver, c.StatusDir = filepath.Join(t.TempDir(), "socket"), ""
	begin := func() (*Server, func(), chan error) {
		s, err := New(c, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		return s, cancel, done
	}
	first, stop, ended := begin()
	defer stop()
	eventually(t, "the first one answers", func() bool { return first.Serving().Version == 1 })
	eventually(t, "it waits for a successor", func() bool { _, err := os.Stat(c.HandOver); return err == nil })
	c.Listen = []string{first.Addrs()[0].String()}
	asked := make(chan string, 1)
	over := make(chan struct{})
	go func() {
		client, q := dns.Client{Timeout: 10 * time.Second}, new(dns.Msg)
		q.SetQuestion("www.example.net.", dns.TypeA)
		for n := 0; ; n++ {
			m, _, err := client.Exchange(q, c.Listen[0])
			switch {
			case err != nil:
				asked <- err.Error()
				return
			case len(m.Answer) != 1:
				asked <- fmt.Sprint("query ", n, " gets ", m)
				return
			}
			select {
			case <-over:
				asked <- ""
				return
			default:
			}
		}
	}()
	c.Journal = filepath.Join(t.TempDir(), "journal") // not there yet
	second, stopSecond, endedSecond := begin()
	for range 20 { // it has nothing to answer, and so must not
		if m := h.askAt(c.Listen[0]); len(m.Answer) != 1 || second.Serving().Version != 0 {
			t.Fatalf("while the second one has no data: %v", m)
		}
	}
	if err := os.Symlink(h.dir, c.Journal); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrHandedOver) {
		t.Errorf("the first one ends with %v, want that its sockets were handed over", err)
	}
	close(over)
	if wrong := <-asked; wrong != "" {
		t.Error(wrong)
	}
	stopSecond()
	if err := <-endedSecond; err != nil {
		t.Error(err)
	}
}

// midway is a context that runs something the first time a fold looks at it.
type midway struct {
	context.Context
	once sync.Once
	run  func()
}

func (m *midway) Err() error {
	m.once.Do(m.run)
	return nil
}

// TestFoldOutlivesTheView: while an image is folded, a delta turns out not to fit and
// the view is given up.
func TestFoldOutlivesTheView(t *testing.T) {
	s := testServer(t.TempDir())
	f := &follower{server: s}
	d := snapshot.NewDataset("internal")
	sets := []record.RRset{soa("example.net")}
	for i := range 5000 {
		sets = append(sets, address(fmt.Sprintf("h%d.example.net", i), 1))
	}
	if err := d.Apply(must(d.Change(1, sets, nil))); err != nil {
		t.Fatal(err)
	}
	if err := f.event(journal.Event{Reset: d.Clone()}); err != nil {
		t.Fatal(err)
	}
	bad := must(d.Change(2, []record.RRset{address("h1.example.net", 2)}, nil))
	bad.Digest[0] ^= 1
	ran := false
	err := f.fold(&midway{Context: context.Background(), run: func() {
		ran = true
		if err := f.event(journal.Event{Delta: bad}); err == nil {
			t.Error("a delta that does not fit was taken")
		}
	}})
	if err != nil || !ran || f.view != nil {
		t.Errorf("fold: %v, the view was given up meanwhile: %v", err, ran)
	}
	if s.Serving().Version != 1 {
		t.Errorf("version %d is served, want 1 as before", s.Serving().Version)
	}
}
