package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/service/landed"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
	"github.com/zonecast/zonecast/store"
)

// TestStoresAway has every store dead for an hour: readers go on, also after the proxy and
// the machine were started again, and are told how old it is; then changes flow again.
func TestStoresAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st.Peer())
		defer m.st.Close()
		m.start()
		settle()
		first := land(t, st, "app/limits", `{"most":1}`, "app/big", big(1, 200_000))
		settle()
		v := m.value("app/limits")
		if string(v.JSON) != `{"most":1}` || v.Version != first || v.Type != "test.T" || v.Revision != `r{"most":1}` {
			t.Errorf("got %+v", v)
		}
		if a := v.Age(); a < 0 || a > m.cfg.Confirm {
			t.Errorf("age is %v while the store lives", a)
		}

		waits := make(chan landed.Value, 1)
		go func() {
			c := m.client()
			defer c.Close()
			_ = c.Watch(t.Context(), "app/limits", first, func(v landed.Value) error { waits <- v; return errors.New("enough") }, nil)
		}()
		began := time.Now()
		st.SetAvailable(false)
		check := func(what string, least, most time.Duration) {
			t.Helper()
			synctest.Wait()
			for path, want := range map[string]string{"app/limits": `{"most":1}`, "app/big": big(1, 200_000)} {
				v := m.value(path)
				if string(v.JSON) != want || v.Version != first {
					t.Errorf("%s: %s is version %d, %.20s", what, path, v.Version, v.JSON)
				}
				if a := v.Age(); a < time.Since(began)+least || a > time.Since(began)+most {
					t.Errorf("%s: age of %s is %v after %v without a store", what, path, a, time.Since(began))
				}
			}
			if st := m.p.Status(); st.Store == "" {
				t.Errorf("%s: the status does not say that the store is away: %+v", what, st)
			}
		}
		time.Sleep(20 * time.Minute)
		check("dead", 0, m.cfg.Confirm)
		m.stop()
		m.start()
		check("proxy started again", 0, m.cfg.Confirm)
		time.Sleep(20 * time.Minute)
		m.crash(faultfs.Lost)
		m.start()
		check("machine crashed", 0, m.cfg.Confirm+noteEvery)
		time.Sleep(20 * time.Minute)
		check("an hour", 0, m.cfg.Confirm+noteEvery)

		st.SetAvailable(true)
		settle()
		if a := m.value("app/limits").Age(); a > m.cfg.Confirm {
			t.Errorf("age is %v when the store is back", a)
		}
		second := land(t, st, "app/limits", `{"most":2}`)
		settle()
		if v := <-waits; v.Version != second || string(v.JSON) != `{"most":2}` {
			t.Errorf("who waited got %+v", v)
		}
		m.stop()
	})
}

// watcher notes what one program is given.
type watcher struct {
	mu   sync.Mutex // guards below
	last uint64
	n    int // the number in the newest value
	seen int
	bad  string
}

func (w *watcher) take(v landed.Value) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n int
	text := strings.TrimLeft(string(v.JSON), `[`)
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil {
		w.bad = fmt.Sprintf("value %.20q", v.JSON)
	}
	if v.Version <= w.last || n <= w.n {
		w.bad = fmt.Sprintf("version %d (%d) after %d (%d)", v.Version, n, w.last, w.n)
	}
	w.last, w.n = v.Version, n
	w.seen++
	return nil
}

