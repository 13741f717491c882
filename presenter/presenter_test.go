package presenter

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// TestBurstIsOneVersion holds that changes closer together than settle are one
// version, and that gather bounds how long an endless burst is waited for.
func TestBurstIsOneVersion(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		defer p.stop(t)
		settle()
		if v := published(t, st).Version(); v != 1 {
			t.Fatalf("version %d after the start, expected 1", v)
		}
		for i := range 10 {
			put(t, st, fmt.Sprint(i), address(fmt.Sprintf("host%d", i), 1))
			time.Sleep(time.Millisecond)
		}
		settle()
		if d := equalsImport(t, st); d.Version() != 2 {
			t.Fatalf("version %d after a burst, expected 2", d.Version())
		}
		began := time.Now()
		for i := range 100 { // 100 ms without a pause of 2 ms: 5 times 20 ms
			put(t, st, fmt.Sprint(i), address(fmt.Sprintf("host%d", i), 2))
			time.Sleep(time.Millisecond)
		}
		took := time.Since(began)
		settle()
		if d := equalsImport(t, st); d.Version() < 2+4 || d.Version() > 2+6 {
			t.Fatalf("version %d after %v of changes, expected about %d", d.Version(), took, 2+5)
		}
		if got := value(p.Presenter.metrics.versions); got != float64(published(t, st).Version()) {
			t.Fatalf("%v versions counted", got)
		}
	})
}

// TestFirstVersion holds that version 1 has what is claimed at the start, and that
// nothing is published of nothing.
func TestFirstVersion(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		p := run(t, st)
		defer p.stop(t)
		settle()
		if h := readHead(t, st); h.Version != 0 || p.Status().Held == "" {
			t.Fatalf("head %+v, status %s: expected nothing, and why", h, p.Status())
		}
		put(t, st, "1", zone())
		rev := put(t, st, "a", hosts(3)...)
		began := time.Now()
		for readHead(t, st).Claims < rev {
			time.Sleep(time.Millisecond)
			if time.Since(began) > 30*time.Millisecond {
				t.Fatalf("claims of revision %d are not in a version after %v: %+v", rev, time.Since(began), readHead(t, st))
			}
		}
		if d := equalsImport(t, st); d.Version() != 1 || d.Len() != 4 || p.Status().Held != "" {
			t.Fatalf("version %d with %d RRsets, status %s", d.Version(), d.Len(), p.Status())
		}
	})
}

// TestRestartChangesNothing holds that a presenter that finds its work done makes
// no version.
func TestRestartChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		put(t, st, "a", hosts(5)...)
		p := run(t, st)
		settle()
		p.stop(t)
		before := published(t, st)
		p = run(t, st)
		settle()
		if after := published(t, st); after.Version() != before.Version() || after.Chain() != before.Chain() {
			t.Fatalf("version %d became %d", before.Version(), after.Version())
		}
		p.stop(t)
		put(t, st, "a", hosts(4)...) // while nobody is there
		p = run(t, st)
		defer p.stop(t)
		settle()
		if d := equalsImport(t, st); d.Version() != before.Version()+1 {
			t.Fatalf("version %d, expected %d", d.Version(), before.Version()+1)
		}
	})
}

// TestClaimsWithoutEffect holds that the head says that claims were seen that
// change nothing, without a version.
func TestClaimsWithoutEffect(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone(), record.Claim{RRset: address("www", 1).RRset, Source: zoneSource})
		p := run(t, st)
		defer p.stop(t)
		settle()
		rev := put(t, st, "a", address("www", 2)) // people before robots
		settle()
		if h := readHead(t, st); h.Version != 1 || h.Claims < rev {
			t.Fatalf("head is %+v, expected version 1 with claims up to %d", h, rev)
		}
		if s := p.Status(); s.Conflicts["data"] != 1 || value(p.Presenter.metrics.conflicts.WithLabelValues("data")) != 1 {
			t.Fatalf("status is %s, expected one conflict", s)
		}
		m := p.Presenter.metrics
		for what, got := range map[string][2]float64{
			"versions": {value(m.versions), 1}, "version": {value(m.version), 1}, "rrsets": {value(m.records), 2}, "claims": {value(m.claims), 3},
			"leading": {value(m.leading), 1}, "changed": {value(m.changed), 2}, "gather": {value(m.gather), 2}, "reconcile": {value(m.reconcile), 2},
			"commit": {value(m.commit), 2}, "latency": {value(m.latency), 2}, "failures": {value(m.failures), 0},
		} {
			if got[0] != got[1] {
				t.Errorf("metric %s is %v, expected %v", what, got[0], got[1])
			}
		}
		if !strings.Contains(p.Status().String(), "leading, version 1, 2 RRsets of 3 claims, 1 conflict") {
			t.Fatalf("status is %q", p.Status())
		}
	})
}

