package site

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store/wire"
)

const (
	// kept is how many snapshots of a dataset are kept: an agent may be fetching the one before.
	kept = 2
	// refetch is the pause before a snapshot is tried again that could not be had.
	refetch = 5 * time.Second
	// leave is how long after its fetch a snapshot is not removed: an agent may be fetching it.
	leave = 10 * time.Minute
	// downloads is how many agents may fetch at the same time.
	downloads = 64

	snapshotSuffix = ".snapshot" // as follow.SnapshotFile has it
)

// shelf has the snapshots that are offered, for agents that begin while the site is cut off,
// and so that each comes over the uplink once.
type shelf struct {
	dir     string
	fetcher follow.Fetcher
	log     *slog.Logger
	places  chan struct{} // has a place for each download

	mu   sync.Mutex // guards below
	have map[snapshot.ID]bool
}

func newShelf(dir string, fetcher follow.Fetcher, log *slog.Logger) *shelf {
	return &shelf{dir: filepath.Join(dir, "snapshots"), fetcher: fetcher, log: log, have: map[snapshot.ID]bool{}, places: make(chan struct{}, downloads)}
}

// refs are what the shelf should have, the newest of each dataset last.
type refs map[string][]snapshot.Ref

// follow fetches what manifests offer until ctx ends.
func (s *shelf) follow(ctx context.Context, m *mirror) {
	s.restore()
	want := refs{}
	for ctx.Err() == nil {
		m.mu.Lock()
		changed := m.changed
		var now []snapshot.Ref
		var names []string
		for path, n := range m.nodes {
			name, _, _ := strings.Cut(strings.TrimPrefix(path, tree.Datasets), "/")
			if path != tree.ManifestPath(name) {
				continue
			}
			whole, err := snapshot.Attach(n.Value, m.nodes[tree.FilesPath(name)].Value)
			if err != nil {
				continue // agents say so
			}
			if man, err := snapshot.DecodeManifest(whole); err == nil && !man.Snapshot.ID.IsZero() && man.Dataset == name {
				now, names = append(now, man.Snapshot), append(names, name)
			}
		}
		m.mu.Unlock()
		trouble := false
		for i, ref := range now {
			if err := s.get(ctx, want, names[i], ref); err != nil && ctx.Err() == nil {
				s.log.Warn("snapshot is not here yet, agents fetch it from elsewhere; trying again", "dataset", names[i], "version", ref.Version, "error", err)
				trouble = true
			}
		}
		again := time.NewTimer(refetch)
		if !trouble {
			again.Stop()
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		}
		again.Stop()
	}
}

// get makes the shelf have one more, and no more than kept of its dataset.
func (s *shelf) get(ctx context.Context, want refs, dataset string, ref snapshot.Ref) error {
	all := want[dataset]
	if len(all) > 0 && all[len(all)-1].ID == ref.ID && s.has(ref.ID) {
		return nil
	}
	if !s.has(ref.ID) {
		path, err := s.fetcher.Fetch(ctx, ref, filepath.Join(s.dir, "fetch"), nil)
		if err != nil {
			return err
		}
		if err := os.Rename(path, follow.SnapshotFile(s.dir, ref.ID)); err != nil {
			return err
		}
		s.log.Info("snapshot is here for the agents", "dataset", dataset, "version", ref.Version, "id", ref.ID.String()[:12], "size", ref.Size)
	}
	all = append(all, ref)
	want[dataset] = all[max(0, len(all)-kept):]
	s.mu.Lock()
	s.have[ref.ID] = true
	s.mu.Unlock()
	s.sweep(want)
	return nil
}

// restore finds what an earlier life fetched, whole and checked then; agents check it again.
func (s *shelf) restore() {
	entries, _ := os.ReadDir(s.dir) // there is none before the first fetch
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if id, err := snapshot.ParseID(strings.TrimSuffix(e.Name(), snapshotSuffix)); err == nil && strings.HasSuffix(e.Name(), snapshotSuffix) {
			s.have[id] = true
		}
	}
}

// sweep removes what is not wanted and was fetched a while ago.
func (s *shelf) sweep(want refs) {
	wanted := map[snapshot.ID]bool{}
	for _, all := range want {
		for _, ref := range all {
			wanted[ref.ID] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.have {
		path := follow.SnapshotFile(s.dir, id)
		if info, err := os.Stat(path); wanted[id] || err == nil && time.Since(info.ModTime()) < leave {
			continue
		}
		delete(s.have, id)
		_ = os.Remove(path) // it only takes room
	}
}

// ServeHTTP serves /snapshots/<id>.
func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := snapshot.ParseID(strings.TrimPrefix(r.URL.Path, wire.SnapshotPath))
	if err != nil || !s.has(id) {
		http.Error(w, "no such snapshot is here", http.StatusNotFound)
		return
	}
	if _, err := follow.ServeSnapshot(w, r, s.dir, id, s.places); err != nil {
		s.log.Error("snapshot cannot be read", "id", id.String()[:12], "error", err)
	}
}

func (s *shelf) has(id snapshot.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have[id]
}