// TestHundredWatchers lets a hundred programs watch one configuration, and some others,
// under random landings, removals, outages, restarts of the proxy and crashes of the
// machine. Each sees versions in their order, or the newest, never an older one; in the end
// all have the newest. Two configurations that always land together are never seen apart.
func TestHundredWatchers(t *testing.T) {
	const watchers, seeds = 100, 2
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				st := memstore.New()
				defer st.Close()
				m := newMachine(t, st.Peer())
				defer m.st.Close()
				m.start()
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				all := make([]*watcher, watchers+10)
				for i := range all {
					w := &watcher{}
					all[i] = w
					path := "hot"
					if i >= watchers {
						path = "other"
					}
					wg.Go(func() {
						c := m.client()
						defer c.Close()
						if err := c.Watch(ctx, path, 0, w.take, nil); err != nil {
							t.Error(err)
						}
					})
				}
				// The twins are read in one list all the time.
				wg.Go(func() {
					c := m.client()
					defer c.Close()
					last := uint64(0)
					rng := rand.New(rand.NewPCG(seed, 2))
					for ctx.Err() == nil {
						l, err := c.List(ctx, "twin/", "")
						if err == nil {
							if len(l.Configs) == 1 || len(l.Configs) == 2 && l.Configs[0].Version != l.Configs[1].Version {
								t.Errorf("twins are seen apart: %+v", l.Configs)
							}
							if len(l.Configs) == 2 {
								if v := l.Configs[0].Version; v < last {
									t.Errorf("list has version %d after %d", v, last)
								} else {
									last = v
								}
							}
						}
						time.Sleep(time.Duration(rng.IntN(500)+1) * time.Millisecond)
					}
				})
				n := 0
				up, away := true, false
				newest := 0
				for range 100 {
					switch k := rng.IntN(20); {
					case k < 11 && !away:
						n++
						newest = n
						size := 10
						if rng.IntN(4) == 0 {
							size = 10_000
						}
						pairs := []string{"hot", big(n, size), "twin/a", big(n, 10), "twin/b", big(n, size)}
						if rng.IntN(5) == 0 {
							pairs = append(pairs, "other", fmt.Sprint(n))
						}
						if rng.IntN(6) == 0 { // more than a transaction takes
							for i := range 200 {
								pairs = append(pairs, fmt.Sprintf("many/%d", i), fmt.Sprint(n))
							}
						}
						land(t, st, pairs...)
					case k == 11 && !away:
						land(t, st, "hot", "", "other", "")
						newest = 0
					case k == 12:
						st.Compact()
					case k < 15:
						away = !away
						st.SetAvailable(!away)
					case k == 15 && up:
						m.stop()
						up = false
					case k == 16 && up:
						losses := faultfs.AllLosses()
						m.crash(losses[rng.IntN(len(losses))])
						up = false
					case !up:
						m.start()
						up = true
					}
					time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
				}
				st.SetAvailable(true)
				if !up {
					m.start()
				}
				if newest == 0 {
					n++
					land(t, st, "hot", fmt.Sprint(n))
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				seen := 0
				for i, w := range all {
					w.mu.Lock()
					if w.bad != "" {
						t.Errorf("watcher %d was given %s", i, w.bad)
					}
					if i < watchers && w.n != n {
						t.Errorf("watcher %d has %d, the newest is %d", i, w.n, n)
					}
					seen += w.seen
					w.mu.Unlock()
				}
				if seen < watchers*5 {
					t.Errorf("%d values in all: does the test run?", seen)
				}
				cancel()
				m.stop()
				wg.Wait()
			})
		})
	}
}

// TestEveryVersionInOrder holds that watchers which keep up miss nothing.
func TestEveryVersionInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st.Peer())
		defer m.st.Close()
		m.start()
		settle()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		all := make([]*watcher, 100)
		for i := range all {
			all[i] = &watcher{}
			wg.Go(func() {
				c := m.client()
				defer c.Close()
				_ = c.Watch(ctx, "hot", 0, all[i].take, nil)
			})
		}
		settle()
		for n := 1; n <= 50; n++ {
			land(t, st, "hot", fmt.Sprint(n))
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		for i, w := range all {
			if w.seen != 50 || w.bad != "" {
				t.Errorf("watcher %d saw %d of 50 versions, %s", i, w.seen, w.bad)
			}
		}
		cancel()
		m.stop()
		wg.Wait()
	})
}

