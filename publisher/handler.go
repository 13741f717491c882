package publisher

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// Prefix is the path below which Handler serves.
const Prefix = "/snapshots/"

// TorrentSuffix ends the path of a metainfo.
const TorrentSuffix = ".torrent"

// snapshotPath is the path of a snapshot in its URL.
func snapshotPath(dataset string, id snapshot.ID) string {
	return Prefix + dataset + "/" + id.String()
}

// Handler serves /snapshots/<dataset>/<id> of the snapshots that are offered, ranges included,
// /snapshots/<dataset>/<id>.torrent and, of the newest one, /snapshots/<dataset>.torrent, the
// metainfo by which any BitTorrent client fetches it; and nothing else: no listing, no other file.
func (p *Publisher) Handler() http.Handler {
	places := make(chan struct{}, p.cfg.MaxDownloads)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := strings.CutPrefix(r.URL.Path, Prefix+p.cfg.Dataset+"/")
		if r.URL.Path == Prefix+p.cfg.Dataset+TorrentSuffix {
			text, ok = p.shelf.newest().ID.String()+TorrentSuffix, true
		}
		text, isTorrent := strings.CutSuffix(text, TorrentSuffix)
		id, err := snapshot.ParseID(text)
		ref, offered := p.shelf.has(id)
		if !ok || err != nil || !offered {
			http.Error(w, "no such snapshot is offered", http.StatusNotFound)
			return
		}
		if isTorrent {
			p.serveTorrent(w, r, id)
			return
		}
		served, err := follow.ServeSnapshot(w, r, p.cfg.Dir, ref.ID, places)
		if err != nil {
			p.deps.Log.Error("offered snapshot cannot be read", "dataset", p.cfg.Dataset, "id", text, "error", err)
		}
		if served {
			p.metrics.downloads.Inc()
		}
	})
}

// serveTorrent serves the metainfo of a snapshot that is offered.
func (p *Publisher) serveTorrent(w http.ResponseWriter, r *http.Request, id snapshot.ID) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method is not GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	o := p.torrent(id)
	if o.infoHash == "" {
		http.Error(w, "the snapshot is not offered to peers", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-bittorrent")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(o.metainfo)))
	_, _ = w.Write(o.metainfo) // the client is gone when it does not work
}
