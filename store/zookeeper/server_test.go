//go:build interop

package zookeeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/zookeeper"
	"github.com/zonecast/zonecast/store/zookeeper/zktest"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// within polls until ok, and fails the test after a time that is long on purpose.
func within(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func put(path, value string) store.Op { return store.Op{Path: path, Value: []byte(value)} }
func del(path string) store.Op        { return store.Op{Path: path, Delete: true} }
func do(ops ...store.Op) store.Txn    { return store.Txn{Do: ops} }

func openStore(t testing.TB, cfg zookeeper.Config) *zookeeper.Store {
	t.Helper()
	s, err := zookeeper.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func commit(t testing.TB, s store.Store, txn store.Txn) store.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), txn)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// next takes one batch.
func next(t testing.TB, w <-chan store.Batch) store.Batch {
	t.Helper()
	select {
	case b := <-w:
		return b
	case <-time.After(patience):
		t.Fatalf("no batch within %s", patience)
	}
	return store.Batch{}
}

// A commit relies on nothing that others change between its reads and its write, be
// it changed and changed back: a znode made again starts at version 0 as the first.
func TestInteropNothingChangesBetween(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	s, other := tr.open(t), tr.open(t)
	t.Cleanup(func() { s.Close(); other.Close() })
	for name, c := range map[string]struct {
		txn    func(at store.Revision) store.Txn
		others []store.Txn // one after another
		again  bool
		after  string // the value at /n/a then; empty: none
	}{
		"made again, a condition": {func(at store.Revision) store.Txn {
			return store.Txn{If: []store.Cond{{Path: "/n/a", Modified: at}}, Do: []store.Op{put("/n/b", "2")}}
		}, []store.Txn{do(del("/n/a")), do(put("/n/a", "0")), do(put("/n/a", "1"))}, true, "1"},
		"made again, put with one": {func(at store.Revision) store.Txn {
			return store.Txn{If: []store.Cond{{Path: "/n/a", Modified: at}}, Do: []store.Op{put("/n/a", "2")}}
		}, []store.Txn{do(del("/n/a")), do(put("/n/a", "0")), do(put("/n/a", "1"))}, true, "1"},
		"made again, deleted with one": {func(at store.Revision) store.Txn {
			return store.Txn{If: []store.Cond{{Path: "/n/a", Modified: at}}, Do: []store.Op{del("/n/a")}}
		}, []store.Txn{do(del("/n/a")), do(put("/n/a", "0")), do(put("/n/a", "1"))}, true, "1"},
		"changed":                   {func(store.Revision) store.Txn { return do(put("/n/a", "2")) }, []store.Txn{do(put("/n/a", "3"))}, true, "3"},
		"deleted, a put":            {func(store.Revision) store.Txn { return do(put("/n/a", "2")) }, []store.Txn{do(del("/n/a"))}, true, ""},
		"deleted, a delete":         {func(store.Revision) store.Txn { return do(del("/n/a")) }, []store.Txn{do(del("/n/a"))}, true, ""},
		"made, a delete of nothing": {func(store.Revision) store.Txn { return do(del("/n/new")) }, []store.Txn{do(put("/n/new", "3"))}, true, "1"},
		"made, a condition": {func(store.Revision) store.Txn {
			return store.Txn{If: []store.Cond{{Path: "/n/new"}}, Do: []store.Op{put("/n/b", "2")}}
		}, []store.Txn{do(put("/n/new", "3"))}, true, "1"},
		"made, a put": {func(store.Revision) store.Txn { return do(put("/n/new", "2")) }, []store.Txn{do(put("/n/new", "3"))}, true, "1"},
		"made and deleted": {func(store.Revision) store.Txn {
			return store.Txn{If: []store.Cond{{Path: "/n/new"}}, Do: []store.Op{put("/n/a", "2")}}
		}, []store.Txn{do(put("/n/new", "3")), do(del("/n/new"))}, false, "2"},
		"others elsewhere": {func(at store.Revision) store.Txn {
			return store.Txn{If: []store.Cond{{Path: "/n/a", Modified: at}}, Do: []store.Op{put("/n/a", "2")}}
		}, []store.Txn{do(put("/n/c", "3")), do(put("/x", "3"))}, false, "2"},
	} {
		commit(t, other, do(del("/n/a"), del("/n/b"), del("/n/c"), del("/n/new"), del("/x")))
		commit(t, s, do(put("/n/a", "0")))
		at := commit(t, s, do(put("/n/a", "1"))) // by s, which then knows the guard
		again, err := s.Between(t.Context(), c.txn(at), func() {
			for _, txn := range c.others {
				commit(t, other, txn)
			}
		})
		if again != c.again || !again && err != nil {
			t.Errorf("%s: tries again %t, error %v, expected %t", name, again, err, c.again)
		}
		n, err := s.Get(t.Context(), "/n/a")
		if string(n.Value) != c.after || err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: /n/a is %q, error %v, expected %q", name, n.Value, err, c.after)
		}
		// This is what makes the guards necessary.
		if strings.HasPrefix(name, "made again") {
			if _, st, err := other.Conn().Get(other.Leaf("/n/a")); err != nil || st.Version != 1 {
				t.Errorf("%s: data version is %v, error %v, expected 1 as before", name, st, err)
			}
		}
	}
}