// TestStoreOlder puts the store back to before: what is served stays, it is told, and a
// landing above it is taken.
func TestStoreOlder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st)
		m.start()
		settle()
		land(t, st, "a", `1`, "b", `1`)
		settle()
		back, _, err := st.List(t.Context(), tree.Config)
		if err != nil {
			t.Fatal(err)
		}
		land(t, st, "a", `2`, "b", `2`)
		settle()
		newest := m.value("a").Version
		m.stop()

		for _, old := range []string{"put back", "lost"} {
			other := memstore.New()
			defer other.Close()
			if old == "put back" {
				for _, n := range back {
					if _, err := other.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: n.Path, Value: n.Value}}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			m.st = other
			time.Sleep(time.Minute)
			m.start()
			time.Sleep(time.Minute)
			v := m.value("a")
			if string(v.JSON) != "2" || v.Version != newest || v.Age() < 2*time.Minute || !strings.Contains(v.Problem, "lost or put back") {
				t.Errorf("%s: %+v, age %v", old, v, v.Age())
			}
			if got := m.p.Status().Problems; len(got) != 1 {
				t.Errorf("%s: problems %q", old, got)
			}
			// a lands anew; b is as it was before, which is what the repository has now.
			next := land(t, other, "a", `3`, "b", `1`)
			settle()
			v = m.value("a")
			if string(v.JSON) != "3" || v.Version != next || v.Problem != "" || v.Age() > m.cfg.Confirm {
				t.Errorf("%s, landed again: %+v, age %v", old, v, v.Age())
			}
			if v := m.value("b"); string(v.JSON) != "1" || v.Version <= newest {
				t.Errorf("%s: b is %s, version %d after %d", old, v.JSON, v.Version, newest)
			}
			newest = next
			m.stop()
			m.disk = m.disk.Reboot(faultfs.Kept)
			land(t, other, "a", `2`, "b", `2`)
			m.st = other
			m.start()
			settle()
			newest = m.value("a").Version
			m.stop()
		}
	})
}

// TestDamagedStore holds that what cannot be read takes nothing away and is told, with the
// age of what stays, and is mended by the next landing; others go on.
func TestDamagedStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st)
		m.start()
		settle()
		land(t, st, "a", `1`, "b", big(1, 100_000), "c", `1`)
		settle()
		do := func(op store.Op) {
			t.Helper()
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
				t.Fatal(err)
			}
		}
		do(store.Op{Path: tree.ConfigPath("a"), Value: []byte("nonsense")})
		// A landing whose parts are lost before anybody has read them.
		w, err := configtree.Open(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		_, before, err := st.List(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Prepare(t.Context(), configtree.Landing{Revision: "r2", Put: []configtree.Config{{Path: "b", Value: []byte(big(2, 100_000))}, {Path: "new", Value: []byte(big(3, 100_000))}, {Path: "c", Value: []byte(`2`)}}}, configtree.Room{})
		if err != nil {
			t.Fatal(err)
		}
		parts, _, err := st.List(t.Context(), "/configparts/")
		if err != nil {
			t.Fatal(err)
		}
		old := m.value("b")
		for _, n := range parts {
			if n.Created > before && strings.HasSuffix(n.Path, "/000001") {
				do(store.Op{Path: n.Path, Delete: true})
			}
		}
		if _, err := st.Commit(t.Context(), p.Txn); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if v := m.value("a"); string(v.JSON) != "1" || v.Problem == "" || v.Age() < time.Hour {
			t.Errorf("a: %+v, age %v", v, v.Age())
		}
		if v := m.value("b"); v.Version != old.Version || v.Problem == "" || v.Age() < time.Hour {
			t.Errorf("b: version %d, problem %q, age %v", v.Version, v.Problem, v.Age())
		}
		if v := m.value("c"); string(v.JSON) != "2" || v.Problem != "" || v.Age() > m.cfg.Confirm {
			t.Errorf("c: %+v, age %v", v, v.Age())
		}
		var se *landed.StatusError
		if _, err := m.client().Get(t.Context(), "new"); !errors.As(err, &se) || se.Status != 503 {
			t.Errorf("new: %v", err)
		}
		if got := m.p.Status().Problems; len(got) != 3 {
			t.Errorf("problems %q, want those of a, b and new", got)
		}
		land(t, st, "a", `3`, "b", big(3, 100), "new", `3`)
		settle()
		for _, path := range []string{"a", "b", "new"} {
			if v := m.value(path); v.Problem != "" || v.Age() > m.cfg.Confirm {
				t.Errorf("%s: %+v, age %v", path, v, v.Age())
			}
		}
		do(store.Op{Path: tree.ConfigHeadPath, Delete: true})
		time.Sleep(time.Hour)
		if v := m.value("a"); string(v.JSON) != "3" || v.Problem == "" || v.Age() < time.Hour {
			t.Errorf("without a head a is %+v, age %v", v, v.Age())
		}
		m.stop()
	})
}

