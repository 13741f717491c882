package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
)

// Options is what the suite must be able to do to an engine from outside. A test
// whose function is nil is skipped.
type Options struct {
	// Peer returns another client of the tree that s sees.
	Peer func(t *testing.T, s store.Store) store.Store
	// Die cuts s off as the death of its process would: the engine hears nothing
	// more from it. The suite does not use s afterwards, but for Close.
	Die func(t *testing.T, s store.Store)
	// Compact makes the engine forget its history up to now.
	Compact func(t *testing.T, s store.Store)
	// SetAvailable makes the engine unreachable for s and its peers, or reachable
	// again.
	SetAvailable func(t *testing.T, s store.Store, up bool)
	// TTL is the shortest ttl of a session that the engine keeps to.
	TTL time.Duration
	// NoElections says that the engine elects nobody: it must say so.
	NoElections bool
	// OwnHistory says that what is watched has a history of its own, which Compact does not
	// take.
	OwnHistory bool
	// NoHistory says that a watch which begins anew may be given everything anew.
	NoHistory bool
}

// patience is how long a test waits for what must happen. It is long, since a test
// machine may be busy, and costs nothing when the engine does as it must.
const patience = 30 * time.Second

// Run runs the suite. open returns a client of an empty tree that no other call
// has returned; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts Options) {
	// The engine may be one for all: those that compact it must not disturb the
	// others, so they run by themselves, before the parallel ones begin.
	alone := map[string]func(*suite){
		"WatchCompacted":   (*suite).watchCompacted,
		"WatchLostHistory": (*suite).watchLostHistory,
	}
	parallel := map[string]func(*suite){
		"Get":                (*suite).get,
		"List":               (*suite).list,
		"Conditions":         (*suite).conditions,
		"Atomicity":          (*suite).atomicity,
		"Limits":             (*suite).limits,
		"BadPaths":           (*suite).badPaths,
		"Counters":           (*suite).counters,
		"Model":              (*suite).model,
		"Cancelled":          (*suite).cancelled,
		"Closed":             (*suite).closed,
		"Unavailable":        (*suite).unavailable,
		"WatchFromZero":      (*suite).watchFromZero,
		"WatchEmpty":         (*suite).watchEmpty,
		"WatchPrefix":        (*suite).watchPrefix,
		"WatchFromRevision":  (*suite).watchFromRevision,
		"WatchWithoutGaps":   (*suite).watchWithoutGaps,
		"WatchSlowReader":    (*suite).watchSlowReader,
		"WatchWholeCommits":  (*suite).watchWholeCommits,
		"WatchFuture":        (*suite).watchFuture,
		"WatchReconnects":    (*suite).watchReconnects,
		"WatchEnds":          (*suite).watchEnds,
		"SessionClose":       (*suite).sessionClose,
		"SessionDeath":       (*suite).sessionDeath,
		"SessionLost":        (*suite).sessionLost,
		"SessionKeepsAlive":  (*suite).sessionKeepsAlive,
		"SessionLimits":      (*suite).sessionLimits,
		"SessionTakesOver":   (*suite).sessionTakesOver,
		"ElectOne":           (*suite).electOne,
		"ElectMany":          (*suite).electMany,
		"ElectTakesOver":     (*suite).electTakesOver,
		"ElectAfterDeath":    (*suite).electAfterDeath,
		"ElectFence":         (*suite).electFence,
		"ElectCancelled":     (*suite).electCancelled,
		"ElectSessionEnds":   (*suite).electSessionEnds,
		"ElectThroughOutage": (*suite).electThroughOutage,
	}
	if opts.NoElections {
		maps.DeleteFunc(parallel, func(name string, _ func(*suite)) bool { return strings.HasPrefix(name, "Elect") })
		parallel["NoElections"] = (*suite).noElections
	}
	if opts.OwnHistory {
		delete(alone, "WatchCompacted")
	}
	if opts.NoHistory {
		delete(parallel, "WatchFromRevision")
	}
	run := func(t *testing.T, test func(*suite)) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		s := open(t)
		t.Cleanup(func() { s.Close() })
		test(&suite{T: t, ctx: ctx, opts: opts, s: s})
	}
	for name, test := range alone {
		t.Run(name, func(t *testing.T) { run(t, test) })
	}
	for name, test := range parallel {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, test)
		})
	}
}

// suite is one test's surroundings.
type suite struct {
	*testing.T
	ctx  context.Context
	opts Options
	s    store.Store
}

func (x *suite) peer() store.Store {
	x.Helper()
	if x.opts.Peer == nil {
		x.Skip("the engine has no Peer")
	}
	p := x.opts.Peer(x.T, x.s)
	x.Cleanup(func() { p.Close() })
	return p
}

func (x *suite) session(s store.Store) store.Session {
	x.Helper()
	ss, err := s.Session(x.ctx, x.opts.TTL)
	if err != nil {
		x.Fatalf("Session: %v", err)
	}
	x.Cleanup(func() { ss.Close() })
	return ss
}

