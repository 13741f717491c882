package modeltest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// planned is a world in which a change is planned, and then made.
type planned struct {
	*testing.T
	st     *memstore.Store
	person *person
	claims map[record.Source][]record.Claim
}

// claim puts what sources claim into the store in one commit.
func (w *planned) claim(all map[record.Source][]record.Claim) {
	w.Helper()
	var txn store.Txn
	for s, claims := range all {
		shards := map[string][]record.Claim{"a": nil, "b": nil} // those that were there go
		for i, c := range claims {
			name := string(rune('a' + i%2))
			shards[name] = append(shards[name], c)
		}
		for name, claims := range shards {
			txn.Do = append(txn.Do, claimtree.Ops(s, name, claims))
		}
		w.claims[s] = claims
	}
	if _, err := w.st.Commit(context.Background(), txn); err != nil {
		w.Fatalf("claim: %v", err)
	}
}

func (w *planned) published() map[string]string {
	out := map[string]string{}
	for r := range load(w, w.st).All() {
		out[fmt.Sprintf("%s %s", r.Owner, r.Type)] = setText(r.TTL, texts(r))
	}
	return out
}

func texts(r record.RRset) (out []string) {
	for _, d := range r.Data {
		out = append(out, dnswire.FormatRdata(r.Type, d))
	}
	return out
}

func setText(ttl uint32, data []string) string { return fmt.Sprint(ttl, data) }

// records are those that a plan says change, as "before → after".
func records(p *plan.Plan) map[string]string {
	out := map[string]string{}
	side := func(s *plan.Set) string {
		if s == nil {
			return ""
		}
		return setText(s.TTL, s.Data)
	}
	for _, z := range p.Zones {
		for _, r := range z.Records {
			out[r.Owner+" "+r.Type] = side(r.Before) + " → " + side(r.After)
		}
	}
	return out
}

func changed(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for k, was := range a {
		if b[k] != was {
			out[k] = was + " → " + b[k]
		}
	}
	for k, is := range b {
		if _, there := a[k]; !there {
			out[k] = " → " + is
		}
	}
	return out
}

func (w *planned) holds() map[string]*controlapi.Hold {
	w.Helper()
	all, err := w.person.Holds(context.Background())
	if err != nil {
		w.Fatalf("holds: %v", err)
	}
	out := map[string]*controlapi.Hold{}
	for _, h := range all {
		out[h.Source] = h
	}
	return out
}

