package swarm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

const dataset = "internal"

// fastPace is for tests: what takes seconds in a fleet takes tenths.
var fastPace = pace{
	look: 10 * time.Millisecond, patience: 500 * time.Millisecond, stall: 8 * time.Second, silent: 700 * time.Millisecond,
	report: 20 * time.Millisecond, list: 100 * time.Millisecond, term: 30 * time.Second, fair: 10e6 / 8, settle: 50 * time.Millisecond,
}

// patient is for tests in which nobody is to go elsewhere, or to leave a peer, because the machine
// is slow.
func patient(_ *Config, _ *Deps, p *pace) {
	p.patience, p.stall, p.silent = time.Minute, 5*time.Minute, time.Minute
}

// world is a store, a publisher and hosts, each on a loopback address of its own.
type world struct {
	t    testing.TB
	st   *memstore.Store
	dir  string
	log  *slog.Logger
	next byte
	reg  map[string]*prometheus.Registry
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, st: memstore.New(), dir: t.TempDir(), log: slog.New(slog.NewTextHandler(io.Discard, nil)), next: 1, reg: map[string]*prometheus.Registry{}}
	if testing.Verbose() {
		w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	t.Cleanup(func() { _ = w.st.Close() })
	return w
}

// address is a free port on a loopback address that nobody else of the test has.
func (w *world) address() string {
	w.next++
	return fmt.Sprintf("127.0.7.%d:0", w.next)
}

// member is a running Swarm.
type member struct {
	*Swarm
	w    *world
	name string
	stop func()
}

func (w *world) start(name string, publisher bool, change ...func(*Config, *Deps, *pace)) *member {
	w.t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.Dir = w.address(), filepath.Join(w.dir, name, "swarm")
	reg := prometheus.NewRegistry()
	w.reg[name] = reg
	deps := Deps{Store: w.st.Peer(), Log: w.log.With("host", name), Metrics: reg, Name: name, Dataset: dataset, Publisher: publisher}
	p := fastPace
	for _, c := range change {
		c(&cfg, &deps, &p)
	}
	s, err := newSwarm(cfg, deps, p)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("%s ended: %v", name, err)
		}
	})
	if !publisher { // the agent's part
		tasks.Go(func() { s.present(ctx) })
	}
	m := &member{Swarm: s, w: w, name: name}
	m.stop = sync.OnceFunc(func() { cancel(); tasks.Wait(); _ = deps.Store.Close() })
	w.t.Cleanup(m.stop)
	w.eventually(name+" in the store", func() bool {
		_, err := w.st.Get(w.t.Context(), s.Nodes()[0].Path)
		return err == nil
	})
	return m
}

// fetch fetches, and holds the file against what was offered.
func (m *member) fetch(ref snapshot.Ref) error {
	path, err := m.Fetch(m.w.t.Context(), ref, filepath.Join(m.w.dir, m.name, "fetch"), nil)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = snapshot.Read(f, ref)
	return err
}

func (m *member) metric(name string, labels ...string) float64 {
	m.w.t.Helper()
	families, err := m.w.reg[m.name].Gather()
	if err != nil {
		m.w.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() != "zonecast_swarm_"+name {
			continue
		}
		found = true
		for _, one := range f.Metric {
			match := len(labels) == 0
			for _, l := range one.Label {
				match = match || l.GetValue() == labels[0]
			}
			if match {
				sum += one.GetCounter().GetValue() + one.GetGauge().GetValue()
			}
		}
	}
	if !found {
		m.w.t.Fatalf("%s has no metric %s", m.name, name)
	}
	return sum
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("%s: not within 20 s", what)
}

// data is a dataset of n RRsets of about 1,040 octets that do not compress.
func data(t testing.TB, seed uint64, n int) *snapshot.Dataset {
	t.Helper()
	d := snapshot.NewDataset(dataset)
	rng := rand.New(rand.NewPCG(seed, 1))
	put := make([]record.RRset, n)
	for i := range put {
		put[i] = txt(t, fmt.Sprintf("h%07d.example.net.", i), rng)
	}
	change(t, d, put, nil)
	return d
}

