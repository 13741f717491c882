package site

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// TestMirrorOfLargeStore holds that a part of the tree that grows beyond what it may have takes no more
// memory than that, however large it is, and is served again when it fits again.
func TestMirrorOfLargeStore(t *testing.T) {
	const most = 1 << 20
	for name, c := range map[string]struct{ nodes, octets int }{
		"large nodes": {200, 60 << 10},
		"many nodes":  {40_000, 100}, // more than sizes may be kept
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bubbletest.Run(t, func(t *testing.T) {
				st := memstore.New()
				defer st.Close()
				commit := func(ops ...store.Op) {
					t.Helper()
					if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
						t.Fatal(err)
					}
				}
				cfg := DefaultConfig()
				cfg.MaxSize = most
				s := &Site{cfg: cfg, log: slog.New(slog.DiscardHandler), store: st, trouble: map[string]string{}}
				m := newMirror("/", most)
				done := make(chan struct{})
				disk := &cache{path: filepath.Join(dir, "all.tree"), prefix: "/"}
				defer func() { st.Close(); <-done }()
				go func() { defer close(done); s.keep(t.Context(), m, disk) }()
				commit(store.Op{Path: "/a", Value: []byte("v")})
				synctest.Wait()
				var watcher place
				if message, _, _ := m.next(&watcher); message == nil || m.list("/") == nil {
					t.Fatal("it is not served while it is small")
				}
				at := func(i int) string { return fmt.Sprintf("/large/%06d", i) }
				each := func(op func(i int) store.Op) {
					for i := 0; i < c.nodes; {
						var ops []store.Op
						for size := 0; i < c.nodes && len(ops) < store.MaxTxnOps && size < store.MaxTxnBytes/2; i++ {
							ops = append(ops, op(i))
							size += len(ops[len(ops)-1].Value)
						}
						commit(ops...)
						synctest.Wait()
					}
				}
				each(func(i int) store.Op { return store.Op{Path: at(i), Value: make([]byte, c.octets)} })
				if _, err := st.Get(t.Context(), "/a"); err != nil {
					t.Fatal(err)
				}
				m.mu.Lock()
				if !m.full || len(m.nodes) > 0 || len(m.history) > 0 || len(m.whole) > 0 || len(m.lists) > 0 || len(m.sizes) > most/perSize {
					t.Errorf("full %v, kept are %d nodes, %d increments, %d states, %d lists, %d sizes", m.full, len(m.nodes), len(m.history), len(m.whole), len(m.lists), len(m.sizes))
				}
				m.mu.Unlock()
				if m.list("/") != nil || len(s.trouble) != 1 {
					t.Errorf("it is served while it is large; troubles %q", s.trouble)
				}
				if message, _, _ := m.next(&watcher); message != nil {
					t.Error("watchers are told something while it is large")
				}
				each(func(i int) store.Op { return store.Op{Path: at(i), Delete: true} })
				commit(store.Op{Path: "/a", Value: []byte("w")})
				time.Sleep(2 * remeasure)
				synctest.Wait()
				if n, found, ok := m.get("/a"); !found || !ok || string(n.Value) != "w" || len(s.trouble) > 0 {
					t.Errorf("when it is small again: node %q, found %v, served %v; troubles %q", n.Value, found, ok, s.trouble)
				}
				message, _, _ := m.next(&watcher)
				if message == nil || message != m.whole[watcher.prefix] {
					t.Error("a watcher is not given everything anew")
				}
			})
		})
	}
}

// TestSizesOfMirror holds that what sizes take is a quarter of what nodes may, in octets of the heap.
func TestSizesOfMirror(t *testing.T) {
	const most = 64 << 20
	m := newMirror("/", most)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := store.Batch{Revision: 1, Reset: true, Puts: []store.Node{{Path: "/x", Value: make([]byte, most)}}}
	m.apply(b)
	for i := range most/perSize - 1 {
		m.apply(store.Batch{Revision: store.Revision(i + 2), Puts: []store.Node{{Path: fmt.Sprintf("/%d", i)}}})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(m.sizes) != most/perSize {
		t.Fatalf("%d sizes are kept, expected %d", len(m.sizes), most/perSize)
	}
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc) - most; got > most/4 {
		t.Errorf("%d sizes take %d octets, expected at most %d", len(m.sizes), got, most/4)
	}
	if want := int64(most) + int64(wire.NodeOverhead); m.size <= want {
		t.Errorf("size is %d, expected more than %d", m.size, want)
	}
	runtime.KeepAlive(b)
}

// TestCacheOnBadDisk holds that what cannot be written to the disk is not written whole with each thing
// that happens: a large state would take the last room of a full disk every second.
func TestCacheOnBadDisk(t *testing.T) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		c := &cache{path: filepath.Join(dir, "later", "all.tree"), prefix: "/"}
		states := 0
		b := store.Batch{Revision: 1, Reset: true}
		save := func() error {
			return c.save(time.Now(), b, func() store.Batch { states++; return b })
		}
		for range 50 {
			if save() == nil {
				t.Fatal("a directory that is not there took it")
			}
			time.Sleep(time.Second)
		}
		if states < 3 || states > 6 {
			t.Errorf("all was written %d times in 50 s, expected about 5", states)
		}
		if err := os.Mkdir(filepath.Join(dir, "later"), 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rewritePause)
		if err := save(); err != nil {
			t.Error(err)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
}
