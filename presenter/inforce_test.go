package presenter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// TestNothingAdmitted holds that a freeze lasts when nothing is admitted at all: that is
// no start from nothing.
func TestNothingAdmitted(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		fresh(t, st, 1)
		p := run(t, st)
		settle()
		put(t, st, "other", address("www", 1)) // goes first, so that claims are left
		do(t, st, store.Op{Path: tree.ClaimsPrefix(ruleSource) + "other", Delete: true}, store.Op{Path: tree.ClaimsPrefix(zoneSource) + "zone", Delete: true})
		settle()
		if got := content(t, st); got != "" {
			t.Fatalf("published:\n%s", got)
		}
		freeze(t, st, "f", "")
		settle()
		p.stop(t)
		p = run(t, st)
		defer func() { p.stop(t) }()
		settle()
		if got := content(t, st); got != "" {
			t.Fatalf("frozen, and after a restart published is\n%s", got)
		}
		do(t, st, store.Op{Path: tree.FreezePath("f"), Delete: true})
		settle()
		equalsImport(t, st)
	})
}

// TestAdmittedWhole interrupts the writing of a change of more shards than one transaction
// takes, at every commit: of a source that is frozen then, all of the change is in force or
// nothing of it.
func TestAdmittedWhole(t *testing.T) {
	for stop := 1; ; stop++ {
		done := false
		bubble(t, func(t *testing.T, st *memstore.Store) {
			put(t, st, "zone", zone())
			many := func(n byte) {
				for odd := range 2 { // a transaction takes no more
					var ops []store.Op
					for i := odd; i < 200; i += 2 {
						ops = append(ops, claimtree.Ops(ruleSource, fmt.Sprintf("s%03d", i), []record.Claim{address(fmt.Sprintf("host%d", i), n)}))
					}
					do(t, st, ops...)
				}
			}
			many(1)
			client := st.Peer()
			f := &faulty{Store: client}
			p := run(t, f)
			settle()
			f.mu.Lock()
			commits := 0
			f.before = func(store.Txn) error {
				if commits++; commits >= stop {
					return store.ErrUnavailable
				}
				return nil
			}
			f.mu.Unlock()
			many(2)
			settle()
			p.stop(t)
			client.Close()
			f.mu.Lock()
			done = commits < stop
			f.mu.Unlock()
			freeze(t, st, "f", "")
			many(3)
			p = run(t, st)
			settle()
			got := content(t, st)
			if n := strings.Count(got, "c0000202"); n != 0 && n != 200 {
				t.Fatalf("interrupted at commit %d, %d of 200 are in force", stop, n)
			}
			p.stop(t)
			p = run(t, st)
			defer func() { p.stop(t) }()
			settle()
			if content(t, st) != got {
				t.Fatalf("interrupted at commit %d, after another restart:\n%s", stop, content(t, st))
			}
			mirrored(t, st)
			do(t, st, store.Op{Path: tree.FreezePath("f"), Delete: true})
			settle()
			equalsImport(t, st)
		})
		if done || t.Failed() {
			break
		}
	}
}

// TestOwnFreshness holds that a source with a record that looks like a sign of freshness
// is frozen, held and kept below a pin like any other, and the sign itself passes.
func TestOwnFreshness(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		file := func(hosts int, stamp string) {
			claims := []record.Claim{zone(), {RRset: record.NewRRset(name("_fresh.mine.example.net."), record.TypeTXT, 300, record.Rdata(stamp)), Source: zoneSource}}
			for i := range hosts {
				c := address(fmt.Sprintf("host%d", i), 1)
				c.Source = zoneSource
				claims = append(claims, c)
			}
			if _, _, err := claimtree.Replace(t.Context(), st, zoneSource, claims); err != nil {
				t.Fatal(err)
			}
		}
		file(50, "\x01a")
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		was := content(t, st)
		stays := func(what string) {
			t.Helper()
			settle()
			if content(t, st) != was {
				t.Fatalf("%s:\n%s", what, content(t, st))
			}
			p.stop(t)
			p = run(t, st, guarded)
			settle()
			if content(t, st) != was {
				t.Fatalf("%s, after a restart:\n%s", what, content(t, st))
			}
		}
		file(1, "\x01b")
		stays("what a guard holds is in force")
		file(50, "\x01a")
		freeze(t, st, "f", "zone/*")
		file(49, "\x01c")
		stays("what is frozen is in force")
		do(t, st, store.Op{Path: tree.FreezePath("f"), Delete: true})
		settle()
		was = content(t, st)
		pin(t, st, readHead(t, st).Version)
		file(48, "\x01d")
		fresh(t, st, 7)
		stays("what a pin keeps out is in force")
		for owner, want := range map[string]record.Rdata{"_fresh.mine.example.net.": "\x01d", "_fresh.internal.example.net.": "\x040007"} {
			if got := answer(t, st, record.Key{Owner: name(owner), Type: record.TypeTXT}); got != want {
				t.Errorf("%s is %q, want %q", owner, got, want)
			}
		}
	})
}

