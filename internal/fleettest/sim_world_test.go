package fleettest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/simstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/mutator"
	"github.com/zonecast/zonecast/presenter"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
	"github.com/zonecast/zonecast/store"
)

// A world is a whole zonecast in a bubble: the stages are the real ones, from the registry to
// the journal that a host's server follows; the store, the disks of hosts, the network and the
// clocks are simulated (docs/simulation.md).

// defence is something that a world can do without, to show that a promise needs it.
type defence string

const (
	syncs     defence = "what is acknowledged is synced"
	keysCheck defence = "only trusted keys sign"
	fences    defence = "who was deposed cannot commit"
	claimsCAS defence = "claims are changed by compare-and-set"
	gone      defence = "a registration that comes late is of no use"
	majority  defence = "what is acknowledged has a majority"
	journals  defence = "a host has a journal on its disk"
	cutOff    defence = "what was not acknowledged is cut off"
	moveAside defence = "a damaged journal is moved aside"
	contents  defence = "a snapshot is what was signed"
	notBefore defence = "a version is not earlier than the one before"
	anew      defence = "a watch that lost its history begins anew"
	unknown   defence = "what is not known is not acknowledged"
	lapse     defence = "the session of who is dead ends"
	revoked   defence = "a revoked key is not believed"
	past      defence = "a damaged log makes a snapshot due"
	putBack   defence = "who made a version keeps it until it is signed"
	holds     defence = "what a source loses at once is held"
	counted   defence = "what hosts answer in rings is counted"
	asked     defence = "who was cut off asks which keys are revoked"
	voided    defence = "what a thief signed before is void"
	// Where groups have a host carry another dataset.
	answersFirst defence = "nothing is dropped before what is wanted is answered"
	lease        defence = "a trial that nobody confirms is not answered"
)

// scene is what a world consists of and what happens in it.
type scene struct {
	seed  uint64
	hosts int
	steps int
	// only are the kinds of steps that happen, with the weights they have; nil: all.
	only map[string]int
	// without is the defence that is missing; empty: none is.
	without defence
	// quiet is after how many steps everything is healed, and has to converge. Zero: 200.
	quiet int
	// rarely tells that snapshots are made only when there is a reason besides their time.
	rarely bool
}

type world struct {
	scene
	t       testing.TB
	rng     *rand.Rand // the steps': used by their goroutine alone
	c       *simstore.Cluster
	dir     string // of the real file system: what publishers and fetchers have
	key     ed25519.PrivateKey
	thief   ed25519.PrivateKey
	stolen  ed25519.PrivateKey            // hosts know it, and it is revoked
	extra   map[string]ed25519.PrivateKey // that hosts know besides, by name
	leaked  int                           // how many of them were revoked
	log     *slog.Logger
	p       *promises
	people  *people
	control []*stage // presenters, publishers, mutators, the registry
	hosts   []*simHost
	did     []string // the last steps
	n       int      // steps so far

	mu      sync.Mutex // guards below
	dice    *rand.Rand // the network's
	web     map[string]http.Handler
	status  map[string]func() any // of publishers and presenters, for people
	garbage int                   // of 100 answers of the web, how many are not what was asked for
	skew    map[string]time.Duration
}

