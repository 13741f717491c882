package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// still is a Control that has read a state, and follows nothing.
func still(t testing.TB, state *reconcile.State) *Control {
	t.Helper()
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	c, err := New(DefaultConfig(), Deps{Store: st, Log: slog.New(slog.DiscardHandler), Policy: reconcile.DefaultPolicy(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	c.claims.state, c.claims.heard, c.marks.heard = state, true, true
	return c
}

// bind says in the store by what bounds the presenter judges.
func bind(t testing.TB, c *Control, b guard.Bounds) {
	t.Helper()
	text, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.deps.Store.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.GuardsPath(c.cfg.Dataset), Value: text}}}); err != nil {
		t.Fatal(err)
	}
}

// randomClaims makes what a source claims in a few zones, so that there are conflicts,
// zones that come and go, cuts and aliases.
func randomClaims(t *testing.T, r *rand.Rand, s record.Source) (claims []record.Claim) {
	t.Helper()
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	names := []string{"example.net.", "a.example.net.", "b.example.net.", "x.a.example.net.", "*.b.example.net.", "example.org."}
	seen := map[record.Key]bool{}
	for range r.IntN(8) {
		owner := names[r.IntN(len(names))]
		var set record.RRset
		switch r.IntN(6) {
		case 0:
			set = rrset(t, owner, record.TypeSOA, soa)
		case 1:
			set = rrset(t, owner, record.TypeCNAME, "\x01a\x07example\x03net\x00")
		case 2:
			set = rrset(t, owner, record.TypeNS, "\x01x\x01a\x07example\x03net\x00")
		default:
			set = rrset(t, owner, record.TypeA, record.Rdata([]byte{192, 0, 2, byte(r.IntN(3))}))
		}
		set.TTL = []uint32{60, 300}[r.IntN(2)]
		if !seen[set.Key] {
			seen[set.Key] = true
			claims = append(claims, record.Claim{RRset: set, Source: s, Place: fmt.Sprint(set.TTL, "/", set.Data)})
		}
	}
	slices.SortFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	return claims
}

// sharded cuts claims into shards.
func sharded(r *rand.Rand, claims []record.Claim) map[string][]record.Claim {
	out := map[string][]record.Claim{}
	for _, c := range claims {
		name := fmt.Sprint("@", r.IntN(3))
		out[name] = append(out[name], c)
	}
	return out
}

// ending is a context that ends when it was asked a number of times.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// conflictsOf gives a state's conflicts in words, by what loses and why.
func conflictsOf(s *reconcile.State) map[string]string {
	out := map[string]string{}
	for x := range s.Conflicts() {
		if x.Kind != reconcile.Warning {
			out[fmt.Sprint(x.Kind, x.Loser.Source, x.Loser.RRset)] = x.String()
		}
	}
	return out
}

