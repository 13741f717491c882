package publisher

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// Prefix is the path below which Handler serves.
const Prefix = "/snapshots/"

// torrentSuffix ends the path of a metainfo.
const torrentSuffix = ".torrent"

// snapshotPath is the path of a snapshot in its URL.
func snapshotPath(dataset string, id snapshot.ID) string {
	return Prefix + dataset + "/" + id.String()
}

const (
	// minRate, in octets a second, bounds how long a download may take: half of what
	// a host demands (package follow).
	minRate = 16 << 10
	// graceTime is added to it.
	graceTime = time.Minute
	// retryAfter, in seconds, is what is told to who comes when all places are taken.
	retryAfter = 2
)

// Handler serves /snapshots/<dataset>/<id> of the snapshots that are offered, ranges included,
// /snapshots/<dataset>/<id>.torrent and, of the newest one, /snapshots/<dataset>.torrent, the
// metainfo by which any BitTorrent client fetches it; and nothing else: no listing, no other file.
func (p *Publisher) Handler() http.Handler {
	places := make(chan struct{}, p.cfg.MaxDownloads)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := strings.CutPrefix(r.URL.Path, Prefix+p.cfg.Dataset+"/")
		if r.URL.Path == Prefix+p.cfg.Dataset+torrentSuffix {
			text, ok = p.shelf.newest().ID.String()+torrentSuffix, true
		}
		text, isTorrent := strings.CutSuffix(text, torrentSuffix)
		id, err := snapshot.ParseID(text)
		ref, offered := p.shelf.has(id)
		if !ok || err != nil || !offered {
			http.Error(w, "no such snapshot is offered", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method is not GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		if isTorrent {
			p.serveTorrent(w, id)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
			http.Error(w, "too many downloads at the moment", http.StatusServiceUnavailable)
			return
		}
		f, err := os.Open(follow.SnapshotFile(p.cfg.Dir, id))
		if err != nil {
			p.deps.Log.Error("offered snapshot cannot be read", "dataset", p.cfg.Dataset, "id", text, "error", err)
			http.Error(w, "the snapshot cannot be read", http.StatusInternalServerError)
			return
		}
		defer func() { _ = f.Close() }() // read only
		// Content-addressed: what a name means never changes (RFC 8246).
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		w.Header().Set("ETag", `"`+text+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		deadline := time.Now().Add(graceTime + time.Duration(ref.Size/minRate)*time.Second)
		_ = http.NewResponseController(w).SetWriteDeadline(deadline) // not all writers have one; then the server's holds
		p.metrics.downloads.Inc()
		http.ServeContent(w, r, "", time.Time{}, f)
	})
}

// serveTorrent serves the metainfo of a snapshot that is offered.
func (p *Publisher) serveTorrent(w http.ResponseWriter, id snapshot.ID) {
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
