package claimtree_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

const source = record.Source("zone/example.net")

// base is made once: names and noise that does not compress, so that small tests
// have many shards.
var base = sync.OnceValue(func() []record.Claim {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]record.Claim, large)
	for i := range out {
		noise := make([]byte, 41)
		for k := range noise {
			noise[k] = byte(r.Uint32())
		}
		noise[0] = 40
		owner := record.Name(fmt.Sprintf("\x0ahost%06d\x07example\x03net\x00", i))
		out[i] = record.Claim{
			RRset: record.NewRRset(owner, record.TypeTXT, 300, record.Rdata(noise)), Source: source,
			Place:      fmt.Sprintf("example.net:%d", i),
			Provenance: record.Provenance{Time: time.UnixMilli(1700000000000).UTC(), Revision: "r1"},
		}
	}
	return out
})

// claims gives n claims, of which each fourth says the generation in its RDATA.
func claims(t testing.TB, n int, generation byte) []record.Claim {
	t.Helper()
	out := slices.Clone(base()[:n])
	for i := 0; i < n; i += 4 {
		d := []byte(out[i].Data[0])
		d[1] = generation
		out[i].Data = []record.Rdata{record.Rdata(d)}
	}
	return out
}

// observed folds everything the store says and keeps the state.
type observed struct {
	fold   *claimtree.Fold
	shards map[string][]record.Claim
	states []string // distinct, in the order seen
}

func newObserved() *observed {
	return &observed{fold: claimtree.NewFold(), shards: map[string][]record.Claim{}}
}

func (o *observed) apply(t testing.TB, b store.Batch) {
	t.Helper()
	changes, err := o.fold.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		key := string(c.Source) + " " + c.Shard
		if c.Claims == nil {
			delete(o.shards, key)
		} else {
			o.shards[key] = c.Claims
		}
	}
	if s := o.state(); len(o.states) == 0 || o.states[len(o.states)-1] != s {
		o.states = append(o.states, s)
	}
}

// state says how many claims there are and of which generations.
func (o *observed) state() string {
	n := 0
	gens := map[byte]int{}
	for _, claims := range o.shards {
		for _, c := range claims {
			n++
			if i, _ := strconv.Atoi(c.Place[len("example.net:"):]); i%4 == 0 {
				gens[c.Data[0][1]]++
			}
		}
	}
	return fmt.Sprint(n, gens)
}

// watch folds batches until done says so.
func (o *observed) watch(t testing.TB, ch <-chan store.Batch, done func(store.Batch) bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case b := <-ch:
			o.apply(t, b)
			if done(b) {
				return
			}
		case <-timeout:
			t.Fatal("the watch did not come to the end in 20s")
		}
	}
}

// failing breaks after some commits: the last one happens or not, and the caller
// is told that nobody knows.
type failing struct {
	store.Store
	left   int
	happen bool
}

func (f *failing) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if f.left--; f.left > 0 {
		return f.Store.Commit(ctx, txn)
	}
	if f.left == 0 && f.happen {
		if _, err := f.Store.Commit(ctx, txn); err != nil {
			return 0, err
		}
	}
	return 0, store.ErrUnavailable
}

