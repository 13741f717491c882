package presenter

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

const people record.Source = "config/dns/example.net"

// claimed is what people claim of a host.
func claimed(host string, last byte) record.Claim {
	c := address(host, last)
	c.Source, c.Provenance = people, record.Provenance{Author: "alice", Reason: "a new one", Time: time.UnixMilli(1_790_000_000_000)}
	return c
}

func byRings(c *Config, _ *Deps) {
	c.Trial.Rings = []trial.Ring{{Name: "canary", Soak: time.Minute, Hosts: []string{"dns1"}}, {Name: "half", Soak: time.Minute, Hosts: []string{"share:50%"}}}
	c.Trial.Limit = time.Hour
}

// onTrial gives what is tried, with its delta; nil: nothing is.
func onTrial(t *testing.T, st store.Store) (*trial.Trial, *snapshot.Delta) {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.Trials)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Path != tree.TrialPath("internal") {
			continue
		}
		x := new(trial.Trial)
		if err := tree.Decode(n, x); err != nil {
			t.Fatal(err)
		}
		parts, _, err := st.List(t.Context(), tree.TrialPartsPrefix("internal", x.Number))
		if err != nil {
			t.Fatal(err)
		}
		o := trial.Offer{Dataset: "internal", ID: x.ID, Base: x.Base, Size: x.Size, SHA256: x.SHA256}
		d, err := o.Open(trial.Parts(parts))
		if err != nil {
			t.Fatal(err)
		}
		return x, d
	}
	if len(nodes) > 0 {
		t.Fatalf("there is no trial, and %s", nodes[0].Path)
	}
	if parts, _, err := st.List(t.Context(), tree.AllTrialParts("internal")); err != nil || len(parts) > 0 {
		t.Fatalf("there is no trial, and %d parts; %v", len(parts), err)
	}
	return nil, nil
}

// begun has people's www tried, which a rule has otherwise.
func begun(t *testing.T, st store.Store) (*running, *trial.Trial, *snapshot.Delta) {
	t.Helper()
	put(t, st, "zone", zone())
	put(t, st, "all", address("www", 1))
	p := run(t, st, byRings)
	settle()
	put(t, st, "people", claimed("www", 2))
	settle()
	x, d := onTrial(t, st)
	if x == nil {
		t.Fatal("nothing is tried")
	}
	return p, x, d
}

func judged(t *testing.T, st store.Store, x *trial.Trial, state trial.State, evidence ...string) {
	t.Helper()
	do(t, st, store.Op{Path: tree.JudgementPath("internal"), Value: tree.Encode(trial.Judgement{ID: x.ID, Begun: x.Since, Number: x.Number, State: state, Text: "as the test says", Evidence: evidence})})
	settle()
}

// TestRings tries people's changes while those of rules go on; what is passed is a version,
// what is withdrawn a hold with the evidence, and a restart changes nothing.
func TestRings(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(3)...)
		put(t, st, "people", claimed("www", 1))
		p := run(t, st, guarded, byRings)
		defer func() { p.stop(t) }()
		settle()
		www := claimed("www", 1).Key
		if x, _ := onTrial(t, st); x != nil || answer(t, st, www) == "" {
			t.Fatalf("what was there first is tried: %+v", x)
		}

		put(t, st, "people", claimed("www", 2))
		settle()
		x, d := onTrial(t, st)
		if x == nil || x.Source != people || x.Replaced != 1 || x.Author != "alice" || x.Reason != "a new one" || len(d.Put) != 1 || answer(t, st, www)[3] != 1 {
			t.Fatalf("trial %+v, %+v", x, d)
		}
		if s := p.Status(); len(s.Waiting) != 1 || !strings.Contains(s.Waiting[0], "zonecast run canary") {
			t.Fatalf("status says %q", s.Waiting)
		}
		put(t, st, "more", address("other", 7))
		settle()
		if answer(t, st, address("other", 7).Key) == "" {
			t.Fatal("a rule's change waits, too")
		}
		p.stop(t)
		p = run(t, st, guarded, byRings)
		settle()
		if again, _ := onTrial(t, st); again == nil || again.ID != x.ID || again.Since != x.Since || again.Number != x.Number {
			t.Fatalf("after a restart %+v, before %+v", again, x)
		}
		judged(t, st, x, trial.Passed)
		if again, _ := onTrial(t, st); again != nil || answer(t, st, www)[3] != 2 {
			t.Fatalf("it was passed: %+v", again)
		}

		put(t, st, "people", claimed("www", 3))
		settle()
		x, _ = onTrial(t, st)
		judged(t, st, x, trial.Withdrawn, "SERVFAIL rose from 0 to 7 %")
		h := held(t, st)
		if h.ID != x.ID || h.Ring != "canary" || !strings.Contains(strings.Join(h.Why, "\n"), "SERVFAIL rose") || answer(t, st, www)[3] != 2 {
			t.Fatalf("%+v", h)
		}
		if again, _ := onTrial(t, st); again != nil {
			t.Fatalf("it was withdrawn: %+v", again)
		}
		p.stop(t)
		p = run(t, st, guarded, byRings)
		settle()
		if again, _ := onTrial(t, st); again != nil || held(t, st).ID != h.ID {
			t.Fatalf("after a restart it is tried again: %+v", again)
		}
		decide(t, st, h, "release")
		if again, _ := onTrial(t, st); again != nil || answer(t, st, www)[3] != 3 {
			t.Fatalf("it was released: %+v", again)
		}
	})
}