// committer is what a Store and a Session have in common.
type committer interface {
	Commit(context.Context, store.Txn) (store.Revision, error)
}

func (x *suite) commit(c committer, txn store.Txn) store.Revision {
	x.Helper()
	rev, err := c.Commit(x.ctx, txn)
	if err != nil {
		x.Fatalf("Commit: %v", err)
	}
	return rev
}

func put(path, value string) store.Op { return store.Op{Path: path, Value: []byte(value)} }
func del(path string) store.Op        { return store.Op{Path: path, Delete: true} }
func do(ops ...store.Op) store.Txn    { return store.Txn{Do: ops} }

// wantError fails unless err is target and the text tells something beyond it.
func (x *suite) wantError(what string, err, target error) {
	x.Helper()
	if !errors.Is(err, target) {
		x.Fatalf("%s: error is %v, expected one that is %q", what, err, target)
	}
	if err.Error() == target.Error() {
		x.Errorf("%s: error %q does not say what was done", what, err)
	}
}

// wantValue fails unless the node at path has value; "" means that there is none.
func (x *suite) wantValue(s store.Store, path, value string) store.Node {
	x.Helper()
	n, err := s.Get(x.ctx, path)
	if value == "" {
		x.wantError("Get "+path, err, store.ErrNotFound)
		return n
	}
	if err != nil {
		x.Fatalf("Get: %v", err)
	}
	if string(n.Value) != value {
		x.Fatalf("Get %s: value is %q, expected %q", path, n.Value, value)
	}
	return n
}

// waitGone waits until there is no node at path and returns how long that took.
func (x *suite) waitGone(s store.Store, path string) time.Duration {
	x.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	for range s.Watch(ctx, "/", 0) {
		if _, err := s.Get(ctx, path); errors.Is(err, store.ErrNotFound) {
			return time.Since(start)
		}
	}
	x.Fatalf("%s is still there after %s", path, patience)
	return 0
}

// next takes one batch.
func (x *suite) next(c <-chan store.Batch) store.Batch {
	x.Helper()
	select {
	case b, ok := <-c:
		if !ok {
			x.Fatal("the watch's channel was closed")
		}
		x.checkBatch(b)
		return b
	case <-time.After(patience):
		x.Fatalf("no batch within %s", patience)
	}
	return store.Batch{}
}

// checkBatch holds b against what Batch says of itself.
func (x *suite) checkBatch(b store.Batch) {
	x.Helper()
	if b.Revision <= 0 {
		x.Errorf("batch has revision %d, expected more than 0", b.Revision)
	}
	seen := make(map[string]bool)
	last := store.Revision(0)
	for _, n := range b.Puts {
		if n.Modified < last {
			x.Errorf("batch: %s with revision %d stands after revision %d", n.Path, n.Modified, last)
		}
		last = n.Modified
		if n.Modified > b.Revision || n.Created > n.Modified || n.Created <= 0 {
			x.Errorf("batch of revision %d: %s was created at %d and modified at %d", b.Revision, n.Path, n.Created, n.Modified)
		}
		if seen[n.Path] {
			x.Errorf("batch has %s twice", n.Path)
		}
		seen[n.Path] = true
	}
	for _, p := range b.Deletes {
		if seen[p] {
			x.Errorf("batch has %s twice", p)
		}
		seen[p] = true
	}
	if b.Reset && len(b.Deletes) > 0 {
		x.Errorf("batch with Reset has the deletes %q, expected none", b.Deletes)
	}
}

// mirror is what a watcher knows: path to node.
type mirror struct {
	nodes map[string]store.Node
	rev   store.Revision
}

// apply folds a batch in and fails when time goes backwards.
func (m *mirror) apply(x *suite, b store.Batch) {
	x.Helper()
	x.checkBatch(b)
	if b.Revision < m.rev || b.Revision == m.rev && !b.Reset {
		x.Errorf("batch of revision %d came after revision %d", b.Revision, m.rev)
	}
	if b.Reset || m.nodes == nil {
		m.nodes = make(map[string]store.Node)
	}
	for _, n := range b.Puts {
		if old := m.nodes[n.Path]; n.Modified <= old.Modified {
			x.Errorf("%s: revision %d came after revision %d", n.Path, n.Modified, old.Modified)
		}
		m.nodes[n.Path] = n
	}
	for _, p := range b.Deletes {
		delete(m.nodes, p)
	}
	m.rev = b.Revision
}

// until takes batches until ok says that the mirror is right.
func (m *mirror) until(x *suite, c <-chan store.Batch, ok func() bool) {
	x.Helper()
	for !ok() {
		m.apply(x, x.next(c))
	}
}

func (m *mirror) value(path string) string { return string(m.nodes[path].Value) }

func (m *mirror) String() string {
	s := ""
	for p, n := range m.nodes {
		s += fmt.Sprintf(" %s=%q@%d", p, n.Value, n.Modified)
	}
	return s
}
