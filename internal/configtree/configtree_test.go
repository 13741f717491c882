package configtree

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// dying is a store whose client dies at a commit: that one happens or not.
type dying struct {
	store.Store
	left    int // commits before the last
	happens bool
	commits int
}

var errDied = errors.New("died")

func (d *dying) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	d.commits++
	if d.left--; d.left >= 0 {
		return d.Store.Commit(ctx, t)
	}
	if d.left == -1 && d.happens {
		if _, err := d.Store.Commit(ctx, t); err != nil {
			return 0, err
		}
	}
	return 0, errDied
}

// value is JSON of about size octets.
func value(text string, size int) []byte {
	b, err := json.Marshal(text + strings.Repeat("x", max(0, size-len(text))))
	if err != nil {
		panic(err)
	}
	return b
}

// read is what a reader of everything sees in a fold.
func read(t testing.TB, st store.Store, f *Fold) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range f.Paths() {
		v, err := f.Get(path).Fetch(context.Background(), st)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[path] = string(v)
	}
	return all
}

func open(t testing.TB, st store.Store) *Writer {
	t.Helper()
	w, err := Open(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func fold(t testing.TB, st store.Store) *Fold {
	t.Helper()
	nodes, rev, err := st.List(context.Background(), tree.Config)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFold(nil)
	f.Apply(store.Batch{Revision: rev, Reset: true, Puts: nodes})
	if err := f.Unread(); err != nil {
		t.Fatal(err)
	}
	return f
}

func nodes(t testing.TB, st store.Store, prefix string) (paths []string) {
	t.Helper()
	all, _, err := st.List(context.Background(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		paths = append(paths, n.Path)
	}
	return paths
}

// only holds that nothing lies in the store but what is in force and its parts.
func only(t testing.TB, st store.Store) {
	t.Helper()
	f := fold(t, st)
	var want []string
	if head, _ := f.Head(); head.Version != 0 {
		want = append(want, tree.ConfigHeadPath)
	}
	seen := map[string]bool{}
	var large []string
	for _, path := range f.Paths() {
		want = append(want, tree.ConfigPath(path))
		if e := f.Get(path); e.large() && !seen[e.SHA256] {
			seen[e.SHA256] = true
			for i := range parts(e.Size) {
				large = append(large, tree.ConfigPartPath(e.SHA256, i))
			}
		}
	}
	slices.Sort(large)
	if diff := cmp.Diff(append(want, large...), nodes(t, st, "/")); diff != "" {
		t.Fatalf("nodes (-want +got):\n%s", diff)
	}
}

// TestLanding lands small, large and many configurations, and sees nothing left over.
func TestLanding(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	w := open(t, st)
	if got := w.Head(); got != (tree.ConfigHead{}) {
		t.Fatalf("head of an empty store is %+v", got)
	}
	at := time.UnixMilli(1_790_000_000_000)
	land := func(l Landing) tree.ConfigHead {
		t.Helper()
		l.Time = at
		h, err := w.Land(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		only(t, st)
		return h
	}
	small := Config{Path: "app/limits", Type: "app.Limits", Revision: "r1", Sources: []string{"app/limits.star"}, Value: []byte(`{"most": 7}`)}
	h := land(Landing{Revision: "r1", Put: []Config{small}})
	if want := (tree.ConfigHead{Version: 1_790_000_000_000, Revision: "r1", Time: 1_790_000_000_000}); h != want {
		t.Errorf("head is %+v, want %+v", h, want)
	}
	e := fold(t, st).Get("app/limits")
	if string(e.Value) != `{"most": 7}` || e.Type != "app.Limits" || e.Revision != "r1" || e.Version != h.Version || e.Sources[0] != "app/limits.star" {
		t.Errorf("entry is %+v", e)
	}

	// The same again changes nothing, and a revision that changes nothing keeps the version.
	rev := func() store.Revision { _, r, _ := st.List(t.Context(), "/"); return r }
	before := rev()
	if again := land(Landing{Revision: "r1", Put: []Config{small}}); again != h || rev() != before {
		t.Errorf("the same landing again: %+v at revision %d, want %+v at %d", again, rev(), h, before)
	}
	small.Revision = "r2"
	if h2 := land(Landing{Revision: "r2", Put: []Config{small}}); h2.Version != h.Version || h2.Revision != "r2" {
		t.Errorf("head is %+v", h2)
	}
	if e := fold(t, st).Get("app/limits"); e.Revision != "r1" {
		t.Errorf("a value that is as it was is said to be of %s", e.Revision)
	}

	// A value of the greatest size, at two paths, then at one, then gone.
	huge := value("huge", MaxValue-2)
	h3 := land(Landing{Revision: "r3", Put: []Config{{Path: "a", Value: huge}, {Path: "b", Value: huge}}})
	if h3.Version <= h.Version {
		t.Errorf("version %d after %d", h3.Version, h.Version)
	}
	if got := read(t, st, fold(t, st))["b"]; got != string(huge) {
		t.Errorf("value of %d octets came back with %d", len(huge), len(got))
	}
	land(Landing{Revision: "r4", Delete: []string{"a", "never"}})
	land(Landing{Revision: "r5", Put: []Config{{Path: "b", Value: value("other", 5000)}}})

	// More than a transaction takes, at once.
	var many []Config
	for i := range 1000 {
		many = append(many, Config{Path: fmt.Sprintf("many/%d", i), Value: value(fmt.Sprint(i), 100+i%9*1000)})
	}
	land(Landing{Revision: "r6", Put: many, All: true})
	if got := len(fold(t, st).Paths()); got != 1000 {
		t.Errorf("%d configurations, want 1000", got)
	}
	land(Landing{Revision: "r7", All: true})
	if got := nodes(t, st, "/"); len(got) != 1 {
		t.Errorf("nothing is in force, and the store has %q", got)
	}
}

// TestLandingsInterrupted lets writers die at random commits. Whatever a reader gets to see
// is a landing that was made whole, and they come in order; the next Writer leaves nothing
// over.
func TestLandingsInterrupted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := memstore.New()
		defer st.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		watch := st.Watch(ctx, tree.Config, 0)
		reader := NewFold(nil)
		states := map[string]int{"": 0} // by what is in force
		var last int
		model := map[string]string{}
		versions := func(f *Fold) string {
			var b strings.Builder
			for _, p := range f.Paths() {
				fmt.Fprintf(&b, "%s %s\n", p, f.Get(p).SHA256)
			}
			return b.String()
		}
		modelText := func(m map[string]string) string {
			var b strings.Builder
			for _, p := range slices.Sorted(maps.Keys(m)) {
				c := Config{Path: p, Value: []byte(m[p])}
				fmt.Fprintf(&b, "%s %s\n", p, c.entry(1).SHA256)
			}
			return b.String()
		}
		// drain folds what the watch has, and holds each state against the landings.
		drain := func(until store.Revision) {
			for {
				b := <-watch
				reader.Apply(b)
				if err := reader.Unread(); err != nil {
					rt.Fatalf("unread: %v", err)
				}
				n, ok := states[versions(reader)]
				if !ok || n < last {
					rt.Fatalf("after landing %d the reader sees, as %d (%v):\n%s", last, n, ok, versions(reader))
				}
				last = n
				if b.Revision >= until {
					return
				}
			}
		}
		now := time.UnixMilli(1000)
		steps := rapid.IntRange(1, 12).Draw(rt, "steps")
		for step := 1; step <= steps; step++ {
			next := maps.Clone(model)
			l := Landing{Revision: fmt.Sprint(step), Time: now}
			count := rapid.SampledFrom([]int{1, 3, 300}).Draw(rt, "count")
			for i := range count {
				path := fmt.Sprintf("p/%d", rapid.IntRange(0, 400).Draw(rt, "path"))
				if slices.ContainsFunc(l.Put, func(c Config) bool { return c.Path == path }) || slices.Contains(l.Delete, path) {
					continue
				}
				if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
					l.Delete = append(l.Delete, path)
					delete(next, path)
					continue
				}
				size := 20
				if i < 3 {
					size = rapid.SampledFrom([]int{20, 4000, 5000, 150_000}).Draw(rt, "size")
				}
				v := value(fmt.Sprintf("%d %s", step, path), size)
				l.Put = append(l.Put, Config{Path: path, Value: v})
				next[path] = string(v)
			}
			if _, ok := states[modelText(next)]; ok {
				continue // states must tell landings apart
			}
			states[modelText(next)] = step
			d := &dying{Store: st, left: rapid.IntRange(0, 30).Draw(rt, "commits"), happens: rapid.Bool().Draw(rt, "happens")}
			w, err := Open(ctx, d)
			if err == nil {
				_, err = w.Land(ctx, l)
			}
			if err != nil && !errors.Is(err, errDied) {
				rt.Fatal(err)
			}
			w, err = Open(ctx, st)
			if err != nil {
				rt.Fatal(err)
			}
			// What became of it is the landing or nothing.
			got := map[string]string{}
			f := NewFold(nil)
			all, rev, err := st.List(ctx, "/")
			if err != nil {
				rt.Fatal(err)
			}
			f.Apply(store.Batch{Reset: true, Revision: rev, Puts: slices.DeleteFunc(slices.Clone(all), func(n store.Node) bool { return !strings.HasPrefix(n.Path, tree.Config) })})
			for _, p := range f.Paths() {
				v, err := f.Get(p).Fetch(ctx, st)
				if err != nil {
					rt.Fatalf("%s: %v", p, err)
				}
				got[p] = string(v)
			}
			switch {
			case maps.Equal(got, next):
				model = next
			case !maps.Equal(got, model):
				rt.Fatalf("neither the landing nor what was before it")
			}
			if h, _ := f.Head(); h != w.Head() || h.Staged != 0 {
				rt.Fatalf("head is %+v, the writer says %+v", h, w.Head())
			}
			for _, n := range all {
				if strings.HasPrefix(n.Path, tree.ConfigMarks) || strings.HasPrefix(n.Path, tree.ConfigStagedPrefix) {
					rt.Fatalf("%s is left over", n.Path)
				}
			}
			large := 0
			seen := map[string]bool{}
			for _, p := range f.Paths() {
				if e := f.Get(p); e.large() && !seen[e.SHA256] {
					seen[e.SHA256] = true
					large += parts(e.Size)
				}
			}
			if got := len(slices.DeleteFunc(all, func(n store.Node) bool { return !strings.HasPrefix(n.Path, "/configparts/") })); got != large {
				rt.Fatalf("%d parts are in the store, %d belong to something", got, large)
			}
			if rapid.Bool().Draw(rt, "read") && len(all) > 0 {
				// The revision of the tree's last change; the watch ends up there.
				newest := store.Revision(0)
				for _, n := range all {
					if strings.HasPrefix(n.Path, tree.Config) {
						newest = max(newest, n.Modified)
					}
				}
				if newest > 0 && last < states[modelText(model)] {
					drain(newest)
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(-5, 5).Draw(rt, "clock")) * time.Second)
		}
	})
}