// TestRingsWithoutJudge holds what nobody judges in time, and never passes it; a person's word
// counts at once, and an override does not wait.
func TestRingsWithoutJudge(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		p := run(t, st, byRings)
		defer func() { p.stop(t) }()
		settle()
		put(t, st, "people", claimed("www", 1))
		settle()
		x, _ := onTrial(t, st)
		time.Sleep(2 * time.Hour)
		settle()
		h := held(t, st)
		if h.ID != x.ID || !strings.Contains(h.Why[0], "does `zonecast run canary` run") || answer(t, st, claimed("www", 1).Key) != "" {
			t.Fatalf("%+v", h)
		}
		if again, _ := onTrial(t, st); again != nil {
			t.Fatalf("%+v", again)
		}

		put(t, st, "people", claimed("www", 2))
		settle()
		x, _ = onTrial(t, st)
		over := address("ftp", 9)
		over.Source = tree.OverrideSource("1")
		put(t, st, "0", over)
		settle()
		if got := answer(t, st, over.Key); got == "" || got[3] != 9 {
			t.Fatalf("an override waits: %x", got)
		}
		do(t, st, store.Op{Path: tree.WordPath("internal"), Value: tree.Encode(trial.Word{ID: x.ID, Begun: x.Since - 1, Decision: trial.Pass})})
		settle()
		if again, _ := onTrial(t, st); again == nil {
			t.Fatal("the word for an earlier trial of the same change counts")
		}
		do(t, st, store.Op{Path: tree.WordPath("internal"), Value: tree.Encode(trial.Word{ID: x.ID, Begun: x.Since, Decision: trial.Withdraw, Author: "bob", Reason: "no"})})
		settle()
		if h := held(t, st); h.ID != x.ID || !strings.Contains(h.Why[0], "withdrawn from its rings by bob (no)") {
			t.Fatalf("%+v", h)
		}
	})
}

// TestRingsClockAhead: a trial that was begun by a clock a day ahead is held for a person, and does not
// last a day.
func TestRingsClockAhead(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		ahead := run(t, st, func(c *Config, d *Deps) {
			byRings(c, d)
			d.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
		})
		settle()
		put(t, st, "people", claimed("www", 1))
		settle()
		x, _ := onTrial(t, st)
		ahead.stop(t)
		p := run(t, st, byRings)
		defer func() { p.stop(t) }()
		time.Sleep(time.Minute)
		settle()
		if h := held(t, st); x == nil || h.ID != x.ID {
			t.Fatalf("%+v", h)
		}
	})
}