// Large transactions of deletions, again and again and by several clients, are not
// tried for each of the guards that they find changed.
func TestInteropFewTries(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	cfg := zookeeper.Config{Servers: []string{tr.target}, Root: tr.root}
	s, other := openStore(t, cfg), openStore(t, cfg)
	var puts, deletes store.Txn
	for i := range store.MaxTxnOps {
		puts.Do = append(puts.Do, put(fmt.Sprintf("/n/%d", i), "1"))
		deletes.Do = append(deletes.Do, del(fmt.Sprintf("/n/%d", i)))
	}
	try := func(s *zookeeper.Store, most int) {
		t.Helper()
		for n := 1; ; n++ {
			again, err := s.Between(t.Context(), deletes, func() {})
			switch {
			case !again && err != nil:
				t.Fatal(err)
			case again && n == most:
				t.Fatalf("not done after %d tries", n)
			case again:
				continue
			}
			return
		}
	}
	for range 3 {
		commit(t, s, puts)
		try(s, 1)
	}
	for range 2 {
		commit(t, s, puts)
		try(other, 2)
		commit(t, s, puts)
		try(s, 2)
	}
}

// The log stays short, whoever has been away for longer gets everything anew, and who
// was there notices nothing.
func TestInteropTrim(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	s := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root}.Limits(20, 300<<10, 0))
	w := s.Watch(t.Context(), "/", 0)
	if b := next(t, w); !b.Reset {
		t.Errorf("first batch is no Reset")
	}
	if err := s.WriteAhead(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := commit(t, s, do(put("/n/first", "1"), put("/n/gone", "1")))
	commit(t, s, do(del("/n/gone")))
	var last store.Revision
	for i := range 150 {
		last = commit(t, s, do(put(fmt.Sprintf("/n/%d", i%7), fmt.Sprint(i))))
	}
	// Large entries count by what was written ahead for them.
	big := strings.Repeat("v", store.MaxValue)
	for range 8 {
		last = commit(t, s, do(put("/n/big1", big), put("/n/big2", big)))
	}
	within(t, "a short log", func() bool {
		entries, _, bulks, err := s.LogSize(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return entries <= 22 && bulks <= 2
	})
	for rev := store.Revision(0); rev < last; {
		b := next(t, w)
		if b.Reset || b.Revision <= rev {
			t.Fatalf("batch of revision %d after %d: Reset %t", b.Revision, rev, b.Reset)
		}
		rev = b.Revision
	}
	b := next(t, s.Watch(t.Context(), "/n/", first))
	if !b.Reset || b.Revision < last || len(b.Puts) != 10 {
		t.Errorf("watch from revision %d: Reset %t of revision %d with %d nodes, expected a Reset of %d with 10", first, b.Reset, b.Revision, len(b.Puts), last)
	}
}

// The log goes on in generation after generation, and watches notice nothing.
func TestInteropGenerations(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	s := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root}.Limits(1000, 0, 5))
	other := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root}.Limits(1000, 0, 5))
	from := commit(t, s, do(put("/n", "0")))
	watches := []<-chan store.Batch{s.Watch(t.Context(), "/", from), other.Watch(t.Context(), "/", from)}
	n := 1
	within(t, "three generations", func() bool {
		commit(t, s, do(put("/n", fmt.Sprint(n)), put(fmt.Sprintf("/all/%d", n), "")))
		n++
		_, generations, _, err := s.LogSize(t.Context())
		return err == nil && generations >= 3
	})
	last := commit(t, other, do(put("/n", "last")))
	for i, w := range watches {
		seen := 0
		for rev := from; rev < last; {
			b := next(t, w)
			if b.Reset || b.Revision <= rev {
				t.Fatalf("watch %d: batch of revision %d after %d: Reset %t", i, b.Revision, rev, b.Reset)
			}
			rev = b.Revision
			for _, p := range b.Puts {
				if p.Path != "/n" {
					seen++
				}
			}
		}
		if seen != n-1 {
			t.Errorf("watch %d saw %d nodes, expected %d", i, seen, n-1)
		}
	}
	if nodes, rev, err := s.List(t.Context(), "/all/"); err != nil || len(nodes) != n-1 || rev < last {
		t.Errorf("List has %d nodes at revision %d, error %v, expected %d at %d", len(nodes), rev, err, n-1, last)
	}
	// Old generations go as their entries do.
	short := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root})
	if err := short.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if entries, generations, _, err := short.LogSize(t.Context()); err != nil || entries > 2 || generations != 1 {
		t.Errorf("%d entries in %d generations, error %v, expected at most 2 in 1", entries, generations, err)
	}
}

