package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
)

// served runs a server in this process and returns a client of it.
func served(t *testing.T, up upkeep) *Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "zc") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, ServerConfig{Dir: dir, Listen: socket, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, up)
	}()
	s, err := Open(ctx, Config{Endpoints: []string{endpoint(socket)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		os.RemoveAll(dir)
	})
	return s
}

// At the quota etcd takes no more writes; cutting the history makes room, and
// nothing but history goes.
func TestQuota(t *testing.T) {
	s := served(t, upkeep{quota: 16 << 20, keep: 1000, every: 300 * time.Millisecond})
	commit := func(path string, n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := s.Commit(ctx, store.Txn{Do: []store.Op{{Path: path, Value: make([]byte, n)}}})
		return err
	}
	if err := commit("/kept", 1000); err != nil {
		t.Fatal(err)
	}
	refused := false
	deadline := time.Now().Add(40 * time.Second)
	for i := 0; ; i++ {
		err := commit(fmt.Sprintf("/a/%d", i%10), store.MaxValue)
		if errors.Is(err, store.ErrUnavailable) {
			refused = true
		} else if err != nil {
			t.Fatalf("Commit at the quota: error is %v, expected one that is %q", err, store.ErrUnavailable)
		} else if refused {
			break // room again
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d commits: quota reached %t, no room again", i, refused)
		}
	}
	if n, err := s.Get(t.Context(), "/kept"); err != nil || len(n.Value) != 1000 {
		t.Errorf("Get of what was there before: %d octets, error %v", len(n.Value), err)
	}
}

// History is cut, and who needs what is gone reads all again.
func TestHistoryIsCut(t *testing.T) {
	s := served(t, upkeep{quota: 1 << 30, keep: 20, every: 50 * time.Millisecond})
	var first, last store.Revision
	for i := range 100 {
		rev, err := s.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/a", Value: fmt.Append(nil, i)}}})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = rev
		}
		last = rev
	}
	from := func(rev store.Revision) store.Batch {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return <-s.Watch(ctx, "/", rev)
	}
	deadline := time.Now().Add(20 * time.Second)
	for !from(first).Reset {
		if time.Now().After(deadline) {
			t.Fatal("a watch from the first revision needs no Reset: history was not cut")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if b := from(last - 10); b.Reset || b.Revision != last {
		t.Errorf("watch from 10 revisions ago: Reset %t, revision %d, expected no Reset, revision %d", b.Reset, b.Revision, last)
	}
}