func txt(t testing.TB, owner string, rng *rand.Rand) record.RRset {
	t.Helper()
	name, err := record.ParseName(owner)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5*201) // five character strings
	for i := range b {
		b[i] = byte(rng.Uint32())
		if i%201 == 0 {
			b[i] = 200
		}
	}
	return record.NewRRset(name, record.TypeTXT, 300, record.Rdata(b))
}

func change(t testing.TB, d *snapshot.Dataset, put []record.RRset, remove []record.Key) {
	t.Helper()
	delta, err := d.Change(time.Now().UnixMilli(), put, remove)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(delta); err != nil {
		t.Fatal(err)
	}
}

// write makes a snapshot file.
func (w *world) write(d *snapshot.Dataset) (snapshot.Ref, string) {
	w.t.Helper()
	var b bytes.Buffer
	ref, err := snapshot.Write(&b, d)
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.dir, ref.ID.String()+".offered")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return ref, path
}

// offer has a publisher offer a dataset, as the publisher's stage does.
func (m *member) offer(d *snapshot.Dataset, urls ...string) snapshot.Ref {
	m.w.t.Helper()
	ref, path := m.w.write(d)
	ref.URLs = urls
	var meta []byte
	var err error
	if ref.Torrent, meta, err = m.Offer(ref, path); err != nil {
		m.w.t.Fatal(err)
	}
	m.w.register(ref, meta)
	return ref
}

func (w *world) register(ref snapshot.Ref, meta []byte) {
	w.t.Helper()
	if _, err := w.st.Commit(w.t.Context(), store.Txn{Do: tree.TorrentOps(dataset, ref.ID.String(), meta)}); err != nil {
		w.t.Fatal(err)
	}
}

// counted is an HTTP server of one file that counts what it sends.
type counted struct {
	*httptest.Server
	mu     sync.Mutex
	octets int64
}

func (w *world) http(path string, id snapshot.ID) *counted {
	c := &counted{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("ETag", `"`+id.String()+`"`)
		http.ServeFile(countWriter{out, c}, r, path)
	}))
	w.t.Cleanup(c.Close)
	return c
}

func (c *counted) sent() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.octets
}

type countWriter struct {
	http.ResponseWriter
	c *counted
}

func (w countWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.octets += int64(n)
	return n, err
}

