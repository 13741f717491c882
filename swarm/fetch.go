package swarm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// errRoom says that the file has no place among the kept.
var errRoom = errors.New("no room among the snapshots kept for others")

// Fetch is follow.Fetcher.Fetch. What peers and, after them, the URLs do not give piece by
// piece, Deps.Fallback is asked for whole.
func (s *Swarm) Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (string, error) {
	if err := s.acquire(ctx); err != nil {
		return "", fmt.Errorf("fetch snapshot %s from peers: %w", short(ref.ID), err)
	}
	defer s.release()
	path, err := s.fetch(ctx, ref, dir, progress)
	if err == nil {
		s.metrics.fetched.WithLabelValues(bySwarm).Inc()
		return path, nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		s.Relieve() // the next try has more room
	}
	var local *os.PathError
	if ctx.Err() != nil || errors.As(err, &local) {
		return "", err // another way would not help
	}
	s.deps.Log.Info("snapshot is not had from peers, fetching it whole", "dataset", s.deps.Dataset, "id", short(ref.ID), "why", err)
	path, also := s.deps.Fallback.Fetch(ctx, ref, dir, progress)
	if also != nil {
		return "", errors.Join(err, also)
	}
	s.metrics.fetched.WithLabelValues(byFallback).Inc()
	s.metrics.octets.WithLabelValues(fromURLs).Add(float64(ref.Size))
	return path, nil
}

// job is one fetch.
type job struct {
	*Swarm
	ref     snapshot.Ref
	meta    *metainfo.MetaInfo
	info    *metainfo.Info
	file    *file
	torrent *torrent.Torrent
	tell    func(done, total int64)
	broken  chan error // the first error of our own disk; holds one

	began   time.Time
	best    int64                   // octets, the most so far
	moved   time.Time               // when best grew last
	urls    bool                    // the URLs are asked
	nobody  bool                    // no peer is known
	fresh   bool                    // it has just become a door, and has not looked elsewhere
	byURLs  int64                   // octets of them, at the last look
	byPeers int64                   // likewise
	ofURLs  int64                   // octets of those that are no more asked
	far     map[netip.AddrPort]bool // doors of other sites that were named to the library
	seeds   map[netip.AddrPort]bool // publishers, likewise
	listed  time.Time
	pause   time.Duration // until the next listing
	told    time.Time     // last line in the log
	without int           // bad answers of the store
	roots   int           // how many there may be, as this host sees it
	since   time.Time     // of the term in which it is looked whether that is enough
	had     int64         // octets at since

	order []int // pieces in an order of this host's own that are not yet ahead of others
	ahead []int // pieces that are asked for before others
}

func (s *Swarm) fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (_ string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("fetch snapshot %s of %d octets from peers: %w", short(ref.ID), ref.Size, err)
		}
	}()
	switch {
	case ref.ID.IsZero():
		return "", errors.New("no snapshot is offered")
	case ref.Torrent == "":
		return "", errors.New("the manifest names no torrent")
	case ref.Size <= 0 || ref.Size > follow.DefaultMaxSize:
		return "", fmt.Errorf("%w: expected 1 to %d octets", follow.ErrContent, int64(follow.DefaultMaxSize))
	}
	if path, ok, err := s.kept(ctx, ref, dir); ok || err != nil {
		return path, err
	}
	j := &job{Swarm: s, ref: ref, tell: progress, broken: make(chan error, 1), began: time.Now(), moved: time.Now(), pause: s.pace.list, roots: roots, since: time.Now(), far: map[netip.AddrPort]bool{}, seeds: map[netip.AddrPort]bool{}}
	nodes, _, err := s.deps.Store.List(ctx, tree.TorrentPrefix(s.deps.Dataset, ref.ID.String()))
	if err != nil {
		return "", fmt.Errorf("read metainfo: %w", err)
	}
	var meta []byte
	for _, n := range nodes[:min(len(nodes), maxMetainfo/store.MaxValue)] {
		meta = append(meta, n.Value...)
	}
	if j.meta, j.info, err = decodeMetainfo(meta, s.deps.Dataset, ref); err != nil {
		return "", err
	}
	part := filepath.Join(s.cfg.Dir, ref.ID.String()+partSuffix)
	if err := s.sweep(filepath.Base(part)); err != nil {
		return "", err
	}
	if !s.makeRoom(ref.Size, ref.IsDelta()) {
		return "", fmt.Errorf("%w: at most %d octets", errRoom, s.cfg.MaxBytes)
	}
	defer s.settled()
	var old bool
	if j.file, old, err = openPart(part, ref.Size, j.info.PieceLength); err != nil {
		return "", err
	}
	j.file.fail = s.pace.writeError
	if err = j.run(ctx, old); err != nil {
		j.end()
		return "", errors.Join(err, j.file.f.Close())
	}
	return j.finish(ctx, part, dir)
}