// TestSecondWriter holds that of two writers without a fence the one that comes later is
// refused, and changes nothing.
func TestSecondWriter(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	a, b := open(t, st), open(t, st)
	if _, err := a.Land(t.Context(), Landing{Put: []Config{{Path: "x", Value: []byte(`1`)}}}); err != nil {
		t.Fatal(err)
	}
	var many []Config
	for i := range 300 {
		many = append(many, Config{Path: fmt.Sprintf("many/%d", i), Value: value("", 6000)})
	}
	for _, put := range [][]Config{{{Path: "x", Value: []byte(`2`)}}, many} {
		if _, err := b.Land(t.Context(), Landing{Put: put}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("error %v, want %v", err, store.ErrConflict)
		}
		b = open(t, st)
		if _, err := a.Land(t.Context(), Landing{Revision: fmt.Sprint(len(put)), Put: []Config{{Path: "y", Value: []byte(`1`)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, st, fold(t, st)); len(got) != 2 || got["x"] != "1" {
		t.Errorf("got %v", got)
	}
}

// TestRoom adds to the transaction that makes a landing visible.
func TestRoom(t *testing.T) {
	for _, count := range []int{1, 110, 119, 500} {
		st := memstore.New()
		w := open(t, st)
		var put []Config
		for i := range count {
			put = append(put, Config{Path: fmt.Sprintf("c/%d", i), Value: []byte(`null`)})
		}
		p, err := w.Prepare(t.Context(), Landing{Put: put}, Room{Ops: 10, Bytes: 500})
		if err != nil {
			t.Fatal(err)
		}
		if got := fold(t, st).Paths(); len(got) != 0 {
			t.Errorf("%d are visible before the transaction", len(got))
		}
		for i := range 10 {
			p.Txn.Do = append(p.Txn.Do, store.Op{Path: fmt.Sprintf("/other/%d", i)})
		}
		rev, err := st.Commit(t.Context(), p.Txn)
		if err != nil {
			t.Fatal(err)
		}
		if got := fold(t, st).Paths(); len(got) != count {
			t.Errorf("%d are visible after the transaction, want %d", len(got), count)
		}
		if err := w.Finish(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		if got := nodes(t, st, tree.Config); len(got) != count+1 {
			t.Errorf("%d nodes, want %d and the head", len(got), count)
		}
		st.Close()
	}
}

// TestDamage holds that what cannot be read leaves the last good in force, is told, and is
// mended by the next landing of everything.
func TestDamage(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	w := open(t, st)
	var put []Config
	for i := range 200 {
		put = append(put, Config{Path: fmt.Sprintf("c/%d", i), Value: value("1", 3000)})
	}
	if _, err := w.Land(t.Context(), Landing{Put: put}); err != nil {
		t.Fatal(err)
	}
	f := fold(t, st)
	node := func(path, value string) store.Batch {
		return store.Batch{Puts: []store.Node{{Path: path, Value: []byte(value), Modified: 1000}}}
	}
	for _, b := range []store.Batch{
		node("/config/c/1", "{}"), node("/config/c/2", `{"version":5,"size":1,"sha256":"00"}`+"\n1"), node("/config/c d", ""),
		node(tree.ConfigHeadPath, `{"version":9000000000000,"staged":2}`), node(tree.ConfigHeadPath, `{"version":-1}`),
		node("/config/@future", "?"), node(tree.ConfigStagedPath(9_000_000_000_000, 0), "\x00\x01"),
	} {
		before := len(f.Paths())
		if changed := f.Apply(b); changed != nil || len(f.Paths()) != before {
			t.Errorf("%s: changed %q", b.Puts[0].Path, changed)
		}
		if err := f.Unread(); err == nil && !strings.Contains(b.Puts[0].Path, "@future") {
			t.Errorf("%s: nothing is said", b.Puts[0].Path)
		}
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: strings.ReplaceAll(b.Puts[0].Path, " ", "~"), Value: b.Puts[0].Value}}}); err != nil {
			t.Fatal(err)
		}
	}
	w = open(t, st)
	for i := range put {
		put[i].Value = value("2", 3000)
	}
	if _, err := w.Land(t.Context(), Landing{Revision: "r", Put: put[:150], All: true}); err != nil {
		t.Fatal(err)
	}
	all, rev, err := st.List(t.Context(), tree.Config)
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(store.Batch{Reset: true, Revision: rev, Puts: all})
	if err := f.Unread(); err != nil {
		t.Error(err)
	}
	if got := read(t, st, f); len(got) != 150 || got["c/2"] != string(put[2].Value) {
		t.Errorf("%d configurations, c/2 begins with %.10s", len(got), got["c/2"])
	}
}

// TestFetchRefuses what is not the value that the entry speaks of.
func TestFetchRefuses(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	w := open(t, st)
	if _, err := w.Land(t.Context(), Landing{Put: []Config{{Path: "a", Value: value("a", 200_000)}}}); err != nil {
		t.Fatal(err)
	}
	e := fold(t, st).Get("a")
	part := tree.ConfigPartPath(e.SHA256, 1)
	good, err := st.Get(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string]store.Op{
		"short": {Path: part, Value: good.Value[1:]}, "other": {Path: part, Value: bytes.Repeat([]byte{'y'}, len(good.Value))},
		"gone": {Path: part, Delete: true},
	} {
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
			t.Fatal(err)
		}
		want := ErrBad
		if op.Delete {
			want = store.ErrNotFound
		}
		if _, err := e.Fetch(t.Context(), st); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
	}
}