// TestPinWhileUnknown sets a pin, and ends one, while it is not known what became of a
// version: it goes on from what became of it.
func TestPinWhileUnknown(t *testing.T) {
	for _, happened := range []bool{false, true} {
		bubble(t, func(t *testing.T, st *memstore.Store) {
			put(t, st, "zone", zone())
			client := st.Peer()
			f := &faulty{Store: client}
			p := run(t, f)
			defer func() { p.stop(t); client.Close() }()
			settle()
			was := content(t, st)
			at := readHead(t, st).Version
			unknown := func(act func()) {
				f.mu.Lock()
				left := 2
				spoil := func(store.Txn) error {
					if left--; left >= 0 {
						return store.ErrUnavailable
					}
					return nil
				}
				f.before, f.after = spoil, nil
				if happened {
					f.before, f.after = nil, spoil
				}
				f.mu.Unlock()
				act()
			}
			unknown(func() {
				put(t, st, "a", hosts(3)...)
				time.Sleep(20 * time.Millisecond)
				pin(t, st, at)
			})
			if h := readHead(t, st); content(t, st) != was || h.Pinned != at {
				t.Fatalf("pinned at %d while a version was unknown (happened: %v): head %+v\n%s", at, happened, h, content(t, st))
			}
			unknown(func() {
				put(t, st, "b", address("www", 1))
				time.Sleep(20 * time.Millisecond)
				pin(t, st, 0)
			})
			equalsImport(t, st)
			notForked(t, st)
		})
	}
}

// TestHoldWithoutGuards holds that without guards nothing waits for a person but what a
// person keeps out.
func TestHoldWithoutGuards(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		var other []record.Claim
		for i := range 60 {
			c := address(fmt.Sprint("other", i), 1)
			c.Source = "rule/other"
			other = append(other, c)
		}
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		do(t, st, claimtree.Ops("rule/other", "all", other))
		p := run(t, st, guarded)
		settle()
		put(t, st, "all")
		settle()
		decide(t, st, held(t, st), "drop")
		do(t, st, claimtree.Ops("rule/other", "all", nil))
		settle()
		p.stop(t)
		p = run(t, st)
		defer func() { p.stop(t) }()
		settle()
		if h := held(t, st); h.Source != ruleSource || h.Decision != "drop" || published(t, st).Len() != 101 {
			t.Fatalf("%+v, %d RRsets", h, published(t, st).Len())
		}
	})
}

// lagging is a store whose watch of what people say lags behind.
type lagging struct{ store.Store }

func (s lagging) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	in := s.Store.Watch(ctx, prefix, from)
	if prefix == tree.Claims {
		return in
	}
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range in {
			time.Sleep(3 * time.Second)
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// TestHoldsLag holds that a release is for one change once, and that no hold is left of
// what waits no more, when what the store says of holds comes late.
func TestHoldsLag(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, lagging{st}, guarded)
		defer func() { p.stop(t) }()
		settle()
		put(t, st, "all", hosts(10)...)
		time.Sleep(100 * time.Millisecond)
		put(t, st, "all", hosts(100)...)
		settle()
		if nodes, _, _ := st.List(t.Context(), tree.Holds); len(nodes) != 0 {
			t.Fatalf("%s is held, and nothing waits", nodes[0].Value)
		}
		put(t, st, "all", hosts(10)...)
		settle()
		h := held(t, st)
		h.Decision = "release"
		do(t, st, store.Op{Path: tree.HoldPath(h.ID), Value: tree.Encode(h)})
		time.Sleep(3*time.Second + 100*time.Millisecond)
		put(t, st, "all", hosts(100)...)
		time.Sleep(100 * time.Millisecond)
		if n := published(t, st).Len(); n != 101 {
			t.Fatalf("%d RRsets", n)
		}
		put(t, st, "all", hosts(10)...) // the same change again, which nobody let through
		settle()
		if n := published(t, st).Len(); n != 101 {
			t.Fatalf("%d RRsets: released twice", n)
		}
		held(t, st)
	})
}

