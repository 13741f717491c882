package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// signer is one term of leadership.
type signer struct {
	*Publisher
	fence store.Cond
	last  snapshot.Manifest // in the store; Version 0 when there is none that can be read
	// signedBy are the ids of the keys that signed it. Foreign: no key of ours that is
	// believed did.
	signedBy []string
	foreign  bool
	// modified is that of the manifest's node, filesModified that of its list of files; zero when
	// there is none. files is that list.
	modified, filesModified store.Revision
	files                   []byte
	// oldest is the oldest delta in the log, 0 when that is empty.
	oldest uint64
	// metas are the paths of metainfo in the store, by the snapshot's id.
	metas map[string][]string
	trim  chan uint64 // versions below which the log is to be trimmed; holds one
}

// Pauses after a commit that did not work.
const (
	minPause = 10 * time.Millisecond
	maxPause = time.Second
)

// sign signs every version for as long as this process leads.
func (p *Publisher) sign(ctx context.Context, fence store.Cond) (err error) {
	s := &signer{Publisher: p, fence: fence, metas: map[string][]string{}, trim: make(chan uint64, 1)}
	defer func() {
		p.mu.Lock()
		p.status.Leading, p.status.Signed, p.status.Oldest, p.status.Damage = false, 0, 0, ""
		p.mu.Unlock()
		p.metrics.leading.Set(0)
	}()
	if err := s.begin(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.status.Leading, p.status.Signed, p.suspect = true, s.last.Version, true
	p.mu.Unlock()
	p.metrics.leading.Set(1)

	look := time.NewTicker(stuckLook)
	defer look.Stop()
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { s.trimmer(ctx) })
	tasks.Go(func() { s.offerTrials(ctx) })
	defer func() { cancel(); tasks.Wait() }()
	pause := minPause
	for {
		switch err := s.publish(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errDeposed):
			return err
		case err == nil:
			pause = minPause
			s.inspect(ctx)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-p.wake:
			case <-look.C:
				if err := s.behind(ctx); err != nil {
					return err
				}
				// Somebody may have written another one, and there may be no version for long that
				// would replace it.
				if err := s.read(ctx); err != nil {
					p.deps.Log.Debug("manifest not read", "dataset", p.cfg.Dataset, "error", err)
				}
			}
		default:
			p.deps.Log.Warn("manifest not published, trying again", "dataset", p.cfg.Dataset, "pause", pause, "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			pause = min(2*pause, maxPause)
			if err := s.read(ctx); err != nil {
				p.deps.Log.Debug("manifest not read", "dataset", p.cfg.Dataset, "error", err)
			}
		}
	}
}

// stuckLook is how often it is looked whether what is published is followed, and stuckFor how
// long it may not be while this process leads: longer than a snapshot of another publisher takes
// to fetch when it can be had.
const (
	stuckLook = 5 * time.Second
	stuckFor  = 30 * time.Second
)

// behind tells that this process cannot follow what is published, so that another may lead which
// can: its way may need a snapshot that only the other has, and only who leads can say where it is.
func (s *signer) behind(ctx context.Context) error {
	s.mu.Lock()
	stuck, have := s.stuck, s.newest.version
	s.mu.Unlock()
	if stuck.IsZero() || time.Since(stuck) < stuckFor {
		return nil
	}
	var head tree.Head
	n, err := s.deps.Store.Get(ctx, tree.HeadPath(s.cfg.Dataset))
	if err == nil {
		err = tree.Decode(n, &head)
	}
	if err != nil || head.Version <= have {
		return nil // not known, or there is nothing to follow
	}
	return fmt.Errorf("version %d is published, and since %s no more than version %d could be followed here: another may lead", head.Version, stuck.UTC().Format(time.RFC3339), have)
}

// begin learns what those who led before have left.
func (s *signer) begin(ctx context.Context) error {
	if err := s.read(ctx); err != nil {
		return err
	}
	metas, _, err := s.deps.Store.List(ctx, tree.Torrents+s.cfg.Dataset+"/")
	if err != nil {
		return err
	}
	for _, n := range metas {
		id, _, _ := strings.Cut(strings.TrimPrefix(n.Path, tree.Torrents+s.cfg.Dataset+"/"), "/")
		s.metas[id] = append(s.metas[id], n.Path)
	}
	// What a signed manifest says is kept was there when that was signed: what is lost of it
	// at the lower end looks as if it had been trimmed. What it says is trimmed may still lie there,
	// when its trimmer died: it is trimmed again.
	if s.oldest = min(s.last.Oldest, s.last.Version); s.oldest == 0 {
		nodes, _, err := s.deps.Store.List(ctx, tree.LogPrefix(s.cfg.Dataset))
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if v, ok := tree.LogVersion(s.cfg.Dataset, n.Path); ok && v > 0 {
				s.oldest = v // in order of path, so the first is the oldest
				break
			}
		}
	}
	s.askTrim(s.oldest)
	return nil
}

