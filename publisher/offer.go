package publisher

import (
	"strings"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// offer is a snapshot as peers fetch it.
type offer struct {
	infoHash string
	metainfo []byte
}

// offer has the swarm offer what is on the shelf, and nothing else. A snapshot that it cannot
// offer is had from the URLs.
func (p *Publisher) offer() {
	if p.deps.Swarm == nil {
		return
	}
	p.offering.Lock()
	defer p.offering.Unlock()
	p.mu.Lock()
	had := p.torrents
	p.mu.Unlock()
	now := map[snapshot.ID]offer{}
	var keep []snapshot.ID
	files := p.shelf.offered()
	for _, d := range p.shelf.large() {
		files = append(files, d.File())
	}
	for _, ref := range files {
		keep = append(keep, ref.ID)
		if o, ok := had[ref.ID]; ok {
			now[ref.ID] = o
			continue
		}
		infoHash, metainfo, err := p.deps.Swarm.Offer(p.reachable(ref), follow.SnapshotFile(p.cfg.Dir, ref.ID))
		if err != nil {
			p.deps.Log.Error("snapshot is not offered to peers, hosts fetch it from here alone", "dataset", p.cfg.Dataset, "version", ref.Version, "error", err)
			continue
		}
		now[ref.ID] = offer{infoHash, metainfo}
	}
	p.mu.Lock()
	p.torrents = now
	p.mu.Unlock()
	p.deps.Swarm.Withdraw(keep)
}

// large are the deltas up to v, from oldest on, that hosts fetch as files.
func (p *Publisher) large(v, oldest uint64) (out []snapshot.DeltaRef) {
	for _, d := range p.shelf.large() {
		if d.Version > v || d.Version < oldest {
			continue
		}
		at := p.reachable(d.File())
		d.URLs, d.Torrent = at.URLs, at.Torrent
		out = append(out, d)
	}
	return out
}

// torrent is how peers fetch a snapshot; its infoHash is empty when they cannot.
func (p *Publisher) torrent(id snapshot.ID) offer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.torrents[id]
}

// reachable adds to a reference on the shelf where hosts get it.
func (p *Publisher) reachable(ref snapshot.Ref) snapshot.Ref {
	ref.URLs = nil
	for _, base := range p.cfg.URLs {
		ref.URLs = append(ref.URLs, strings.TrimRight(base, "/")+snapshotPath(p.cfg.Dataset, ref.ID))
	}
	ref.Torrent = p.torrent(ref.ID).infoHash
	return ref
}