// TestRingsInTurn tries one change at a time, and composes it anew when others change what it
// stands on.
func TestRingsInTurn(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		p, first, d := begun(t, st)
		defer func() { p.stop(t) }()
		other := claimed("ftp", 3)
		other.Source = "config/ftp"
		put(t, st, "ftp", other)
		settle()
		if again, _ := onTrial(t, st); again == nil || again.ID != first.ID || again.Number != first.Number {
			t.Fatalf("%+v, then %+v", first, again)
		}
		if s := p.Status(); len(s.Waiting) != 2 || !strings.Contains(strings.Join(s.Waiting, "\n"), "after the trial that is under way") {
			t.Fatalf("status says %q", s.Waiting)
		}
		put(t, st, "all", address("www", 7)) // below what is tried
		settle()
		second, e := onTrial(t, st)
		if second == nil || second.ID != first.ID || second.Since != first.Since || second.Number <= first.Number || e.BaseDigest == d.BaseDigest || e.Digest != d.Digest {
			t.Fatalf("%+v, then %+v", first, second)
		}
		judged(t, st, second, trial.Passed)
		third, _ := onTrial(t, st)
		if third == nil || third.Source != "config/ftp" || answer(t, st, claimed("www", 2).Key)[3] != 2 {
			t.Fatalf("%+v", third)
		}
		do(t, st, claimtree.Ops("config/ftp", "ftp", nil)) // nobody wants it any more
		settle()
		if again, _ := onTrial(t, st); again != nil {
			t.Fatalf("%+v", again)
		}
	})
}

// TestRingsPassWhatWasTried: a judgement passes the composition that the hosts answered, and no
// other: neither an earlier one, nor one that changes in the turn that hears of it.
func TestRingsPassWhatWasTried(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		p, first, _ := begun(t, st)
		defer func() { p.stop(t) }()
		put(t, st, "all", address("www", 7)) // below what is tried
		settle()
		second, _ := onTrial(t, st)
		if second.Number == first.Number {
			t.Fatalf("not composed anew: %+v", second)
		}
		judged(t, st, first, trial.Passed)
		if again, _ := onTrial(t, st); again == nil || again.Number != second.Number || answer(t, st, claimed("www", 2).Key)[3] != 7 {
			t.Fatalf("the judgement of an earlier composition passed it: %+v", again)
		}
		// In one turn: it is passed, and what it stands on changes.
		j := trial.Judgement{ID: second.ID, Begun: second.Since, Number: second.Number, State: trial.Passed}
		do(t, st, store.Op{Path: tree.JudgementPath("internal"), Value: tree.Encode(j)})
		put(t, st, "all", address("www", 8))
		settle()
		third, _ := onTrial(t, st)
		if third == nil || third.Number == second.Number || answer(t, st, claimed("www", 2).Key)[3] != 8 {
			t.Fatalf("what nobody tried was passed: %+v", third)
		}
		judged(t, st, third, trial.Passed)
		if again, _ := onTrial(t, st); again != nil || answer(t, st, claimed("www", 2).Key)[3] != 2 {
			t.Fatalf("%+v", again)
		}
	})
}

// TestRingsOnceBegun: what is tried because it is large goes on when less of it is left, until
// nothing is.
func TestRingsOnceBegun(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		p := run(t, st, byRings, func(c *Config, _ *Deps) { c.Trial.Large, c.Trial.Sources = 2, nil })
		defer func() { p.stop(t) }()
		settle()
		put(t, st, "people", claimed("www", 2), claimed("ftp", 2))
		settle()
		first, _ := onTrial(t, st)
		if first == nil || first.Created != 2 {
			t.Fatalf("%+v", first)
		}
		put(t, st, "all", address("ftp", 2)) // somebody else has the half of it
		settle()
		second, _ := onTrial(t, st)
		if second == nil || second.ID != first.ID || second.Created != 1 || second.Why != first.Why || answer(t, st, claimed("www", 2).Key) != "" {
			t.Fatalf("%+v, then %+v", first, second)
		}
		put(t, st, "more", address("www", 2)) // and then all of it
		settle()
		if again, _ := onTrial(t, st); again != nil || answer(t, st, claimed("www", 2).Key) == "" {
			t.Fatalf("%+v", again)
		}
	})
}