// read learns what manifest is in the store.
func (s *signer) read(ctx context.Context) error {
	files, err := s.deps.Store.Get(ctx, tree.FilesPath(s.cfg.Dataset))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	s.files, s.filesModified = files.Value, files.Modified
	n, err := s.deps.Store.Get(ctx, tree.ManifestPath(s.cfg.Dataset))
	if errors.Is(err, store.ErrNotFound) {
		s.last, s.modified, s.signedBy, s.foreign = snapshot.Manifest{}, 0, nil, false
		return nil
	}
	if err != nil {
		return err
	}
	s.modified = n.Modified
	// What of the list of files is not what was signed counts as none: it is written anew.
	whole, err := snapshot.Attach(n.Value, s.files)
	if err != nil {
		whole = n.Value
	}
	m, err := snapshot.DecodeManifest(whole)
	if err != nil || m.Dataset != s.cfg.Dataset {
		s.deps.Log.Warn("the manifest in the store is damaged and will be replaced", "dataset", s.cfg.Dataset, "error", err)
		s.last = snapshot.Manifest{}
		return nil
	}
	s.last, s.signedBy = *m, snapshot.SignedBy(n.Value)
	_, err = snapshot.VerifyManifest(whole, s.ring.Keys().Believed)
	if s.foreign = err != nil; s.foreign {
		// Not ours: its version counts, lest we go back; what else it says we do not sign.
		s.last.Snapshot, s.last.Oldest = snapshot.Ref{}, 0
	}
	return nil
}

// publish signs what is newest, unless that is what is there.
func (s *signer) publish(ctx context.Context) error {
	s.mu.Lock()
	v := s.newest
	s.mu.Unlock()
	if v.version == 0 {
		return nil // nothing to sign
	}
	if v.version < s.last.Version {
		if real, err := s.isReal(ctx); real || err != nil {
			return err // not there yet
		}
	}
	m := snapshot.Manifest{
		Dataset: s.cfg.Dataset, Version: v.version, Time: v.time, Digest: v.digest, Chain: v.chain, Content: v.content,
	}
	offered := s.shelf.offered()
	m.Snapshot = s.refer(offered, v)
	m.Oldest = s.keep(offered, v)
	m.Deltas = s.large(v.version, m.Oldest)
	now := s.deps.Now()
	if same(m, s.last) && slices.Equal(s.signedBy, s.signers()) && !s.isOld(now) {
		return nil
	}
	m.Signed = now.UnixMilli()
	if s.cfg.Validity > 0 {
		m.ValidUntil = now.Add(s.cfg.Validity).UnixMilli()
	}
	if v.version == s.last.Version && v.chain != s.last.Chain && !s.foreign {
		s.deps.Log.Error("another history is signed for the version that is published here: not signed", "dataset", s.cfg.Dataset, "version", v.version)
		return nil
	}
	signed, err := m.Sign(s.key, s.also...)
	if err != nil {
		return err
	}
	path := tree.ManifestPath(s.cfg.Dataset)
	files := slices.Clone(offered)
	for _, d := range m.Deltas {
		files = append(files, d.File())
	}
	metas, ops := s.metainfo(files, m.Snapshot.ID)
	signed, list := snapshot.Detach(signed)
	ops = append(ops, store.Op{Path: path, Value: signed})
	listed := len(list) > 0 && !bytes.Equal(list, s.files) // else hosts have it
	if listed {
		ops = append(ops, store.Op{Path: tree.FilesPath(s.cfg.Dataset), Value: list})
	}
	rev, err := s.deps.Store.Commit(ctx, store.Txn{
		If: []store.Cond{s.fence, {Path: path, Modified: s.modified}, {Path: tree.FilesPath(s.cfg.Dataset), Modified: s.filesModified}}, Do: ops,
	})
	if errors.Is(err, store.ErrConflict) {
		return s.conflict(ctx, err)
	}
	if err != nil {
		return err
	}
	if m.Version > s.last.Version {
		s.metrics.signSeconds.Observe(time.Since(v.seen).Seconds())
	}
	s.last, s.modified, s.metas, s.signedBy, s.foreign = m, rev, metas, s.signers(), false
	if listed {
		s.files, s.filesModified = list, rev
	}
	s.mu.Lock()
	s.status.Signed, s.status.Oldest = m.Version, m.Oldest
	s.mu.Unlock()
	s.metrics.signed.Set(float64(m.Version))
	if m.Oldest > s.oldest {
		s.oldest = m.Oldest
		s.askTrim(m.Oldest)
	}
	return nil
}

// isReal tells whether the manifest in the store can be of something that was published. One
// that is not ours and is beyond the head cannot: whoever wrote it has the store, or a key
// that is not ours any more, and we are not held up by it.
func (s *signer) isReal(ctx context.Context) (bool, error) {
	if !s.foreign {
		return true, nil
	}
	n, err := s.deps.Store.Get(ctx, tree.HeadPath(s.cfg.Dataset))
	if err != nil {
		return false, err
	}
	var head tree.Head
	if err := tree.Decode(n, &head); err != nil {
		return false, err
	}
	if head.Version >= s.last.Version {
		return true, nil
	}
	s.deps.Log.Error("the manifest in the store is of a version that nobody published, and will be replaced", "dataset", s.cfg.Dataset, "version", s.last.Version, "head", head.Version, "signer", s.signedBy)
	s.last, s.signedBy, s.foreign = snapshot.Manifest{}, nil, false
	return false, nil
}