// TestPlanIsWhatHappens plans changes of several sources with a presenter at work, makes
// them, and holds the plan against what is published, held and frozen then: the records are
// those that change, those held are those that the plan names, in its very words, what is
// frozen waits, and what a person lets through leads to the rest.
func TestPlanIsWhatHappens(t *testing.T) {
	held, frozen, let, conflicts := 0, 0, 0, 0
	for seed := range uint64(60) {
		bubbletest.Run(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			// Guards attribute to each source what its changes made: that is exact when sources
			// do not replace each other's RRsets.
			guarded := r.IntN(2) == 0
			st := memstore.New()
			defer st.Close()
			p := startPresenter(t, st, &accidents{}, bounds{on: guarded, few: 2, removed: 3, replaced: 4}, false)
			defer p.stop(t, false)
			w := &planned{T: t, st: st, person: startControl(t, st), claims: map[record.Source][]record.Claim{}}
			defer func() { w.person.stop(t) }()
			settle := func() {
				time.Sleep(300 * time.Millisecond)
				synctest.Wait()
			}
			sources := []record.Source{"config/a", "config/b", "zone/c", "rule/d"}
			draw := func(s record.Source, i int) (claims []record.Claim) {
				seen := map[string]bool{}
				for range r.IntN(14) {
					own := i
					if !guarded {
						own = r.IntN(2)
					}
					c := claim(s, fmt.Sprintf("h%d-%d.example.net.", own, r.IntN(10)), record.TypeA, address(r.IntN(3)))
					if r.IntN(4) == 0 {
						c = claim(s, fmt.Sprintf("h%d-%d.example.net.", own, r.IntN(10)), record.TypeCNAME, record.Rdata(name("example.net.")))
					} else if r.IntN(8) == 0 && !guarded {
						c = claim(s, fmt.Sprintf("h%d-%d.example.net.", own, r.IntN(3)), record.TypeNS, record.Rdata(name("ns.example.org.")))
					}
					c.TTL = []uint32{120, 300}[r.IntN(2)]
					if id := fmt.Sprint(c.Owner, c.Type == record.TypeCNAME && guarded); !seen[id] && (!guarded || !seen[string(c.Owner)]) {
						seen[id], seen[string(c.Owner)] = true, true
						claims = append(claims, c)
					}
				}
				return claims
			}
			before := map[record.Source][]record.Claim{"zone/apex": apex("zone/apex", "example.net.")}
			for i, s := range sources {
				before[s] = draw(s, i)
			}
			w.claim(before)
			time.Sleep(3 * time.Second) // past the window of the guards
			for _, h := range w.holds() {
				t.Fatalf("seed %d: %v is held before anything", seed, h)
			}
			if r.IntN(2) == 0 { // counts within the window, and is of names of which nothing else is
				extra := w.claims["rule/d"]
				w.claim(map[record.Source][]record.Claim{"rule/d": append(slices.Clone(extra), claim("rule/d", "p1.example.net.", record.TypeA, address(1)), claim("rule/d", "p2.example.net.", record.TypeA, address(2)))})
				settle()
				w.claim(map[record.Source][]record.Claim{"rule/d": extra})
				settle()
			}
			var freeze string
			if r.IntN(4) == 0 {
				d, err := w.person.Freeze(context.Background(), "config/*", &controlapi.Doer{Author: "alice", Reason: "Friday"})
				if err != nil {
					t.Fatal(err)
				}
				freeze = d.ID
				synctest.Wait()
			}
			var changes []plan.Change
			after := map[record.Source][]record.Claim{}
			for i, s := range sources {
				if r.IntN(3) > 0 {
					after[s] = draw(s, i)
					changes = append(changes, plan.Change{Source: s, Before: w.claims[s], Claims: after[s]})
				}
			}
			was := w.published()
			first, err := w.person.Consider(context.Background(), changes, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			again, err := w.person.Consider(context.Background(), changes, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first, again); diff != "" {
				t.Fatalf("seed %d: planned again it is another plan:\n%s", seed, diff)
			}
			conflicts += len(again.Begin)
			w.claim(after)
			settle()
			now := w.holds()
			waits := map[string]bool{}
			for _, h := range again.Held {
				if freeze != "" && strings.HasPrefix(h.Source, "config/") {
					waits[h.Source] = true // it is judged when the freeze ends
					continue
				}
				held++
				if now[h.Source] == nil {
					t.Fatalf("seed %d: the plan says %q, and it is not held\nplan:\n%s", seed, h.Why, asText(again))
				}
				if diff := cmp.Diff(h.Why, now[h.Source].Why); diff != "" {
					t.Fatalf("seed %d: a hold in other words (-plan +hold):\n%s", seed, diff)
				}
				waits[h.Source] = true
			}
			for s, h := range now {
				if !waits[s] {
					t.Fatalf("seed %d: the plan does not say that %s is held: %q\nplan:\n%s", seed, s, h.Why, asText(again))
				}
			}
			if freeze != "" {
				if moves := slices.ContainsFunc(changes, func(c plan.Change) bool { return c.Source.Kind() == record.KindConfig }); moves != slices.ContainsFunc(again.Waits, func(s string) bool { return strings.Contains(s, "thaw "+freeze) }) {
					t.Fatalf("seed %d: waits %q", seed, again.Waits)
				}
				frozen++
				if _, err := w.person.Thaw(context.Background(), freeze, &controlapi.Doer{Author: "alice", Reason: "Monday"}); err != nil {
					t.Fatal(err)
				}
				settle()
			}
			for _, h := range w.holds() {
				let++
				if _, err := w.person.Decide(context.Background(), h.ID, "release", &controlapi.Doer{Author: "alice", Reason: "it is meant"}); err != nil {
					t.Fatal(err)
				}
				settle()
			}
			settle()
			if diff := cmp.Diff(changed(was, w.published()), records(again)); diff != "" {
				t.Fatalf("seed %d: what is planned is not what happens (-happens +planned):\n%s\nplan:\n%s", seed, diff, asText(again))
			}
			// What is in force is planned as nothing.
			done, err := w.person.Consider(context.Background(), changes, nil, true)
			if err != nil || done.Total.Sum() != 0 || len(done.Held) != 0 || done.Digest != again.Digest && len(again.Losing) == 0 && len(done.Losing) == 0 {
				t.Fatalf("seed %d: planned when it is in force (%v):\n%s", seed, err, asText(done))
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d held, %d frozen, %d let through, %d conflicts", held, frozen, let, conflicts)
	if held == 0 || frozen == 0 || let == 0 || conflicts == 0 {
		t.Errorf("%d held, %d frozen, %d let through, %d conflicts: expected some of each", held, frozen, let, conflicts)
	}
}

func asText(p *plan.Plan) string {
	var b strings.Builder
	if err := p.Text(&b); err != nil {
		return err.Error()
	}
	return b.String()
}
