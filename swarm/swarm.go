package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	"golang.org/x/time/rate"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// Swarm is one host's or publisher's part in that of a dataset. Those of one host share all that
// is bounded: see carrier.
type Swarm struct {
	*carrier
	cfg     Config
	deps    Deps
	pace    pace
	metrics *metrics

	pieceLength func(size int64) int64

	fetching chan struct{} // has whoever fetches or loads: one at a time
	coming   int64         // octets of what is fetched, which have a place on the disk; guarded by carrier.room
	end      func()        // ends what runs for one beside the first

	mu     sync.Mutex  // guards below
	away   bool        // the dataset is carried no more
	shared []*shared   // the newest last
	now    *Progress   // nil while nothing is fetched
	door   snapshot.ID // the newest that was fetched from elsewhere; zero: none
	said   time.Time   // when the progress was last given out
	node   tree.SwarmPeer
}

// shared is a snapshot that others can fetch here.
type shared struct {
	id      snapshot.ID
	delta   bool // it is a delta as a file
	size    int64
	path    string // in Dir; empty for a publisher's, which is not ours
	file    *file
	torrent *torrent.Torrent
}

// Progress is how far a fetch is.
type Progress struct {
	ID    snapshot.ID `json:"id"`
	Have  int64       `json:"have"` // octets
	Size  int64       `json:"size"`
	Disk  int64       `json:"disk"`  // of Have, from older snapshots
	Peers int         `json:"peers"` // connected
	URLs  bool        `json:"urls"`  // the publisher's URLs are asked as well
}

// Status is for people.
type Status struct {
	Dataset string       `json:"dataset"`
	Address string       `json:"address"`
	Site    string       `json:"site"`
	Shared  []string     `json:"shared"` // ids
	Fetch   *Progress    `json:"fetch,omitempty"`
	Banned  []netip.Addr `json:"banned,omitempty"` // at most 16
	Beside  []Status     `json:"beside,omitempty"` // of the other datasets of the host
}

// Suffixes of files in Dir.
const (
	wholeSuffix = ".snapshot"
	partSuffix  = ".part"
	infoSuffix  = ".torrent"
)

// New listens, so that others can connect as soon as Run runs.
func New(cfg Config, deps Deps) (*Swarm, error) { return newSwarm(cfg, deps, defaultPace) }

func newSwarm(cfg Config, deps Deps, p pace) (*Swarm, error) {
	fail := func(err error) (*Swarm, error) { return nil, fmt.Errorf("swarm: %w", err) }
	if err := cfg.Validate(); err != nil {
		return fail(err)
	}
	if cfg.Listen == "" {
		return fail(errors.New("listen is empty"))
	}
	if err := store.CheckPath(tree.SwarmSeeds(deps.Dataset) + deps.Name); err != nil || filepath.Base(deps.Name) != deps.Name {
		return fail(fmt.Errorf("name is %.80q, expected one path element of printable ASCII", deps.Name))
	}
	if !deps.Publisher {
		if cfg.Dir == "" {
			return fail(errors.New("dir is empty, expected a directory"))
		}
		if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
			return fail(err)
		}
	}
	if deps.Fallback == nil {
		deps.Fallback = follow.HTTP{Log: deps.Log}
	}
	m, err := newMetrics(deps.Metrics, deps.Dataset, nil)
	if err != nil {
		return fail(err)
	}
	g, err := newGate(cfg, p, deps.Log, m)
	if err != nil {
		return fail(err)
	}
	s := &Swarm{carrier: &carrier{gate: g, debts: newDebts(), changed: make(chan struct{}, 1)}, cfg: cfg, deps: deps, pace: p, metrics: m, pieceLength: pieceLength, fetching: make(chan struct{}, 1)}
	s.all = []*Swarm{s}
	s.down = s.downLimit()
	s.self = g.addrPort()
	if cfg.Address != "" {
		s.self = netip.MustParseAddrPort(cfg.Address) // Validate parsed it
	}
	s.node = tree.SwarmPeer{Name: deps.Name, Address: s.self.String(), Site: cfg.Site}
	if !deps.Publisher {
		if err := s.clear(); err != nil {
			return fail(errors.Join(err, g.Close()))
		}
	}
	if s.client, err = torrent.NewClient(s.clientConfig()); err != nil {
		return fail(errors.Join(err, g.Close()))
	}
	s.client.AddDialer(g)
	s.client.AddListener(g)
	return s, nil
}