// A publisher and eight hosts, that all begin at once: all end with the file, nobody asks a
// URL, and the publisher sends it a bounded number of times.
func TestSwarm(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref := p.offer(data(t, 1, 6000))
	var hosts []*member
	for i := range 8 {
		hosts = append(hosts, w.start(fmt.Sprintf("h%d", i), false, patient))
	}
	began := time.Now()
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			if err := h.fetch(ref); err != nil {
				t.Errorf("%s: %v", h.name, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	sent := p.metric("sent_bytes_total")
	t.Logf("%d octets to 8 hosts in %s, the publisher sent %.2f times the file", ref.Size, time.Since(began), sent/float64(ref.Size))
	if sent < float64(ref.Size) || sent > 2.5*float64(ref.Size) {
		t.Errorf("publisher sent %.0f octets, expected 1 to 2.5 times %d: two hosts of a site fetch from it", sent, ref.Size)
	}
	for _, h := range hosts {
		if h.metric("fetched_total", bySwarm) != 1 || h.metric("received_bytes_total") < float64(ref.Size) {
			t.Errorf("%s: metrics do not show one snapshot from peers", h.name)
		}
		if got := h.Status(); len(got.Shared) != 1 || got.Shared[0] != ref.ID.String() || got.Fetch != nil {
			t.Errorf("%s: status is %+v", h.name, got)
		}
	}
}

// Without a peer the URLs are the first source, and pieces of an older snapshot are used too.
func TestURLsWhenNobodyHasIt(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	d := data(t, 1, 2500)
	ref, path := w.write(d)
	web := w.http(path, ref.ID)
	ref = p.offer(d, web.URL)
	p.stop()
	w.eventually("nobody", func() bool {
		nodes, _, err := w.st.List(t.Context(), tree.Swarm)
		return err == nil && len(nodes) == 0
	})
	h := w.start("h", false)
	if err := h.fetch(ref); err != nil {
		t.Fatal(err)
	}
	if web.sent() < ref.Size || web.sent() > ref.Size*11/10 {
		t.Errorf("URL gave %d octets, expected %d", web.sent(), ref.Size)
	}
	if n := h.metric("fetched_total", bySwarm); n != 1 {
		t.Errorf("%v fetched piece by piece, expected 1", n)
	}
	// The next host has a peer.
	before := web.sent()
	if err := w.start("h2", false, patient).fetch(ref); err != nil {
		t.Fatal(err)
	}
	if web.sent() != before {
		t.Errorf("URL gave %d octets more, expected none: there was a peer", web.sent()-before)
	}
}

// What people read is what the store says, publishers first, and what is odd in it is bounded.
func TestRead(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref := p.offer(data(t, 1, 100))
	h := w.start("h", false, func(c *Config, _ *Deps, _ *pace) { c.Site = "ams" })
	if err := h.fetch(ref); err != nil {
		t.Fatal(err)
	}
	w.start("empty", false)
	w.name("ams", "odd", "not an address")
	if v, err := Read(t.Context(), w.st, dataset); err != nil || v.Snapshot != "" || len(v.Peers) != 3 {
		t.Errorf("without a manifest: %+v, %v", v, err)
	}
	m := snapshot.Manifest{Dataset: dataset, Version: ref.Version, Time: ref.Time, Digest: ref.Digest, Chain: ref.Chain, Snapshot: ref}
	signed, err := m.Sign(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ManifestPath(dataset), Value: signed}}}); err != nil {
		t.Fatal(err)
	}
	want := View{Dataset: dataset, Snapshot: ref.ID.String(), Version: ref.Version, Size: ref.Size, Torrent: ref.Torrent, Peers: []Peer{
		{Name: "p", Site: "default", Address: p.self.String(), Publisher: true, Have: ref.Size},
		{Name: "h", Site: "ams", Address: h.self.String(), Have: ref.Size},
		{Name: "empty", Site: "default", Address: w.at("empty")},
	}}
	var got View
	w.eventually("all of it in the store", func() bool {
		got, err = Read(t.Context(), w.st, dataset)
		return err == nil && cmp.Equal(got, want)
	})
}

// at is where a peer of the site "default" says that it is.
func (w *world) at(name string) string {
	w.t.Helper()
	n, err := w.st.Get(w.t.Context(), tree.SwarmSitePrefix(dataset, "default")+name)
	if err != nil {
		w.t.Fatal(err)
	}
	var p tree.SwarmPeer
	if err := tree.Decode(n, &p); err != nil {
		w.t.Fatal(err)
	}
	return p.Address
}

// Who is not to be connected to any more, while that is under way, is not.
func TestPartWhileConnecting(t *testing.T) {
	w := newWorld(t)
	g, far := w.start("near", false).gate, w.start("far", false)
	at := far.self
	p, ok := g.peer(dataset, at)
	if !ok {
		t.Fatal("not a peer")
	}
	g.dialer.Control = func(string, string, syscall.RawConn) error { g.part(dataset, at); return nil }
	if c, err := g.Dial(t.Context(), p.Addr.String()); err == nil {
		_ = c.Close()
		t.Error("connected to a peer that was left meanwhile")
	}
}

// Connections, and what is remembered of addresses, are bounded.
func TestGateBounds(t *testing.T) {
	w := newWorld(t)
	h := w.start("p", true, func(c *Config, _ *Deps, _ *pace) { c.MaxPeers = 3 })
	h.offer(data(t, 1, 100)) // or the library wants no connections
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
	})
	for i := range 12 { // from addresses of their own
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 8, byte(i+1))}}
		c, err := d.DialContext(t.Context(), "tcp", h.self.String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	w.eventually("those beyond three are closed", func() bool { return h.metric("refused_connections_total") >= 5 })
	if n := h.metric("peers"); n > 3 {
		t.Errorf("%v peers, expected at most 3", n)
	}
	g := h.gate
	for i := range 3 * maxAliases {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 7382)
		if _, ok := g.peer(dataset, at); !ok {
			t.Fatalf("%s cannot be connected to", at)
		}
		if again, ok := g.peer(dataset, at); !ok || g.real[again.Addr.(*net.TCPAddr).AddrPort().Addr()] != at {
			t.Fatalf("%s is known as another", at)
		}
		if i%4 == 0 {
			g.ban(at.Addr(), "a test says so")
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.real) > maxAliases+1 || len(g.banned) > maxBanned {
		t.Errorf("%d aliases and %d left alone, expected at most %d and %d", len(g.real), len(g.banned), maxAliases, maxBanned)
	}
}

