package publisher

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
)

// Publisher publishes one dataset. All of its parts run in every process; signing
// and trimming only where it leads, so that who takes over has everything ready.
type Publisher struct {
	cfg     Config
	deps    Deps
	key     ed25519.PrivateKey
	also    []ed25519.PrivateKey
	ring    *trust.Ring // of our own keys: are they revoked?
	metrics *metrics
	shelf   *shelf
	start   *snapshot.Dataset // of the newest snapshot on the shelf; taken by Run

	wake chan struct{}          // the signer has something to look at; holds one
	work chan *snapshot.Dataset // clones to make snapshots of; holds one

	offering sync.Mutex // one at a time

	mu       sync.Mutex // guards below
	torrents map[snapshot.ID]offer
	newest   version // version 0: none yet
	// stuck is since when nothing was followed though something was refused; zero: it was.
	stuck  time.Time
	status Status
	// suspect: the log in the store is to be looked through. wanted: a snapshot is to be made though
	// none is due, because it was found damaged.
	suspect, wanted bool
	// since the last snapshot was begun
	versions uint64
	octets   int64
	begun    time.Time // zero: none yet in this life
	making   bool
	failed   bool // the last one was not made
}

// version is what is signed.
type version struct {
	version uint64
	content uint64
	time    int64 // unix milliseconds
	digest  snapshot.Digest
	chain   snapshot.Chain
	seen    time.Time // when the follower had it
}

// Status is for people.
type Status struct {
	Dataset   string         `json:"dataset"`
	Leading   bool           `json:"leading"`
	Followed  uint64         `json:"followed"`          // version
	Signed    uint64         `json:"signed"`            // version; 0 while another leads
	Oldest    uint64         `json:"oldest"`            // delta in the log; 0 while another leads
	Key       string         `json:"key"`               // id of the public key
	Also      []string       `json:"also,omitempty"`    // ids of the further keys that sign
	Revoked   []string       `json:"revoked,omitempty"` // which of them hosts do not believe any more
	Snapshots []snapshot.Ref `json:"snapshots"`
	Refused   string         `json:"refused,omitempty"` // what the publisher could not follow, last
	Damage    string         `json:"damage,omitempty"`  // what was found of the log in the store, last in this term
	Trouble   string         `json:"trouble,omitempty"` // with the last snapshot
}

// New reads or makes the key, and reads and checks the snapshots in the directory.
func New(cfg Config, deps Deps) (*Publisher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	key, err := snapshot.LoadOrCreateKey(cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	files, also := []string{cfg.KeyFile + ".pub"}, []ed25519.PrivateKey(nil)
	for _, path := range cfg.AlsoKeys {
		k, err := snapshot.LoadOrCreateKey(path)
		if err != nil {
			return nil, fmt.Errorf("publisher: %w", err)
		}
		files, also = append(files, path+".pub"), append(also, k)
	}
	ring, err := trust.Open(trust.Config{Keys: files, Log: deps.Log})
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	m, err := newMetrics(deps.Metrics, cfg.Dataset)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	s, newest, err := openShelf(cfg.Dir, cfg.Dataset, deps.Log)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	p := &Publisher{
		cfg: cfg, deps: deps, key: key, also: also, ring: ring, metrics: m, shelf: s, start: newest,
		wake: make(chan struct{}, 1), work: make(chan *snapshot.Dataset, 1),
	}
	if deps.Swarm != nil && len(cfg.URLs) == 0 {
		return nil, errors.New("publisher: there is a swarm and no url, expected one: hosts need it where there is no peer")
	}
	p.offer()
	p.status = Status{Dataset: cfg.Dataset, Key: snapshot.KeyID(p.PublicKey()), Also: p.signers()[1:]}
	if newest != nil {
		p.begun = time.Now() // not at once again after each restart
		p.take(newest, time.Now())
	}
	return p, nil
}

// PublicKey is what hosts must know.
func (p *Publisher) PublicKey() ed25519.PublicKey { return p.key.Public().(ed25519.PublicKey) }

// signers are the ids of the keys that sign.
func (p *Publisher) signers() []string {
	ids := []string{snapshot.KeyID(p.PublicKey())}
	for _, k := range p.also {
		ids = append(ids, snapshot.KeyID(k.Public().(ed25519.PublicKey)))
	}
	return ids
}

// Status is how it stands.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Snapshots = p.shelf.offered()
	for _, r := range p.ring.Keys().Revoked {
		s.Revoked = append(s.Revoked, fmt.Sprintf("key %s is revoked (%s): hosts do not believe what it signs; give the publisher another", snapshot.KeyID(r.Key), r.Why))
	}
	return s
}