// A plan says what really happens when the claims are what was planned, and leaves nothing
// behind.
func TestConsiderIsWhatHappens(t *testing.T) {
	sources := []record.Source{"config/a", "config/b", "zone/z", "rule/r"}
	sawLosing, sawConflict, sawEnd, stopped := false, false, false, 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		state, real := reconcile.New(reconcile.DefaultPolicy()), reconcile.New(reconcile.DefaultPolicy())
		old := map[record.Source][]record.Claim{}
		for _, s := range sources {
			old[s] = randomClaims(t, r, s)
			for name, claims := range sharded(r, old[s]) {
				state.Replace(s, name, claims)
			}
			real.Replace(s, "0", old[s])
		}
		state.Reconcile()
		real.Reconcile()
		c := still(t, state)
		look := func(s *reconcile.State) string {
			var b strings.Builder
			for set := range s.All() {
				fmt.Fprintln(&b, set)
			}
			for x := range s.Conflicts() {
				fmt.Fprintln(&b, x)
			}
			var shards []string
			for source, name := range s.Shards() {
				shards = append(shards, fmt.Sprintf("%s %s: %q", source, name, fmt.Sprintf("%+v", s.Shard(source, name))))
			}
			slices.Sort(shards)
			fmt.Fprintln(&b, shards, s.Len(), s.Claims(), s.ConflictCounts())
			return b.String()
		}
		before := look(state)
		var changes []plan.Change
		for _, s := range sources[:2] {
			if r.IntN(4) > 0 {
				changes = append(changes, plan.Change{Source: s, Before: old[s], Claims: randomClaims(t, r, s)})
			}
		}
		if _, err := c.Consider(&ending{t.Context(), r.IntN(6)}, changes, nil, r.IntN(2) == 0); err != nil {
			stopped++
			if now := look(state); now != before {
				t.Fatalf("seed %d: stopped in the middle (%v), this is left behind (-before +after):\n%s", seed, err, cmp.Diff(before, now))
			}
		}
		got, err := c.Consider(t.Context(), changes, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if now := look(state); now != before {
			t.Fatalf("seed %d: what is left behind (-before +after):\n%s", seed, cmp.Diff(before, now))
		}
		was, lost := map[record.Key]record.RRset{}, conflictsOf(real)
		for set := range real.All() {
			was[set.Key] = set
		}
		for _, ch := range changes {
			real.Replace(ch.Source, "0", ch.Claims)
		}
		real.Reconcile()
		want := map[string]string{}
		line := func(s record.RRset) string { return fmt.Sprint(s.TTL, rdataTexts(s)) }
		for set := range real.All() {
			if w, there := was[set.Key]; !there || !w.Equal(set) {
				want[fmt.Sprint(set.Owner, set.Type)] = " → " + line(set)
				if there {
					want[fmt.Sprint(set.Owner, set.Type)] = line(w) + " → " + line(set)
				}
			}
		}
		for k, w := range was {
			if _, there := real.Get(k); !there {
				want[fmt.Sprint(k.Owner, k.Type)] = line(w) + " → "
			}
		}
		said := map[string]string{}
		for _, z := range got.Zones {
			if n := z.Added + z.Changed + z.Removed + z.TTL; n != len(z.Records) {
				t.Errorf("seed %d: zone %s counts %d records and has %d", seed, z.Name, n, len(z.Records))
			}
			for _, x := range z.Records {
				text := func(s *plan.Set) string {
					if s == nil {
						return ""
					}
					return fmt.Sprint(s.TTL, s.Data)
				}
				said[x.Owner+x.Type] = text(x.Before) + " → " + text(x.After)
			}
		}
		if !maps.Equal(said, want) {
			t.Fatalf("seed %d: what is planned is not what happens (-happens +planned):\n%s", seed, cmp.Diff(want, said))
		}
		for _, l := range got.Losing {
			sawLosing = true
			if l.Rule == "" || l.Fate == "" || l.Fate == "wins" {
				t.Errorf("seed %d: %+v loses without a rule", seed, l)
			}
		}
		// A conflict begins when its loser did not lose so before, and ends likewise.
		now := conflictsOf(real)
		for _, side := range []struct {
			what     string
			of, not  map[string]string
			said     []string
			more     int
			happened *bool
		}{{"begin", now, lost, got.Begin, got.MoreBegin, &sawConflict}, {"end", lost, now, got.End, got.MoreEnd, &sawEnd}} {
			for id, text := range side.of {
				if _, both := side.not[id]; !both {
					*side.happened = true
					if !slices.Contains(side.said, text) {
						t.Fatalf("seed %d: it is not said that conflicts %s: %s\n%q", seed, side.what, text, side.said)
					}
				}
			}
			texts, others := slices.Collect(maps.Values(side.of)), slices.Collect(maps.Values(side.not))
			for _, text := range side.said {
				if !slices.Contains(texts, text) || slices.Contains(others, text) {
					t.Fatalf("seed %d: it is said that conflicts %s, which is not so: %s", seed, side.what, text)
				}
			}
			if side.more != 0 {
				t.Fatalf("seed %d: %d more conflicts %s", seed, side.more, side.what)
			}
		}
		// The fate of each claim is what the store would explain.
		for _, x := range got.Claims {
			if x.Fate == plan.Goes {
				continue
			}
			owner, err := record.ParseName(x.Owner)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(real.Explain(owner, 0).Findings, func(f reconcile.Finding) bool {
				return string(f.Claim.Source) == x.Source && f.Claim.Type.String() == x.Type && string(f.Verdict) == x.Fate && f.Claim.Place == x.Place
			}) {
				t.Fatalf("seed %d: %+v is not what becomes of it", seed, x)
			}
		}
		// Where lines are, and how it is cut, is nothing that is agreed to.
		moved := slices.Clone(changes)
		for i := range moved {
			moved[i].Claims = slices.Clone(moved[i].Claims)
			for k := range moved[i].Claims {
				moved[i].Claims[k].Place = "elsewhere"
			}
		}
		again, err := c.Consider(t.Context(), moved, nil, false)
		if err != nil || again.Digest != got.Digest {
			t.Fatalf("seed %d: another digest for the same: %v", seed, err)
		}
	}
	if !sawLosing || !sawConflict || !sawEnd || stopped == 0 {
		t.Errorf("a claim lost: %v, a conflict began: %v, one ended: %v; %d stopped; want some of each", sawLosing, sawConflict, sawEnd, stopped)
	}
}