// TestBounds holds that what does not fit is told, and that what is there stays.
func TestBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st)
		m.cfg.MaxConfigs, m.cfg.MaxSize = 3, 50_000
		m.start()
		settle()
		land(t, st, "a", `1`, "b", `1`, "c", `1`, "d", `1`)
		settle()
		for path, want := range map[string]bool{"a": true, "b": true, "c": true, "d": false} {
			if _, err := m.client().Get(t.Context(), path); (err == nil) != want {
				t.Errorf("%s: %v", path, err)
			}
		}
		land(t, st, "a", big(1, 49_000), "b", big(2, 60_000))
		settle()
		land(t, st, "c", big(2, 4000))
		settle()
		if v := m.value("a"); len(v.JSON) < 49_000 || v.Problem != "" {
			t.Errorf("a: %d octets, problem %q", len(v.JSON), v.Problem)
		}
		for _, path := range []string{"b", "c"} {
			if v := m.value(path); string(v.JSON) != "1" || !strings.Contains(v.Problem, "--proxy-max-size") {
				t.Errorf("%s: %.20s, problem %q", path, v.JSON, v.Problem)
			}
		}
		// Room again.
		land(t, st, "a", "")
		settle()
		if v := m.value("c"); len(v.JSON) < 4000 || v.Problem != "" {
			t.Errorf("c: %d octets, problem %q", len(v.JSON), v.Problem)
		}
		if v := m.value("d"); string(v.JSON) != "1" {
			t.Errorf("d: %s", v.JSON)
		}
		m.stop()
	})
}

// TestPrefixes follows some paths, then others: what was not followed before is unknown
// until the store has said what there is.
func TestPrefixes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st.Peer())
		defer m.st.Close()
		m.cfg.Prefixes = []string{"app/", "db/"}
		m.start()
		settle()
		land(t, st, "app/a", `1`, "web/a", big(1, 100_000), "web/b", `1`)
		settle()
		status := func(path string) int {
			t.Helper()
			_, err := m.client().Get(t.Context(), path)
			var se *landed.StatusError
			var ae *landed.AbsentError
			switch {
			case err == nil:
				return 200
			case errors.As(err, &ae):
				return 404
			case errors.As(err, &se):
				return se.Status
			}
			t.Fatal(err)
			return 0
		}
		if a, b, c := status("app/a"), status("web/a"), status("db/x"); a != 200 || b != 403 || c != 404 {
			t.Errorf("status %d, %d, %d", a, b, c)
		}
		m.stop()
		st.SetAvailable(false)
		m.cfg.Prefixes = []string{"app/", "web/"}
		m.start()
		settle()
		if a, b, c := status("app/a"), status("web/b"), status("db/x"); a != 200 || b != 503 || c != 403 {
			t.Errorf("without a store: status %d, %d, %d", a, b, c)
		}
		st.SetAvailable(true)
		settle()
		if a, b, c := status("app/a"), status("web/a"), status("web/x"); a != 200 || b != 200 || c != 404 {
			t.Errorf("with the store: status %d, %d, %d", a, b, c)
		}
		m.stop()
	})
}