// isOld tells whether the manifest in the store is to be signed anew though nothing in it
// changed: half of its validity is over, or it was signed by a clock that is far from ours.
func (s *signer) isOld(now time.Time) bool {
	if s.cfg.Validity == 0 {
		return s.last.ValidUntil != 0
	}
	left := time.UnixMilli(s.last.ValidUntil).Sub(now)
	return left < s.cfg.Validity/2 || left > 2*s.cfg.Validity
}

// conflict finds out whether our own commit went through unheard, or we are deposed.
func (s *signer) conflict(ctx context.Context, cause error) error {
	n, err := s.deps.Store.Get(ctx, s.fence.Path)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err != nil || n.Modified != s.fence.Modified {
		return fmt.Errorf("%w: %w", errDeposed, cause)
	}
	return cause
}

// refer is what the manifest says of snapshots: ours, or, as long as there is none,
// the one that was signed before.
func (s *signer) refer(offered []snapshot.Ref, v version) snapshot.Ref {
	if len(s.cfg.URLs) == 0 {
		offered = nil
	}
	for _, ref := range offered {
		if ref.Version > v.version {
			continue // of a life in which we were further
		}
		return s.reachable(ref)
	}
	return s.last.Snapshot
}

// metainfo is what the store has afterwards of the files that are offered and of the one that
// is signed, and the operations that bring it there. What does not fit into one transaction beside
// that of the signed one comes with the next manifest.
func (s *signer) metainfo(offered []snapshot.Ref, signed snapshot.ID) (metas map[string][]string, ops []store.Op) {
	metas = map[string][]string{}
	ids := []snapshot.ID{signed}
	for _, ref := range offered {
		if ref.ID != signed {
			ids = append(ids, ref.ID)
		}
	}
	room := tree.MaxTorrent
	for _, id := range ids {
		name, o := id.String(), s.torrent(id)
		if there := s.metas[name]; there != nil {
			metas[name] = there // ours, or that of another publisher, who signed it
			continue
		}
		if o.infoHash == "" || len(o.metainfo) > room {
			continue
		}
		room -= len(o.metainfo)
		for _, op := range tree.TorrentOps(s.cfg.Dataset, name, o.metainfo) {
			ops = append(ops, op)
			metas[name] = append(metas[name], op.Path)
		}
	}
	for name, there := range s.metas {
		if metas[name] != nil {
			continue
		}
		if len(ops)+len(there) > maxMetaOps {
			metas[name] = there // with the next manifest
			continue
		}
		for _, path := range there {
			ops = append(ops, store.Op{Path: path, Delete: true})
		}
	}
	return metas, ops
}

// maxMetaOps leaves room in a transaction for the manifest.
const maxMetaOps = store.MaxTxnOps - 8

// keep is the oldest delta that stays in the log: the one behind the older of two
// snapshots that are offered. It never grows otherwise.
func (s *signer) keep(offered []snapshot.Ref, v version) uint64 {
	oldest := s.oldest
	if oldest == 0 {
		oldest = s.last.Oldest
	}
	if len(s.cfg.URLs) > 0 && len(offered) == maxOffered {
		if cut := offered[maxOffered-1].Version + 1; cut > oldest {
			oldest = cut
		}
	}
	if oldest == 0 {
		oldest = 1 // the log began to fill after we looked; too low trims nothing, too high would
	}
	return min(oldest, v.version)
}

// same compares manifests.
func same(a, b snapshot.Manifest) bool {
	urls := slices.Equal(a.Snapshot.URLs, b.Snapshot.URLs)
	x, y := a, b
	x.Snapshot.URLs, y.Snapshot.URLs = nil, nil
	deltas := slices.EqualFunc(a.Deltas, b.Deltas, func(d, e snapshot.DeltaRef) bool {
		return d.Version == e.Version && d.Chain == e.Chain && d.Torrent == e.Torrent && slices.Equal(d.URLs, e.URLs)
	})
	return urls && deltas && equalButURLs(x, y)
}

func equalButURLs(a, b snapshot.Manifest) bool {
	return a.Dataset == b.Dataset && a.Version == b.Version && a.Time == b.Time && a.Digest == b.Digest && a.Chain == b.Chain &&
		a.Content == b.Content && a.Oldest == b.Oldest && a.Snapshot.ID == b.Snapshot.ID && a.Snapshot.Size == b.Snapshot.Size &&
		a.Snapshot.Version == b.Snapshot.Version && a.Snapshot.Torrent == b.Snapshot.Torrent && a.Snapshot.Chain == b.Snapshot.Chain
}