func TestConsiderDigest(t *testing.T) {
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	a := func(s record.Source, owner string, n byte) record.Claim {
		return record.Claim{RRset: rrset(t, owner, record.TypeA, record.Rdata([]byte{192, 0, 2, n})), Source: s}
	}
	apex := record.Claim{RRset: rrset(t, "example.net.", record.TypeSOA, soa), Source: "zone/example.net"}
	change := []plan.Change{{Source: "config/web", Claims: []record.Claim{a("config/web", "www.example.net.", 1)}}}
	digest := func(configs []plan.Config, change []plan.Change, others ...record.Claim) string {
		t.Helper()
		state := reconcile.New(reconcile.DefaultPolicy())
		state.Replace("zone/example.net", "0", []record.Claim{apex})
		for i, c := range others {
			state.Replace(c.Source, fmt.Sprint(i), []record.Claim{c})
		}
		state.Reconcile()
		p, err := still(t, state).Consider(t.Context(), change, configs, false)
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest
	}
	base := digest(nil, change)
	config := []plan.Config{{Path: "web", Type: "zonecast.Records", Kind: plan.Added, Change: "1"}}
	for _, tt := range []struct {
		what string
		got  string
		same bool
	}{
		{"the same", digest(nil, change), true},
		{"others' claims of other names", digest(nil, change, a("zone/x", "mail.example.net.", 9)), true},
		{"a claim that yields to it", digest(nil, change, a("rule/x", "www.example.net.", 9)), true},
		{"an override that wins", digest(nil, change, a("override/1", "www.example.net.", 9)), false},
		{"another address", digest(nil, []plan.Change{{Source: "config/web", Claims: []record.Claim{a("config/web", "www.example.net.", 2)}}}), false},
		{"another source", digest(nil, []plan.Change{{Source: "config/web2", Claims: []record.Claim{a("config/web2", "www.example.net.", 1)}}}), false},
		{"a configuration besides", digest(config, change), false},
		{"it is there already", digest(nil, []plan.Change{{Source: "config/web", Before: change[0].Claims, Claims: change[0].Claims}}), false},
	} {
		if (tt.got == base) != tt.same {
			t.Errorf("%s: the digest is the same: %v, want %v", tt.what, tt.got == base, tt.same)
		}
	}
}