// kept gives a file that is kept already.
func (s *Swarm) kept(ctx context.Context, ref snapshot.Ref, dir string) (path string, ok bool, err error) {
	s.mu.Lock()
	for _, one := range s.shared {
		if one.id == ref.ID && one.path != "" {
			path, ok = one.path, true
		}
	}
	s.mu.Unlock()
	if !ok {
		return "", false, nil
	}
	f, err := os.Open(path)
	if err == nil {
		err = checkID(ctx, f, ref)
		_ = f.Close() // read only
	}
	if ctx.Err() != nil {
		return "", false, causeOf(ctx, ctx.Err())
	}
	if err != nil { // somebody changed it: it is no more offered, and fetched anew
		s.deps.Log.Warn("snapshot kept for others is damaged, removed", "id", short(ref.ID), "error", err)
		s.forget(ref.ID)
		return "", false, nil
	}
	path, err = handOver(path, dir, ref.ID)
	return path, true, err
}

// forget stops sharing one.
func (s *Swarm) forget(id snapshot.ID) {
	s.mu.Lock()
	var keep []snapshot.ID
	for _, one := range s.shared {
		if one.id != id {
			keep = append(keep, one.id)
		}
	}
	s.mu.Unlock()
	s.Withdraw(keep)
}

// sweep removes what is left half done of other snapshots.
func (s *Swarm) sweep(keep string) error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), partSuffix)
		if _, err := snapshot.ParseID(text); ok && err == nil && e.Name() != keep {
			_ = os.Remove(filepath.Join(s.cfg.Dir, e.Name())) // it only takes room
		}
	}
	return atomicfile.Sweep(s.cfg.Dir)
}

// run fills the file.
func (j *job) run(ctx context.Context, resumed bool) error {
	limit := 2*j.pace.stall + time.Duration(j.ref.Size/minFetch)*time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("less than %d octets a second came", minFetch))
	defer cancel()
	t, fresh := j.client.AddTorrentOpt(torrent.AddTorrentOpts{InfoHash: j.meta.HashInfoBytes(), InfoBytes: j.meta.InfoBytes, Storage: j.file})
	if !fresh {
		return errors.New("it is being fetched or shared already")
	}
	j.torrent = t
	t.SetOnWriteChunkError(func(err error) {
		select {
		case j.broken <- err:
		default:
		}
	})
	j.note(0)
	j.update()
	select { // who begins at the same time is to be known when places are dealt out
	case <-ctx.Done():
		return causeOf(ctx, ctx.Err())
	case <-time.After(j.settle()):
	}
	if resumed {
		if err := t.VerifyDataContext(ctx); err != nil {
			return causeOf(ctx, err)
		}
	}
	if err := j.again(ctx); err != nil {
		return err
	}
	t.DownloadAll()
	j.order = rand.Perm(t.NumPieces())
	return j.await(ctx, t.Complete().Bool)
}

// Of pieces that equally few peers have the library asks for those with the least index, so that
// all hosts would want the same pieces at the same time, and only whoever fetches from a publisher
// had something to give. So each host asks for some pieces before others, in an order of its own.
const (
	aheadOctets = 16 << 20 // what is ahead at a time: at 500 Mbit/s until the next look
	aheadPieces = 64       // at least
	aheadShare  = 8        // at most this part of all pieces, if that is more than aheadPieces
)

// goAhead names the next pieces to ask for before others.
func (j *job) goAhead() {
	if len(j.order) == 0 {
		return
	}
	j.ahead = slices.DeleteFunc(j.ahead, func(i int) bool { return j.torrent.PieceState(i).Complete })
	n := max(min(int(aheadOctets/j.info.PieceLength), j.torrent.NumPieces()/aheadShare), aheadPieces)
	for len(j.ahead) < n && len(j.order) > 0 {
		i := j.order[0]
		j.order = j.order[1:]
		if !j.torrent.PieceState(i).Complete {
			j.torrent.Piece(i).SetPriority(torrent.PiecePriorityHigh)
			j.ahead = append(j.ahead, i)
		}
	}
}

// settle is how long others who begin at the same time are waited for.
func (j *job) settle() time.Duration {
	if by := j.pace.settleBy; by > 0 {
		return min(j.pace.settle, time.Duration(j.ref.Size/by)*time.Millisecond)
	}
	return j.pace.settle
}

// minFetch, in octets a second, bounds the time of a fetch by size/minFetch: what is slower is
// left for the URLs.
const minFetch = 32 << 10

