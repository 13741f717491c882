package presenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// A version that no publisher has followed yet is in the log and nowhere else: when its node is lost or
// changed, nobody gets past it. So the presenter keeps what it made until it is signed, and where
// that stands still it puts back what is not as it was. Where it does not have it (an earlier leader
// made it), or the snapshot is gone from which publishers would have to begin, the next version is
// whole.

const (
	// mendEvery is how often it is looked whether what is published is signed.
	mendEvery = 5 * time.Second
	// mendTime bounds what is read and put back at once.
	mendTime = 10 * time.Second
	// maxKept bounds the octets of deltas that are kept: two days of freshness records.
	maxKept = 64 << 20
	// keptAround is what a delta takes in memory besides itself, in octets.
	keptAround = 64
	// leapAfter is for how long nothing was signed before a version is whole for that reason: a publisher
	// that cannot follow lets another lead after 30 s. From one to the next it doubles up to leapPause.
	leapAfter = time.Minute
	leapPause = time.Hour
)

// unsigned are the versions of this term of which it is not known that a publisher has signed them.
type unsigned struct {
	deltas []kept // the oldest first
	octets int    // that they take, at most maxKept
	signed uint64 // newest version of which there was a manifest when it was looked
	lags   bool   // it was below the head then
	// since is from when on nothing was signed though there was something to sign; zero: there was no
	// look yet.
	since time.Time
	pause time.Duration // how long that may be
	leap  bool          // the next version is whole
}

// kept is a delta as it was put into the log.
type kept struct {
	version uint64
	encoded []byte
}

// keep keeps a delta that was made; the oldest give way.
func (u *unsigned) keep(version uint64, encoded []byte) {
	u.deltas = append(u.deltas, kept{version, encoded})
	u.octets += len(encoded) + keptAround
	gone := 0
	for ; u.octets > maxKept; gone++ {
		u.octets -= len(u.deltas[gone].encoded) + keptAround
	}
	u.deltas = slices.Delete(u.deltas, 0, gone)
}

// forget lets go of what is signed up to version.
func (u *unsigned) forget(version uint64) {
	gone := 0
	for ; gone < len(u.deltas) && u.deltas[gone].version <= version; gone++ {
		u.octets -= len(u.deltas[gone].encoded) + keptAround
	}
	u.deltas = slices.Delete(u.deltas, 0, gone)
}

// mend looks whether what is published gets on to hosts.
func (p *Presenter) mend(ctx context.Context) {
	if p.term == nil || p.attempt != nil {
		return
	}
	tctx, end := p.term.context(ctx)
	defer end()
	if err := p.lookAfter(tctx, time.Now()); err != nil && ctx.Err() == nil {
		p.log.Debug("log not looked after, trying again", "dataset", p.cfg.Dataset, "error", err)
	}
}

func (p *Presenter) lookAfter(ctx context.Context, now time.Time) error {
	u := &p.unsigned
	soon, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	pos, err := p.readHead(soon)
	if err != nil {
		return err
	}
	m, err := p.manifest(soon)
	if err != nil {
		return err
	}
	if m.Version > pos.version {
		return nil // of what nobody published: publishers replace it
	}
	u.forget(min(u.signed, m.Version)) // not at its first word: nobody verified it here
	// An older manifest is one that somebody put back: nobody got on by that.
	stands := !u.since.IsZero() && m.Version <= u.signed && u.lags && m.Version < pos.version
	u.signed, u.lags = max(u.signed, m.Version), m.Version < pos.version
	if !stands {
		u.since, u.pause = now, leapAfter
		return nil
	}
	if n, err := p.putBack(soon, pos); n > 0 || err != nil {
		return err
	}
	if now.Sub(u.since) < u.pause {
		return nil
	}
	u.since, u.pause = now, min(2*u.pause, leapPause)
	stuck, err := p.stuck(ctx, pos)
	if stuck {
		u.leap = true
		p.forgetPosition()
		p.wake()
	}
	return err
}

// manifest is the one in the store, verified by nobody; of version 0 where there is none that can be
// read. One beside the list of files of another names no snapshot: somebody put an old one back, and
// a publisher that cannot follow does not replace it.
func (p *Presenter) manifest(ctx context.Context) (snapshot.Manifest, error) {
	b, err := follow.ReadManifest(ctx, p.deps.Store, p.cfg.Dataset)
	if err != nil {
		n, err := p.deps.Store.Get(ctx, tree.ManifestPath(p.cfg.Dataset))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return snapshot.Manifest{}, err
		}
		b = n.Value
	}
	m, err := snapshot.DecodeManifest(b)
	if err != nil {
		return snapshot.Manifest{}, nil
	}
	return *m, nil
}

// putBack puts what is kept and not signed back into the log where that has something else, and tells
// how many versions that were.
func (p *Presenter) putBack(ctx context.Context, pos position) (n int, err error) {
	nodes, _, err := p.deps.Store.List(ctx, tree.LogPrefix(p.cfg.Dataset))
	if err != nil {
		return 0, err
	}
	there := make(map[string][]byte, len(nodes))
	for _, n := range nodes {
		there[n.Path] = n.Value
	}
	head := store.Cond{Path: tree.HeadPath(p.cfg.Dataset), Modified: pos.modified}
	for _, k := range p.unsigned.deltas {
		if k.version <= p.unsigned.signed || k.version > pos.version {
			continue
		}
		parts, log, err := follow.LogOps(p.cfg.Dataset, k.version, k.encoded)
		if err != nil {
			return n, err
		}
		whole := bytes.Equal(there[log.Path], log.Value)
		if whole && len(parts) > 0 {
			_, err := follow.ReadLog(ctx, p.deps.Store, p.cfg.Dataset, k.version, log.Value)
			if errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
				return n, err
			}
			whole = err == nil
		}
		if whole {
			continue
		}
		for _, ops := range append(parts, []store.Op{log}) {
			if _, err := p.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{p.term.fence, head}, Do: ops}); err != nil {
				return n, fmt.Errorf("put back delta %d of %s: %w", k.version, p.cfg.Dataset, err)
			}
		}
		n++
		p.metrics.mended.Inc()
		p.log.Error("log was damaged where nobody had followed yet: put back as it was made", "dataset", p.cfg.Dataset, "version", k.version)
	}
	return n, nil
}

// stuck tells whether publishers can get to what is published by a whole version alone.
func (p *Presenter) stuck(ctx context.Context, pos position) (bool, error) {
	if p.damaged(ctx, pos) {
		return true, nil
	}
	_, err := p.deps.Store.Get(ctx, tree.ElectPublisher+"/"+p.cfg.Dataset)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // there is none, that is all
	}
	if err != nil {
		return false, err
	}
	_, err = follow.Load(ctx, follow.Config{Dataset: p.cfg.Dataset, Store: p.deps.Store, Fetcher: p.deps.Fetcher, Log: p.log})
	if !errors.Is(err, follow.ErrUnreachable) {
		return false, err
	}
	if !p.fits() {
		p.log.Error("what is published cannot be had, and is too large for one whole version", "dataset", p.cfg.Dataset, "version", pos.version, "error", err)
		return false, nil
	}
	p.log.Error("what is published cannot be had: the next version is whole", "dataset", p.cfg.Dataset, "version", pos.version, "error", err)
	return true, nil
}