// exhausted is a listener of a process that has no more files, for a while.
type exhausted struct {
	net.Listener
	left, asked int
}

func (e *exhausted) Addr() net.Addr { return &net.TCPAddr{} }

func (e *exhausted) Accept() (net.Conn, error) {
	e.asked++
	if e.left--; e.left >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return nil, net.ErrClosed
}

// TestAcceptPauses: a process without files does not turn in circles, and goes on when it has some.
func TestAcceptPauses(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		ln := &exhausted{left: 10}
		g := &gate{ln: ln, log: slog.New(slog.DiscardHandler)}
		began := time.Now()
		if _, err := g.Accept(); !errors.Is(err, net.ErrClosed) || ln.asked != 11 {
			t.Errorf("%v after %d tries, expected that it is closed after 11", err, ln.asked)
		}
		if took := time.Since(began); took != 10*acceptPause {
			t.Errorf("10 tries took %s", took)
		}
	})
}

// TestFetchEndsWhileWaiting: a fetch that waits for another, or for what is taken up at the start,
// ends with its context.
func TestFetchEndsWhileWaiting(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref := p.offer(data(t, 1, 100))
	h := w.start("h", false)
	if err := h.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := h.Fetch(ctx, ref, t.TempDir(), nil)
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, expected Canceled", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits on")
	}
	h.release()
}

// TestHashingEnds: a file is not hashed to its end for nobody.
func TestHashingEnds(t *testing.T) {
	w := newWorld(t)
	ref, path := w.write(data(t, 1, 100))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := checkID(t.Context(), f, ref); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := checkID(ctx, f, ref); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, expected Canceled", err)
	}
}

// TestOrphanOfACrash: a metainfo whose snapshot never came to be is removed at the start.
func TestOrphanOfACrash(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "h", "swarm")
	orphan := filepath.Join(dir, snapshot.ID{1}.String()+infoSuffix)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(orphan, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	w.start("h", false)
	w.eventually("it is gone", func() bool { _, err := os.Stat(orphan); return errors.Is(err, os.ErrNotExist) })
}

// TestClosedUnderTheLibrary: a peer is left alone, or the swarm ends, while the library begins to
// speak on a connection with it: it panics when a deadline cannot be set.
func TestClosedUnderTheLibrary(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	dialed, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(prometheus.NewRegistry(), dataset, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{conns: map[netip.Addr]*conn{}, metrics: m}
	c := &conn{Conn: dialed, gate: g}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.SetDeadline(time.Now()); err != nil {
		t.Errorf("of a closed connection: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from a closed connection")
	}
}

// A host does not ask for pieces in the order of the file, as all others would.
func TestOrderOfItsOwn(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref, path := w.random(4 << 20)
	var meta []byte
	var err error
	if ref.Torrent, meta, err = p.Offer(ref, path); err != nil {
		t.Fatal(err)
	}
	w.register(ref, meta)
	h := w.start("h", false, func(c *Config, _ *Deps, _ *pace) { c.Down = 1 << 20 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	late, done := 0, false // pieces of the second half that are there before a third of all is
	_, err = h.Fetch(ctx, ref, filepath.Join(w.dir, "fetch"), func(have, _ int64) {
		if done || have < ref.Size/8 {
			return
		}
		if done = true; have > ref.Size/3 {
			t.Errorf("%d of %d octets came at once", have, ref.Size)
		}
		torrent := h.client.Torrents()[0]
		for i := torrent.NumPieces() / 2; i < torrent.NumPieces(); i++ {
			if torrent.PieceState(i).Complete {
				late++
			}
		}
		cancel()
	})
	if !done || late < 4 {
		t.Errorf("of the second half %d pieces were among the first (%v)", late, err)
	}
}
