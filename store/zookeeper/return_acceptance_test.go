//go:build acceptance && interop

package zookeeper_test

import (
	"slices"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/zookeeper"
)

// TestReturn has 200 clients, each with a session and a watch, lose a ZooKeeper for a minute. Printed
// is how many connections come within the worst second after its return, with and without
// Config.Spread, and when all have their session and what was written meanwhile again.
func TestReturn(t *testing.T) {
	const clients, outage = 200, time.Minute
	for _, spread := range []time.Duration{0, 10 * time.Second} {
		t.Run("spread="+spread.String(), func(t *testing.T) {
			tr := newTree(t)
			direct := openStore(t, zookeeper.Config{Servers: []string{tr.target}, Root: tr.root})
			p := newProxy(t, tr.target)
			type member struct {
				store   store.Store
				session store.Session
				watch   <-chan store.Batch
			}
			var all []*member
			begin := func(m *member) {
				var err error
				for m.session, err = m.store.Session(t.Context(), 8*time.Second); err != nil; m.session, err = m.store.Session(t.Context(), 8*time.Second) {
					if t.Context().Err() != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}
			for range clients {
				s := openStore(t, zookeeper.Config{Servers: []string{p.address}, Root: tr.root, Spread: spread})
				m := &member{store: s, watch: s.Watch(t.Context(), "/a/", 0)}
				next(t, m.watch)
				begin(m)
				all = append(all, m)
			}
			p.cut()
			done := make(chan struct{}, clients)
			for _, m := range all {
				go func() {
					<-m.session.Done()
					begin(m)
					done <- struct{}{}
				}()
			}
			time.Sleep(outage)
			commit(t, direct, do(put("/a/news", "x")))
			p.connect(t)
			began := time.Now()
			for range all {
				select {
				case <-done:
				case <-time.After(patience):
					t.Fatalf("not all have a session within %v", patience)
				}
			}
			for _, m := range all {
				for got := false; !got; {
					b := next(t, m.watch)
					got = slices.ContainsFunc(b.Puts, func(n store.Node) bool { return n.Path == "/a/news" })
				}
			}
			took := time.Since(began)
			p.mu.Lock()
			defer p.mu.Unlock()
			worst := 0
			for i := range p.came {
				n := 0
				for _, at := range p.came[i:] {
					if at.Sub(p.came[i]) < time.Second {
						n++
					}
				}
				worst = max(worst, n)
			}
			t.Logf("%d clients, %v away, spread %v: %d connections, %d within the worst second; all had their session and what is new after %.1f s", clients, outage, spread, len(p.came), worst, took.Seconds())
			if spread > 0 && (worst > clients || took > 4*spread) {
				t.Errorf("expected at most %d within a second, and at most %v", clients, 4*spread)
			}
		})
	}
}