// TestHistoryNamesWhoChanged holds that a version names the sources whose change it has:
// not those that wait, and those that waited when their change comes.
func TestHistoryNamesWhoChanged(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		other := address("other", 1)
		other.Source = "update/other"
		sources := func() []record.Source {
			t.Helper()
			settle()
			all, err := history.List(t.Context(), st, "internal")
			if err != nil {
				t.Fatal(err)
			}
			var named []record.Source
			for _, c := range all[len(all)-1].Causes {
				named = append(named, c.Source)
			}
			return named
		}
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		if got := sources(); !slices.Equal(got, []record.Source{ruleSource, zoneSource}) {
			t.Fatalf("the first version is of %s", got)
		}
		freeze(t, st, "f", "zone/*")
		put(t, st, "zone", zone(), address("www", 1))
		put(t, st, "all", hosts(10)...)
		put(t, st, "o", other)
		if got := sources(); !slices.Equal(got, []record.Source{other.Source}) {
			t.Fatalf("a version of %s is said to be of %s", other.Source, got)
		}
		decide(t, st, held(t, st), "release")
		if got := sources(); !slices.Equal(got, []record.Source{ruleSource}) {
			t.Fatalf("a version of %s is said to be of %s", ruleSource, got)
		}
		p.stop(t)
		p = run(t, st, guarded)
		do(t, st, store.Op{Path: tree.FreezePath("f"), Delete: true})
		if got := sources(); !slices.Equal(got, []record.Source{zoneSource}) {
			t.Fatalf("a version of %s is said to be of %s", zoneSource, got)
		}
		setOverride(t, st, "o1", address("www", 9), time.Now().Add(time.Hour))
		if got := sources(); !slices.Equal(got, []record.Source{"override/o1"}) {
			t.Fatalf("a version of an override is said to be of %s", got)
		}
	})
}

// TestPinBelowOverrides goes back to versions that had overrides: what lay below them comes
// back, not they, whether they have ended or not, and those of now stay above; also after
// a restart, and when the version is the oldest that is kept.
func TestPinBelowOverrides(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		one := func(c *Config, _ *Deps) { c.History = 1 }
		p := run(t, st, one)
		defer func() { p.stop(t) }()
		alias := record.Claim{RRset: record.NewRRset(name("b.example.net."), record.TypeCNAME, 60, record.Rdata(name("a.example.net."))), Source: ruleSource}
		put(t, st, "zone", zone())
		put(t, st, "a", address("a", 1), address("b", 1), address("b", 1))
		settle()
		setOverride(t, st, "o1", address("a", 9), time.Now().Add(time.Hour))
		setOverride(t, st, "o2", alias, time.Now().Add(time.Hour))
		setOverride(t, st, "o3", address("c", 9), time.Now().Add(time.Hour))
		put(t, st, "a", address("a", 2), address("b", 2), address("d", 2)) // of which only d is to be seen
		settle()
		v := readHead(t, st).Version
		gone := func(id string) {
			do(t, st, store.Op{Path: tree.OverridePath(id), Delete: true}, claimtree.Ops(tree.OverrideSource(id), "0", nil))
			settle()
		}
		gone("o1")
		gone("o2")
		put(t, st, "a", address("a", 3), address("b", 3))
		settle()
		is := func(step string, a, b, c, d byte) {
			t.Helper()
			for i, want := range []byte{a, b, c, d} {
				k := address(string(rune('a'+i)), 0).Key
				rdata := record.Rdata("")
				if want > 0 {
					rdata = record.Rdata([]byte{192, 0, 2, want})
				}
				if got := answer(t, st, k); got != rdata {
					t.Errorf("%s: %s is %x, want %d", step, k, got, want)
				}
			}
			if got := answer(t, st, alias.Key); got != "" {
				t.Errorf("%s: %s is there", step, alias.Key)
			}
		}
		is("before", 3, 3, 9, 0)
		pin(t, st, v)
		is("pinned", 2, 2, 9, 2)
		setOverride(t, st, "o4", address("a", 8), time.Now().Add(time.Hour))
		settle()
		p.stop(t)
		p = run(t, st, one)
		settle()
		is("under another override", 8, 2, 9, 2)
		gone("o3")
		is("after an override that was there then", 8, 2, 0, 2)
		again := readHead(t, st).Version
		for i := range 40 { // so that versions go that are not needed for the way back
			setOverride(t, st, "o5", address("e", byte(i)), time.Now().Add(time.Hour))
			settle()
		}
		gone("o5")
		p.stop(t)
		p = run(t, st, one)
		settle()
		is("after many versions", 8, 2, 0, 2)
		gone("o4")
		is("without overrides", 2, 2, 0, 2)
		pin(t, st, again)
		is("pinned at a version that was pinned", 2, 2, 0, 2)
		pin(t, st, 0)
		is("released", 3, 3, 0, 0)
	})
}

