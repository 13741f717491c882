package claimtree_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// situation is what sources claim: by source how many claims, of which generation.
type situation map[record.Source]string

func (s situation) String() string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s)) {
		out = append(out, fmt.Sprintf("%s=%s", k, s[k]))
	}
	return strings.Join(out, " ")
}

// wanted makes wants of a random situation that differs from now, and the new one.
func wanted(t testing.TB, r *rand.Rand, now situation, generation byte, sizes []int) ([]claimtree.Want, situation) {
	t.Helper()
	next := maps.Clone(now)
	var wants []claimtree.Want
	for i := range 6 {
		if r.IntN(3) == 0 {
			continue
		}
		s := record.Source(fmt.Sprintf("config/zones/%d", i))
		n := sizes[r.IntN(len(sizes))]
		w := claimtree.Want{Source: s, Claims: slices.Clone(claims(t, n, generation))}
		for k := range w.Claims {
			w.Claims[k].Source = s
		}
		wants = append(wants, w)
		if n == 0 {
			delete(next, s)
		} else {
			next[s] = fmt.Sprintf("%d%c", n, generation)
		}
	}
	return wants, next
}

// seenBy is the situation as an observer has it.
func seenBy(o *observed) situation {
	n, gen := map[record.Source]int{}, map[record.Source]byte{}
	for key, claims := range o.shards {
		s, _, _ := strings.Cut(key, " ")
		n[record.Source(s)] += len(claims)
		for _, c := range claims {
			if c.Place == "example.net:0" {
				gen[record.Source(s)] = c.Data[0][1]
			}
		}
	}
	out := situation{}
	for s := range n {
		out[s] = fmt.Sprintf("%d%c", n[s], gen[s])
	}
	return out
}

func commitTogether(t testing.TB, st store.Store, j *claimtree.Joint, wants []claimtree.Want, ops int) error {
	t.Helper()
	p, err := j.Prepare(t.Context(), wants, ops, 512<<10)
	if err != nil {
		return err
	}
	if len(p.Do) > ops {
		t.Errorf("%d operations, want at most %d", len(p.Do), ops)
	}
	if len(p.Do) > 0 {
		if _, err := st.Commit(t.Context(), store.Txn{Do: p.Do}); err != nil {
			return err
		}
	}
	return j.Finish(t.Context())
}

// Whatever commit breaks, before or after it happened, an observer sees the situations
// before and after a replacement and nothing else, and the next writer goes on.
func TestJointIsOneCommitForObservers(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 5))
		st := memstore.New()
		o := newObserved()
		ch := st.Watch(t.Context(), tree.Claims, 0)
		now := situation{}
		allowed := map[string]bool{now.String(): true}
		sizes := []int{0, 1, 40, 900}
		for step := range 8 {
			broken := &failing{st, 1 + r.IntN(30), r.IntN(2) == 0}
			ops := []int{1, 5, 40, 110}[r.IntN(4)]
			wants, next := wanted(t, r, now, byte('a'+step), sizes)
			allowed[next.String()] = true
			j, err := claimtree.OpenJoint(t.Context(), broken, "config")
			if err == nil {
				err = commitTogether(t, broken, j, wants, ops)
			}
			if err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Fatal(err)
			}
			// The next writer finds one of the two.
			j, err = claimtree.OpenJoint(t.Context(), st, "config")
			if err != nil {
				t.Fatal(err)
			}
			fresh := newObserved()
			list, rev, err := st.List(t.Context(), tree.Claims)
			if err != nil {
				t.Fatal(err)
			}
			fresh.apply(t, store.Batch{Revision: rev, Reset: true, Puts: list})
			found := seenBy(fresh)
			if s := found.String(); s != now.String() && s != next.String() {
				t.Fatalf("seed %d, step %d: the next writer finds %s, want %s or %s", seed, step, s, now, next)
			}
			if got := slices.Collect(maps.Keys(found)); len(got) != len(j.Sources()) {
				t.Fatalf("seed %d, step %d: sources %v, want %v", seed, step, j.Sources(), got)
			}
			for s := range found {
				if got, err := claimtree.Load(t.Context(), st, s); err != nil || !strings.HasPrefix(found[s], fmt.Sprint(len(got))) {
					t.Fatalf("Load(%s) gives %d claims, %v, want %s", s, len(got), err, found[s])
				}
			}
			for _, n := range list { // nothing is left that nobody sees
				if n.Path == tree.ClaimsGate {
					continue
				}
				if s, _, _ := tree.SplitClaim(n.Path); found[s] == "" {
					t.Fatalf("seed %d, step %d: %s is left", seed, step, n.Path)
				}
			}
			now = found
		}
		wants, next := wanted(t, r, now, 'z', sizes)
		j, err := claimtree.OpenJoint(t.Context(), st, "config")
		if err != nil {
			t.Fatal(err)
		}
		if err := commitTogether(t, st, j, wants, 3); err != nil {
			t.Fatal(err)
		}
		allowed[next.String()] = true
		_, end, err := st.List(t.Context(), tree.Claims)
		if err != nil {
			t.Fatal(err)
		}
		for o.fold != nil {
			b := <-ch
			o.apply(t, b)
			if s := seenBy(o).String(); !allowed[s] {
				t.Fatalf("seed %d: an observer saw %s, which was no situation", seed, s)
			}
			if b.Revision >= end {
				break
			}
		}
		if got := seenBy(o).String(); got != next.String() {
			t.Fatalf("seed %d: at the end %s, want %s", seed, got, next)
		}
		st.Close()
	}
}

func TestJointRefuses(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	j, err := claimtree.OpenJoint(t.Context(), st, "config")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		wants []claimtree.Want
		says  string
	}{
		{[]claimtree.Want{{Source: "zone/example.net"}}, "source zone/example.net is of another kind than config"},
		{[]claimtree.Want{{Source: "config/a"}, {Source: "config/a"}}, "source config/a is there twice"},
		{[]claimtree.Want{{Source: "config"}}, `source "config" has no name after its kind`},
	} {
		if _, err := j.Prepare(t.Context(), tt.wants, 100, 100_000); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: error %v, want %q", tt.wants, err, tt.says)
		}
	}
	// Unchanged claims are no work.
	w := []claimtree.Want{{Source: "config/a", Claims: []record.Claim{{RRset: base()[0].RRset, Source: "config/a"}}}}
	if err := commitTogether(t, st, j, w, 100); err != nil {
		t.Fatal(err)
	}
	if p, err := j.Prepare(t.Context(), w, 100, 100_000); err != nil || len(p.Do)+len(p.Changed) != 0 {
		t.Errorf("claims that are there make %d operations, %v", len(p.Do), err)
	}
}