// A client whose own ZooKeeper session ran out goes on as if nothing had been.
func TestInteropOwnSessionRunsOut(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	s, other := tr.open(t), tr.open(t)
	t.Cleanup(func() { s.Close(); other.Close() })
	w := s.Watch(t.Context(), "/n/", 0)
	next(t, w)
	at := commit(t, s, do(put("/n/a", "1")))
	next(t, w)
	before := s.Session0()
	s.proxy.cut()
	var last store.Revision
	time.Sleep(8 * time.Second) // ZooKeeper's session is of 6 s, and ends up to a tick later
	last = commit(t, other, do(put("/n/b", "1")))
	s.proxy.connect(t)
	b := next(t, w)
	if b.Reset || b.Revision != last || len(b.Puts) != 1 {
		t.Errorf("batch of revision %d: Reset %t with %d nodes, expected one of %d with one", b.Revision, b.Reset, len(b.Puts), last)
	}
	within(t, "a commit", func() bool {
		_, err := s.Commit(t.Context(), store.Txn{If: []store.Cond{{Path: "/n/a", Modified: at}}, Do: []store.Op{put("/n/c", "1")}})
		return err == nil
	})
	if s.Session0() == before {
		t.Error("the session did not run out: the test tests nothing")
	}
	if b := next(t, w); b.Reset || len(b.Puts) != 1 {
		t.Errorf("batch: Reset %t with %d nodes, expected one node", b.Reset, len(b.Puts))
	}
}

// The owner of a session dies with the janitor: another takes over.
func TestInteropJanitorDies(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	dies, s := tr.open(t), tr.open(t)
	t.Cleanup(func() { dies.Close(); s.Close() })
	ss, err := dies.Session(t.Context(), 4*zktest.Tick)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ss.Commit(t.Context(), do(put("/e/a", "1"), put("/e/b", "1"))); err != nil {
		t.Fatal(err)
	}
	within(t, "a janitor", func() bool { return dies.IsJanitor(t.Context()) })
	w := s.Watch(t.Context(), "/e/", 0)
	if b := next(t, w); len(b.Puts) != 2 {
		t.Errorf("%d nodes, expected 2", len(b.Puts))
	}
	dies.proxy.cut()
	if b := next(t, w); len(b.Deletes) != 2 || b.Reset {
		t.Errorf("batch %+v, expected that both nodes are deleted", b)
	}
	within(t, "another janitor", func() bool { return s.IsJanitor(t.Context()) })
}

