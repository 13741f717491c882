package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/service/landed"
)

// BenchmarkHundredWatchers lands a configuration that a hundred programs wait for, over the
// real socket and with the cache on the disk, until the last of them has it. The octets are
// those of proxy and programs together, who wait.
func BenchmarkHundredWatchers(b *testing.B) {
	const watchers = 100
	st := memstore.New()
	defer st.Close()
	cfg := DefaultConfig()
	cfg.Dir, cfg.Socket = b.TempDir(), b.TempDir()+"/s"
	p, err := New(cfg, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := Listen(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	web := service.HTTP("local api", ln, p.Handler(), nil)
	wg.Go(func() { _ = web.Run(ctx) })
	wg.Go(func() { _ = p.Run(ctx) })
	w, err := configtree.Open(ctx, st)
	if err != nil {
		b.Fatal(err)
	}
	land := func(n int) uint64 {
		h, err := w.Land(ctx, configtree.Landing{Put: []configtree.Config{{Path: "hot", Value: fmt.Append(nil, n)}}})
		if err != nil {
			b.Fatal(err)
		}
		return h.Version
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	seen := make(chan uint64, watchers)
	for range watchers {
		wg.Go(func() {
			c := landed.NewClient(cfg.Socket)
			defer c.Close()
			_ = c.Watch(ctx, "hot", 0, func(v landed.Value) error { seen <- v.Version; return nil }, nil)
		})
	}
	all := func(version uint64) {
		for range watchers {
			for <-seen != version { // an older one of the start
			}
		}
	}
	all(land(0))
	for p.Status().Waiting < watchers {
		time.Sleep(time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		all(land(i + 1))
		took = append(took, time.Since(began))
		for p.Status().Waiting < watchers {
			time.Sleep(100 * time.Microsecond)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/watchers/1024, "KiB/watcher")
	cancel()
	wg.Wait()
}