// TestTakeoverLags has a presenter take over that has not heard yet what people said: what
// was pinned stays pinned, what was frozen frozen, and a decision is not lost.
func TestTakeoverLags(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, st, guarded)
		settle()
		was, at := content(t, st), readHead(t, st).Version
		q := run(t, lagging{st.Peer()}, guarded)
		settle()
		over := func() {
			p.stop(t)
			p, q = q, nil
			time.Sleep(time.Second)
			p.stop(t)
			p = run(t, st, guarded)
			settle()
			q = run(t, lagging{st.Peer()}, guarded)
			settle()
		}
		defer func() { p.stop(t); q.stop(t) }()

		put(t, st, "all", hosts(99)...)
		settle()
		do(t, st, store.Op{Path: tree.PinPath("internal"), Value: tree.Encode(tree.Pin{Version: at, Author: "alice", Reason: "mistake"})})
		time.Sleep(time.Second)
		pinned := readHead(t, st).Version
		over()
		if content(t, st) != was || readHead(t, st).Version != pinned {
			t.Fatalf("pinned at %d with version %d, and after another took over there is version %d:\n%s", at, pinned, readHead(t, st).Version, content(t, st))
		}
		do(t, st, store.Op{Path: tree.PinPath("internal"), Delete: true})
		time.Sleep(time.Second)
		released := readHead(t, st).Version
		over()
		if readHead(t, st).Version != released {
			t.Fatalf("released with version %d, and after another took over there is version %d", released, readHead(t, st).Version)
		}

		freeze(t, st, "f", "rule/*")
		time.Sleep(time.Second)
		put(t, st, "all", hosts(98)...)
		over()
		if got := published(t, st).Len(); got != 100 {
			t.Fatalf("frozen, and after another took over there are %d RRsets", got)
		}
		do(t, st, store.Op{Path: tree.FreezePath("f"), Delete: true})
		settle()

		put(t, st, "all", hosts(10)...)
		time.Sleep(time.Second)
		h := held(t, st)
		h.Decision = "drop"
		do(t, st, store.Op{Path: tree.HoldPath(h.ID), Value: tree.Encode(h)})
		over()
		if again := held(t, st); again.Decision != "drop" || again.Since != h.Since {
			t.Fatalf("decided as %+v, and after another took over it is %+v", h, again)
		}
	})
}

// barred is a store whose user does not stand for election until it may.
type barred struct {
	store.Store
	may chan struct{}
}

func (b barred) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	select {
	case <-b.may:
	case <-ctx.Done():
	}
	return b.Store.Session(ctx, ttl)
}

// TestTakeoverAfterYounger has a presenter take over from one that started later, and so
// has read the claims at a later revision, when no claim came in between: it goes on.
func TestTakeoverAfterYounger(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		older := barred{st.Peer(), make(chan struct{})}
		p := run(t, older)
		defer func() { p.stop(t) }()
		settle()
		do(t, st, store.Op{Path: tree.SourcePath(ruleSource), Value: []byte("{}")}) // the store goes on, and no claim comes
		younger := run(t, st.Peer())
		settle()
		at := readHead(t, st).Version
		younger.stop(t)
		close(older.may)
		settle()
		pin(t, st, at)
		if s := p.Status(); !s.Leading || s.Held != "" || readHead(t, st).Pinned != at {
			t.Fatalf("status is %q, head %+v", s, readHead(t, st))
		}
		put(t, st, "a", hosts(3)...)
		pin(t, st, 0)
		equalsImport(t, st)
		notForked(t, st)
	})
}

// hostless is a store that does not say what hosts answer while it is told so.
type hostless struct {
	store.Store
	now *atomic.Bool
}

func (h hostless) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if prefix == tree.Hosts && h.now.Load() {
		return nil, 0, store.ErrUnavailable
	}
	return h.Store.List(ctx, prefix)
}

// TestHoldComesAgain lets a held change go and come again while no version can be made: it
// is held, and people see it.
func TestHoldComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		h := hostless{st, new(atomic.Bool)}
		p := run(t, h, guarded)
		defer p.stop(t)
		settle()
		put(t, st, "all", hosts(10)...)
		settle()
		id := held(t, st).ID
		h.now.Store(true)
		put(t, st, "all", hosts(100)...)
		time.Sleep(time.Second)
		put(t, st, "all", hosts(10)...)
		time.Sleep(time.Second)
		h.now.Store(false)
		settle()
		if got := held(t, st); got.ID != id {
			t.Fatalf("held as %+v, was %s", got, id)
		}
	})
}

