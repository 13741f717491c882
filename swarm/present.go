package swarm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// sessionTTL is how long a publisher is still named after it died. Connecting to one that
// is dead costs peers nothing but the try.
const sessionTTL = 10 * time.Second

// update makes the node what is true now.
func (s *Swarm) update() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var have []tree.SwarmHave
	if s.now != nil {
		have = append(have, tree.SwarmHave{ID: s.now.ID.String(), Have: s.now.Have, Size: s.now.Size})
	}
	var kept int64
	for i := len(s.shared) - 1; i >= 0; i-- { // the newest first
		one := s.shared[i]
		kept += one.size
		if len(have) < tree.SwarmMaxHave && (s.now == nil || one.id != s.now.ID) {
			have = append(have, tree.SwarmHave{ID: one.id.String(), Have: one.size, Size: one.size})
		}
	}
	s.metrics.kept.Set(float64(kept))
	door := ""
	if id := s.door.String(); slices.ContainsFunc(have, func(h tree.SwarmHave) bool { return h.ID == id }) {
		door = id
	}
	if slices.Equal(have, s.node.Have) && door == s.node.Door {
		return
	}
	s.node.Have, s.node.Door = have, door
	s.tell()
}

// Nodes are what the store is to have of this peer, with all datasets that it carries, for as long
// as it lives: to be put into a session, and again after each Changed.
func (s *Swarm) Nodes() (ops []store.Op) {
	for _, o := range s.every() {
		ops = append(ops, o.nodes()...)
	}
	return ops
}

func (s *Swarm) nodes() []store.Op {
	s.mu.Lock()
	full, away := s.node, s.away
	s.mu.Unlock()
	if away {
		return nil
	}
	if s.deps.Publisher {
		return []store.Op{{Path: tree.SwarmSeeds(s.deps.Dataset) + s.deps.Name, Value: tree.Encode(full)}}
	}
	brief := full
	brief.Have = nil // who reads a part of all hosts looks for doors
	return []store.Op{
		{Path: tree.SwarmSitePrefix(s.deps.Dataset, s.cfg.Site) + s.deps.Name, Value: tree.Encode(full)},
		{Path: tree.SwarmBucketPrefix(s.deps.Dataset, tree.SwarmBucket(s.deps.Name)) + s.deps.Name, Value: tree.Encode(brief)},
	}
}

// Changed says that Nodes gives something else.
func (s *Swarm) Changed() <-chan struct{} { return s.changed }

// present keeps the nodes in a session of its own until ctx ends.
func (s *Swarm) present(ctx context.Context) {
	for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, sessionTTL) {
		err := s.session(ctx, func() { pause = time.Second / 2 })
		if ctx.Err() != nil {
			return
		}
		s.deps.Log.Debug("peer is not told of, trying again", "pause", pause, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *Swarm) session(ctx context.Context, good func()) (err error) {
	session, err := s.deps.Store.Session(ctx, sessionTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	said := map[string]bool{}
	for {
		ops := s.Nodes()
		for path := range said {
			if !slices.ContainsFunc(ops, func(op store.Op) bool { return op.Path == path }) {
				ops = append(ops, store.Op{Path: path, Delete: true})
			}
		}
		if len(ops) > 0 {
			if _, err := session.Commit(ctx, store.Txn{Do: ops}); err != nil {
				return err
			}
		}
		clear(said)
		for _, op := range ops {
			said[op.Path] = !op.Delete
		}
		maps.DeleteFunc(said, func(_ string, there bool) bool { return !there })
		good()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-session.Done():
			return store.ErrSessionLost
		case <-s.changed:
		}
	}
}