// TestFreshnessIsNoContent holds that versions that change only the freshness
// record leave Content, and that times never go down although the clock does.
func TestFreshnessIsNoContent(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		clock := time.UnixMilli(1e12)
		fresh := func(text string) record.Claim {
			return record.Claim{RRset: record.NewRRset(name("_fresh.internal.example.net."), record.TypeTXT, 0, record.Rdata("\x01"+text)), Source: "rule/fresh"}
		}
		put(t, st, "1", zone())
		put(t, st, "f", fresh("1"))
		p := run(t, st, func(_ *Config, d *Deps) {
			d.Now = func() time.Time { clock = clock.Add(-time.Second); return clock }
		})
		defer p.stop(t)
		settle()
		var last int64
		for _, text := range []string{"2", "3", "4"} {
			put(t, st, "f", fresh(text))
			settle()
			h := readHead(t, st)
			if h.Time < last {
				t.Fatalf("time %d after %d", h.Time, last)
			}
			last = h.Time
		}
		if d := equalsImport(t, st); d.Version() != 4 || d.Content() != 1 {
			t.Fatalf("version %d, content %d, expected 4 and 1", d.Version(), d.Content())
		}
	})
}

// TestUnreadableShard holds that claims that do not decode are told and stop
// nobody else.
func TestUnreadableShard(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		put(t, st, "a", address("a", 1))
		p := run(t, st)
		defer p.stop(t)
		settle()
		if _, err := st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: claimtree.Path(ruleSource, "a"), Value: []byte("garbage")}}}); err != nil {
			t.Fatal(err)
		}
		put(t, st, "b", address("b", 1))
		settle()
		d := published(t, st)
		for _, host := range []string{"a", "b"} {
			if _, ok := d.Get(address(host, 1).Key); !ok {
				t.Errorf("%s is not in version %d", host, d.Version())
			}
		}
		if s := p.Status().Unreadable; !strings.Contains(s, string(ruleSource)) || value(p.Presenter.metrics.unreadable) != 1 {
			t.Errorf("status says %q", s)
		}
		st.Compact() // what follows may come as a Reset
		put(t, st, "a", address("a", 2))
		settle()
		if s := p.Status().Unreadable; s != "" {
			t.Errorf("mended, and the status still says %q", s)
		}
	})
}

// TestNoClaimsAreHeld holds that the loss of all claims empties no dataset, neither
// at work nor at the start, and that work goes on when they are back.
func TestNoClaimsAreHeld(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		settle()
		lose := store.Txn{Do: []store.Op{claimtree.Ops(zoneSource, "1", nil)}}
		if _, err := st.Commit(context.Background(), lose); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			settle()
			if d := published(t, st); d.Version() != 1 || d.Len() != 1 || !strings.Contains(p.Status().Held, "no claims") || value(p.Presenter.metrics.held) != 1 {
				t.Fatalf("version %d with %d RRsets, held: %q", d.Version(), d.Len(), p.Status().Held)
			}
			p.stop(t)
			p = run(t, st)
		}
		defer p.stop(t)
		put(t, st, "1", zone())
		put(t, st, "a", address("a", 1))
		settle()
		if d := equalsImport(t, st); d.Version() != 2 || p.Status().Held != "" {
			t.Fatalf("version %d, held: %q", d.Version(), p.Status().Held)
		}
	})
}

// TestUnknownOutcome holds that a commit whose outcome is not known leads to one
// version, whether it happened or not.
func TestUnknownOutcome(t *testing.T) {
	for _, happened := range []bool{true, false} {
		bubble(t, func(t *testing.T, st *memstore.Store) {
			f := &faulty{Store: st}
			left := 2
			spoil := func(txn store.Txn) error {
				if movesHead(txn) && left > 0 {
					left--
					return fmt.Errorf("commit: %w", store.ErrUnavailable)
				}
				return nil
			}
			if f.before = spoil; happened {
				f.before, f.after = nil, spoil
			}
			put(t, st, "1", zone())
			p := run(t, f)
			defer p.stop(t)
			settle()
			put(t, st, "a", hosts(3)...)
			settle()
			if d := equalsImport(t, st); d.Version() != 2 || left != 0 {
				t.Fatalf("happened %v: version %d, expected 2; %d faults left", happened, d.Version(), left)
			}
			notForked(t, st)
			if p.Status().Problem != "" {
				t.Fatalf("problem: %s", p.Status().Problem)
			}
		})
	}
}