// Run publishes until ctx ends. It returns early only with an error.
func (p *Publisher) Run(ctx context.Context) error {
	f, err := follow.New(follow.Config{
		Dataset: p.cfg.Dataset, Store: p.deps.Store, Fetcher: p.deps.Fetcher,
		Dir: filepath.Join(p.cfg.Dir, "fetch"), Log: p.deps.Log, LogTouched: p.touched,
	}, p.start, p)
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	p.start = nil // it is the follower's now
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { p.makeSnapshots(ctx) })
	tasks.Go(func() {
		p.ring.Run(ctx, p.deps.Store, func(err error, _ []byte) {
			p.deps.Log.Warn("node revokes nothing", "error", err)
		})
	})
	tasks.Go(func() {
		lead.Run(ctx, lead.Election{
			Store: p.deps.Store, Path: tree.ElectPublisher + "/" + p.cfg.Dataset, Value: []byte(p.deps.Name),
			TTL: p.cfg.SessionTTL, Log: p.deps.Log,
		}, p.sign)
	})
	return f.Run(ctx)
}

// Reset is follow.Sink.Reset.
func (p *Publisher) Reset(_ context.Context, r follow.Reset) error {
	p.follow(r.Dataset, 0)
	return nil
}

// Apply is follow.Sink.Apply.
func (p *Publisher) Apply(_ context.Context, g follow.Group) error {
	size, large := 0, false
	for i, b := range g.Encoded {
		size += len(b)
		if len(b) < largeDelta || len(p.cfg.URLs) == 0 {
			continue
		}
		if err := p.shelf.addDelta(g.Deltas[i].Version, b); err != nil {
			p.deps.Log.Error("large delta is not offered as a file, hosts read it from the store", "dataset", p.cfg.Dataset, "error", err)
			continue
		}
		large = true
	}
	if large {
		p.offer()
	}
	p.follow(g.Dataset, int64(size))
	return nil
}

// Refused is follow.Sink.Refused.
func (p *Publisher) Refused(r follow.Refusal) {
	p.metrics.refused.WithLabelValues(string(r.Kind)).Inc()
	p.deps.Log.Warn("version cannot be published", "dataset", p.cfg.Dataset, "kind", r.Kind, "version", r.Version, "error", r.Err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Refused = r.String()
	if p.stuck.IsZero() {
		p.stuck = time.Now()
	}
}

// take makes the state of d the one to sign.
func (p *Publisher) take(d *snapshot.Dataset, now time.Time) {
	p.newest = version{d.Version(), d.Content(), d.Time(), d.Digest(), d.Chain(), now}
	p.status.Followed, p.status.Refused = d.Version(), ""
	p.stuck = time.Time{}
}

// follow takes a new version: first it is given to the signer, then, when a
// snapshot is due, it is cloned for it. The next version waits for the clone, this
// one does not.
func (p *Publisher) follow(d *snapshot.Dataset, size int64) {
	now := time.Now()
	p.mu.Lock()
	p.versions += d.Version() - min(p.newest.version, d.Version())
	p.octets += size
	p.take(d, now)
	due := p.due(now)
	if due {
		p.wanted = false
		p.making, p.begun, p.versions, p.octets = true, now, 0, 0
	}
	p.mu.Unlock()
	p.metrics.version.Set(float64(d.Version()))
	p.poke()
	if due {
		p.work <- d.Clone() // has room: only one is made at a time
	}
}

// due tells whether a snapshot is to be made now. The caller holds mu.
func (p *Publisher) due(now time.Time) bool {
	if p.making {
		return false
	}
	newest := p.shelf.newest()
	if newest.ID.IsZero() && p.begun.IsZero() {
		return true
	}
	if now.Sub(p.begun) < p.cfg.SnapshotPause {
		return false
	}
	if p.failed {
		return now.Sub(p.begun) >= redoPause // not after as many versions again: the log grows
	}
	return newest.ID.IsZero() || p.wanted ||
		p.cfg.SnapshotEvery > 0 && p.versions >= p.cfg.SnapshotEvery ||
		p.cfg.SnapshotBytes > 0 && p.octets >= max(p.cfg.SnapshotBytes, newest.Size)
}

// redoPause is the least time before a snapshot that could not be made is tried again.
const redoPause = 10 * time.Second

// poke lets the signer look.
func (p *Publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// makeSnapshots makes snapshots of the clones it is given.
func (p *Publisher) makeSnapshots(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-p.work:
			began := time.Now()
			ref, err := p.shelf.add(d)
			took := time.Since(began)
			p.metrics.snapshotSeconds.Observe(took.Seconds())
			p.mu.Lock()
			p.making, p.failed = false, err != nil
			p.status.Trouble = ""
			if err != nil {
				p.status.Trouble = err.Error()
			}
			p.mu.Unlock()
			if err != nil {
				p.metrics.snapshots.WithLabelValues("error").Inc()
				p.deps.Log.Error("snapshot not made, the older ones stay offered", "dataset", p.cfg.Dataset, "version", d.Version(), "error", err)
				continue
			}
			p.offer()
			p.metrics.snapshots.WithLabelValues("ok").Inc()
			p.metrics.snapshotBytes.Set(float64(ref.Size))
			p.deps.Log.Info("snapshot made", "dataset", p.cfg.Dataset, "version", ref.Version, "id", ref.ID.String()[:12], "size", ref.Size, "took", took)
			p.poke()
		}
	}
}

// largeDelta is octets from which a delta is offered as a file: 17 parts in the store, which would
// be read by every host.
const largeDelta = 1 << 20

// errDeposed says that the manifest was written by somebody who should not lead.
var errDeposed = errors.New("leadership is gone")