// TestHistoryNamesWhoCame holds that an override that comes while it is not known what
// became of a version is named by the one that has it.
func TestHistoryNamesWhoCame(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		fresh(t, st, 1)
		client := st.Peer()
		f := &faulty{Store: client}
		p := run(t, f)
		defer func() { p.stop(t); client.Close() }()
		settle()
		f.mu.Lock()
		left := 1
		f.after = func(store.Txn) error {
			if left--; left >= 0 {
				return store.ErrUnavailable
			}
			return nil
		}
		f.mu.Unlock()
		c := record.Claim{RRset: record.NewRRset(name("_fresh.internal.example.net."), record.TypeTXT, 0, record.Rdata("\x042222")), Source: "rule/fresh"}
		put(t, st, "stamp", c)
		time.Sleep(20 * time.Millisecond)
		setOverride(t, st, "o1", address("www", 9), time.Now().Add(time.Hour))
		settle()
		all, err := history.List(t.Context(), st, "internal")
		if err != nil || len(all[len(all)-1].Causes) != 1 || all[len(all)-1].Causes[0].Source != "override/o1" {
			t.Fatalf("%+v, %v", all, err)
		}
	})
}

// TestUnreadableStays damages claims in the store: the last good ones stay in force, through
// restarts, until they are mended or taken away.
func TestUnreadableStays(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		file := func(hosts int) []record.Claim {
			claims := []record.Claim{zone()}
			for i := range hosts {
				c := address(fmt.Sprint("file", i), 1)
				c.Source = zoneSource
				claims = append(claims, c)
			}
			return claims
		}
		replace := func(s record.Source, claims []record.Claim) {
			t.Helper()
			if _, _, err := claimtree.Replace(t.Context(), st, s, claims); err != nil {
				t.Fatal(err)
			}
		}
		other := zone()
		other.Owner, other.Source = name("example.org."), "zone/example.org"
		replace(zoneSource, file(5))
		replace(other.Source, []record.Claim{other})
		put(t, st, "a", hosts(3)...)
		put(t, st, "b", address("www", 1))
		p := run(t, st)
		defer func() { p.stop(t) }()
		settle()
		was := content(t, st)
		again := func(step string) {
			t.Helper()
			for range 2 {
				settle()
				if got := content(t, st); got != was {
					t.Fatalf("%s:\n%s\nwant\n%s", step, got, was)
				}
				p.stop(t)
				p = run(t, st)
			}
		}
		damage := func(path string) {
			do(t, st, store.Op{Path: path, Value: []byte("damaged")})
		}
		damage(claimtree.Path(ruleSource, "a"))
		again("a shard is damaged")
		damage(tree.ClaimsPrefix(zoneSource) + "@head")
		again("a head is damaged")
		nodes, _, err := st.List(t.Context(), tree.ClaimsPrefix(other.Source))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if !strings.HasSuffix(n.Path, "@head") {
				do(t, st, store.Op{Path: n.Path, Delete: true})
			}
		}
		again("a shard of a head is gone")
		put(t, st, "b")
		settle()
		was = content(t, st)
		again("another change")
		put(t, st, "a", hosts(2)...)
		replace(other.Source, []record.Claim{other})
		settle()
		replace(zoneSource, file(4))
		settle()
		damage(claimtree.Path(ruleSource, "a"))
		p.stop(t)
		p = run(t, st)
		settle()
		if published(t, st).Len() != 8 {
			t.Fatalf("mended:\n%s", content(t, st))
		}
		put(t, st, "a") // what is damaged is taken away
		settle()
		if published(t, st).Len() != 6 {
			t.Fatalf("taken away:\n%s", content(t, st))
		}
		notForked(t, st)
	})
}

// TestHeldAndAway holds that what came while a version was held is tried again when it did
// not work at first.
func TestHeldAndAway(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		h := hostless{st, new(atomic.Bool)}
		p := run(t, h)
		defer p.stop(t)
		settle()
		if s := p.Status(); !strings.Contains(s.Held, "no claims yet") {
			t.Fatalf("status is %q", s)
		}
		h.now.Store(true)
		put(t, st, "zone", zone())
		time.Sleep(time.Second)
		h.now.Store(false)
		settle()
		if s := p.Status(); s.Held != "" || s.Problem != "" || s.Version != 1 {
			t.Fatalf("status is %q", s)
		}
	})
}