// again uses blocks of older snapshots: with header, index and footer at hand it is known which.
func (j *job) again(ctx context.Context) error {
	if j.ref.IsDelta() {
		return nil // it has no blocks
	}
	var old []string
	if j.deps.Old != nil {
		old = j.deps.Old()
	}
	j.mu.Lock()
	for _, one := range j.shared {
		old = append(old, one.path)
	}
	j.mu.Unlock()
	if len(old) == 0 {
		return nil
	}
	length := j.info.PieceLength
	last := j.torrent.NumPieces()
	first := int((j.ref.Size - snapshot.TailSize) / length)
	whole := func(begin, end int) func() bool {
		return func() bool {
			for i := begin; i < end; i++ {
				if !j.torrent.PieceState(i).Complete {
					return false
				}
			}
			return true
		}
	}
	j.torrent.DownloadPieces(0, 1)
	j.torrent.DownloadPieces(first, last)
	if err := j.await(ctx, func() bool { return whole(0, 1)() && whole(first, last)() }); err != nil {
		return err
	}
	tail := make([]byte, snapshot.TailSize)
	if _, err := j.file.f.ReadAt(tail, j.ref.Size-snapshot.TailSize); err != nil {
		return err
	}
	index, err := snapshot.IndexAt(tail, j.ref.Size)
	if err != nil {
		return fmt.Errorf("%w: %w", follow.ErrContent, err)
	}
	j.torrent.DownloadPieces(int(index/length), last)
	if err := j.await(ctx, whole(int(index/length), last)); err != nil {
		return err
	}
	// The library hashes pieces when it likes, so what was there is noted before anything is
	// copied, and pieces are counted, not octets: it counts octets that are not verified.
	had := make([]bool, last)
	for i := range had {
		s := j.torrent.PieceState(i)
		had[i] = s.Complete || s.Marking
	}
	have, err := reuse(j.file, old)
	if err != nil {
		return err
	}
	got := int64(0)
	for _, i := range covered(have, j.ref.Size, length) {
		if had[i] {
			continue
		}
		is, err := j.verified(ctx, i)
		if err != nil {
			return err
		}
		if is {
			got += min(length, j.ref.Size-int64(i)*length)
		}
	}
	j.metrics.octets.WithLabelValues(fromDisk).Add(float64(got))
	j.mu.Lock()
	j.now.Disk = got
	j.mu.Unlock()
	return nil
}