// TestKilledBetweenPartsAndHead holds that parts without a head hurt nobody, and
// that a version larger than a node arrives whole.
func TestKilledBetweenPartsAndHead(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		for shard := range 10 {
			var claims []record.Claim
			for i := range 250 {
				claims = append(claims, address(fmt.Sprintf("host%d-%d", shard, i), byte(i)))
			}
			put(t, st, fmt.Sprint(shard), claims...)
		}
		f := &faulty{Store: st}
		parts := 0
		reached := make(chan struct{})
		f.before = func(txn store.Txn) error {
			if strings.HasPrefix(txn.Do[0].Path, tree.PartsPrefix("internal", 1)) {
				parts++
			}
			if movesHead(txn) {
				close(reached)
				return context.Canceled // dead
			}
			return nil
		}
		p := run(t, f)
		<-reached
		p.stop(t)
		if h := readHead(t, st); parts == 0 || h.Version != 0 {
			t.Fatalf("%d transactions of parts, head %+v", parts, h)
		}
		p = run(t, st)
		defer p.stop(t)
		settle()
		if d := equalsImport(t, st); d.Version() != 1 || d.Len() != 2501 {
			t.Fatalf("version %d with %d RRsets", d.Version(), d.Len())
		}
	})
}

// TestTakeoverNeverGoesBack holds that a new leader that has seen less than the old
// one published waits until it has caught up.
func TestTakeoverNeverGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		slow := make(chan struct{})
		var later atomic.Bool // it may be asked for a second watch
		f := &faulty{Store: st.Peer(), watch: func(store.Batch) {
			if later.Swap(true) {
				<-slow
			}
		}}
		p := run(t, st)
		settle()
		q := run(t, f)
		defer q.stop(t)
		settle()
		put(t, st, "a", hosts(3)...)
		settle()
		p.stop(t)
		settle()
		if d := equalsImport(t, st); d.Version() != 2 || !strings.Contains(q.Status().Held, "revision") || !q.Status().Leading {
			t.Fatalf("version %d, the new leader: %s", d.Version(), q.Status())
		}
		put(t, st, "b", address("b", 1))
		close(slow)
		settle()
		if d := equalsImport(t, st); d.Version() != 3 || q.Status().Held != "" {
			t.Fatalf("version %d, the new leader: %s", d.Version(), q.Status())
		}
	})
}

// TestOutage holds that a presenter outlives an unreachable store and takes what
// came after.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		defer p.stop(t)
		settle()
		st.SetAvailable(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if p.Status().Leading {
			t.Error("leads without a store")
		}
		st.SetAvailable(true)
		put(t, st, "a", hosts(3)...)
		settle()
		settle()
		if d := equalsImport(t, st); d.Version() != 2 || !p.Status().Leading {
			t.Fatalf("version %d, status %s", d.Version(), p.Status())
		}
	})
}

// TestLogLost holds that a presenter goes on when what is published cannot be had, with a full
// version, from which everybody gets on: also when nothing changed.
func TestLogLost(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		settle()
		p.stop(t)
		lose := store.Txn{Do: []store.Op{{Path: tree.LogPath("internal", 1), Delete: true}}}
		if _, err := st.Commit(context.Background(), lose); err != nil {
			t.Fatal(err)
		}
		p = run(t, st)
		settle()
		if d := equalsImport(t, st); d.Version() != 2 || p.Status().Problem != "" {
			t.Fatalf("version %d, expected 2; status %s", d.Version(), p.Status())
		}
		p.stop(t)
		p = run(t, st) // there is nothing to do a second time
		settle()
		if h := readHead(t, st); h.Version != 2 {
			t.Fatalf("head %+v", h)
		}
		p.stop(t)
		lose.Do[0].Path = tree.LogPath("internal", 2)
		if _, err := st.Commit(context.Background(), lose); err != nil {
			t.Fatal(err)
		}
		put(t, st, "a", hosts(3)...)
		p = run(t, st)
		defer p.stop(t)
		settle()
		if d := equalsImport(t, st); d.Version() != 3 {
			t.Fatalf("version %d, expected 3", d.Version())
		}
	})
}

// TestConfigIsChecked holds that what cannot be is refused by name.
func TestConfigIsChecked(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"dataset":     func(c *Config) { c.Dataset = "a/b" },
		"gather":      func(c *Config) { c.Gather = c.Settle - 1 },
		"settle":      func(c *Config) { c.Settle = -1 },
		"session-ttl": func(c *Config) { c.SessionTTL = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, expected one about %s", err, want)
		}
	}
}