// TestRingsSameChangeAgain: a change that comes a second time stands on what is there by then.
func TestRingsSameChangeAgain(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		a, b := claimed("a", 1), claimed("b", 1)
		put(t, st, "people", a, b, claimed("www", 1), claimed("ftp", 1))
		p := run(t, st, byRings, func(c *Config, _ *Deps) { c.Trial.Large, c.Trial.Sources = 2, nil })
		defer func() { p.stop(t) }()
		settle()
		www, ftp := claimed("www", 2), claimed("ftp", 2)
		put(t, st, "people", a, b, www, ftp)
		settle()
		first, _ := onTrial(t, st)
		judged(t, st, first, trial.Passed)
		put(t, st, "people", b, www, ftp) // too little to be tried
		settle()
		put(t, st, "people", www, ftp)
		settle()
		put(t, st, "people", a, b, www, ftp)
		settle()
		again, _ := onTrial(t, st)
		if again == nil || again.ID != first.ID || again.Created != 2 {
			t.Fatalf("%+v, then %+v", first, again)
		}
		put(t, st, "all", address("a", 7)) // below what is tried
		settle()
		if anew, _ := onTrial(t, st); anew == nil || anew.ID != first.ID || anew.Number == again.Number || anew.Replaced != 1 {
			t.Fatalf("%+v, then %+v", again, anew)
		}
	})
}

// TestRingsFooting: while a change is tried, whatever others change, it is composed anew where
// that matters to it, and nowhere else: a presenter that starts, and looks at all of it, finds
// nothing to do.
func TestRingsFooting(t *testing.T) {
	anew, stayed := 0, 0
	for seed := range uint64(12) {
		bubble(t, func(t *testing.T, st *memstore.Store) {
			put(t, st, "zone", zone())
			put(t, st, "all", hosts(2)...)
			p := run(t, st, byRings)
			defer func() { p.stop(t) }()
			settle()
			r := rand.New(rand.NewPCG(seed, 0))
			tried := []record.Claim{claimed("host0", 9), claimed("new.sub", 9)}
			if seed%3 == 0 { // it changes cuts itself
				cut := claimed("sub", 0)
				cut.RRset = record.NewRRset(cut.Owner, record.TypeNS, 300, record.Rdata(name("host1.example.net.")))
				tried = append(tried, cut)
			}
			put(t, st, "people", tried...)
			settle()
			was, _ := onTrial(t, st)
			for range 15 {
				kinds := []struct {
					shard string
					claim record.Claim
				}{
					{"a", address("host0", byte(r.IntN(3)))},
					{"b", address("other", byte(r.IntN(250)))},
					{"c", address("host7.sub", byte(r.IntN(3)))},
					{"d", address("sub", byte(r.IntN(3)))},
					{"e", address("new.sub", byte(r.IntN(2)))},
					{"f", address("x.new.sub", byte(r.IntN(2)))},
				}
				k := kinds[r.IntN(len(kinds))]
				switch r.IntN(6) {
				case 0:
					k.claim.RRset = record.NewRRset(k.claim.Owner, record.TypeNS, 300, record.Rdata(name("host1.example.net.")))
				case 1:
					k.claim.RRset = record.NewRRset(k.claim.Owner, record.TypeCNAME, 300, record.Rdata(name("host1.example.net.")))
				}
				if r.IntN(4) == 0 { // an override passes the gate
					k.claim.Source = tree.OverrideSource(k.shard)
				}
				if r.IntN(3) == 0 {
					do(t, st, claimtree.Ops(k.claim.Source, k.shard, nil))
				} else {
					put(t, st, k.shard, k.claim)
				}
				settle()
				now, d := onTrial(t, st)
				p.stop(t)
				p = run(t, st, byRings)
				settle()
				fresh, e := onTrial(t, st)
				if (now == nil) != (fresh == nil) || now != nil && (now.Number != fresh.Number || d.Digest != e.Digest) {
					t.Fatalf("seed %d, after %s by %s: tried is %+v; from the beginning %+v", seed, k.claim.Key, k.claim.Source, now, fresh)
				}
				if now == nil {
					return // others have all of it
				}
				if now.Number == was.Number {
					stayed++
				} else {
					anew++
				}
				was = now
			}
		})
	}
	if anew < 10 || stayed < 10 {
		t.Errorf("composed anew %d times, not %d times: the test tells nothing", anew, stayed)
	}
}