// verified tells whether a piece is on disk as it should be.
func (j *job) verified(ctx context.Context, i int) (bool, error) {
	if !j.torrent.PieceState(i).Complete {
		if err := j.torrent.Piece(i).VerifyDataContext(ctx); err != nil {
			return false, causeOf(ctx, err)
		}
	}
	for {
		s := j.torrent.PieceState(i)
		if s.Complete || !s.Marking && !s.Hashing && !s.QueuedForHash {
			return s.Complete, nil
		}
		// It is hashed, and not yet noted as whole.
		select {
		case <-ctx.Done():
			return false, causeOf(ctx, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// await looks after peers and progress until done is true.
func (j *job) await(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(j.pace.look)
	defer tick.Stop()
	for {
		if done() {
			j.note(j.torrent.BytesCompleted())
			return nil
		}
		j.goAhead()
		select {
		case <-ctx.Done():
			return causeOf(ctx, ctx.Err())
		case <-j.torrent.Closed():
			return errors.New("the swarm has ended")
		case err := <-j.broken:
			return err
		case <-j.torrent.Complete().On():
			continue
		case <-tick.C: // not at every piece: each look takes the library's lock
		}
		now := time.Now()
		if have := j.torrent.BytesCompleted(); have > j.best {
			j.best, j.moved = have, now
		}
		j.note(j.best)
		if now.Sub(j.listed) >= j.pause {
			j.findPeers(ctx, now)
			j.leaveURLs()
		}
		idle := now.Sub(j.moved)
		if !j.urls && len(j.ref.URLs) > 0 && (j.nobody || idle >= 2*j.pace.patience) {
			j.urls, j.moved = true, now
			j.deps.Log.Info("asking the publisher's URLs for pieces", "dataset", j.deps.Dataset, "id", short(j.ref.ID), "done", j.best, "size", j.ref.Size)
			var opts []torrent.AddWebSeedsOpt
			if j.down != nil {
				opts = append(opts, torrent.WebSeedResponseBodyRateLimiter(j.down))
			}
			j.torrent.AddWebSeeds(j.ref.URLs, opts...)
			continue
		}
		if idle >= j.pace.stall {
			return fmt.Errorf("nothing came for %s, %d of %d octets are there", j.pace.stall, j.best, j.ref.Size)
		}
	}
}

// leaveURLs ends the asking of the URLs when more comes from peers.
func (j *job) leaveURLs() {
	peers, urls := j.received()
	morePeers, moreURLs := peers-j.byPeers, urls-j.byURLs
	j.byPeers, j.byURLs = peers, urls
	if j.urls && morePeers > moreURLs {
		j.urls, j.ofURLs = false, urls
		j.torrent.RemoveWebSeeds()
	}
}

// received is what was useful of what peers and URLs sent, in octets.
func (j *job) received() (peers, urls int64) {
	stats := j.torrent.Stats()
	urls = j.ofURLs
	for _, p := range j.torrent.WebseedPeerConns() {
		s := p.Stats()
		urls += s.BytesReadUsefulData.Int64()
	}
	return stats.BytesReadUsefulData.Int64() - urls, urls
}

// note tells of progress: the caller at each step, the store and the log now and then.
func (j *job) note(have int64) {
	now := time.Now()
	peers := len(j.torrent.PeerConns())
	j.mu.Lock()
	if j.now == nil {
		j.now = &Progress{ID: j.ref.ID, Size: j.ref.Size}
	}
	j.now.Have, j.now.Peers, j.now.URLs = have, peers, j.urls
	due := now.Sub(j.said) >= j.pace.report
	if due {
		j.said = now
	}
	j.mu.Unlock()
	if j.tell != nil {
		j.tell(have, j.ref.Size)
	}
	if due {
		j.update()
	}
	if now.Sub(j.told) >= 2*j.pace.report && have > 0 {
		j.told = now
		j.deps.Log.Info("fetching snapshot from peers", "dataset", j.deps.Dataset, "id", short(j.ref.ID), "done", have, "size", j.ref.Size, "peers", peers)
	}
}

// end forgets a fetch that did not work; what it got is there for the next.
func (j *job) end() {
	if j.torrent != nil {
		j.torrent.Drop()
	}
	j.mu.Lock()
	j.now = nil
	j.mu.Unlock()
	j.update()
}

// finish believes the file, shares it, and hands it over.
func (j *job) finish(ctx context.Context, part, dir string) (string, error) {
	byPeers, byURLs := j.received()
	j.torrent.RemoveWebSeeds()
	fail := func(err error) (string, error) {
		j.end()
		return "", errors.Join(err, j.file.f.Close())
	}
	err := checkID(ctx, j.file.f, j.ref)
	if ctx.Err() != nil {
		return fail(causeOf(ctx, ctx.Err()))
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(part)))
	}
	if err := j.file.f.Sync(); err != nil {
		return fail(err)
	}
	whole := filepath.Join(j.cfg.Dir, j.ref.ID.String()+wholeSuffix)
	b, err := encodeMetainfo(j.meta)
	if err != nil {
		return fail(err)
	}
	if err := atomicfile.Write(strings.TrimSuffix(whole, wholeSuffix)+infoSuffix, 0o644, b); err != nil {
		return fail(err)
	}
	if err := os.Rename(part, whole); err != nil {
		return fail(err)
	}
	if err := atomicfile.SyncDir(j.cfg.Dir); err != nil {
		return fail(err)
	}
	j.metrics.octets.WithLabelValues(fromPeers).Add(float64(byPeers))
	j.metrics.octets.WithLabelValues(fromURLs).Add(float64(byURLs))
	j.settled() // from now on it counts as one that is kept
	j.mu.Lock()
	j.now = nil
	j.mu.Unlock()
	j.share(&shared{id: j.ref.ID, delta: j.ref.IsDelta(), size: j.ref.Size, path: whole, file: j.file, torrent: j.torrent}, j.meta)
	j.deps.Log.Info("snapshot fetched from peers", "dataset", j.deps.Dataset, "id", short(j.ref.ID), "size", j.ref.Size, "took", time.Since(j.began))
	return handOver(whole, dir, j.ref.ID)
}

// handOver gives the caller a name of its own for a file, or a copy where the file system has
// no second names.
func handOver(from, dir string, id snapshot.ID) (path string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, id.String())
	_ = os.Remove(path) // left by a fetch that was cut short; Link tells if it is still there
	if os.Link(from, path) == nil {
		return path, nil
	}
	src, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { _ = src.Close() }() // read only
	err = atomicfile.WriteFunc(path, 0o644, func(w io.Writer) error {
		_, err := io.Copy(w, src)
		return err
	})
	return path, err
}

// checkID compares size and SHA-256 of a file with ref.
func checkID(ctx context.Context, f *os.File, ref snapshot.Ref) error {
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{endable{ctx, io.NewSectionReader(f, 0, ref.Size+1)}}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if got := snapshot.ID(sum.Sum(nil)); n != ref.Size || got != ref.ID {
		return fmt.Errorf("%w: its %d octets have the sha256 %s…, expected %s… of %d", follow.ErrContent, n, short(got), short(ref.ID), ref.Size)
	}
	return nil
}

// endable reads until its context ends: hashing gigabytes takes seconds.
type endable struct {
	ctx context.Context
	r   io.Reader
}

func (e endable) Read(b []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(b)
}

// causeOf is why a context ended, when that is what err comes from.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
