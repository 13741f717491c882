package presenter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

func pin(t *testing.T, st store.Store, version uint64) {
	t.Helper()
	op := store.Op{Path: tree.PinPath("internal"), Delete: version == 0, Value: tree.Encode(tree.Pin{Version: version, Author: "alice", Reason: "mistake"})}
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
		t.Fatal(err)
	}
	settle()
}

// content is the dataset as text, but for freshness.
func content(t *testing.T, st store.Store) string {
	t.Helper()
	var lines []string
	for r := range published(t, st).All() {
		if !snapshot.IsFreshness(r.Key) {
			lines = append(lines, fmt.Sprintf("%s %d %x", r.Key, r.TTL, r.Data))
		}
	}
	return strings.Join(lines, "\n")
}

func fresh(t *testing.T, st store.Store, n int) {
	t.Helper()
	c := record.Claim{RRset: record.NewRRset(name("_fresh.internal.example.net."), record.TypeTXT, 0, record.Rdata(fmt.Sprintf("\x04%04d", n))), Source: "rule/fresh"}
	put(t, st, "stamp", c)
	settle()
}

// TestPin goes back to every version of a history and forward again: the content is what
// it was, also after restarts; robots' claims wait, overrides and freshness pass; on
// release what is claimed by then is published.
func TestPin(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		p := run(t, st)
		defer func() { p.stop(t) }()
		was := map[uint64]string{}
		note := func() {
			h := readHead(t, st)
			was[h.Content] = content(t, st)
		}
		put(t, st, "zone", zone())
		settle()
		note()
		for i := range 6 {
			fresh(t, st, i)
			put(t, st, "a", hosts(1+i%4)...)
			put(t, st, "b", address("www", byte(i)))
			settle()
			note()
		}
		if entries, err := history.List(t.Context(), st, "internal"); err != nil || len(entries) != len(was) {
			t.Fatalf("%d versions in the history, want %d; %v", len(entries), len(was), err)
		}
		now := was[readHead(t, st).Content]
		for _, v := range slices.Sorted(func(yield func(uint64) bool) {
			for v := range was {
				if !yield(v) {
					return
				}
			}
		}) {
			pin(t, st, v)
			if h := readHead(t, st); h.Pinned != v || content(t, st) != was[v] {
				t.Fatalf("pinned at %d: head %+v, published\n%s\nwant\n%s", v, h, content(t, st), was[v])
			}
			put(t, st, "c", address("robot", byte(v)))
			fresh(t, st, 100+int(v))
			if got := published(t, st); content(t, st) != was[v] {
				t.Fatalf("a robot's claim passed the pin")
			} else if r, ok := got.Get(record.Key{Owner: name("_fresh.internal.example.net."), Type: record.TypeTXT}); !ok || r.Data[0] != record.Rdata(fmt.Sprintf("\x04%04d", 100+v)) {
				t.Fatalf("freshness stands still: %v", r)
			}
			o := address("person", 7)
			setOverride(t, st, "o", o, time.Now().Add(time.Hour))
			settle()
			if answer(t, st, o.Key) != o.Data[0] {
				t.Fatal("an override does not pass the pin")
			}
			p.stop(t)
			p = run(t, st)
			time.Sleep(time.Second)
			if answer(t, st, o.Key) != o.Data[0] || p.Status().Pinned == "" {
				t.Fatal("not pinned after a restart")
			}
			put(t, st, "c")
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{
				{Path: tree.OverridePath("o"), Delete: true}, {Path: tree.ClaimsPrefix(tree.OverrideSource("o")) + "0", Delete: true},
			}}); err != nil {
				t.Fatal(err)
			}
			settle()
			if content(t, st) != was[v] {
				t.Fatalf("after the override, pinned at %d:\n%s\nwant\n%s", v, content(t, st), was[v])
			}
		}
		pin(t, st, 0)
		if h := readHead(t, st); h.Pinned != 0 || content(t, st) != now {
			t.Fatalf("released: head %+v\n%s\nwant\n%s", h, content(t, st), now)
		}
		equalsImport(t, st)
		notForked(t, st)
	})
}