// TestConsiderTells holds what people are told besides records.
func TestConsiderTells(t *testing.T) {
	w := newWorld(t)
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	const zone, web record.Source = "zone/example.net", "config/web"
	file := []record.Claim{{RRset: rrset(t, "example.net.", record.TypeSOA, soa), Source: zone}}
	var old []record.Claim
	for i := range 60 {
		old = append(old, record.Claim{RRset: rrset(t, fmt.Sprintf("h%02d.example.net.", i), record.TypeA, record.Rdata([]byte{192, 0, 2, byte(i)})), Source: web})
	}
	if _, err := w.Consider(t.Context(), nil, nil, true); err != nil && !strings.Contains(err.Error(), "starting") {
		t.Fatal(err)
	}
	rev := w.commit(claimtree.Ops(zone, "a", file), claimtree.Ops(web, "a", old), claimtree.Ops("override/1", "0", []record.Claim{{RRset: rrset(t, "www.example.net.", record.TypeA, "\xc0\x00\x02\x63"), Source: "override/1"}}))
	w.publish(rev)
	w.commit(store.Op{Path: tree.FreezePath("f1"), Value: tree.Encode(tree.Freeze{Source: "config/*", Author: "alice", Reason: "Friday"})})
	www := record.Claim{RRset: rrset(t, "www.example.net.", record.TypeA, "\xc0\x00\x02\x01"), Source: web, Place: "web.star:3"}
	var p *plan.Plan
	w.eventually(func() (err error) {
		p, err = w.Consider(t.Context(), []plan.Change{{Source: web, Before: old, Claims: append(slices.Clone(old[:5]), www)}}, nil, true)
		if err == nil && (len(p.Waits) == 0 || len(p.Zones) == 0) {
			err = errors.New("not read yet")
		}
		return err
	})
	if len(p.Zones) != 1 || p.Zones[0].Name != "example.net." || p.Zones[0].Removed != 55 || p.Come != 1 || p.Go != 55 {
		t.Errorf("zones %+v, %d claims come, %d go", p.Zones, p.Come, p.Go)
	}
	if !slices.Equal(p.Touches, []string{"example.net."}) {
		t.Errorf("touches %q", p.Touches)
	}
	if len(p.Losing) != 1 || !strings.Contains(p.Losing[0].Hint, "`zonecast override clear 1`") || p.Losing[0].Against != "override/1" || p.Losing[0].Place != "web.star:3" {
		t.Errorf("losing %+v", p.Losing)
	}
	if len(p.Held) != 1 || p.Held[0].Source != "config/web" || !strings.Contains(strings.Join(p.Held[0].Why, " "), "would remove 55 of 61 RRsets of example.net.") {
		t.Errorf("held %+v", p.Held)
	}
	if !strings.Contains(strings.Join(p.Waits, " "), "config/* is frozen by alice (Friday): `zonecast thaw f1`") {
		t.Errorf("waits %q", p.Waits)
	}
	if p.Traffic == nil || !strings.Contains(p.Traffic.Unknown, "no host has said") {
		t.Errorf("traffic %+v", p.Traffic)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Consider(ctx, []plan.Change{{Source: web, Before: old}}, nil, false); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := w.Consider(t.Context(), []plan.Change{{Source: "nonsense"}}, nil, false); err == nil {
		t.Error("a source of no kind is no error")
	}
}

// What is refused says why.
// TestConsiderRings says of a plan that it goes by rings, as the presenter's policy has it: of
// people's and large changes, of no others, and of none without rings.
func TestConsiderRings(t *testing.T) {
	s := reconcile.New(reconcile.DefaultPolicy())
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	s.Replace("zone/example.net", "0", []record.Claim{{RRset: rrset(t, "example.net.", record.TypeSOA, soa), Source: "zone/example.net"}})
	s.Reconcile()
	c := still(t, s)
	of := func(source record.Source, owner string) []plan.Change {
		r := rrset(t, owner, record.TypeA, "\xc0\x00\x02\x01")
		return []plan.Change{{Source: source, Claims: []record.Claim{{RRset: r, Source: source}}}}
	}
	zone := []plan.Change{{Source: "zone/example.org", Claims: []record.Claim{{RRset: rrset(t, "example.org.", record.TypeSOA, soa), Source: "zone/example.org"}}}}
	p := trial.DefaultPolicy()
	p.Rings = []trial.Ring{{Name: "canary", Soak: time.Minute, Hosts: []string{"dns1"}}}
	for _, rings := range []bool{false, true} {
		if rings {
			if _, err := c.deps.Store.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.RingsPath("internal"), Value: tree.Encode(p)}}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, guarded := range []bool{true, false} {
			b := guard.DefaultBounds()
			if !guarded {
				b = guard.Bounds{}
			}
			bind(t, c, b)
			for what, x := range map[string]struct {
				changes []plan.Change
				tried   bool
			}{"people's": {of("config/x", "www.example.net."), true}, "a robot's": {of("rule/x", "www.example.net."), false}, "a new zone": {zone, false}} {
				got, err := c.Consider(t.Context(), x.changes, nil, true)
				if err != nil {
					t.Fatal(err)
				}
				waits := strings.Join(got.Waits, "\n")
				if tried := strings.Contains(waits, "goes by rings before all hosts have it") && strings.Contains(waits, "canary (1m0s) → all hosts"); tried != (x.tried && rings) {
					t.Errorf("%s change, rings %v, guards %v: waits %q", what, rings, guarded, got.Waits)
				}
			}
		}
	}
}