// Everything is the user's alone; others read that.
func TestInteropACL(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	cfg := zookeeper.Config{Servers: []string{tr.target}, Root: tr.root + "/below", Auth: "alice:secret"}
	s := openStore(t, cfg)
	commit(t, s, do(put("/n/a", "1"), put("/big", strings.Repeat("v", store.MaxValue))))
	ss, err := s.Session(t.Context(), 4*zktest.Tick)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ss.Elect(t.Context(), "/elect/office", []byte("alice")); err != nil {
		t.Fatal(err)
	}
	within(t, "a janitor", func() bool { return s.IsJanitor(t.Context()) })
	for _, auth := range []string{"", "alice:wrong", "bob:secret"} {
		cfg.Auth = auth
		o := openStore(t, cfg)
		_, err := o.Get(t.Context(), "/n/a")
		if err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "user:password") {
			t.Errorf("Get as %q: error is %v, expected one that says what to give", auth, err)
		}
		if _, err := o.Commit(t.Context(), do(put("/n/a", "2"))); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Commit as %q: error is %v, expected one about the user", auth, err)
		}
	}
	var walk func(path string)
	znodes := 0
	walk = func(path string) {
		znodes++
		acl, _, err := s.Conn().GetACL(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(zk.DigestACL(zk.PermAll, "alice", "secret"), acl); diff != "" {
			t.Errorf("ACL of %s (-want +got):\n%s", path, diff)
		}
		names, _, err := s.Conn().Children(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			walk(path + "/" + name)
		}
	}
	walk(tr.root + "/below")
	if znodes < 270 {
		t.Errorf("%d znodes were looked at, expected at least 270", znodes)
	}
	cfg.Auth = "alice:secret"
	if n, err := openStore(t, cfg).Get(t.Context(), "/n/a"); err != nil || string(n.Value) != "1" {
		t.Errorf("Get as alice: %q, %v", n.Value, err)
	}
}

// An open store says so, one with a user does not.
func TestInteropOpenWarns(t *testing.T) {
	for auth, want := range map[string]bool{"": true, "alice:secret": false} {
		var log bytes.Buffer
		s, err := zookeeper.Open(t.Context(), zookeeper.Config{Servers: []string{"192.0.2.1:2181"}, Auth: auth, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := strings.Contains(log.String(), "level=WARN msg=\"store is open"); got != want || strings.Contains(log.String(), "secret") {
			t.Errorf("auth %q: log is %q, expected a warning: %t, and no password", auth, &log, want)
		}
	}
}

// What foreign hands have put there is left out, or named.
func TestInteropForeign(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	s := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root})
	from := commit(t, s, do(put("/n/a", "1"), put("/n/b/c", "1")))
	acl := zk.WorldACL(zk.PermAll)
	for _, path := range []string{s.Leaf("/n/foreign"), tr.root + "/tree/n/not a path", tr.root + "/tree/n/~x", tr.root + "/tree/=/x", tr.root + "/sessions/what", tr.root + "/owned/what", tr.root + "/log/what", tr.root + "/log/0/what", tr.root + "/bulk/what"} {
		if _, err := s.Conn().Create(path, []byte("?"), 0, acl); err != nil && !errors.Is(err, zk.ErrNoNode) {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if _, err := s.Get(t.Context(), "/n/foreign"); err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of a foreign znode: %v", err)
	}
	check := func() {
		t.Helper()
		nodes, _, err := s.List(t.Context(), "/")
		if err != nil || len(nodes) != 2 || nodes[0].Path != "/n/a" || nodes[1].Path != "/n/b/c" {
			t.Errorf("List has %+v, error %v, expected /n/a and /n/b/c", nodes, err)
		}
	}
	check()
	if b := next(t, s.Watch(t.Context(), "/", 0)); !b.Reset || len(b.Puts) != 2 {
		t.Errorf("Reset %t with %d nodes, expected a Reset with 2", b.Reset, len(b.Puts))
	}
	// A damaged entry of the log: whoever needs it reads all anew, and goes on.
	w := s.Watch(t.Context(), "/", from)
	if _, err := s.Conn().Multi(
		&zk.CreateRequest{Path: tr.root + "/log/0/c-", Data: []byte("?"), Acl: acl, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: tr.root + "/head", Version: -1}); err != nil {
		t.Fatal(err)
	}
	if b := next(t, w); !b.Reset || len(b.Puts) != 2 {
		t.Errorf("after a damaged entry: Reset %t with %d nodes, expected a Reset with 2", b.Reset, len(b.Puts))
	}
	commit(t, s, do(put("/n/a", "2")))
	if b := next(t, w); b.Reset || len(b.Puts) != 1 {
		t.Errorf("after the Reset: Reset %t with %d nodes, expected one node", b.Reset, len(b.Puts))
	}
	if err := s.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	// Another program's tree is not touched.
	if _, err := s.Conn().Set(tr.root+"/format", []byte("zonecast store 2, generation 0\n"), -1); err != nil {
		t.Fatal(err)
	}
	o := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root})
	if _, err := o.Get(t.Context(), "/n/a"); err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "newer zonecast") {
		t.Errorf("Get of a newer format: %v", err)
	}
	if _, err := s.Commit(t.Context(), do(put("/n/a", "3"))); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit to a newer format: %v", err)
	}
}

