package fleettest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/swarm"
)

const dataset = "internal"

// fleet is a store, a presenter's stand-in, publishers and agents.
type fleet struct {
	t    testing.TB
	st   *memstore.Store
	d    *snapshot.Dataset // published
	head store.Revision
	dir  string
	log  *slog.Logger
	reg  map[string]*prometheus.Registry // of the newest process of each name
	// swarm gives every publisher and host a part in a swarm; sites is where hosts stand,
	// one after the other.
	swarm bool
	sites []string
	parts byte // given so far
	// behind gives hosts their store and what fetches snapshots; nil: hosts are at the store.
	behind func() (store.Store, follow.Fetcher)
}

func newFleet(t testing.TB) *fleet {
	return &fleet{t: t, st: memstore.New(), d: snapshot.NewDataset(dataset), dir: t.TempDir(), reg: map[string]*prometheus.Registry{}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func rrset(t testing.TB, owner string, typ record.Type, data string) record.RRset {
	t.Helper()
	n, err := record.ParseName(owner)
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(n, typ, 300, record.Rdata(data))
}

// publish does what a presenter does: log and head in one transaction.
func (f *fleet) publish(put ...record.RRset) {
	f.t.Helper()
	d, err := f.d.Change(time.Now().UnixMilli(), put, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.commit(d)
}

// replace publishes a full delta.
func (f *fleet) replace(put ...record.RRset) {
	f.t.Helper()
	d, err := f.d.Replace(time.Now().UnixMilli(), put)
	if err != nil {
		f.t.Fatal(err)
	}
	f.commit(d)
}

func (f *fleet) commit(d *snapshot.Delta) {
	f.t.Helper()
	if err := f.d.Apply(d); err != nil {
		f.t.Fatal(err)
	}
	b, err := d.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	batches, log, err := follow.LogOps(dataset, d.Version, b)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, ops := range batches {
		if _, err := f.st.Commit(context.Background(), store.Txn{Do: ops}); err != nil {
			f.t.Fatal(err)
		}
	}
	path := tree.HeadPath(dataset)
	f.head, err = f.st.Commit(context.Background(), store.Txn{
		If: []store.Cond{{Path: path, Modified: f.head}},
		Do: []store.Op{log, {Path: path, Value: tree.Encode(tree.Head{
			Version: f.d.Version(), Digest: f.d.Digest().String(), Chain: f.d.Chain().String(), Time: f.d.Time(), Content: f.d.Content(),
		})}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// process is something that runs until it is stopped or killed.
type process struct {
	stop func()          // waits
	st   *memstore.Store // nil when it is behind a proxy
}

func (f *fleet) start(st store.Store, run func(context.Context) error, after func()) *process {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			f.t.Errorf("ended by itself: %v", err)
		}
	}()
	p := &process{}
	p.st, _ = st.(*memstore.Store)
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if after != nil {
			after()
		}
		_ = st.Close() // a store that died is closed already
	})
	f.t.Cleanup(p.stop)
	return p
}

// publisherAt starts a publisher in a directory of its own; all share the key.
func (f *fleet) publisherAt(name string, change ...func(*publisher.Config)) (*publisher.Publisher, *process) {
	f.t.Helper()
	cfg := publisher.DefaultConfig()
	cfg.Dir = filepath.Join(f.dir, name)
	cfg.KeyFile = filepath.Join(f.dir, "key")
	cfg.SessionTTL = time.Second
	server := httptest.NewUnstartedServer(nil)
	cfg.URLs = []string{"http://" + server.Listener.Addr().String()}
	for _, c := range change {
		c(&cfg)
	}
	st := f.st.Peer()
	f.reg[name] = prometheus.NewRegistry()
	deps := publisher.Deps{Store: st, Log: f.log, Metrics: f.reg[name], Fetcher: follow.HTTP{}, Name: name}
	part := f.part(st, name, true, "", nil)
	if part != nil {
		deps.Swarm = part
	}
	p, err := publisher.New(cfg, deps)
	if err != nil {
		f.t.Fatal(err)
	}
	server.Config.Handler = p.Handler()
	server.Start()
	return p, f.start(st, both(p.Run, part), server.Close)
}

// host is an agent, and the authority's stand-in beside it.
type host struct {
	f    *fleet
	name string
	keys []ed25519.PublicKey
	cfg  agent.Config
	a    *agent.Agent
	*process
	floor uint64     // newest version seen in the journal
	fs    journal.FS // of the agent; nil: the system's
}

func (f *fleet) host(name string, change ...func(*agent.Config)) *host {
	f.t.Helper()
	pub := filepath.Join(f.dir, "key.pub")
	if _, err := snapshot.LoadOrCreateKey(filepath.Join(f.dir, "key")); err != nil {
		f.t.Fatal(err)
	}
	keys, err := snapshot.LoadPublicKeys(pub)
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := agent.DefaultConfig()
	cfg.Host, cfg.DNS, cfg.Keys = name, "192.0.2.1:53", []string{pub}
	cfg.Journal = filepath.Join(f.dir, name, "journal")
	cfg.StatusDir = filepath.Join(f.dir, name, "status")
	cfg.SessionTTL = time.Second
	for _, c := range change {
		c(&cfg)
	}
	h := &host{f: f, name: name, keys: keys, cfg: cfg}
	h.restart()
	return h
}

// restart starts the agent anew on the same directory.
func (h *host) restart() {
	h.f.t.Helper()
	if h.process != nil {
		h.stop()
	}
	var st store.Store = h.f.st.Peer()
	var fetcher follow.Fetcher = follow.HTTP{}
	if h.f.behind != nil {
		st, fetcher = h.f.behind()
	}
	h.f.reg[h.name] = prometheus.NewRegistry()
	deps := agent.Deps{Store: st, Log: h.f.log, Metrics: h.f.reg[h.name], Fetcher: fetcher, FS: h.fs}
	part := h.f.part(st, h.name, false, h.cfg.Journal+".swarm", func() []string { return journal.Snapshots(h.cfg.Journal) })
	if part != nil {
		deps.Fetcher, deps.Beside = part, part
	}
	a, err := agent.New(h.cfg, deps)
	if err != nil {
		h.f.t.Fatal(err)
	}
	h.a = a
	h.process = h.f.start(st, both(a.Run, part), nil)
}

// part is a process's part in the swarm, nil when there is none. Each listens on a loopback
// address of its own, as hosts do.
func (f *fleet) part(st store.Store, name string, isPublisher bool, dir string, old func() []string) *swarm.Swarm {
	f.t.Helper()
	if !f.swarm {
		return nil
	}
	f.parts++
	cfg := swarm.DefaultConfig()
	cfg.Listen, cfg.Dir = fmt.Sprintf("127.0.9.%d:0", f.parts), dir
	if len(f.sites) > 0 {
		cfg.Site = f.sites[int(f.parts)%len(f.sites)]
	}
	sw, err := swarm.New(cfg, swarm.Deps{
		Store: st, Log: f.log, Metrics: f.reg[name], Name: name, Dataset: dataset, Publisher: isPublisher, Old: old,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return sw
}

// both runs a stage and its part in the swarm.
func both(run func(context.Context) error, part *swarm.Swarm) func(context.Context) error {
	if part == nil {
		return run
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var beside sync.WaitGroup
		beside.Go(func() { _ = part.Run(ctx) }) // ends with ctx alone
		err := run(ctx)
		cancel()
		beside.Wait()
		return err
	}
}

// look reads the journal from disk and holds it against what was seen before.
func (h *host) look() *snapshot.Dataset {
	h.f.t.Helper()
	d, _, err := journal.Load(h.cfg.Journal, journal.Fixed(h.keys...))
	if errors.Is(err, os.ErrNotExist) {
		return snapshot.NewDataset(dataset)
	}
	if err != nil {
		h.f.t.Fatalf("%s: %v", h.name, err)
	}
	if d.Version() < h.floor {
		h.f.t.Fatalf("%s went back from version %d to %d", h.name, h.floor, d.Version())
	}
	h.floor = d.Version()
	return d
}

// reaches waits until the journal on disk holds what is published.
func (h *host) reaches() {
	h.f.t.Helper()
	eventually(h.f.t, fmt.Sprintf("%s at version %d", h.name, h.f.d.Version()), func() bool { return h.a.Status().Version == h.f.d.Version() })
	if d := h.look(); d.Version() != h.f.d.Version() || d.Digest() != h.f.d.Digest() {
		h.f.t.Fatalf("%s: journal has version %d %s, published %d %s", h.name, d.Version(), d.Digest(), h.f.d.Version(), h.f.d.Digest())
	}
}

// serve says, as the authority does, what is answered.
func (h *host) serve(d *snapshot.Dataset) {
	h.f.t.Helper()
	if err := os.MkdirAll(h.cfg.StatusDir, 0o755); err != nil {
		h.f.t.Fatal(err)
	}
	b := tree.Encode(tree.HostDataset{Version: d.Version(), Digest: d.Digest().String(), Time: d.Time()})
	if err := atomicfile.Write(filepath.Join(h.cfg.StatusDir, agent.ServingFile), 0o644, b); err != nil {
		h.f.t.Fatal(err)
	}
}

// report is what the store says of the host.
func (h *host) report() (tree.Host, bool) {
	n, err := h.f.st.Get(context.Background(), tree.HostPath(h.name))
	if err != nil {
		return tree.Host{}, false
	}
	var report tree.Host
	if err := tree.Decode(n, &report); err != nil {
		h.f.t.Fatal(err)
	}
	return report, true
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Microsecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within 15 s", what)
}

// manifest is the one in the store, verified.
func (f *fleet) manifest(p *publisher.Publisher) *snapshot.Manifest {
	whole, err := follow.ReadManifest(context.Background(), f.st, dataset)
	if err != nil {
		return &snapshot.Manifest{}
	}
	m, err := snapshot.VerifyManifest(whole, []ed25519.PublicKey{p.PublicKey()})
	if err != nil {
		f.t.Fatalf("manifest in the store: %v", err)
	}
	return m
}

// metric is the value of a process's metric, over all labels; of a histogram the
// number of its observations, and their sum.
func (f *fleet) metric(process, name string) (value, sum float64) {
	f.t.Helper()
	families, err := f.reg[process].Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.Metric {
				value += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				sum += m.GetHistogram().GetSampleSum()
			}
			return value, sum
		}
	}
	f.t.Fatalf("%s has no metric %s", process, name)
	return 0, 0
}

// moved demands that metrics of a process are above zero.
func (f *fleet) moved(process string, names ...string) {
	f.t.Helper()
	for _, name := range names {
		if v, _ := f.metric(process, name); v <= 0 {
			f.t.Errorf("%s of %s is %v, expected more than 0", name, process, v)
		}
	}
}