func load(t testing.TB, st store.Store) []record.Claim {
	t.Helper()
	got, err := claimtree.Load(t.Context(), st, source)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(a, b []record.Claim) bool {
	return slices.EqualFunc(a, b, func(a, b record.Claim) bool {
		return a.RRset.Equal(b.RRset) && a.Source == b.Source && a.Provenance == b.Provenance && a.Place == b.Place && a.Fallback == b.Fallback
	})
}

func nodes(t testing.TB, st store.Store) int {
	t.Helper()
	n, _, err := st.List(t.Context(), tree.ClaimsPrefix(source))
	if err != nil {
		t.Fatal(err)
	}
	return len(n)
}

func replace(t testing.TB, st store.Store, c []record.Claim) bool {
	t.Helper()
	_, changed, err := claimtree.Replace(t.Context(), st, source, c)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// large is more than one transaction takes: about 1.4 MiB that do not compress.
const large = 20000

func TestReplaceIsOneCommitForObserversAtAnySize(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	o := newObserved()
	ch := st.Watch(t.Context(), tree.Claims, 0)
	o.watch(t, ch, func(store.Batch) bool { return true })
	var last store.Revision
	for g, n := range []int{large, large, 100, large / 2, 0} {
		rev, changed, err := claimtree.Replace(t.Context(), st, source, claims(t, n, byte('a'+g)))
		if err != nil || !changed {
			t.Fatalf("replace %d: changed %v, %v", g, changed, err)
		}
		last = rev
		o.watch(t, ch, func(b store.Batch) bool { return b.Revision >= last })
	}
	want := []string{
		"0 map[]", fmt.Sprintf("%d map[97:%d]", large, large/4), fmt.Sprintf("%d map[98:%d]", large, large/4),
		"100 map[99:25]", fmt.Sprintf("%d map[100:%d]", large/2, large/8), "0 map[]",
	}
	if diff := cmp.Diff(want, o.states); diff != "" {
		t.Errorf("observer saw (-want +got):\n%s", diff)
	}
	if n := nodes(t, st); n != 0 {
		t.Errorf("%d nodes are left after the source was removed, want 0", n)
	}
}

func TestReplaceWritesOnlyWhatDiffers(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	c := claims(t, 5000, 'a')
	replace(t, st, c)
	before, _, err := st.List(t.Context(), tree.ClaimsPrefix(source))
	if err != nil {
		t.Fatal(err)
	}
	if rev, changed, err := claimtree.Replace(t.Context(), st, source, c); rev != 0 || changed || err != nil {
		t.Errorf("same claims again: revision %d, changed %v, %v; want nothing done", rev, changed, err)
	}
	c = append(c[:2500], c[2501:]...)
	if !replace(t, st, c) {
		t.Error("one claim less is no change")
	}
	after, _, err := st.List(t.Context(), tree.ClaimsPrefix(source))
	if err != nil {
		t.Fatal(err)
	}
	was := map[string]store.Revision{}
	for _, n := range before {
		was[n.Path] = n.Modified
	}
	written := 0
	for _, n := range after {
		if was[n.Path] != n.Modified {
			written++
		}
	}
	if written > 3 || len(after) < 20 {
		t.Errorf("%d of %d nodes were written for one claim, want the head and one or two shards of more than 20", written, len(after))
	}
	if diff := cmp.Diff(c, load(t, st)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestInterruptedReplaceLeavesOldOrNewAndTheNextHeals(t *testing.T) {
	for _, to := range []int{large, 0} {
		for _, happen := range []bool{false, true} {
			if to == 0 && !happen {
				continue // what is tested is in the other three
			}
			for k := 1; ; k++ {
				st := memstore.New()
				replace(t, st, claims(t, large, 'a'))
				o := newObserved()
				ch := st.Watch(t.Context(), tree.Claims, 0)
				broken := &failing{st, k, happen}
				_, _, err := claimtree.Replace(t.Context(), broken, source, claims(t, to, 'b'))
				if err != nil && !errors.Is(err, store.ErrUnavailable) {
					t.Fatal(err)
				}
				n := 3000
				rev, _, err2 := claimtree.Replace(t.Context(), st, source, claims(t, n, 'c'))
				if err2 != nil {
					t.Fatalf("after the %d. commit broke: %v", k, err2)
				}
				o.watch(t, ch, func(b store.Batch) bool { return b.Revision >= rev })
				allowed := map[string]bool{
					"0 map[]": to == 0, fmt.Sprintf("%d map[97:%d]", large, large/4): true,
					fmt.Sprintf("%d map[98:%d]", to, to/4): true, fmt.Sprintf("%d map[99:%d]", n, n/4): true,
				}
				for _, s := range o.states {
					if !allowed[s] {
						t.Errorf("commit %d broke (happened: %v): observer saw %s", k, happen, s)
					}
				}
				got := load(t, st)
				if !same(claims(t, n, 'c'), got) {
					t.Fatalf("commit %d broke (happened: %v): %d claims after healing are not the %d written", k, happen, len(got), n)
				}
				clean := memstore.New()
				replace(t, clean, claims(t, n, 'c'))
				if a, b := nodes(t, st), nodes(t, clean); a != b {
					t.Errorf("commit %d broke (happened: %v): %d nodes after healing, want %d", k, happen, a, b)
				}
				clean.Close()
				st.Close()
				if broken.left > 0 { // it was through before
					if k < 3 && to > 0 || k < 2 {
						t.Errorf("the replace took %d commits, want several", k-1)
					}
					break
				}
			}
		}
	}
}

// between runs a function before the nth commit.
type between struct {
	store.Store
	n  int
	do func()
}

func (b *between) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if b.n--; b.n == 0 {
		b.do()
	}
	return b.Store.Commit(ctx, txn)
}

func TestConcurrentReplaceHasOneWinner(t *testing.T) {
	for n := 1; n <= 6; n++ {
		st := memstore.New()
		replace(t, st, claims(t, 2000, 'a'))
		_, _, err := claimtree.Replace(t.Context(), &between{st, n, func() { replace(t, st, claims(t, large/2, 'c')) }}, source, claims(t, large, 'b'))
		got := load(t, st)
		switch {
		case err == nil: // it was live before the other began, or there were fewer commits
		case !errors.Is(err, store.ErrConflict):
			t.Fatal(err)
		}
		if err != nil && !same(claims(t, large/2, 'c'), got) {
			t.Errorf("before commit %d: %d claims are not the winner's", n, len(got))
		}
		if err != nil {
			if _, _, err := claimtree.Replace(t.Context(), st, source, claims(t, 10, 'd')); err != nil {
				t.Error(err)
			}
		}
		st.Close()
	}
}

func TestReplaceCarriesExtraInTheCommitThatCounts(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	path := tree.SourcePath(source)
	put := func(value string, fence store.Revision) (store.Revision, error) {
		rev, _, err := claimtree.Replace(t.Context(), st, source, claims(t, large, value[0]),
			store.Txn{If: []store.Cond{{Path: "/elect/x", Modified: fence}}, Do: []store.Op{{Path: path, Value: []byte(value)}}})
		return rev, err
	}
	for _, v := range []string{"a", "a2", "b"} { // a2 changes no claim
		rev, err := put(v, 0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := st.Get(t.Context(), path)
		if err != nil || string(n.Value) != v || n.Modified != rev {
			t.Fatalf("extra is %q at %d, %v; want %q at %d", n.Value, n.Modified, err, v, rev)
		}
	}
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/elect/x", Value: []byte("other")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := put("c", 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("deposed leader: %v, want ErrConflict", err)
	}
	if n, _ := st.Get(t.Context(), path); string(n.Value) != "b" {
		t.Errorf("extra is %q after a refused replace, want b", n.Value)
	}
}

func TestSourcesBelowOneAnotherStayApart(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	below := source + "/sub"
	c := claims(t, 10, 'x')
	for i := range c {
		c[i].Source = below
	}
	if _, _, err := claimtree.Replace(t.Context(), st, below, c); err != nil {
		t.Fatal(err)
	}
	replace(t, st, claims(t, 20, 'a'))
	replace(t, st, nil)
	got, err := claimtree.Load(t.Context(), st, below)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Errorf("source below (-want +got):\n%s", diff)
	}
}

func put(t testing.TB, st store.Store, ops ...store.Op) {
	t.Helper()
	if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
		t.Fatal(err)
	}
}

func TestFoldKeepsTheLastGoodState(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	rule := record.Source("rule/ptr")
	one := claims(t, 1, 'a')
	one[0].Source = rule
	put(t, st, claimtree.Ops(rule, "web1", one))
	replace(t, st, claims(t, 3000, 'a'))
	f := claimtree.NewFold()
	batch := func() store.Batch {
		n, rev, err := st.List(t.Context(), tree.Claims)
		if err != nil {
			t.Fatal(err)
		}
		return store.Batch{Revision: rev, Reset: true, Puts: n}
	}
	if c, err := f.Apply(batch()); err != nil || len(c) < 2 {
		t.Fatalf("%d changes, %v", len(c), err)
	}
	if c, err := f.Apply(batch()); err != nil || len(c) != 0 {
		t.Fatalf("the same again: %d changes, %v; want none", len(c), err)
	}
	t.Run("independent shard", func(t *testing.T) {
		put(t, st, store.Op{Path: claimtree.Path(rule, "web1"), Value: []byte("garbage")})
		if c, err := f.Apply(batch()); len(c) != 0 || err == nil || !strings.Contains(err.Error(), "/claims/rule/ptr/web1") {
			t.Errorf("%d changes, error %v; want none and an error with the path", len(c), err)
		}
		put(t, st, claimtree.Ops(rule, "web1", nil))
		c, err := f.Apply(batch())
		if diff := cmp.Diff([]claimtree.Change{{Source: rule, Shard: "web1"}}, c); diff != "" || err != nil {
			t.Errorf("%v; changes (-want +got):\n%s", err, diff)
		}
	})
	t.Run("headed source", func(t *testing.T) {
		b := batch()
		for i, n := range b.Puts {
			if strings.Contains(n.Path, "/@") && !strings.HasSuffix(n.Path, "/@head") {
				b.Puts[i].Value = append([]byte(nil), n.Value...)
				b.Puts[i].Value[len(n.Value)-1] ^= 1
			}
		}
		fresh := claimtree.NewFold()
		if c, err := fresh.Apply(b); len(c) != 0 || err == nil {
			t.Errorf("%d changes, error %v; want none of a damaged source", len(c), err)
		}
		if c, err := fresh.Apply(batch()); len(c) < 2 || err != nil {
			t.Errorf("mended: %d changes, %v", len(c), err)
		}
		// A head that names a shard which is not there.
		replace(t, st, claims(t, 3000, 'b'))
		b = batch()
		for i, n := range b.Puts {
			if strings.Contains(n.Path, "/@") && !strings.HasSuffix(n.Path, "/@head") {
				b.Puts = append(b.Puts[:i:i], b.Puts[i+1:]...)
				break
			}
		}
		if c, err := f.Apply(b); len(c) != 0 || err == nil || !strings.Contains(err.Error(), "is missing") {
			t.Errorf("%d changes, error %v; want none and a missing shard", len(c), err)
		}
		if c, err := f.Apply(batch()); len(c) < 2 || err != nil {
			t.Errorf("mended: %d changes, %v", len(c), err)
		}
	})
	t.Run("damage is mended by the next replace", func(t *testing.T) {
		n, _, err := st.List(t.Context(), tree.ClaimsPrefix(source))
		if err != nil {
			t.Fatal(err)
		}
		put(t, st, store.Op{Path: n[1].Path, Value: []byte("x")}, store.Op{Path: n[2].Path, Delete: true})
		if !replace(t, st, claims(t, 3000, 'b')) {
			t.Error("nothing was mended")
		}
		if diff := cmp.Diff(claims(t, 3000, 'b'), load(t, st)); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
	})
}

func TestReplaceRefusesWhatFitsNoNode(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	big := claims(t, 1, 'a')
	noise := make([]byte, 64900)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	big[0].RRset = record.NewRRset(big[0].Owner, 65280, 1, record.Rdata(noise))
	for range 2000 {
		big[0].Reason += string(rune('!' + r.IntN(90)))
	}
	if _, _, err := claimtree.Replace(t.Context(), st, source, big); err == nil || !strings.Contains(err.Error(), "host000000.example.net. TYPE65280") {
		t.Errorf("error is %v, want one that names the claim", err)
	}
	if n := nodes(t, st); n != 0 {
		t.Errorf("%d nodes after a refused replace", n)
	}
}

func BenchmarkReplace(b *testing.B) {
	c := claims(b, large, 'a')
	for b.Loop() {
		st := memstore.New()
		replace(b, st, c)
		st.Close()
	}
	b.ReportMetric(float64(large*b.N)/b.Elapsed().Seconds(), "claims/s")
}