// BenchmarkBesideTrial is what a change of a rule costs while one of 100,000 RRsets is tried.
func BenchmarkBesideTrial(b *testing.B) {
	st := memstore.New()
	defer st.Close()
	put(b, st, "zone", zone())
	p := run(b, st, byRings, func(c *Config, _ *Deps) { c.Trial.Large, c.Settle, c.Gather = 1000, 0, 0 })
	defer p.stop(b)
	wait := func(what string, f func() bool) {
		for end := time.Now().Add(time.Minute); !f(); time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				b.Fatal(what)
			}
		}
	}
	wait("no version", func() bool { return p.Status().Version > 0 })
	for i := range 200 {
		var claims []record.Claim
		for j := range 500 {
			claims = append(claims, claimed(fmt.Sprintf("h%d-%d", i, j), 1))
		}
		put(b, st, fmt.Sprintf("s%d", i), claims...)
	}
	wait("nothing is tried", func() bool { nodes, _, _ := st.List(b.Context(), tree.Trials); return len(nodes) > 0 })
	time.Sleep(time.Second)
	for i := 0; b.Loop(); i++ {
		v := p.Status().Version
		put(b, st, "beside", address("other", byte(i)))
		wait("no version", func() bool { return p.Status().Version > v })
	}
}

// TestRingsNewZone lets a zone in at once where none was, and tries one that lies in another.
func TestRingsNewZone(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		p := run(t, st, byRings)
		defer func() { p.stop(t) }()
		settle()
		for _, c := range []struct {
			apex  string
			tried bool // the last: it is under way then
		}{{"example.org.", false}, {"sub.example.net.", true}} {
			apex, tried := c.apex, c.tried
			z, a := zone(), address("www", 1)
			z.Owner, a.Owner = name(apex), name("www."+apex)
			z.Source, a.Source = record.Source("zone/"+strings.TrimSuffix(apex, ".")), record.Source("zone/"+strings.TrimSuffix(apex, "."))
			put(t, st, "z", z, a)
			settle()
			if x, _ := onTrial(t, st); (x != nil) != tried || (answer(t, st, a.Key) == "") != tried {
				t.Errorf("%s is tried: %+v, want %v", apex, x, tried)
			}
		}
	})
}

// TestRingsOff holds that without rings, and with rings that pass everything, the same is
// published, and that without rings the store has nothing of them.
func TestRingsOff(t *testing.T) {
	for seed := range uint64(5) {
		var got [2]string
		for i, rings := range []bool{false, true} {
			bubble(t, func(t *testing.T, st *memstore.Store) {
				put(t, st, "zone", zone())
				options := []func(*Config, *Deps){guarded}
				if rings {
					options = append(options, byRings)
				}
				p := run(t, st, options...)
				defer p.stop(t)
				settle()
				r := rand.New(rand.NewPCG(seed, 0))
				for range 30 {
					c := claimed(fmt.Sprintf("host%d", r.IntN(6)), byte(r.IntN(4)))
					if r.IntN(2) == 0 {
						c.Source = ruleSource
					}
					shard := fmt.Sprintf("s%d", r.IntN(3))
					if claims := []record.Claim{c}[:r.IntN(2)]; len(claims) > 0 || r.IntN(2) == 0 {
						put(t, st, string(c.Source[:4])+shard, claims...)
					}
					settle()
					for x, _ := onTrial(t, st); x != nil; x, _ = onTrial(t, st) {
						judged(t, st, x, trial.Passed)
					}
				}
				got[i] = content(t, st)
				if nodes, _, err := st.List(t.Context(), tree.Rings); err != nil || len(nodes) > 0 != rings {
					t.Errorf("%d policies of rings, rings %v; %v", len(nodes), rings, err)
				}
				if holds, _, err := st.List(t.Context(), tree.Holds); err != nil || len(holds) > 0 {
					t.Errorf("%d holds; %v", len(holds), err)
				}
			})
		}
		if got[0] != got[1] {
			t.Fatalf("seed %d: without rings\n%s\nwith rings\n%s", seed, got[0], got[1])
		}
	}
}
