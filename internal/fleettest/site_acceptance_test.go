//go:build acceptance

package fleettest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
	"github.com/zonecast/zonecast/store/proxied"
)

var siteAgents = flag.Int("site-agents", 1000, "agents in TestSiteFanOut")

// TestSiteFanOut has many watchers of a dataset at an etcd, each with its own connection, and
// then as many behind one proxy: time from a commit to the last of them, and what it costs the
// store. The watchers do what an agent does with the store, and nothing else.
func TestSiteFanOut(t *testing.T) {
	const rounds = 100
	server := startEtcd(t)
	open := func() store.Store {
		st, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{server}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		return st
	}
	writer := open()
	measure := func(name string, client func() (store.Store, error)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		arrived := make(chan struct{}, *siteAgents)
		var wg, begun sync.WaitGroup
		for range *siteAgents {
			st, err := client()
			if err != nil {
				t.Fatal(err)
			}
			begun.Add(1)
			wg.Go(func() {
				defer st.Close()
				first := true
				for range st.Watch(ctx, tree.DatasetPrefix(dataset), 0) {
					if first {
						begun.Done()
						first = false
						continue
					}
					arrived <- struct{}{}
				}
			})
		}
		begun.Wait()
		var times []time.Duration
		for i := range rounds {
			began := time.Now()
			if _, err := writer.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.LogPath(dataset, uint64(i+1)), Value: make([]byte, 400)}}}); err != nil {
				t.Fatal(err)
			}
			for range *siteAgents {
				<-arrived
			}
			times = append(times, time.Since(began))
		}
		cancel()
		wg.Wait()
		t.Logf("%s, %d watchers: from a commit to the last, %s", name, *siteAgents, quantiles(times))
	}
	measure("each at etcd", func() (store.Store, error) {
		return etcd.Open(context.Background(), etcd.Config{Endpoints: []string{server}})
	})
	link := newUplink(open())
	dir := t.TempDir()
	cfg := site.DefaultConfig()
	cfg.Dir, cfg.Listen, cfg.Snapshots = filepath.Join(dir, "site"), "127.0.0.1:0", false
	s, err := site.New(cfg, site.Deps{Store: link, Log: newFleet(t).log, Metrics: prometheus.NewRegistry(), Fetcher: follow.HTTP{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	measure("behind one proxy", func() (store.Store, error) {
		return proxied.Open(context.Background(), proxied.Config{Endpoints: []string{s.Addr().String()}})
	})
	link.mu.Lock()
	defer link.mu.Unlock()
	t.Logf("at the store: 1 connection, watches %v, %d reads, %d batches", link.watches, link.reads, link.batches)
	if link.watches[tree.Datasets] != 1 || link.reads > *siteAgents/10 {
		t.Errorf("watches %v, %d reads, expected one watch and few reads for %d watchers", link.watches, link.reads, *siteAgents)
	}
}

// startEtcd runs an etcd in this process and gives its address.
func startEtcd(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- etcd.Serve(ctx, etcd.ServerConfig{Dir: filepath.Join(dir, "etcd"), Listen: socket, Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "unix://" + socket
}

func quantiles(times []time.Duration) string {
	slices.Sort(times)
	at := func(q float64) time.Duration { return times[int(q*float64(len(times)-1))].Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v", at(0.5), at(0.99))
}
