package registry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// maxRecent is how many changes a view remembers for callers of watch_servers that
// come back: at 1,000 changes a second a caller may be away for a minute.
const maxRecent = 65536

// entry is a server as the store has it.
type entry struct {
	server   fleet.Server
	revision store.Revision
}

// view is all servers in memory, by what the store's watch says, so that lists and
// watches cost the store nothing. It is as old as the watch is late; after says
// how to wait.
type view struct {
	log *slog.Logger

	mu       sync.Mutex // guards below
	revision store.Revision
	entries  map[string]entry // by path
	paths    []string         // sorted; nil when it must be made again
	recent   []recent         // in order of revision
	base     store.Revision   // recent has all changes after it
	changed  chan struct{}    // closed and replaced at each change
}

// recent is one change: what path it is about, and when it was seen.
type recent struct {
	revision store.Revision
	path     string
	id       string
}

func newView(log *slog.Logger) *view {
	return &view{log: log, entries: make(map[string]entry), changed: make(chan struct{})}
}

// follow keeps the view until ctx ends.
func (v *view) follow(ctx context.Context, st store.Store) {
	for b := range st.Watch(ctx, tree.Servers, 0) {
		v.apply(b)
	}
}

func (v *view) apply(b store.Batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.entries
	if b.Reset {
		v.entries = make(map[string]entry, len(b.Puts))
		v.recent, v.base = nil, b.Revision
		v.paths = nil
	}
	for _, p := range b.Deletes {
		// One that came and went in the same batch is remembered, too.
		v.remember(b.Revision, p, p[strings.LastIndexByte(p, '/')+1:])
		if _, ok := v.entries[p]; ok {
			delete(v.entries, p)
			v.paths = nil
		}
	}
	for _, n := range b.Puts {
		s, err := fleet.Decode(n.Value)
		if err != nil {
			v.log.Error("server node is broken, the last good one stays", "path", n.Path, "error", err)
			if e, ok := old[n.Path]; ok {
				v.entries[n.Path] = e
			}
			continue
		}
		if _, ok := v.entries[n.Path]; !ok {
			v.paths = nil
		}
		v.entries[n.Path] = entry{s, n.Modified}
		v.remember(b.Revision, n.Path, s.ID())
	}
	v.revision = b.Revision
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *view) remember(rev store.Revision, path, id string) {
	v.recent = append(v.recent, recent{rev, path, id})
	if len(v.recent) > 2*maxRecent { // cut in halves, so that it costs little on average
		cut := len(v.recent) - maxRecent
		v.base = v.recent[cut-1].revision
		for cut < len(v.recent) && v.recent[cut].revision == v.base {
			cut++
		}
		v.recent = slices.Clone(v.recent[cut:])
	}
}

// after waits until the view has seen revision rev, and there is a view at all.
func (v *view) after(ctx context.Context, rev store.Revision) error {
	for {
		v.mu.Lock()
		now, changed := v.revision, v.changed
		v.mu.Unlock()
		if now > 0 && now >= rev {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// maxPage bounds a page in octets, roughly: far below what one answer may have.
const maxPage = 8 << 20

// size is about how many octets a server takes in an answer.
func size(s fleet.Server) int { return 256 + len(s.Author) + len(s.Reason) + 40*len(s.Addresses) }

// page gives up to limit entries after the cursor that match, the next cursor ("":
// the end) and the revision. A cursor is a path without its prefix.
func (v *view) page(cursor string, limit int, match func(fleet.Server) bool) ([]entry, string, store.Revision) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.paths == nil {
		v.paths = slices.Sorted(maps.Keys(v.entries))
	}
	from := 0
	if cursor != "" {
		from = sort.Search(len(v.paths), func(i int) bool { return v.paths[i] > tree.Servers+cursor })
	}
	var out []entry
	octets := 0
	for _, p := range v.paths[from:] {
		e := v.entries[p]
		if !match(e.server) {
			continue
		}
		octets += size(e.server)
		if len(out) == limit || octets > maxPage && len(out) > 0 {
			last := out[len(out)-1].server
			return out, strings.TrimPrefix(tree.ServerPath(last.Cluster, last.ID()), tree.Servers), v.revision
		}
		out = append(out, e)
	}
	return out, "", v.revision
}

// since gives what changed after rev: servers as they are now, names of those that
// are gone. reset: the view does not know so far back; put is everything.
func (v *view) since(rev store.Revision) (now store.Revision, reset bool, put []entry, removed []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rev < v.base || rev > v.revision || rev == 0 {
		put = slices.Collect(maps.Values(v.entries))
		slices.SortFunc(put, func(a, b entry) int { return a.server.Name.Compare(b.server.Name) })
		return v.revision, true, put, nil
	}
	from := sort.Search(len(v.recent), func(i int) bool { return v.recent[i].revision > rev })
	there := make(map[string]entry) // by id: a server that moved is put, not removed
	gone := make(map[string]bool)
	for _, r := range v.recent[from:] {
		if e, ok := v.entries[r.path]; ok {
			there[r.id] = e
		} else {
			gone[r.id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(there)) {
		put = append(put, there[id])
		delete(gone, id)
	}
	return v.revision, false, put, slices.Sorted(maps.Keys(gone))
}

// removed gives the revision at which a server went, as long as it is remembered.
func (v *view) removed(id string) (store.Revision, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range slices.Backward(v.recent) {
		if r.id != id {
			continue
		}
		if _, there := v.entries[r.path]; !there {
			return r.revision, true
		}
	}
	return 0, false
}

// known tells whether the view has been filled once.
func (v *view) known() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.revision > 0
}

// next is closed at the next change.
func (v *view) next() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

func (v *view) size() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.entries)
}
