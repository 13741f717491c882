package site

import (
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/store"
)

// standIn is an answer in the store's place.
type standIn struct {
	result
	changes uint64
	at      time.Time // of what the store said last
}

// over is what the agents of this site have below prefix, or at the path, over what the store said
// last; who asks before anything changes is given the same.
func (r *reports) over(prefix string, last result) result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.standIns[prefix]; ok && s.changes == r.changes && s.at.Equal(last.at) {
		return s.result
	}
	known := last.nodes
	if last.err != nil {
		known = nil // it was not there
	}
	nodes := r.below(prefix, known)
	slices.SortFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) })
	rev := max(last.rev, 1)
	for _, n := range nodes {
		rev = max(rev, n.Modified)
	}
	if len(r.standIns) >= maxStandIns {
		clear(r.standIns)
	}
	s := standIn{of(nodes, rev, nil, last.at), r.changes, last.at}
	r.standIns[prefix] = s
	return s.result
}

// below is the nodes of over. The caller holds mu.
func (r *reports) below(prefix string, known []store.Node) []store.Node {
	var out []store.Node
	for _, n := range known {
		if _, ours := r.nodes[n.Path]; !ours {
			out = append(out, n)
		}
	}
	for p, n := range r.nodes {
		if n.owner != nil && (strings.HasPrefix(p, prefix) || p == prefix) {
			rev := max(n.rev, r.last, 1)
			out = append(out, store.Node{Path: p, Value: n.value, Created: rev, Modified: rev, Ephemeral: true})
		}
	}
	return out
}
