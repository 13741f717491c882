package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

// listTimeout bounds the reading of a whole prefix: a million nodes at 20,000 a
// second. Each request in it has requestTimeout.
const listTimeout = time.Minute

// List is store.Store.List. Its bound is listTimeout instead of the 5 s of other
// calls.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("list: %w", err)
	}
	if s.isClosed() {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, store.ErrClosed)
	}
	nodes, at, err := s.snapshot(ctx, prefix)
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	return nodes, at.rev, nil
}

// snapshot gives all nodes below prefix, in order of path, and the place in the log
// at which they are the whole truth.
func (s *Store) snapshot(ctx context.Context, prefix string) ([]store.Node, place, error) {
	s.work()
	lctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	for {
		nodes, at, err := s.readAll(lctx, prefix)
		if errors.Is(err, errLost) || errors.Is(err, errAgain) {
			if pause(lctx, retryPause); lctx.Err() == nil {
				continue
			}
		}
		if err != nil {
			return nil, place{}, s.failure(ctx, err)
		}
		return nodes, at, nil
	}
}

// readAll is one try of snapshot. It fails with errAgain when the ZooKeeper session
// was renewed in between, since two sessions may see states in any order.
func (s *Store) readAll(ctx context.Context, prefix string) ([]store.Node, place, error) {
	session, err := s.zkSession(ctx)
	if err != nil {
		return nil, place{}, err
	}
	before, err := s.end(ctx, true)
	if err != nil {
		return nil, place{}, err
	}
	all, err := s.walk(ctx, prefix)
	if err != nil {
		return nil, place{}, err
	}
	after, err := s.end(ctx, false)
	if err != nil {
		return nil, place{}, err
	}
	if session != s.conn().SessionID() {
		return nil, place{}, errAgain
	}
	for p := before.next; p != after.next; {
		e, err := s.tail.at(ctx, before.life, p)
		if err != nil {
			return nil, place{}, err
		}
		if e.bad != nil {
			return nil, place{}, errAgain
		}
		for _, n := range e.nodes(prefix) {
			switch old, there := all[n.Path]; {
			case there && old.Modified >= e.rev: // as it was read, it is newer
			case n.Modified == 0:
				delete(all, n.Path)
			default:
				all[n.Path] = n
			}
		}
		p = e.next
	}
	nodes := make([]store.Node, 0, len(all))
	for _, n := range all {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) })
	return nodes, after, nil
}

// zkSession is the present ZooKeeper session; it waits until there is one.
func (s *Store) zkSession(ctx context.Context) (int64, error) {
	if id := s.conn().SessionID(); id != 0 {
		return id, nil
	}
	_, err := bounded(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.sync(ctx) })
	return s.conn().SessionID(), err
}

// end waits until the tail has read all that is in the log now; with fresh, all that
// was acknowledged to anybody before.
func (s *Store) end(ctx context.Context, fresh bool) (place, error) {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return place{}, err
	}
	defer cancel()
	if fresh {
		if err := s.sync(rctx); err != nil {
			return place{}, err
		}
	}
	head, err := s.get(rctx, s.root+headName)
	if err != nil {
		return place{}, err
	}
	return s.tail.reach(rctx, store.Revision(head.stat.Mzxid))
}

// nodes are the changes of an entry below prefix; Modified is 0 of those deleted.
func (e entry) nodes(prefix string) []store.Node {
	var out []store.Node
	for _, c := range e.changes {
		if !strings.HasPrefix(c.path, prefix) {
			continue
		}
		n := store.Node{Path: c.path}
		if !c.delete {
			n.Value, n.Created, n.Modified, n.Ephemeral = c.value, c.created, e.rev, c.ephemeral
			if c.created == 0 {
				n.Created = e.rev
			}
		}
		out = append(out, n)
	}
	return out
}

// walk reads the znodes of all nodes below prefix, one after another.
func (s *Store) walk(ctx context.Context, prefix string) (map[string]store.Node, error) {
	var mu sync.Mutex // guards below
	var paths []string
	foreign := ""
	for dirs := []string{prefix}; len(dirs) > 0; {
		var next []string
		err := each(len(dirs), func(i int) error {
			names, err := bounded(ctx, func(ctx context.Context) ([]string, error) { return s.children(ctx, s.dir(dirs[i])) })
			mu.Lock()
			defer mu.Unlock()
			for _, name := range names {
				element, isLeaf, ok := child(name)
				path := dirs[i] + element
				if !ok || store.CheckPath(path) != nil {
					foreign = s.dir(dirs[i]) + "/" + name
				} else if isLeaf {
					paths = append(paths, path)
				} else {
					next = append(next, path+"/")
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		dirs = next
	}
	all := make(map[string]store.Node, len(paths))
	err := each(len(paths), func(i int) error {
		z, err := bounded(ctx, func(ctx context.Context) (znode, error) { return s.get(ctx, s.leaf(paths[i])) })
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		if err != nil {
			return err
		}
		n, _, err := node(paths[i], z.data, &z.stat)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			foreign = s.leaf(paths[i])
		} else {
			all[n.Path] = n
		}
		return nil
	})
	if foreign != "" {
		s.log.Warn("znodes in the store that zonecast did not write are left out", "znode", foreign)
	}
	return all, err
}

// bounded gives one request of many its own bound.
func bounded[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return do(ctx)
}