// newWorld must be called in a bubble.
func newWorld(t testing.TB, s scene) *world {
	t.Helper()
	if s.quiet == 0 {
		s.quiet = 200
	}
	w := &world{
		scene: s, t: t, rng: rand.New(rand.NewPCG(s.seed, 1)), dice: rand.New(rand.NewPCG(s.seed, 2)),
		log: slog.New(slog.DiscardHandler), web: map[string]http.Handler{}, status: map[string]func() any{}, skew: map[string]time.Duration{},
	}
	w.c = simstore.New(simstore.Config{
		Seed: s.seed, Replicas: 3, Delay: 4 * time.Millisecond, Lag: 20 * time.Millisecond, Timeout: time.Second, Reconnect: 2 * time.Second,
	})
	w.p = newPromises(w)
	w.c.Observe(w.p.committed)
	switch s.without {
	case fences:
		w.c.Blind(func(c store.Cond) bool { return c.Modified > 0 && !strings.HasPrefix(c.Path, tree.Claims) })
	case lapse:
		w.c.KeepSessions()
	case gone:
		w.c.Blind(func(c store.Cond) bool { return strings.HasPrefix(c.Path, tree.NameGuards) })
	case claimsCAS:
		w.c.Blind(func(c store.Cond) bool { return strings.HasPrefix(c.Path, tree.Claims) })
	}
	var err error
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm" // nothing here is about real disks
	}
	if w.dir, err = os.MkdirTemp(parent, "zonecast-world-"); err != nil {
		t.Fatal(err)
	}
	for file, key := range map[string]*ed25519.PrivateKey{"key": &w.key, "thief": &w.thief, "stolen": &w.stolen} {
		if *key, err = snapshot.LoadOrCreateKey(filepath.Join(w.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	w.extra = map[string]ed25519.PrivateKey{}
	for _, name := range w.more() {
		if w.extra[name], err = snapshot.LoadOrCreateKey(filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		w.control = append(w.control, w.newStage(fmt.Sprint("presenter", i), w.presenter), w.newStage(fmt.Sprint("publisher", i), w.publisher), w.newStage(fmt.Sprint("mutator", i), w.mutator))
	}
	w.people = newPeople(w)
	w.control = append(w.control, w.people.registry)
	if s.rings() {
		w.control = append(w.control, w.newStage("canary0", w.canary), w.newStage("canary1", w.canary))
	}
	for i := range s.hosts {
		w.hosts = append(w.hosts, w.newHost(fmt.Sprint("host", i)))
	}
	if s.without != revoked {
		w.revoke(w.stolen, true)
	}
	for _, s := range w.control {
		s.start()
	}
	for _, h := range w.hosts {
		h.boot()
	}
	return w
}

// end ends everything, so that the bubble can.
func (w *world) end() {
	w.people.wait()
	for _, h := range w.hosts {
		h.agent.kill()
		h.server.kill()
	}
	for _, s := range w.control {
		s.kill()
	}
	w.people.client.Die()
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
	synctest.Wait()
}

func (w *world) publicKeys() []ed25519.PublicKey {
	return []ed25519.PublicKey{w.key.Public().(ed25519.PublicKey)}
}

// now is the clock of a process.
func (w *world) now(name string) func() time.Time {
	return func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return time.Now().Add(w.skew[name])
	}
}

// stage is a process with a connection to the store.
type stage struct {
	w      *world
	name   string
	run    func(ctx context.Context, st store.Store) error
	client *simstore.Client
	cut    bool
	spread time.Duration // see simstore.Client.Spread
	cancel context.CancelFunc
	done   chan struct{} // nil: it does not run
}

func (w *world) newStage(name string, run func(context.Context, *stage, store.Store) error) *stage {
	s := &stage{w: w, name: name}
	s.run = func(ctx context.Context, st store.Store) error { return run(ctx, s, st) }
	return s
}

func (s *stage) start() {
	if s.done != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.client, s.cancel, s.done = s.w.c.Client(s.name), cancel, make(chan struct{})
	s.client.Spread(s.spread)
	s.client.Cut(s.cut)
	done, client := s.done, s.client
	go func() {
		defer close(done)
		if err := s.run(ctx, s.w.fake(s.name, client)); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			s.w.p.broken("runs", "%s ended by itself: %v", s.name, err)
		}
	}()
}

// kill ends the process as a crash does: nobody is told.
func (s *stage) kill() {
	if s.done == nil {
		return
	}
	s.client.Die()
	s.cancel()
	<-s.done
	s.done = nil
}

func (s *stage) setCut(cut bool) {
	s.cut = cut
	if s.done != nil {
		s.client.Cut(cut)
	}
}

func (w *world) presenter(ctx context.Context, s *stage, st store.Store) error {
	cfg := presenter.DefaultConfig()
	cfg.Guards, cfg.History, cfg.Audit = w.without != holds, 30, 60
	// What random claims do in a second is let through, what an accident takes at once is not.
	cfg.Guard = guard.Bounds{Window: time.Second, Few: 1, Source: guard.Limits{Removed: guard.Bound{Floor: wealth - 5, Ceiling: wealth - 5}}}
	if w.rings() {
		cfg.Trial = ringPolicy()
	}
	p, err := presenter.New(cfg, presenter.Deps{
		Store: st, Log: w.log, Metrics: prometheus.NewRegistry(), Policy: reconcile.DefaultPolicy(), Fetcher: w.fetcher(s), Name: s.name, Now: w.now(s.name),
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.status[s.name] = func() any { return p.Status() }
	w.mu.Unlock()
	return p.Run(ctx)
}

func (w *world) publisher(ctx context.Context, s *stage, st store.Store) error {
	cfg := publisher.DefaultConfig()
	cfg.Dir, cfg.KeyFile = filepath.Join(w.dir, s.name), filepath.Join(w.dir, "key")
	cfg.URLs = []string{"http://" + s.name + ".example.net"}
	cfg.SnapshotEvery, cfg.SnapshotPause = 60, 5*time.Second
	if w.rarely {
		cfg.SnapshotEvery = 1_000_000
	}
	p, err := publisher.New(cfg, publisher.Deps{Store: st, Log: w.log, Metrics: prometheus.NewRegistry(), Fetcher: w.fetcher(s), Name: s.name, Now: w.now(s.name)})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.web[s.name+".example.net"] = p.Handler()
	w.status[s.name] = func() any { return p.Status() }
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.web, s.name+".example.net")
		w.mu.Unlock()
	}()
	return p.Run(ctx)
}

func (w *world) mutator(ctx context.Context, s *stage, st store.Store) error {
	m, err := mutator.New(mutator.DefaultConfig(), mutator.Deps{Store: st, Log: w.log, Metrics: prometheus.NewRegistry(), Rules: inProcess{}, Now: w.now(s.name)})
	if err != nil {
		return err
	}
	return m.Run(ctx)
}

// inProcess evaluates rules in this process: a child has no part in a bubble's time.
type inProcess struct{}

func (inProcess) Load(files fs.FS) ([]script.Loaded, error) { return script.Load(files) }
func (inProcess) Close() error                              { return nil }

// simHost is a machine with an agent and a server.
type simHost struct {
	w      *world
	name   string
	agent  *stage
	server *stage
	mu     sync.Mutex   // guards below
	a      *agent.Agent // of the process that runs
	disk   *simDisk
	rotten bool // its disk lost or changed what it had said was written
	served served
	saying sync.Mutex // held by who writes what is answered
}

// simDisk is a host's disk. Snapshots are fetched to the real file system, whose calls a bubble
// can wait for.
type simDisk struct {
	*faultfs.FS
	fetched string
	uncut   bool // nothing is cut off
	stuck   bool // no directory is renamed
}

func (d *simDisk) OpenFile(name string, flag int, perm fs.FileMode) (journal.File, error) {
	if strings.HasPrefix(name, d.fetched) {
		return journal.System().OpenFile(name, flag, perm)
	}
	f, err := d.FS.OpenFile(name, flag, perm)
	if err == nil && d.uncut {
		return uncutFile{f}, nil
	}
	return f, err
}

func (d *simDisk) Rename(from, to string) error {
	if d.stuck && strings.Contains(to, ".corrupt-") {
		return &fs.PathError{Op: "rename", Path: from, Err: errors.New("not on this disk")}
	}
	return d.FS.Rename(from, to)
}

type uncutFile struct{ journal.File }

func (uncutFile) Truncate(int64) error { return nil }

func (w *world) newHost(name string) *simHost {
	h := &simHost{w: w, name: name}
	h.agent = w.newStage(name+"/agent", h.runAgent)
	h.agent.spread = 10 * time.Second // as hosts' clients of etcd have it
	h.server = w.newStage(name+"/server", h.runServer)
	h.setDisk(faultfs.New())
	if w.rings() { // the file of a trial is on the real file system
		if err := os.MkdirAll(h.path(""), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	return h
}

func (h *simHost) path(name string) string { return filepath.Join(h.w.dir, h.name, name) }

func (h *simHost) setDisk(d *faultfs.FS) {
	d.Lie(h.w.without == syncs)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disk = &simDisk{FS: d, fetched: h.path("journal.fetch"), uncut: h.w.without == cutOff, stuck: h.w.without == moveAside}
}

func (h *simHost) getDisk() *simDisk {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.disk
}

func (h *simHost) keys() []ed25519.PublicKey {
	keys := h.w.publicKeys()
	switch h.w.without {
	case keysCheck:
		keys = append(keys, h.w.thief.Public().(ed25519.PublicKey))
	case revoked:
		keys = append(keys, h.w.stolen.Public().(ed25519.PublicKey))
	case asked:
		for _, key := range h.w.extra {
			keys = append(keys, key.Public().(ed25519.PublicKey))
		}
	}
	return keys
}

func (h *simHost) boot() {
	h.served.life(h)
	h.server.start()
	h.agent.start()
}

// crash is that of the machine: what was not synced is treated as loss says.
func (h *simHost) crash(loss faultfs.Loss) {
	kept := h.durable()
	old := h.getDisk()
	old.Crash()
	h.agent.kill()
	h.server.kill()
	h.setDisk(old.Reboot(loss))
	if h.w.without == journals {
		h.setDisk(faultfs.New())
	}
	h.served.crashed(kept)
}

// durable is the version that the agent acknowledged.
func (h *simHost) durable() uint64 {
	return h.status().Version
}

// status is the agent's.
func (h *simHost) status() agent.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.a == nil {
		return agent.Status{}
	}
	return h.a.Status()
}

func (h *simHost) runAgent(ctx context.Context, s *stage, st store.Store) error {
	cfg := agent.DefaultConfig()
	cfg.Host, cfg.DNS, cfg.Keys = h.name, "192.0.2.1:53", h.keyFiles()
	cfg.Journal, cfg.StatusDir, cfg.SampleEvery, cfg.FoldSize = h.path("journal"), h.path("status"), 0, 64<<10
	a, err := agent.New(cfg, agent.Deps{Store: st, Log: h.w.log, Metrics: prometheus.NewRegistry(), Fetcher: h.fetcher(s), FS: h.getDisk()})
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.a = a
	h.mu.Unlock()
	return a.Run(ctx)
}

func (h *simHost) fetcher(s *stage) follow.Fetcher {
	f := h.w.fetcher(s)
	if h.w.without == contents {
		return credulous{f, h}
	}
	return f
}

// credulous serves what it fetched without looking whether it is what was signed.
type credulous struct {
	follow.Fetcher
	h *simHost
}

func (c credulous) Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (string, error) {
	path, err := c.Fetcher.Fetch(ctx, ref, dir, progress)
	if err == nil || !errors.Is(err, follow.ErrContent) {
		return path, err
	}
	c.h.served.takes(c.h, forged(c.h.w))
	return path, err
}

// runServer serves what the journal has, as the authority does: never less than it served, and
// what it served until there is more.
func (h *simHost) runServer(ctx context.Context, _ *stage, _ store.Store) error {
	disk := h.getDisk()
	for _, name := range []string{agent.ServingFile, agent.ServingFile + ".new"} {
		_ = disk.Remove(filepath.Join(h.path("status"), name)) // it answers nothing yet
	}
	if h.w.rings() {
		var top sync.WaitGroup
		defer top.Wait()
		top.Go(func() { h.followTrial(ctx, disk) })
	}
	keys := h.beliefs(ctx, disk)
	for ctx.Err() == nil {
		var d *snapshot.Dataset
		err := journal.FollowIn(ctx, disk, h.path("journal"), keys, func(e journal.Event) error {
			if len(e.SignedBy) > 0 {
				h.served.sign(e.SignedBy)
			}
			if e.Void {
				h.served.void()
			}
			switch {
			case e.Reset != nil:
				d = e.Reset
			case e.Delta != nil:
				if err := h.served.apply(d, e.Delta); err != nil {
					return err
				}
			default:
				return nil // what was served stays
			}
			if h.served.takes(h, d) {
				h.say(disk, d)
			}
			return nil
		})
		if ctx.Err() == nil && err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

// say writes what is answered where the agent reads it.
func (h *simHost) say(disk *simDisk, d *snapshot.Dataset) {
	h.saying.Lock()
	defer h.saying.Unlock()
	path := filepath.Join(h.path("status"), agent.ServingFile)
	if disk.MkdirAll(h.path("status"), 0o755) != nil {
		return
	}
	_ = disk.Remove(path + ".new")
	f, err := disk.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	h.served.mu.Lock()
	said := tree.HostDataset{Version: d.Version(), Digest: d.Digest().String(), Time: d.Time(), Since: time.Now().UnixMilli(), Trial: h.served.top.state(), SignedBy: h.served.signers}
	h.served.mu.Unlock()
	b := tree.Encode(said)
	if _, err := f.Write(b); err == nil {
		_ = disk.Rename(path+".new", path) // else the agent goes on saying less: safe
	}
}

// fetcher is HTTP over the simulated network, as a process is connected to it.
func (w *world) fetcher(s *stage) follow.Fetcher {
	return follow.HTTP{Client: &http.Client{Transport: simWeb{w, s}}}
}

type simWeb struct {
	w *world
	s *stage
}

func (n simWeb) RoundTrip(req *http.Request) (*http.Response, error) {
	n.w.mu.Lock()
	handler, garbage := n.w.web[req.URL.Host], n.w.garbage > 0 && n.w.dice.IntN(100) < n.w.garbage
	kind, at := n.w.dice.IntN(3), n.w.dice.Uint32()
	n.w.mu.Unlock()
	if handler == nil || n.s.cut {
		return nil, fmt.Errorf("connect to %s: nobody answers", req.URL.Host)
	}
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, req)
	resp := rec.Result()
	if b := rec.Body.Bytes(); garbage && len(b) > 0 {
		switch kind {
		case 0:
			b = b[:len(b)/2]
		case 1:
			b[int(at)%len(b)] ^= 0x10
		case 2:
			b = bytes.Repeat([]byte{0x5a}, len(b))
		}
		resp.Body = io.NopCloser(bytes.NewReader(b))
	}
	return resp, nil
}
