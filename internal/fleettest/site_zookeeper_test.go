//go:build interop

package fleettest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/proxied"
	"github.com/zonecast/zonecast/store/zookeeper"
	"github.com/zonecast/zonecast/store/zookeeper/zktest"
)

// TestInteropSiteBeforeZooKeeper puts the proxy of a site before a real ZooKeeper, kills that, and starts it
// again: agents are sent every commit whole and in order, go on while it is away, begin anew then
// from the proxy's disk, and what they reported meanwhile is written when it is back.
func TestInteropSiteBeforeZooKeeper(t *testing.T) {
	if err := zktest.Installed(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	server, err := zktest.Start(filepath.Join(dir, "zookeeper"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Kill() }) // it may be dead
	open := func() *zookeeper.Store {
		t.Helper()
		st, err := zookeeper.Open(ctx, zookeeper.Config{Servers: []string{server.Address}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() }) // without a server it says so
		return st
	}
	direct := open()
	commit := func(i int) store.Revision {
		t.Helper()
		for {
			rev, err := direct.Commit(ctx, store.Txn{Do: []store.Op{{Path: "/datasets/internal/head", Value: fmt.Append(nil, i)}, {Path: fmt.Sprint("/datasets/internal/out/log/", i), Value: fmt.Append(nil, i)}}})
			if err == nil {
				return rev
			}
			if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	commit(0)

	cfg := site.DefaultConfig()
	cfg.Listen, cfg.Dir = "unix:"+filepath.Join(dir, "s"), filepath.Join(dir, "site")
	cfg.Confirm, cfg.SessionTTL = 100*time.Millisecond, 4*zktest.Tick
	proxy := func() (stop func()) {
		t.Helper()
		p, err := site.New(cfg, site.Deps{Store: open(), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the proxy ends: %v", err)
			}
		})
		t.Cleanup(stop)
		return stop
	}
	stop := proxy()
	agent := func() *proxied.Store {
		t.Helper()
		a, err := proxied.Open(ctx, proxied.Config{Endpoints: []string{cfg.Listen}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() }) // likewise
		return a
	}
	a := agent()
	watch := a.Watch(ctx, "/datasets/internal/", 0)
	last := -1
	comes := func(want int) {
		t.Helper()
		for last < want {
			var b store.Batch
			select {
			case b = <-watch:
			case <-ctx.Done():
				t.Fatalf("change %d does not come, the last one was %d", want, last)
			}
			head, logs := -1, map[int]bool{}
			for _, n := range b.Puts {
				var v int
				if _, err := fmt.Sscan(string(n.Value), &v); err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(n.Path, "/head") {
					head = v
				} else {
					logs[v] = true
				}
			}
			for v := last + 1; v <= head; v++ {
				if !logs[v] {
					t.Fatalf("head %d comes without change %d, after %d: %+v", head, v, last, b)
				}
			}
			if head < last {
				t.Fatalf("head goes from %d to %d", last, head)
			}
			last = head
		}
	}
	for i := 1; i <= 20; i++ {
		commit(i)
	}
	comes(20)
	session, err := a.Session(ctx, 4*zktest.Tick)
	if err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		t.Helper()
		if _, err := session.Commit(ctx, store.Txn{Do: []store.Op{{Path: "/hosts/dns1", Value: []byte(text)}}}); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	has := func(want string) {
		t.Helper()
		var n store.Node
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			if n, err = direct.Get(ctx, "/hosts/dns1"); err == nil && string(n.Value) == want && n.Ephemeral || want == "" && errors.Is(err, store.ErrNotFound) {
				return
			}
		}
		t.Fatalf("the store has %q of the host, error %v; expected %q", n.Value, err, want)
	}
	say("before")
	has("before")

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	say("meanwhile")
	if nodes, _, err := a.List(ctx, "/datasets/internal/"); err != nil || len(nodes) != 22 {
		t.Errorf("with the store away: %d nodes, error %v; expected 22", len(nodes), err)
	}
	if nodes, _, err := a.List(ctx, "/hosts/"); err != nil || len(nodes) != 1 || string(nodes[0].Value) != "meanwhile" {
		t.Errorf("with the store away agents see %v of each other, error %v", nodes, err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	has("meanwhile")
	commit(21)
	comes(21)
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	has("")

	// The proxy starts again while the store is away, and an agent with nothing at all begins there.
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.Close() // its proxy is about to end
	stop()
	proxy()
	if nodes, _, err := agent().List(ctx, "/datasets/internal/"); err != nil || len(nodes) != 23 {
		t.Errorf("from the disk: %d nodes, error %v; expected 23", len(nodes), err)
	}
}
