package etcd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// TestStorePutBack: the directory of a store that clients are connected to is put back to an
// older copy. Its revisions are lower than what they have seen: each watch says anew all there
// is, and then what happens; who waited to lead leads when nobody does.
func TestStorePutBack(t *testing.T) {
	dir, backup := shortDir(t), filepath.Join(shortDir(t), "backup")
	start := func() *etcd.Child {
		t.Helper()
		c, err := etcd.StartChild(t.Context(), childConfig(dir, filepath.Join(dir, "socket")))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start()
	s := openStore(t, c)
	put := func(path, value string) {
		t.Helper()
		var err error
		within(t, 30*time.Second, "commit", func() bool {
			_, err = s.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: path, Value: []byte(value)}}})
			return err == nil
		})
	}
	put("/n/old", "1")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c = start()
	for i := range 50 {
		put(fmt.Sprintf("/n/%d", i), "x")
	}
	session, err := s.Session(t.Context(), 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Elect(t.Context(), "/elect/x", nil); err != nil {
		t.Fatal(err)
	}
	standby := openStore(t, c)
	next, err := standby.Session(t.Context(), 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	won := make(chan error, 1)
	go func() {
		_, err := next.Elect(ctx, "/elect/x", nil)
		won <- err
	}()
	var mu sync.Mutex
	state := map[string]string{}
	watched := s.Watch(ctx, "/n/", 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range watched {
			mu.Lock()
			if b.Reset {
				clear(state)
			}
			for _, n := range b.Puts {
				state[n.Path] = string(n.Value)
			}
			for _, p := range b.Deletes {
				delete(state, p)
			}
			mu.Unlock()
		}
	}()
	has := func(n int, path, value string) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return len(state) == n && state[path] == value }
	}
	within(t, 30*time.Second, "all is seen", has(51, "/n/49", "x"))
	time.Sleep(200 * time.Millisecond) // the candidate waits

	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "etcd"), os.DirFS(filepath.Join(backup, "etcd"))); err != nil {
		t.Fatal(err)
	}
	c = start()
	defer func() { _ = c.Close() }()
	put("/n/new", "2")
	within(t, 30*time.Second, "what there is now", has(2, "/n/new", "2"))
	put("/n/new", "3")
	within(t, 10*time.Second, "what happens", has(2, "/n/new", "3"))
	within(t, 30*time.Second, "the leader's session is lost", func() bool {
		select {
		case <-session.Done():
			return true
		default:
			return false
		}
	})
	select {
	case err := <-won:
		t.Logf("the one that waited: %v", err) // its session has gone with the store, too
	case <-time.After(30 * time.Second):
		t.Error("who waited to lead waits on, and nobody leads")
	}
	cancel()
	<-done
}
