package follow

import (
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// view is what the store last said of a dataset.
type view struct {
	dataset string
	// listed is the revision of the last List: batches up to it say nothing new.
	listed store.Revision
	// Path is empty where there is no such node.
	head, manifest, files store.Node
	// log has nodes of versions above what the sink has. Deleted ones stay: a node
	// that was trimmed while a snapshot is on its way leads on from it all the same,
	// and is believed for its chain value, not for its place.
	log  map[uint64]store.Node
	size int // octets that log takes, at most maxCache
}

// takes is octets that a log node takes, about: a store may be full of empty ones.
func takes(n store.Node) int {
	if n.Path == "" {
		return 0 // none
	}
	const around = 256 // with a place in the map
	return around + len(n.Path) + len(n.Value)
}

func newView(dataset string) *view {
	return &view{dataset: dataset, log: make(map[uint64]store.Node)}
}

// take folds a batch of the watch in. Log nodes up to version have are of no use.
func (v *view) take(b store.Batch, have uint64) {
	switch {
	case b.Reset && b.Revision < v.listed:
		// A store that was put back counts from an older revision, and must not be
		// waited for until it has caught up. (Or this Reset began before the List: then
		// what happened since follows it.)
		v.listed = 0
		clear(v.log)
		v.size = 0
	case b.Revision <= v.listed:
		return
	}
	if b.Reset {
		v.head, v.manifest, v.files = store.Node{}, store.Node{}, store.Node{}
	}
	v.put(b.Puts, have)
	for _, path := range b.Deletes {
		switch path {
		case v.head.Path:
			v.head = store.Node{}
		case v.manifest.Path:
			v.manifest = store.Node{}
		case v.files.Path:
			v.files = store.Node{}
		}
	}
}

// touched tells which log nodes a batch says are changed or gone.
func (v *view) touched(b store.Batch, tell func(version uint64)) {
	if b.Reset {
		tell(0)
		return
	}
	for _, n := range b.Puts {
		if version, ok := tree.LogVersion(v.dataset, n.Path); ok && n.Modified != n.Created {
			tell(version)
		}
	}
	for _, path := range b.Deletes {
		if version, ok := tree.LogVersion(v.dataset, path); ok {
			tell(version)
		}
	}
}

// list makes what List said the truth.
func (v *view) list(nodes []store.Node, rev store.Revision, have uint64) {
	if rev <= v.listed {
		return
	}
	v.listed = rev
	v.head, v.manifest, v.files = store.Node{}, store.Node{}, store.Node{}
	clear(v.log)
	v.size = 0
	v.put(nodes, have)
}

func (v *view) put(nodes []store.Node, have uint64) {
	for _, n := range nodes {
		switch n.Path {
		case tree.HeadPath(v.dataset):
			if n.Modified >= v.head.Modified {
				v.head = n
			}
		case tree.ManifestPath(v.dataset):
			if n.Modified >= v.manifest.Modified {
				v.manifest = n
			}
		case tree.FilesPath(v.dataset):
			if n.Modified >= v.files.Modified {
				v.files = n
			}
		default:
			version, ok := tree.LogVersion(v.dataset, n.Path)
			old := v.log[version]
			if !ok || version <= have || n.Modified < old.Modified || v.size-takes(old)+takes(n) > maxCache {
				continue
			}
			v.size += takes(n) - takes(old)
			v.log[version] = n
		}
	}
}

// drop forgets log nodes up to version.
func (v *view) drop(version uint64) {
	for at, n := range v.log {
		if at <= version {
			v.size -= takes(n)
			delete(v.log, at)
		}
	}
}

// forget forgets one log node that turned out bad.
func (v *view) forget(version uint64) {
	if n, ok := v.log[version]; ok {
		v.size -= takes(n)
		delete(v.log, version)
	}
}
