package modeltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/control"
	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/presenter"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// tb is testing.T and rapid.T.
type tb interface {
	Helper()
	Fatalf(string, ...any)
	Logf(string, ...any)
}

// accidents are what a presenter's store does to it.
type accidents struct {
	mu    sync.Mutex // guards below
	left  int        // commits that will go wrong
	lost  bool       // they happened all the same
	cut   bool       // only those that come after the first of a version's
	delay map[string]time.Duration
	seen  int
}

// frail is a store that has accidents.
type frail struct {
	store.Store
	*accidents
	lags bool // its watches may
}

func (a *accidents) spoil() (error, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left == 0 {
		return nil, false
	}
	if a.cut {
		if a.seen++; a.seen%2 == 1 {
			return nil, false
		}
	}
	a.left--
	return fmt.Errorf("commit: %w", store.ErrUnavailable), a.lost
}

func (f *frail) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	err, lost := f.spoil()
	if err != nil && !lost {
		return 0, err
	}
	rev, done := f.Store.Commit(ctx, txn)
	if done != nil {
		return rev, done
	}
	return rev, err
}

func (f *frail) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	in := f.Store.Watch(ctx, prefix, from)
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range in {
			f.mu.Lock()
			d := f.delay[prefix]
			f.mu.Unlock()
			if f.lags {
				time.Sleep(d)
			}
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// process is a presenter at work.
type process struct {
	*presenter.Presenter
	client *memstore.Store
	cancel context.CancelFunc
	done   chan error
}

func startPresenter(t tb, st *memstore.Store, a *accidents, b bounds, lags bool) *process {
	t.Helper()
	client := st.Peer()
	cfg := presenter.DefaultConfig()
	cfg.SessionTTL = time.Second
	cfg.Guards = b.on
	g := &cfg.Guard
	g.Window, g.Few, g.Reviewed = time.Second, b.few, nil
	g.Zone, g.Source, g.Overall, g.Lowered = guard.Limits{}, guard.Limits{}, guard.Limits{}, guard.Bound{}
	g.Source.Removed = guard.Bound{Floor: b.removed, Ceiling: b.removed}
	g.Source.Replaced = guard.Bound{Floor: b.replaced, Ceiling: b.replaced}
	p, err := presenter.New(cfg, presenter.Deps{
		Store: &frail{client, a, lags}, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Policy: reconcile.DefaultPolicy(), Name: "presenter",
	})
	if err != nil {
		t.Fatalf("presenter: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &process{p, client, cancel, make(chan error, 1)}
	go func() {
		defer func() {
			if v := recover(); v != nil {
				r.done <- fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		r.done <- p.Run(ctx)
	}()
	return r
}

// stop ends a presenter, as its death would when it dies.
func (p *process) stop(t tb, dies bool) {
	t.Helper()
	if dies {
		p.client.Die()
	}
	p.cancel()
	if err := <-p.done; err != nil && !errors.Is(err, store.ErrClosed) {
		t.Fatalf("presenter ended with %v", err)
	}
	p.client.Close()
}

// person is a control that people ask.
type person struct {
	*control.Control
	client *memstore.Store
	cancel context.CancelFunc
	done   chan error
}

// startControl starts one.
func startControl(t tb, st *memstore.Store) *person {
	t.Helper()
	client := st.Peer()
	c, err := control.New(control.DefaultConfig(), control.Deps{
		Store: client, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Policy: reconcile.DefaultPolicy(),
	})
	if err != nil {
		t.Fatalf("control: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &person{c, client, cancel, make(chan error, 1)}
	go func() { p.done <- c.Run(ctx) }()
	return p
}

func (p *person) stop(t tb) {
	t.Helper()
	p.cancel()
	if err := <-p.done; err != nil {
		t.Fatalf("control ended with %v", err)
	}
	p.client.Close()
}

// contentOf is a published dataset as the model has it.
func contentOf(d *snapshot.Dataset) content {
	sets := map[record.Key]record.RRset{}
	for r := range d.All() {
		if !snapshot.IsFreshness(r.Key) {
			sets[r.Key] = r
		}
	}
	return newContent(sets)
}

// logged is a version as the log has it.
type logged struct {
	version uint64
	time    int64
	content content
	fresh   bool // nothing but freshness changed
}

// readLog gives the versions after the one at which the content is as given, and the
// delta that made each, checking that they are one chain.
func readLog(t tb, st store.Store, after uint64, at content) []logged {
	t.Helper()
	nodes, _, err := st.List(context.Background(), tree.LogPrefix("internal"))
	if err != nil {
		t.Fatalf("list log: %v", err)
	}
	sets := map[record.Key]record.RRset{}
	for k, r := range at.sets {
		sets[k] = r
	}
	var out []logged
	for i, n := range nodes {
		v, ok := tree.LogVersion("internal", n.Path)
		if !ok || v != uint64(i+1) || n.Created != n.Modified {
			t.Fatalf("log node %d is %s, made at %d and changed at %d", i, n.Path, n.Created, n.Modified)
		}
		if v <= after {
			continue
		}
		encoded, err := follow.ReadLog(context.Background(), st, "internal", v, n.Value)
		if err != nil {
			t.Fatalf("%v", err)
		}
		d, err := snapshot.DecodeDelta(encoded)
		if err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
		l := logged{version: v, time: d.Time, fresh: true}
		if d.Full {
			clear(sets)
		}
		for _, k := range d.Remove {
			delete(sets, k)
			l.fresh = l.fresh && snapshot.IsFreshness(k)
		}
		for _, r := range d.Put {
			if !snapshot.IsFreshness(r.Key) {
				sets[r.Key] = r
				l.fresh = false
			}
		}
		now := map[record.Key]record.RRset{}
		for k, r := range sets {
			now[k] = r
		}
		l.content = newContent(now)
		out = append(out, l)
	}
	return out
}

// digest is that of a content, as docs/format says.
func (c content) digest() snapshot.Digest {
	var d snapshot.Digest
	for _, r := range c.sets {
		d = d.Add(snapshot.HashRRset(r))
	}
	return d
}