// TestDiskFull goes on with what is newest while the disk takes nothing, says so, and has it
// on the disk when there is room again.
func TestDiskFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st.Peer())
		defer m.st.Close()
		m.start()
		settle()
		land(t, st, "a", `1`)
		settle()
		full := errors.New("no space left on device")
		for n := 1; n <= 5; n++ {
			m.disk.FailAt(n, 1_000_000, full)
			v := land(t, st, "a", fmt.Sprint(1+n))
			settle()
			if got := m.value("a"); got.Version != v {
				t.Fatalf("version %d, want %d", got.Version, v)
			}
			if s := m.p.Status(); n == 1 && !strings.Contains(s.Cache, "no space left") {
				t.Errorf("status says %q", s.Cache)
			}
			m.disk.FailAt(1, 0, nil)
			time.Sleep(2 * noteEvery)
			if s := m.p.Status(); s.Cache != "" {
				t.Errorf("with room again the status says %q", s.Cache)
			}
			m.crash(faultfs.Lost)
			st.SetAvailable(false)
			m.start()
			if got := m.value("a"); got.Version != v {
				t.Fatalf("after a crash version %d, want %d", got.Version, v)
			}
			st.SetAvailable(true)
			settle()
		}
		m.stop()
	})
}

// spyFS tells of every sync before it happens.
type spyFS struct {
	journal.FS
	sync func()
}

type spyFile struct {
	journal.File
	sync func()
}

func (f spyFS) OpenFile(name string, flag int, perm fs.FileMode) (journal.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	return spyFile{file, f.sync}, err
}

func (f spyFile) Sync() error {
	f.sync()
	return f.File.Sync()
}

// TestDurableBeforeSeen holds that nobody sees a landing before it is on the disk.
func TestDurableBeforeSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		var p *Proxy
		var seen []uint64 // at each sync
		disk := spyFS{faultfs.New(), func() {
			if p == nil {
				return
			}
			if r, err := p.shelf.get("a"); err == nil {
				seen = append(seen, r.version)
			}
		}}
		cfg := DefaultConfig()
		cfg.Dir = cacheDir
		made, err := New(cfg, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		p = made
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		settle()
		before := land(t, st, "a", `1`)
		settle()
		for n := 2; n < 10; n++ {
			seen = nil
			next := land(t, st, "a", fmt.Sprint(n), "b", big(n, 10_000))
			settle()
			if len(seen) < 2 || slices.ContainsFunc(seen[:2], func(v uint64) bool { return v != before }) {
				t.Errorf("at the syncs of landing %d readers saw %d, want %d", next, seen, before)
			}
			before = next
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNothingKnown tells a proxy that knows nothing from one that knows that there is
// nothing.
func TestNothingKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st.Peer())
		defer m.st.Close()
		st.SetAvailable(false)
		m.start()
		settle()
		var se *landed.StatusError
		if _, err := m.client().Get(t.Context(), "a"); !errors.As(err, &se) || se.Status != 503 {
			t.Errorf("error %v, want 503", err)
		}
		if _, err := m.client().List(t.Context(), "", ""); !errors.As(err, &se) || se.Status != 503 {
			t.Errorf("error %v, want 503", err)
		}
		st.SetAvailable(true)
		settle()
		var ae *landed.AbsentError
		if _, err := m.client().Get(t.Context(), "a"); !errors.As(err, &ae) || ae.Age < 0 {
			t.Errorf("error %v, want that there is none", err)
		}
		m.stop()
		st.SetAvailable(false)
		m.start()
		if _, err := m.client().Get(t.Context(), "a"); !errors.As(err, &ae) {
			t.Errorf("after a restart: %v, want that there is none", err)
		}
		m.stop()
	})
}