// TestPinGone holds that a pin whose content cannot be had leaves what is published, and
// says so, and that its end is no worse.
func TestPinGone(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		p := run(t, st)
		defer p.stop(t)
		settle()
		put(t, st, "a", hosts(3)...)
		settle()
		before := content(t, st)
		pin(t, st, 99999)
		pin(t, st, 0)
		nodes, _, err := st.List(t.Context(), tree.HistoryPrefix("internal"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: n.Path, Delete: true}}}); err != nil {
				t.Fatal(err)
			}
		}
		pin(t, st, 1)
		if s := p.Status(); content(t, st) != before || !strings.Contains(s.Held, "is not kept") {
			t.Fatalf("%+v\n%s", s, content(t, st))
		}
		put(t, st, "a", hosts(5)...)
		settle()
		pin(t, st, 0)
		if s := p.Status(); s.Held != "" || s.Pinned != "" {
			t.Fatalf("%+v", s)
		}
		equalsImport(t, st)
	})
}

// TestHistoryIsBounded holds that the oldest versions go, with their pieces, that how they
// came about is kept, the newest of them, and that what a pin needs stays.
func TestHistoryIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		p := run(t, st, func(c *Config, _ *Deps) { c.History, c.Audit = 3, 100 })
		defer func() { p.stop(t) }()
		settle()
		for i := range 250 {
			www := address("www", byte(i))
			www.Provenance.Author = fmt.Sprint("author ", i)
			put(t, st, "a", www)
			settle()
			if i == 125 {
				p.stop(t)
				p = run(t, st, func(c *Config, _ *Deps) { c.History, c.Audit = 3, 100 })
				settle()
			}
		}
		entries, err := history.List(t.Context(), st, "internal")
		if err != nil || len(entries) < 3 || len(entries) > 3+slack {
			t.Fatalf("%d versions, %v", len(entries), err)
		}
		nodes, _, err := st.List(t.Context(), tree.VersionsPrefix("internal"))
		if err != nil {
			t.Fatal(err)
		}
		var told []tree.History
		for _, n := range nodes {
			var v tree.Versions
			if err := tree.Decode(n, &v); err != nil {
				t.Fatal(err)
			}
			told = append(told, v.Versions...)
		}
		if len(told) < 100-slack || len(told) > 100 {
			t.Errorf("of %d versions it is told how they came about, expected about 100", len(told))
		}
		told = append(told, entries...)
		for i, e := range told {
			if v := told[0].Version + uint64(i); e.Version != v || len(e.Causes) != 1 || e.Causes[0].Author != fmt.Sprint("author ", v-2) || len(e.Keys) != 1 || e.Keys[0] != "www.example.net. A" {
				t.Fatalf("of version %d it is told %+v", v, e)
			}
		}
		pieces, _, err := st.List(t.Context(), "/undo/internal/")
		if err != nil || len(pieces) != len(entries) {
			t.Fatalf("%d pieces of %d versions, %v", len(pieces), len(entries), err)
		}
		v := entries[len(entries)-2].Version
		pin(t, st, v)
		want := content(t, st)
		for i := range 2 * slack {
			setOverride(t, st, "o", address("www", byte(i)), time.Now().Add(time.Hour))
			settle()
		}
		p.stop(t)
		p = run(t, st, func(c *Config, _ *Deps) { c.History, c.Audit = 3, 100 })
		time.Sleep(time.Second)
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ClaimsPrefix(tree.OverrideSource("o")) + "0", Delete: true}}}); err != nil {
			t.Fatal(err)
		}
		settle()
		if content(t, st) != want {
			t.Fatalf("pinned at %d, after overrides and a restart:\n%s\nwant\n%s", v, content(t, st), want)
		}
	})
}