// clientConfig switches off whatever finds peers or opens ports by itself, and encryption,
// which hides nothing that the store does not tell: files are public to whoever is let in.
func (s *Swarm) clientConfig() *torrent.ClientConfig {
	c := torrent.NewDefaultClientConfig()
	c.Slogger = slog.New(slog.DiscardHandler)
	c.NoDHT, c.DisableTrackers, c.DisablePEX, c.DisableWebtorrent, c.NoDefaultPortForwarding = true, true, true, true, true
	c.DisableTCP, c.DisableUTP, c.DialForPeerConns = true, true, false // the gate listens and connects
	c.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{}
	c.Seed = true
	c.DefaultStorage = noStorage{} // the library's own would open a database here
	c.DropDuplicatePeerIds = true
	c.HTTPUserAgent = "zonecast"
	c.DialRateLimiter = rate.NewLimiter(100, 100)
	c.EstablishedConnsPerTorrent = s.cfg.MaxPeers
	c.HalfOpenConnsPerTorrent, c.TotalHalfOpenConns = s.cfg.MaxPeers, s.cfg.MaxPeers
	c.TorrentPeersHighWater = 2 * s.cfg.MaxPeers
	c.NominalDialTimeout = s.pace.silent
	if s.cfg.Up > 0 {
		c.UploadRateLimiter = rate.NewLimiter(rate.Limit(s.cfg.Up), burst(s.cfg.Up))
	}
	c.DownloadRateLimiter = s.down
	s.debts.hook(&c.Callbacks)
	return c
}

// downLimit is the bound on what comes, as the library takes it: nil is none, and a limiter
// without bound would have it make no connections.
func (s *Swarm) downLimit() *rate.Limiter {
	if s.cfg.Down == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(s.cfg.Down), burst(s.cfg.Down))
}

// burst is a quarter of a second's octets, and at least what is read or sent at once.
func burst(rate int64) int { return int(max(rate/4, 64<<10)) }

// Run serves peers, and for a publisher or with Deps.Session tells where it is, until ctx ends.
func (s *Swarm) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	defer s.endBeside()
	if s.deps.Publisher || s.deps.Session {
		tasks.Go(func() { s.present(ctx) })
	}
	if !s.deps.Publisher {
		tasks.Go(func() { s.load(ctx) })
	}
	look := time.NewTicker(s.pace.look)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.Close())
		case <-look.C:
			s.gate.judge(s.client.BadPeerIPs())
			s.leaveSilent(time.Now())
		}
	}
}

// Close ends it; Run does so too.
func (s *Swarm) Close() error {
	err := s.gate.Close()
	for _, e := range s.client.Close() {
		err = errors.Join(err, e)
	}
	for _, o := range s.every() {
		o.mu.Lock()
		for _, one := range o.shared {
			err = errors.Join(err, one.file.f.Close())
		}
		o.shared = nil
		o.mu.Unlock()
	}
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// leaveSilent closes connections that owe us octets and send none: what was asked of them is
// asked of others.
func (s *Swarm) leaveSilent(now time.Time) {
	for _, alias := range s.debts.silent(now.Add(-s.pace.silent)) {
		if at, ok := s.gate.leave(alias); ok {
			s.metrics.stalls.Inc()
			s.deps.Log.Info("peer sends nothing of what was asked for: left", "client", at, "pause", s.pace.silent)
		}
	}
}

// Status is how it stands.
func (s *Swarm) Status() Status {
	out := s.status()
	out.Banned = s.gate.bannedNow(16)
	for _, o := range s.every() {
		if o != s {
			out.Beside = append(out.Beside, o.status())
		}
	}
	return out
}

func (s *Swarm) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Dataset: s.deps.Dataset, Address: s.node.Address, Site: s.cfg.Site, Shared: []string{}}
	for _, one := range s.shared {
		out.Shared = append(out.Shared, one.id.String())
	}
	if s.now != nil {
		now := *s.now
		out.Fetch = &now
	}
	return out
}

// Offer lets peers fetch the file at path, which ref points at and which is whole and right,
// and returns its info hash and its metainfo. The file stays the caller's, who may remove it
// after Withdraw.
func (s *Swarm) Offer(ref snapshot.Ref, path string) (infoHash string, meta []byte, err error) {
	fail := func(err error) (string, []byte, error) {
		return "", nil, fmt.Errorf("offer snapshot %s to the swarm: %w", short(ref.ID), err)
	}
	length := s.pieceLength(ref.Size)
	f, err := openShared(path, ref.Size, length)
	if err != nil {
		return fail(err)
	}
	m, err := makeMetainfo(s.deps.Dataset, ref, length, f.f)
	if err == nil {
		meta, err = encodeMetainfo(m)
	}
	if err != nil {
		return fail(errors.Join(err, f.f.Close()))
	}
	s.share(&shared{id: ref.ID, size: ref.Size, file: f}, m)
	return m.HashInfoBytes().HexString(), meta, nil
}

// Withdraw ends the offers of all but some.
func (s *Swarm) Withdraw(keep []snapshot.ID) {
	s.mu.Lock()
	var gone []*shared
	s.shared = slices.DeleteFunc(s.shared, func(one *shared) bool {
		drop := !slices.Contains(keep, one.id)
		if drop {
			gone = append(gone, one)
		}
		return drop
	})
	s.mu.Unlock()
	for _, one := range gone {
		s.drop(one)
	}
	s.update()
}

