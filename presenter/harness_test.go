package presenter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// tb is testing.T and rapid.T.
type tb interface {
	Helper()
	Fatalf(string, ...any)
}

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

const zoneSource, ruleSource record.Source = "zone/example.net", "rule/address"

func zone() record.Claim {
	soa := record.Rdata(name("ns.example.net.")) + record.Rdata(name("root.example.net.")) + record.Rdata(make([]byte, 20))
	return record.Claim{RRset: record.NewRRset(name("example.net."), record.TypeSOA, 300, soa), Source: zoneSource}
}

func address(host string, last byte) record.Claim {
	return record.Claim{RRset: record.NewRRset(name(host+".example.net."), record.TypeA, 300, record.Rdata([]byte{192, 0, 2, last})), Source: ruleSource}
}

// put commits an independent shard.
func put(t tb, st store.Store, shard string, claims ...record.Claim) store.Revision {
	t.Helper()
	source := ruleSource
	if len(claims) > 0 {
		source = claims[0].Source
	}
	rev, err := st.Commit(context.Background(), store.Txn{Do: []store.Op{claimtree.Ops(source, shard, claims)}})
	if err != nil {
		t.Fatalf("put shard %s: %v", shard, err)
	}
	return rev
}

// running is a presenter at work.
type running struct {
	*Presenter
	metrics *prometheus.Registry
	cancel  context.CancelFunc
	done    chan error
}

func run(t tb, st store.Store, change ...func(*Config, *Deps)) *running {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg, deps := DefaultConfig(), Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: reg, Name: "test"}
	cfg.Guards = false
	for _, f := range change {
		f(&cfg, &deps)
	}
	p, err := New(cfg, deps)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{p, reg, cancel, make(chan error, 1)}
	go func() { r.done <- p.Run(ctx) }()
	return r
}

func (r *running) stop(t tb) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatalf("run: %v", err)
	}
}

// settle lets time pass until everything that can happen has happened, backoffs
// included. It must be called in a bubble.
func settle() {
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

func readHead(t tb, st store.Store) tree.Head {
	t.Helper()
	n, err := st.Get(context.Background(), tree.HeadPath("internal"))
	if errors.Is(err, store.ErrNotFound) {
		return tree.Head{}
	}
	var h tree.Head
	if err == nil {
		err = tree.Decode(n, &h)
	}
	if err != nil {
		t.Fatalf("read head: %v", err)
	}
	return h
}

// published loads what is published, which verifies every digest and chain on the
// way, and holds that it is the head's.
func published(t tb, st store.Store) *snapshot.Dataset {
	t.Helper()
	d, err := follow.Load(context.Background(), follow.Config{Dataset: "internal", Store: st})
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	if h := readHead(t, st); h.Version != d.Version() || h.Version > 0 && (h.Digest != d.Digest().String() || h.Chain != d.Chain().String() || h.Content != d.Content()) {
		t.Fatalf("head is %+v, the log leads to version %d, digest %s, chain %s, content %d", h, d.Version(), d.Digest(), d.Chain(), d.Content())
	}
	return d
}

// imported reconciles all claims in the store at once.
func imported(t tb, st store.Store) []record.RRset {
	t.Helper()
	nodes, rev, err := st.List(context.Background(), tree.Claims)
	if err != nil {
		t.Fatalf("list claims: %v", err)
	}
	changes, err := claimtree.NewFold().Apply(store.Batch{Revision: rev, Reset: true, Puts: nodes})
	if err != nil {
		t.Fatalf("fold: %v", err)
	}
	s := reconcile.New(reconcile.DefaultPolicy())
	for _, ch := range changes {
		s.Replace(ch.Source, ch.Shard, ch.Claims)
	}
	return s.Reconcile().Put
}

// equalsImport holds that what is published is what the claims make.
func equalsImport(t tb, st store.Store) *snapshot.Dataset {
	t.Helper()
	d := published(t, st)
	want := imported(t, st)
	for _, r := range want {
		if got, ok := d.Get(r.Key); !ok || !got.Equal(r) {
			t.Fatalf("version %d: %s is %v (there: %v), the claims make %v", d.Version(), r.Key, got, ok, r)
		}
	}
	if d.Len() != len(want) {
		t.Fatalf("version %d has %d RRsets, the claims make %d", d.Version(), d.Len(), len(want))
	}
	return d
}

// notForked holds that every version was written exactly once.
func notForked(t tb, st store.Store) {
	t.Helper()
	nodes, _, err := st.List(context.Background(), tree.LogPrefix("internal"))
	if err != nil {
		t.Fatalf("list log: %v", err)
	}
	for i, n := range nodes {
		if v, ok := tree.LogVersion("internal", n.Path); !ok || v != uint64(i+1) || n.Created != n.Modified {
			t.Fatalf("log node %d is %s, made at %d and changed at %d", i, n.Path, n.Created, n.Modified)
		}
	}
}

// faulty is a store whose commits a test can spoil.
type faulty struct {
	store.Store
	mu     sync.Mutex                // guards below
	before func(txn store.Txn) error // an error: the commit does not happen
	after  func(txn store.Txn) error // an error: it happened all the same
	watch  func(store.Batch)         // sees each batch before the presenter does
}

func (f *faulty) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	f.mu.Lock()
	before, after := f.before, f.after
	f.mu.Unlock()
	if before != nil {
		if err := before(txn); err != nil {
			return 0, err
		}
	}
	rev, err := f.Store.Commit(ctx, txn)
	if err == nil && after != nil {
		err = after(txn)
	}
	return rev, err
}

func (f *faulty) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	in := f.Store.Watch(ctx, prefix, from)
	if f.watch == nil || prefix != tree.Claims {
		return in
	}
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range in {
			f.watch(b)
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// movesHead tells whether txn makes a version.
func movesHead(txn store.Txn) bool {
	return len(txn.Do) >= 2 && txn.Do[1].Path == tree.HeadPath("internal")
}

func bubble(t *testing.T, f func(t *testing.T, st *memstore.Store)) {
	t.Helper()
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		f(t, st)
	})
}

func hosts(n int) []record.Claim {
	var claims []record.Claim
	for i := range n {
		claims = append(claims, address(fmt.Sprintf("host%d", i), byte(i)))
	}
	return claims
}

// value is what a counter or gauge says, or how often a histogram was told.
func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue() + float64(out.GetHistogram().GetSampleCount())
}
