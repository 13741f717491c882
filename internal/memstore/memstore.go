package memstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
)

// Store is one client of a tree. Peer gives further clients of the same tree.
type Store struct {
	tree   *tree
	closed chan struct{} // closed by Close and Die
	wg     sync.WaitGroup
	// sessions is guarded by tree.mu and nil once closed.
	sessions map[*session]bool
}

// tree is what all clients share.
type tree struct {
	mu        sync.Mutex // guards below
	rev       store.Revision
	compacted store.Revision // history up to and including it is gone
	nodes     map[string]entry
	history   []commit
	down      bool
	changed   chan struct{} // closed and replaced whenever anything above changes
}

type entry struct {
	store.Node
	owner *session // nil for a node that stays
}

// commit is one revision: the states after it of the paths it changed.
type commit struct {
	rev     store.Revision
	changes []change
}

type change struct {
	node   store.Node // only Path is set when it was deleted
	delete bool
}

// New returns a client of a new, empty tree.
func New() *Store {
	t := &tree{rev: 1, nodes: make(map[string]entry), changed: make(chan struct{})}
	return t.client()
}

func (t *tree) client() *Store {
	return &Store{tree: t, closed: make(chan struct{}), sessions: make(map[*session]bool)}
}

// Peer returns another client of the same tree, as another process would have.
func (s *Store) Peer() *Store { return s.tree.client() }

// SetAvailable makes the engine unreachable for all clients, or reachable again.
// Sessions are lost when it stays unreachable for their ttl.
func (s *Store) SetAvailable(up bool) {
	t := s.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	t.down = !up
	t.wake()
}

// Compact forgets the history: a watch that has not yet seen the present state
// goes on with a Reset.
func (s *Store) Compact() {
	t := s.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	t.history, t.compacted = nil, t.rev
	t.wake()
}

// Die ends this client as the death of its process would: nothing is said to the
// engine, and its ephemeral nodes go when their ttl has passed.
func (s *Store) Die() {
	t := s.tree
	t.mu.Lock()
	for ss := range s.sessions {
		ss.orphan = true
	}
	t.mu.Unlock()
	s.shut()
}

// Close ends watches and sessions.
func (s *Store) Close() error {
	t := s.tree
	t.mu.Lock()
	for ss := range s.sessions {
		t.end(ss)
	}
	t.mu.Unlock()
	s.shut()
	return nil
}

func (s *Store) shut() {
	t := s.tree
	t.mu.Lock()
	if s.sessions != nil {
		for ss := range s.sessions {
			if ss.orphan {
				ss.lose()
				time.AfterFunc(ss.ttl, func() {
					t.mu.Lock()
					defer t.mu.Unlock()
					t.end(ss)
				})
			}
		}
		s.sessions = nil
		close(s.closed)
	}
	t.mu.Unlock()
	s.wg.Wait()
}

// wake tells everybody who waits to look again. The caller holds mu.
func (t *tree) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// ready tells why nothing can be done now. It returns with mu held when err is
// nil.
func (s *Store) ready(ctx context.Context) error {
	t := s.tree
	t.mu.Lock()
	if s.sessions == nil {
		t.mu.Unlock()
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		t.mu.Unlock()
		return err
	}
	if t.down {
		t.mu.Unlock()
		return fmt.Errorf("memstore is set unavailable: %w", store.ErrUnavailable)
	}
	return nil
}

// Get is store.Store.Get.
func (s *Store) Get(ctx context.Context, path string) (store.Node, error) {
	if err := store.CheckPath(path); err != nil {
		return store.Node{}, fmt.Errorf("get: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		return store.Node{}, fmt.Errorf("get %s: %w", path, err)
	}
	defer s.tree.mu.Unlock()
	e, ok := s.tree.nodes[path]
	if !ok {
		return store.Node{}, fmt.Errorf("get %s: %w", path, store.ErrNotFound)
	}
	return clone(e.Node), nil
}

// List is store.Store.List.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("list: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	defer s.tree.mu.Unlock()
	nodes := s.tree.below(prefix)
	slices.SortFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) })
	return nodes, s.tree.rev, nil
}

// below copies all nodes below prefix. The caller holds mu.
func (t *tree) below(prefix string) []store.Node {
	var out []store.Node
	for p, e := range t.nodes {
		if strings.HasPrefix(p, prefix) {
			out = append(out, clone(e.Node))
		}
	}
	return out
}

func clone(n store.Node) store.Node {
	n.Value = slices.Clone(n.Value)
	return n
}

// Commit is store.Store.Commit.
func (s *Store) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	defer s.tree.mu.Unlock()
	return s.tree.commit(txn, nil)
}

// commit does txn; what it puts belongs to owner unless that is nil. The caller
// holds mu.
func (t *tree) commit(txn store.Txn, owner *session) (store.Revision, error) {
	for _, c := range txn.If {
		if found := t.nodes[c.Path].Modified; found != c.Modified {
			return 0, fmt.Errorf("commit: %s is at revision %d, expected %d: %w", c.Path, found, c.Modified, store.ErrConflict)
		}
	}
	rev := t.rev + 1
	var done []change
	for _, o := range txn.Do {
		old, exists := t.nodes[o.Path]
		if o.Delete {
			if exists {
				delete(t.nodes, o.Path)
				done = append(done, change{node: store.Node{Path: o.Path}, delete: true})
			}
			continue
		}
		n := store.Node{Path: o.Path, Value: slices.Clone(o.Value), Created: rev, Modified: rev, Ephemeral: owner != nil}
		if exists {
			n.Created = old.Created
		}
		t.nodes[o.Path] = entry{Node: n, owner: owner}
		done = append(done, change{node: n})
	}
	if len(done) > 0 {
		t.rev = rev
		t.history = append(t.history, commit{rev: rev, changes: done})
		t.wake()
	}
	return t.rev, nil
}