// writer commits numbered nodes one after another and remembers what was
// acknowledged.
type writer struct {
	s store.Store

	mu    sync.Mutex // guards below
	acked []string
	err   error // the last one
}

func (w *writer) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		p := fmt.Sprintf("/n/%06d", i)
		_, err := w.s.Commit(ctx, do(put(p, "1"), put("/twin/"+p[3:], "1")))
		w.mu.Lock()
		if w.err = err; err == nil {
			w.acked = append(w.acked, p)
		}
		w.mu.Unlock()
	}
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// drill runs a writer and a watcher while disturb goes on, which gets how to wait for
// more commits, and then holds both against the store.
func drill(t *testing.T, writes, watches store.Store, disturb func(more func())) {
	t.Helper()
	w := &writer{s: writes}
	ctx, stop := context.WithCancel(t.Context())
	wctx, unwatch := context.WithCancel(t.Context())
	var writing, watching sync.WaitGroup
	defer func() { stop(); writing.Wait(); unwatch(); watching.Wait() }()
	writing.Go(func() { w.run(ctx) })
	watch := watches.Watch(wctx, "/n/", 0)
	var mu sync.Mutex
	seen := make(map[string]bool)
	resets := 0
	watching.Go(func() {
		var last store.Revision
		for b := range watch {
			mu.Lock()
			if b.Revision < last {
				t.Errorf("batch of revision %d after %d", b.Revision, last)
			}
			last = b.Revision
			if b.Reset {
				resets++
			}
			for _, n := range b.Puts {
				seen[n.Path] = true
			}
			mu.Unlock()
		}
	})
	disturb(func() {
		before := w.count()
		within(t, "commits go on", func() bool { return w.count() > before+20 })
	})
	stop()
	writing.Wait()
	within(t, "the watch has seen every acknowledged commit", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range w.acked {
			if !seen[p] {
				return false
			}
		}
		return true
	})
	if resets != 1 {
		t.Errorf("the watch had %d Resets, expected the first one only", resets)
	}
	// Each commit is there whole, also those whose answer was lost.
	nodes, _, err := watches.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, n := range nodes {
		there[n.Path] = true
	}
	for _, p := range w.acked {
		if !there[p] {
			t.Errorf("%s was acknowledged and is lost", p)
		}
	}
	for p := range there {
		if rest, ok := strings.CutPrefix(p, "/n/"); ok && !there["/twin/"+rest] {
			t.Errorf("%s is there without its twin", p)
		}
	}
	t.Logf("%d commits acknowledged, %d nodes there", len(w.acked), len(nodes))
}

// A server that is killed and started again: what was acknowledged is there, the
// watch goes on, sessions live.
func TestInteropServerKilled(t *testing.T) {
	t.Parallel()
	server, err := zktest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Kill() })
	cfg := zookeeper.Config{Servers: []string{server.Address}}
	a, b := openStore(t, cfg), openStore(t, cfg)
	ss, err := b.Session(t.Context(), 20*zktest.Tick)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ss.Elect(t.Context(), "/elect/office", nil)
	if err != nil {
		t.Fatal(err)
	}
	drill(t, a, b, func(more func()) {
		for range 2 {
			more()
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := server.Restart(); err != nil {
				t.Fatal(err)
			}
			more()
		}
	})
	select {
	case <-ss.Done():
		t.Log("the session was lost: the server was away for longer than it lasts")
	default:
		commit(t, a, store.Txn{If: []store.Cond{l.Fence}, Do: []store.Op{put("/led", "1")}})
	}
}