func TestPaths(t *testing.T) {
	for path, good := range map[string]bool{
		"a": true, "app/limits": true, "Az09._+=:,-/x": true, strings.Repeat("a/", 200) + "a": true,
		"": false, "/a": false, "a/": false, "a//b": false, "a/../b": false, ".": false, "@head": false, "a b": false, "a%2f": false, "ä": false,
		strings.Repeat("a/", 256) + "a": false, strings.Repeat("a", 256): false,
	} {
		if err := CheckPath(path); (err == nil) != good {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// TestManySources are cut to what a node takes, and counted.
func TestManySources(t *testing.T) {
	c := Config{Path: "a", Value: []byte(`1`)}
	for i := range 5000 {
		c.Sources = append(c.Sources, fmt.Sprintf("some/long/directory/file%d.star", i))
	}
	e := c.entry(1)
	got, err := decodeEntry(e.encode())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Sources) < 100 || len(got.Sources)+got.More != 5000 {
		t.Errorf("%d sources and %d more, want 5000 in all", len(got.Sources), got.More)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(Config{Path: "a", Type: "t.T", Value: []byte(`{"a":1}`)}.entry(7).encode())
	f.Add(Config{Path: "a", Value: value("", 5000)}.entry(7).encode())
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		again, err := decodeEntry(e.encode())
		if err != nil || !again.same(e) || !bytes.Equal(again.Value, e.Value) {
			t.Errorf("%+v came back as %+v, %v", e, again, err)
		}
	})
}

func FuzzChunk(f *testing.F) {
	seed, err := chunks([]change{{"a", Config{Path: "a", Value: []byte(`1`)}.entry(3)}, {"b", nil}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := decodeChunk(b, "")
		if err != nil {
			return
		}
		var decoded []change
		last := ""
		if len(all) > 0 {
			again, err := chunks(all)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range again {
				part, err := decodeChunk(c, last)
				if err != nil {
					t.Fatal(err)
				}
				decoded = append(decoded, part...)
				last = part[len(part)-1].path
			}
		}
		if len(decoded) != len(all) {
			t.Errorf("%d changes came back as %d", len(all), len(decoded))
		}
	})
}

// FuzzFold gives a fold any two nodes.
func FuzzFold(f *testing.F) {
	f.Add(tree.ConfigHeadPath, []byte(`{"version":7,"staged":1}`), tree.ConfigStagedPath(7, 0), []byte("\x00\x01a\x00\x00\x00\x00"))
	f.Add(tree.ConfigPath("a"), Config{Path: "a", Value: []byte(`1`)}.entry(3).encode(), tree.ConfigHeadPath, []byte(`{"version":3}`))
	f.Fuzz(func(t *testing.T, p1 string, v1 []byte, p2 string, v2 []byte) {
		fold := NewFold(nil)
		one, two := store.Node{Path: p1, Value: v1, Modified: 1}, store.Node{Path: p2, Value: v2, Modified: 2}
		fold.Apply(store.Batch{Reset: true, Puts: []store.Node{one}})
		fold.Apply(store.Batch{Puts: []store.Node{two}})
		apart := fold.Paths()
		blocked := fold.blocking != nil
		whole := NewFold(nil)
		whole.Apply(store.Batch{Reset: true, Puts: []store.Node{one, two}})
		if p1 != p2 && !blocked && whole.blocking == nil && !slices.Equal(apart, whole.Paths()) {
			t.Errorf("one after the other %q, at once %q", apart, whole.Paths())
		}
	})
}