// Relieve removes the files that are kept for others: their disk is full, and what this host
// serves needs the room more.
func (s *Swarm) Relieve() {
	for _, o := range s.every() {
		o.relieve()
	}
}

func (s *Swarm) relieve() {
	s.mu.Lock()
	var keep []snapshot.ID
	gone := 0
	for _, one := range s.shared {
		if one.path == "" {
			keep = append(keep, one.id)
		} else {
			gone++
		}
	}
	s.mu.Unlock()
	if gone == 0 {
		return
	}
	s.deps.Log.Warn("disk is full: snapshots kept for others are removed", "dir", s.cfg.Dir, "snapshots", gone)
	s.Withdraw(keep)
}

// share adds a file that is whole and right; one of the same id is replaced.
func (s *Swarm) share(one *shared, m *metainfo.MetaInfo) {
	if one.torrent == nil {
		one.torrent, _ = s.client.AddTorrentOpt(torrent.AddTorrentOpts{InfoHash: m.HashInfoBytes(), InfoBytes: m.InfoBytes, Storage: one.file})
	}
	s.mu.Lock()
	i := slices.IndexFunc(s.shared, func(other *shared) bool { return other.id == one.id })
	if i >= 0 {
		old := s.shared[i]
		s.mu.Unlock()
		if old.file != one.file {
			_ = one.file.f.Close() // read only; what there was goes on
		}
		return
	}
	s.shared = append(s.shared, one)
	s.mu.Unlock()
	s.update()
}

// drop ends the offer of a file that is no more among the shared, and removes it if it is ours.
func (s *Swarm) drop(one *shared) {
	one.torrent.Drop()
	_ = one.file.f.Close() // read only
	if one.path != "" {
		_ = os.Remove(one.path) // what stays is found when it is looked for room again
		_ = os.Remove(strings.TrimSuffix(one.path, wholeSuffix) + infoSuffix)
	}
}

// acquire waits until nobody else fetches or loads, or ctx ends.
func (s *Swarm) acquire(ctx context.Context) error {
	select {
	case s.fetching <- struct{}{}:
		return nil
	case <-ctx.Done():
		return causeOf(ctx, ctx.Err())
	}
}

func (s *Swarm) release() { <-s.fetching }

// load takes up what an earlier run kept, and removes what it left half done of others.
func (s *Swarm) load(ctx context.Context) {
	if s.acquire(ctx) != nil { // what is being fetched is not taken up from under it
		return
	}
	defer s.release()
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		s.deps.Log.Warn("snapshots kept for others cannot be read", "dir", s.cfg.Dir, "error", err)
		return
	}
	for _, e := range entries {
		text, isInfo := strings.CutSuffix(e.Name(), infoSuffix)
		if _, err := os.Stat(filepath.Join(s.cfg.Dir, text+wholeSuffix)); isInfo && errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(filepath.Join(s.cfg.Dir, e.Name())) // of a fetch that was cut short at its end
		}
		text, ok := strings.CutSuffix(e.Name(), wholeSuffix)
		id, err := snapshot.ParseID(text)
		if !ok || err != nil || ctx.Err() != nil {
			continue
		}
		s.mu.Lock()
		away := s.away
		s.mu.Unlock()
		if away {
			_ = os.Remove(filepath.Join(s.cfg.Dir, e.Name())) // of a dataset that is carried no more
			_ = os.Remove(filepath.Join(s.cfg.Dir, text+infoSuffix))
			continue
		}
		err = s.loadOne(ctx, filepath.Join(s.cfg.Dir, e.Name()), id)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.deps.Log.Warn("snapshot kept for others is damaged, removed", "id", short(id), "error", err)
			_ = os.Remove(filepath.Join(s.cfg.Dir, e.Name())) // it only takes room
			_ = os.Remove(filepath.Join(s.cfg.Dir, text+infoSuffix))
		}
	}
	_ = s.makeRoom(0, false) // nothing is to come
}

func (s *Swarm) loadOne(ctx context.Context, path string, id snapshot.ID) error {
	b, err := os.ReadFile(strings.TrimSuffix(path, wholeSuffix) + infoSuffix)
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	ref := snapshot.Ref{ID: id, Size: st.Size()}
	if m, err := metainfo.Load(strings.NewReader(string(b))); err == nil {
		ref.Torrent = m.HashInfoBytes().HexString() // from our own disk; the file is held against its id
	}
	m, info, err := decodeMetainfo(b, s.deps.Dataset, ref)
	if err != nil {
		return err
	}
	f, err := openShared(path, ref.Size, info.PieceLength)
	if err != nil {
		return err
	}
	if err := checkID(ctx, f.f, ref); err != nil {
		return errors.Join(err, f.f.Close())
	}
	head := make([]byte, len(snapshot.DeltaMagic))
	if _, err := f.f.ReadAt(head, 0); err != nil {
		return errors.Join(err, f.f.Close())
	}
	s.share(&shared{id: id, delta: string(head) == snapshot.DeltaMagic, size: ref.Size, path: path, file: f}, m)
	return nil
}