// Three servers, of which the leader is killed, and one that is frozen: it accepts
// connections and says nothing.
func TestInteropEnsemble(t *testing.T) {
	t.Parallel()
	servers, err := zktest.StartEnsemble(t.TempDir(), 3)
	t.Cleanup(func() {
		for _, s := range servers {
			s.Kill()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range servers {
		all = append(all, s.Address)
	}
	cfg := zookeeper.Config{Servers: all}
	a, b := openStore(t, cfg), openStore(t, cfg)
	find := func(mode string) *zktest.Server {
		var found *zktest.Server
		within(t, "a "+mode, func() bool {
			for _, s := range servers {
				if m, err := s.Mode(); err == nil && m == mode {
					found = s
					return true
				}
			}
			return false
		})
		return found
	}
	drill(t, a, b, func(more func()) {
		for range 2 {
			more()
			leader := find("leader")
			if err := leader.Kill(); err != nil {
				t.Fatal(err)
			}
			more()
			if err := leader.Restart(); err != nil {
				t.Fatal(err)
			}
			more()
		}
		frozen := find("follower")
		if err := frozen.Freeze(); err != nil {
			t.Fatal(err)
		}
		more()
		if err := frozen.Thaw(); err != nil {
			t.Fatal(err)
		}
		more()
	})
	// What one client has written every other reads, whichever server it talks to.
	for i := range 50 {
		rev := commit(t, a, do(put("/fresh", fmt.Sprint(i))))
		n, err := b.Get(t.Context(), "/fresh")
		if err != nil || n.Modified != rev {
			t.Fatalf("Get after a commit of revision %d: revision %d, error %v", rev, n.Modified, err)
		}
		nodes, at, err := b.List(t.Context(), "/fresh/")
		if err != nil || at < rev || len(nodes) != 0 {
			t.Fatalf("List after a commit of revision %d: revision %d, error %v", rev, at, err)
		}
	}
}

// Servers with a limit below ZooKeeper's default refuse large commits, and the error
// says why; small ones go on.
func TestInteropServersLimit(t *testing.T) {
	t.Parallel()
	server, err := zktest.Start(t.TempDir(), "-Djute.maxbuffer=300000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Kill() })
	s := openStore(t, zookeeper.Config{Servers: []string{server.Address}})
	var txn store.Txn
	for i := range 8 {
		txn.Do = append(txn.Do, put(fmt.Sprintf("/n/%d", i), strings.Repeat("v", store.MaxValue)))
	}
	_, err = s.Commit(t.Context(), txn)
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "jute.maxbuffer") {
		t.Errorf("a large commit: error is %v, expected one that names jute.maxbuffer", err)
	}
	within(t, "a small commit", func() bool {
		_, err := s.Commit(t.Context(), do(put("/n/1", "1")))
		return err == nil
	})
	if nodes, _, err := s.List(t.Context(), "/"); err != nil || len(nodes) != 1 {
		t.Errorf("List has %d nodes, error %v, expected one", len(nodes), err)
	}
}

// A directory goes when it is empty: ZooKeeper deletes containers, and a commit that
// comes at that moment makes it again.
func TestInteropDirectoryGoes(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	s := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root})
	commit(t, s, do(put("/a/b/c", "1"), put("/b/c", "1")))
	commit(t, s, do(del("/a/b/c")))
	again, err := s.Between(t.Context(), do(put("/a/b/d", "1")), func() {
		within(t, "the directory gone", func() bool {
			there, _, err := s.Conn().Exists(tr.root + "/tree/a")
			return err == nil && !there
		})
	})
	if !again {
		t.Errorf("a commit into a directory that has gone: error is %v, expected another try", err)
	}
	commit(t, s, do(put("/a/b/d", "1")))
	if nodes, _, err := s.List(t.Context(), "/"); err != nil || len(nodes) != 2 {
		t.Errorf("List has %d nodes, error %v, expected two", len(nodes), err)
	}
}

// Servers that are set up anew, or from an older copy, count from the start: whoever
// has seen more reads all again.
func TestInteropServersFromTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := zktest.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Kill() })
	cfg := zookeeper.Config{Servers: []string{server.Address}, Auth: "alice:secret"}
	s := openStore(t, cfg)
	w := s.Watch(t.Context(), "/n/", 0)
	next(t, w)
	var old store.Revision
	for i := range 200 {
		old = commit(t, s, do(put(fmt.Sprintf("/n/old%d", i), "1")))
	}
	for rev := store.Revision(0); rev < old; {
		rev = next(t, w).Revision
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	rev := commit(t, openStore(t, cfg), do(put("/n/new", "1")))
	if rev >= old {
		t.Fatalf("revision %d after %d: the test tests nothing", rev, old)
	}
	if b := next(t, w); !b.Reset || b.Revision < rev || len(b.Puts) != 1 || b.Puts[0].Path != "/n/new" {
		t.Errorf("batch of revision %d: Reset %t with %d nodes, expected a Reset of %d with /n/new", b.Revision, b.Reset, len(b.Puts), rev)
	}
	commit(t, s, do(put("/n/newer", "1")))
	if b := next(t, w); b.Reset || len(b.Puts) != 1 {
		t.Errorf("batch: Reset %t with %d nodes, expected one node", b.Reset, len(b.Puts))
	}
}