func TestConsiderRefuses(t *testing.T) {
	c := still(t, reconcile.New(reconcile.DefaultPolicy()))
	for want, changes := range map[string][]plan.Change{
		"there are two changes of config/a":       {{Source: "config/a"}, {Source: "config/a"}},
		"more than 2000000 claims":                {{Source: "config/a", Before: make([]record.Claim, maxConsidered), Claims: make([]record.Claim, 1)}},
		"source \"nonsense\" has an unknown kind": {{Source: "nonsense"}},
	} {
		if _, err := c.Consider(t.Context(), changes, nil, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A change plans equally on top of whatever happens to other names, and however it is cut
// and ordered.
func TestConsiderDigestProperty(t *testing.T) {
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	losing := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		apex := record.Claim{RRset: rrset(t, "example.net.", record.TypeSOA, soa), Source: "zone/apex"}
		change := plan.Change{Source: "config/a", Before: randomClaims(t, r, "config/a"), Claims: randomClaims(t, r, "config/a")}
		about := map[record.Name]bool{}
		for _, m := range plan.Moves(change) {
			about[m.Key().Owner] = true
		}
		near := randomClaims(t, r, "rule/near") // of others, about the same names
		digest := func(version int) string {
			state := reconcile.New(reconcile.DefaultPolicy())
			state.Replace("zone/apex", "0", []record.Claim{apex})
			state.Replace("rule/near", "0", near)
			for name, claims := range sharded(r, change.Before) {
				state.Replace("config/a", name, claims)
			}
			for i := range version * 3 {
				s := record.Source(fmt.Sprint("zone/other", r.IntN(3)))
				far := record.Claim{RRset: rrset(t, fmt.Sprintf("far%d.example.net.", i), record.TypeA, record.Rdata([]byte{192, 0, 2, byte(r.IntN(9))})), Source: s, Place: fmt.Sprint(i)}
				if i%4 == 3 { // a zone elsewhere
					far.RRset = rrset(t, fmt.Sprintf("far%d.test.", i), record.TypeSOA, soa)
				}
				state.Replace(s, fmt.Sprint(i), []record.Claim{far})
			}
			state.Reconcile()
			c := still(t, state)
			shuffled := plan.Change{Source: change.Source, Before: slices.Clone(change.Before), Claims: slices.Clone(change.Claims)}
			for _, claims := range [][]record.Claim{shuffled.Before, shuffled.Claims} {
				r.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
				for i := range claims {
					claims[i].Author, claims[i].Revision = fmt.Sprint("author", version), fmt.Sprint(version)
				}
			}
			p, err := c.Consider(t.Context(), []plan.Change{shuffled}, nil, version%2 == 0)
			if err != nil {
				t.Fatal(err)
			}
			losing += len(p.Losing)
			return p.Digest
		}
		first := digest(0)
		for version := range 4 {
			if got := digest(version); got != first {
				t.Fatalf("seed %d: another digest on top of version %d", seed, version)
			}
		}
	}
	if losing == 0 {
		t.Error("no claim lost")
	}
}

// TestConsiderGuards: what is held is not there when others are judged; who claims more goes
// first; what was announced is let through; what was counted lately counts; and the words
// are those of a guard that sees the change alone.
func TestConsiderGuards(t *testing.T) {
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	state := reconcile.New(reconcile.DefaultPolicy())
	state.Replace("zone/apex", "0", []record.Claim{{RRset: rrset(t, "example.net.", record.TypeSOA, soa), Source: "zone/apex"}})
	hosts := func(s record.Source, from, to int) (claims []record.Claim) {
		for i := from; i < to; i++ {
			claims = append(claims, record.Claim{RRset: rrset(t, fmt.Sprintf("h%03d.example.net.", i), record.TypeA, record.Rdata([]byte{192, 0, 2, byte(i)})), Source: s})
		}
		return claims
	}
	state.Replace("config/a", "0", hosts("config/a", 0, 100))
	state.Replace("config/b", "0", hosts("config/b", 100, 110))
	state.Reconcile()
	c := still(t, state)
	bounds := guard.DefaultBounds()
	bounds.Zone, bounds.Overall = guard.Limits{}, guard.Limits{}
	bounds.Source = guard.Limits{Removed: guard.Bound{Percent: 10, Floor: 8, Ceiling: 1000}}
	bind(t, c, bounds)
	a := plan.Change{Source: "config/a", Before: hosts("config/a", 0, 100), Claims: hosts("config/a", 0, 85)}
	move := plan.Change{Source: "config/b", Before: hosts("config/b", 100, 110), Claims: hosts("config/b", 85, 110)} // takes over what a gives away
	held := func(changes ...plan.Change) map[string][]string {
		t.Helper()
		p, err := c.Consider(t.Context(), changes, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]string{}
		for _, h := range p.Held {
			out[h.Source] = h.Why
		}
		return out
	}
	if got := held(a); len(got) != 1 || !strings.HasPrefix(strings.Join(got["config/a"], " "), "config/a would remove 15 of 100 RRsets that it made (15 %)") {
		t.Errorf("held %q", got)
	}
	if got := held(a, move); len(got) != 0 {
		t.Errorf("held %q, want nothing: what moves is there before it goes", got)
	}
	put := func(op ...store.Op) {
		t.Helper()
		if _, err := c.deps.Store.Commit(t.Context(), store.Txn{Do: op}); err != nil {
			t.Fatal(err)
		}
	}
	b := plan.Change{Source: "config/b", Before: hosts("config/b", 100, 110), Claims: hosts("config/b", 104, 110)}
	if got := held(b); len(got) != 0 {
		t.Errorf("held %q, want nothing of 4", got)
	}
	now := c.deps.Now()
	put(store.Op{Path: tree.HistoryPath("internal", 7), Value: tree.Encode(tree.History{Version: 7, Time: now.UnixMilli(), Counted: []tree.Counted{{Source: "config/b", Zone: "example.net.", Removed: 7}}})})
	if got := held(b); !strings.Contains(strings.Join(got["config/b"], " "), "with the 7 before, that is 11") {
		t.Errorf("held %q, want what was counted lately", got)
	}
	x := tree.Expect{ID: "e1", Dataset: "internal", Source: "config/a", Left: tree.Left{Removals: 100}, Set: now.UnixMilli(), Until: now.UnixMilli() + 60_000}
	put(store.Op{Path: tree.ExpectPath("e1"), Value: tree.Encode(x)})
	if got := held(a); len(got) != 0 {
		t.Errorf("held %q, want nothing of what was announced", got)
	}
	put(store.Op{Path: tree.ExpectedPath("e1"), Value: tree.Encode(tree.Left{Removals: 2})})
	if got := held(a); !strings.Contains(strings.Join(got["config/a"], " "), "besides 2 that were announced") {
		t.Errorf("held %q, want 13 of 15", got)
	}
	bad := record.Claim{RRset: rrset(t, "h100.example.net.", record.TypeTerms, "\x00\x01\x00\x00\x00"), Source: "config/b"}
	if got := held(plan.Change{Source: "config/b", Before: hosts("config/b", 100, 110), Claims: append(hosts("config/b", 100, 110), bad)}); !strings.Contains(strings.Join(got["config/b"], " "), "config/b makes a claim that is malformed") {
		t.Errorf("held %q, want the terms that cannot be read", got)
	}
	put(store.Op{Path: tree.GuardsPath("internal"), Value: []byte("{")})
	if _, err := c.Consider(t.Context(), []plan.Change{a}, nil, true); err == nil || !strings.Contains(err.Error(), "node /guards/internal: decode bounds: ") {
		t.Errorf("bounds that cannot be read: %v", err)
	}
	bind(t, c, guard.Bounds{})
	p, err := c.Consider(t.Context(), []plan.Change{a}, nil, true)
	if err != nil || len(p.Held) != 0 || !slices.Contains(p.Notes, "guards are off: nothing would be held") {
		t.Errorf("%+v, %v", p, err)
	}
}

// The judge that follows what is in force says what a new one says.
func TestConsiderJudgeFollows(t *testing.T) {
	sources := []record.Source{"config/a", "config/b", "zone/z", "rule/r"}
	trips := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		state := reconcile.New(reconcile.DefaultPolicy())
		c := still(t, state)
		bounds := guard.DefaultBounds()
		bounds.Few = 1
		bounds.Zone.Removed, bounds.Source.Removed, bounds.Source.Replaced = guard.Bound{Percent: 1, Ceiling: 1}, guard.Bound{Percent: 1, Ceiling: 1}, guard.Bound{Percent: 1, Ceiling: 1}
		bind(t, c, bounds)
		now := time.Unix(1_800_000_000, 0)
		c.deps.Now = func() time.Time { return now }
		for range 6 {
			c.claims.mu.Lock()
			for name, claims := range sharded(r, randomClaims(t, r, sources[r.IntN(4)])) {
				if len(claims) > 0 {
					state.Replace(claims[0].Source, name, claims)
				}
			}
			c.claims.reconcile(c.deps.Now())
			c.claims.mu.Unlock()
			now = now.Add(time.Hour) // a new judge does not know which zones are young
			change := plan.Change{Source: "config/a", Claims: randomClaims(t, r, "config/a")}
			got, err := c.Consider(t.Context(), []plan.Change{change}, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			fresh := still(t, state)
			bind(t, fresh, bounds)
			fresh.deps.Now = c.deps.Now
			want, err := fresh.Consider(t.Context(), []plan.Change{change}, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d (-new +followed):\n%s", seed, diff)
			}
			trips += len(got.Held)
		}
	}
	if trips == 0 {
		t.Error("nothing tripped")
	}
}

// What is long, or much, is cut and counted.
func TestConsiderIsBounded(t *testing.T) {
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	const s record.Source = "config/a"
	var claims []record.Claim
	long := record.Rdata(strings.Repeat("\xff"+strings.Repeat("x", 255), 8))
	for z := range plan.MaxZones + 5 {
		claims = append(claims, record.Claim{RRset: rrset(t, fmt.Sprintf("z%d.test.", z), record.TypeSOA, soa), Source: s, Place: strings.Repeat("p", 1000)})
	}
	var many []record.Rdata
	for i := range plan.MaxData + 7 {
		many = append(many, long+record.Rdata([]byte{1, byte(i)}))
	}
	claims = append(claims, record.Claim{RRset: rrset(t, "a.z0.test.", record.TypeTXT, many...), Source: s})
	for i := range plan.MaxLosing + 9 {
		claims = append(claims, record.Claim{RRset: rrset(t, fmt.Sprintf("h%d.nowhere.", i), record.TypeA, "\xc0\x00\x02\x01"), Source: s})
	}
	var configs []plan.Config
	for i := range plan.MaxClaims + 3 {
		configs = append(configs, plan.Config{Path: fmt.Sprintf("c%05d", i), Type: "T", Kind: plan.Added, Change: "1"})
	}
	state := reconcile.New(reconcile.DefaultPolicy())
	p, err := still(t, state).Consider(t.Context(), []plan.Change{{Source: s, Claims: claims}}, configs, false)
	if err != nil {
		t.Fatal(err)
	}
	records, more := 0, 0
	for _, z := range p.Zones {
		records += len(z.Records)
		more += z.More
	}
	if len(p.Zones) != plan.MaxZones || p.ZoneCount != plan.MaxZones+5 || records != plan.MaxRecords || p.Total.Added != plan.MaxZones+6 || records+more+5 != p.Total.Sum() {
		t.Errorf("%d zones of %d, %d records and %d more, %+v", len(p.Zones), p.ZoneCount, records, more, p.Total)
	}
	if len(p.Claims) != plan.MaxClaims || p.MoreClaims != len(claims)-plan.MaxClaims || len(p.Losing) != plan.MaxLosing || p.MoreLosing != 9 {
		t.Errorf("%d claims and %d more, %d losing and %d more", len(p.Claims), p.MoreClaims, len(p.Losing), p.MoreLosing)
	}
	if len(p.Begin) != plan.MaxLines || p.MoreBegin != plan.MaxLosing+9-plan.MaxLines || len(p.Configurations) != plan.MaxClaims || p.MoreConfigurations != 3 {
		t.Errorf("%d conflicts and %d more, %d configurations and %d more", len(p.Begin), p.MoreBegin, len(p.Configurations), p.MoreConfigurations)
	}
	if len(p.Touches) != len(claims)-1-plan.MaxLosing-9 {
		t.Errorf("%d zones are touched", len(p.Touches))
	}
	set := p.Zones[slices.IndexFunc(p.Zones, func(z plan.Zone) bool { return z.Name == "z0.test." })].Records
	i := slices.IndexFunc(set, func(r plan.Record) bool { return r.Type == "TXT" })
	if i < 0 || len(set[i].After.Data) != plan.MaxData || set[i].After.More != 7 || len(set[i].After.Data[0]) > plan.MaxText+len("…") {
		t.Errorf("%+v", set)
	}
	for _, x := range p.Claims {
		if len(x.Place) > plan.MaxText+len("…") {
			t.Fatalf("a place of %d octets", len(x.Place))
		}
	}
}

// TestConsiderTraffic: which part of the traffic asks what changes, and gets another answer.
func TestConsiderTraffic(t *testing.T) {
	w := newWorld(t)
	const zone, web record.Source = "zone/example.net", "config/web"
	soa := rrset(t, "example.net.", record.TypeSOA, record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00")+record.Rdata(make([]byte, 20)))
	www, old := rrset(t, "www.example.net.", record.TypeA, "\xc0\x00\x02\x01"), rrset(t, "old.example.net.", record.TypeA, "\xc0\x00\x02\x02")
	before := []record.Claim{{RRset: www, Source: web}, {RRset: old, Source: web}}
	w.publish(w.commit(claimtree.Ops(zone, "a", []record.Claim{{RRset: soa, Source: zone}}), claimtree.Ops(web, "a", before)), soa, www, old)
	w.host("host0", 1)
	now := w.deps.Now().UnixMilli()
	s := tree.Sample{From: now - 60_000, To: now, Queries: 6400}
	for _, q := range []string{"30 positive A www.example.net.", "10 positive A old.example.net.", "20 nxdomain A nobody.example.net.", "20 positive TXT old.example.net."} {
		var x tree.SampleQuestion
		if err := x.UnmarshalText([]byte(q)); err != nil {
			t.Fatal(err)
		}
		s.Questions = append(s.Questions, x)
	}
	w.commit(store.Op{Path: tree.SamplePath("internal", "host0"), Value: tree.Encode(s)})
	w.eventually(func() error {
		p, err := w.Consider(t.Context(), []plan.Change{{Source: web, Before: before, Claims: before[:1]}}, nil, true)
		if err != nil {
			return err
		}
		// Of 80 questions 30 ask for the name that goes; those for its TXT get NXDOMAIN before, too.
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
		if x := p.Traffic; x == nil || x.Drawn != 80 || !near(x.Touched, 0.375) || !near(x.Share, 0.125) || !near(x.NoName, 0.25) || x.Queries != 6400 ||
			len(x.Kinds) != 1 || x.Kinds[0].Kind != "nxdomain" || len(x.Examples) != 1 || x.Examples[0].After != "NXDOMAIN" {
			return fmt.Errorf("traffic %+v", p.Traffic)
		}
		return nil
	})
}

// BenchmarkConsider plans a change on top of 500,000 RRsets in 200 zones. "blocked" is how
// long nobody else is answered.
func BenchmarkConsider(b *testing.B) {
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	set := func(owner string, typ record.Type, data record.Rdata) record.RRset {
		n, err := record.ParseName(owner)
		if err != nil {
			b.Fatal(err)
		}
		return record.NewRRset(n, typ, 300, data)
	}
	state := reconcile.New(reconcile.DefaultPolicy())
	var apexes []record.Claim
	for z := range 200 {
		apexes = append(apexes, record.Claim{RRset: set(fmt.Sprintf("z%d.example.net.", z), record.TypeSOA, soa), Source: "zone/apex"})
	}
	state.Replace("zone/apex", "0", apexes)
	for shard := range 500 {
		var claims []record.Claim
		for i := range 1000 {
			claims = append(claims, record.Claim{RRset: set(fmt.Sprintf("h%d-%d.z%d.example.net.", shard, i, i%200), record.TypeA, record.Rdata([]byte{192, 0, 2, byte(i)})), Source: "rule/address"})
		}
		state.Replace("rule/address", fmt.Sprint(shard), claims)
	}
	state.Reconcile()
	for _, n := range []int{1, 10_000, 100_000} {
		var claims []record.Claim
		for i := range n {
			owner := fmt.Sprintf("c%d.z%d.example.net.", i, i%200)
			if i%3 == 0 { // in conflict
				owner = fmt.Sprintf("h%d-%d.z%d.example.net.", i/1000, i%1000, i%200)
			}
			claims = append(claims, record.Claim{RRset: set(owner, record.TypeA, record.Rdata([]byte{198, 51, 100, byte(i)})), Source: "config/a", Place: fmt.Sprint("a.star:", i)})
		}
		for _, deep := range []bool{false, true} {
			b.Run(fmt.Sprintf("claims=%d/deep=%v", n, deep), func(b *testing.B) {
				c := still(b, state)
				if _, err := c.Consider(b.Context(), nil, nil, true); err != nil { // the judge is made once
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := c.Consider(b.Context(), []plan.Change{{Source: "config/a", Claims: claims}}, nil, deep); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
