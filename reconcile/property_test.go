package reconcile_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

// owners is a small world, so that zones, cuts and aliases meet often.
func owners() []record.Name {
	var names []record.Name
	for _, n := range []string{
		".", "net.", "example.net.", "a.example.net.", "b.a.example.net.", "c.b.a.example.net.", "*.a.example.net.", "ns.b.a.example.net.",
		"d.example.net.", "ns.d.example.net.", "x.net.", "10.in-addr.arpa.", "0.10.in-addr.arpa.", "1.0.0.10.in-addr.arpa.", "2.0.0.10.in-addr.arpa.",
	} {
		names = append(names, name(n))
	}
	return names
}

func sources() []record.Source {
	return []record.Source{"override/1", "config/site", "zone/a", "zone/b", "map/eu", "update/key", "rule/ptr", "rule/web"}
}

func soa(serial byte) record.Rdata {
	return record.Rdata(name("ns.example.net.")) + record.Rdata(name("root.example.net.")) + record.Rdata([]byte{0, 0, 0, serial, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1})
}

// claims draws one claim. Types that shape zones are likelier than in real life.
func drawClaim(t *rapid.T, source record.Source) record.Claim {
	names := owners()
	owner := rapid.SampledFrom(names).Draw(t, "owner")
	typ := rapid.SampledFrom([]record.Type{
		record.TypeSOA, record.TypeSOA, record.TypeNS, record.TypeNS, record.TypeA, record.TypeA, record.TypeA, record.TypeCNAME, record.TypeCNAME,
		record.TypeDNAME, record.TypeTXT, record.TypePTR, record.TypePTR, record.TypeDS, record.TypeNSEC,
	}).Draw(t, "type")
	var data []record.Rdata
	for range rapid.IntRange(1, 2).Draw(t, "records") {
		switch typ {
		case record.TypeSOA:
			data = []record.Rdata{soa(byte(rapid.IntRange(1, 2).Draw(t, "serial")))}
		case record.TypeA:
			data = append(data, record.Rdata([]byte{10, 0, 0, byte(rapid.IntRange(1, 2).Draw(t, "host"))}))
		case record.TypeTXT:
			data = append(data, rapid.SampledFrom([]record.Rdata{"\x01x", "\x01y", "\x01z"}).Draw(t, "text"))
		case record.TypeNS: // often at names below others, where it makes glue
			data = append(data, record.Rdata(rapid.SampledFrom(append(names, name("ns.b.a.example.net."), name("ns.d.example.net."), name("c.b.a.example.net."))).Draw(t, "server")))
		case record.TypePTR:
			data = append(data, record.Rdata(rapid.SampledFrom(names).Draw(t, "target")))
		case record.TypeCNAME, record.TypeDNAME:
			data = []record.Rdata{record.Rdata(rapid.SampledFrom(names).Draw(t, "target"))}
		default:
			data = append(data, "\x00\x01\x02\x03")
		}
	}
	c := record.Claim{
		RRset:  record.NewRRset(owner, typ, uint32(rapid.IntRange(1, 3).Draw(t, "ttl"))*100, data...),
		Source: source,
		Place:  fmt.Sprintf("file:%d", rapid.IntRange(1, 3).Draw(t, "line")),
		Provenance: record.Provenance{
			Author: rapid.SampledFrom([]string{"", "alice"}).Draw(t, "author"),
			Time:   time.UnixMilli(1e12).UTC(),
		},
	}
	switch rapid.IntRange(0, 19).Draw(t, "oddity") {
	case 0:
		c.TTL = 9999 // above the policy's bound
	case 1:
		c.Data = nil
	case 2:
		if single := typ == record.TypeCNAME || typ == record.TypeDNAME; single {
			c.Data = []record.Rdata{"\x00", "\x01a\x00"}
		}
	case 3, 4, 5:
		c.Location = "eu"
	}
	c.Fallback = (typ == record.TypeSOA || typ == record.TypeNS) && rapid.Bool().Draw(t, "fallback")
	return c
}

func testPolicy() reconcile.Policy {
	return reconcile.Policy{MaxTTL: 1000, Merge: []reconcile.Merge{{Type: record.TypeTXT}, {Kind: record.KindRule, Type: record.TypeA}}}
}

type shardID struct {
	source record.Source
	shard  string
}

// history is Replace calls; a Reconcile follows those with settle.
type step struct {
	shardID
	claims []record.Claim
	settle bool
}

func drawHistory(t *rapid.T) []step {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		st := step{settle: rapid.Bool().Draw(t, "settle")}
		st.source = rapid.SampledFrom(sources()).Draw(t, "source")
		st.shard = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "shard")
		for range rapid.IntRange(0, 5).Draw(t, "claims") {
			st.claims = append(st.claims, drawClaim(t, st.source))
		}
		return st
	}), 1, 25).Draw(t, "history")
}

// view is everything a State says.
type view struct {
	Dataset   []record.RRset
	Conflicts []reconcile.Conflict
	Counts    map[reconcile.Kind]int
	Zones     []record.Name
	Why       []reconcile.Explanation
	Len       int
	Claims    int
}

func look(s *reconcile.State) view {
	v := view{slices.Collect(s.All()), slices.Collect(s.Conflicts()), s.ConflictCounts(), s.Zones(), nil, s.Len(), s.Claims()}
	for _, n := range append(owners(), name("nowhere.a.example.net."), name("other.org.")) {
		v.Why = append(v.Why, s.Explain(n, 0), s.Explain(n, record.TypeA))
	}
	return v
}

// TestReconcileIsOrderBlind holds that a State knows only what is claimed now: a
// random history leaves it as a new State with the final claims, whatever order
// those come in; that the changes it tells add up to the dataset; that doing
// nothing changes nothing; and that the model agrees.
func TestReconcileIsOrderBlind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := reconcile.New(testPolicy())
		replica := map[record.Key]record.RRset{}
		settle := func() {
			ch := s.Reconcile()
			if !slices.IsSortedFunc(ch.Put, func(a, b record.RRset) int { return a.Key.Compare(b.Key) }) || !slices.IsSortedFunc(ch.Remove, record.Key.Compare) {
				t.Fatalf("change is not in canonical order: %v", ch)
			}
			var old []record.RRset
			for _, k := range slices.SortedFunc(maps.Keys(replica), record.Key.Compare) {
				if slices.Contains(ch.Remove, k) || slices.ContainsFunc(ch.Put, func(r record.RRset) bool { return r.Key == k }) {
					old = append(old, replica[k])
				}
			}
			if d := cmp.Diff(old, ch.Old); d != "" {
				t.Fatalf("what was replaced or removed differs (-replica +Old):\n%s", d)
			}
			for _, k := range ch.Remove {
				if _, ok := replica[k]; !ok {
					t.Fatalf("removed %s, which was not there", k)
				}
				delete(replica, k)
			}
			for _, r := range ch.Put {
				if old, ok := replica[r.Key]; ok && old.Equal(r) {
					t.Fatalf("put %s, which is there already", r.Key)
				}
				replica[r.Key] = r
			}
		}
		final := map[shardID][]record.Claim{}
		told := map[record.Name]int{}
		s.Tell(func(n record.Name) { told[n]++ })
		quiet := func() {
			before := map[record.Name][]string{}
			for _, n := range owners() {
				before[n] = losers(s.ConflictsOn(n))
			}
			clear(told)
			settle()
			for _, n := range owners() {
				if told[n] == 0 && !slices.Equal(losers(s.ConflictsOn(n)), before[n]) {
					t.Fatalf("%s was told %d times, its conflicts were %q and are %q", n, told[n], before[n], losers(s.ConflictsOn(n)))
				}
			}
		}
		for _, st := range drawHistory(t) {
			s.Replace(st.source, st.shard, st.claims)
			if final[st.shardID] = st.claims; len(st.claims) == 0 {
				delete(final, st.shardID)
			}
			if st.settle {
				quiet()
			}
		}
		quiet()
		s.Tell(nil)
		if s.Dirty() {
			t.Fatal("dirty after Reconcile")
		}
		if again := s.Reconcile(); !again.Empty() {
			t.Fatalf("Reconcile again changed %v", again)
		}
		got := look(s)

		fresh := reconcile.New(testPolicy())
		ids := slices.SortedFunc(maps.Keys(final), func(a, b shardID) int { return len(a.source) - len(b.source) })
		var all []record.Claim
		for _, id := range rapid.Permutation(ids).Draw(t, "order") {
			fresh.Replace(id.source, id.shard, rapid.Permutation(final[id]).Draw(t, "claims"))
			all = append(all, final[id]...)
		}
		fresh.Reconcile()
		if d := cmp.Diff(look(fresh), got); d != "" {
			t.Fatalf("history and fresh start differ (-fresh +history):\n%s", d)
		}
		want := model(testPolicy(), all)
		if d := cmp.Diff(want, replica); d != "" {
			t.Fatalf("model and changes differ (-model +changes):\n%s", d)
		}
		dataset := map[record.Key]record.RRset{}
		for _, r := range got.Dataset {
			dataset[r.Key] = r
			if g, ok := s.Get(r.Key); !ok || !g.Equal(r) {
				t.Fatalf("Get(%s) is %v, %v", r.Key, g, ok)
			}
		}
		if d := cmp.Diff(want, dataset); d != "" || len(got.Dataset) != got.Len {
			t.Fatalf("model and All differ, or %d != %d (-model +All):\n%s", len(got.Dataset), got.Len, d)
		}
		account(t, s, all, got)
	})
}

// account holds that nothing is dropped silently: every claim is in the dataset,
// by itself or through another, or yields as a Fallback, or has exactly one
// conflict that names both sides.
func account(t *rapid.T, s *reconcile.State, all []record.Claim, v view) {
	lost := map[string]int{}
	byKind := map[reconcile.Kind]int{}
	for _, c := range v.Conflicts {
		byKind[c.Kind]++
		if alone := c.Kind == reconcile.Invalid || c.Kind == reconcile.Homeless; c.Loser == nil || c.Rule == "" || alone != (c.Winner == nil) && c.Kind != reconcile.Warning {
			t.Fatalf("conflict without a side or a rule: %+v", c)
		}
		if c.Kind != reconcile.Warning {
			lost[id(*c.Loser)]++
			if c.Winner != nil {
				if r, ok := s.Get(c.Winner.Key); !ok || r.TTL != c.Winner.TTL {
					if w := lost[id(*c.Winner)]; w == 0 && !losesLater(v.Conflicts, c.Winner) {
						t.Fatalf("winner %+v is not in the dataset and lost against nobody", *c.Winner)
					}
				}
			}
		}
	}
	for k, n := range v.Counts {
		if byKind[k] != n {
			t.Fatalf("%d conflicts of kind %s counted, there are %d", n, k, byKind[k])
		}
	}
	on := []reconcile.Conflict{}
	for _, n := range slices.SortedFunc(slices.Values(owners()), record.Name.Compare) {
		on = append(on, s.ConflictsOn(n)...)
	}
	if d := cmp.Diff(on, slices.DeleteFunc(append([]reconcile.Conflict{}, v.Conflicts...), func(c reconcile.Conflict) bool { return c.Kind == reconcile.Warning })); d != "" {
		t.Fatalf("conflicts by name and all (-by name +all):\n%s", d)
	}
	made, some := s.Made(), map[record.Source]int{}
	for i, source := range sources() {
		if i%2 == 0 {
			some[source] = 0
		} else {
			delete(made, source)
		}
	}
	s.MadeBy(some)
	maps.DeleteFunc(some, func(_ record.Source, n int) bool { return n == 0 })
	if d := cmp.Diff(made, some); d != "" {
		t.Fatalf("Made and MadeBy differ (-Made +MadeBy):\n%s", d)
	}
	claimed := map[string]int{}
	for _, c := range all {
		claimed[id(c)]++
	}
	found := 0
	for _, owner := range owners() {
		x := s.Explain(owner, 0)
		if d := cmp.Diff(x.Findings, s.Findings(owner)); d != "" || x.Zone != s.Zone(owner) {
			t.Fatalf("Explain and Findings of %s differ, or the zone %s and %s (-Explain +Findings):\n%s", owner, x.Zone, s.Zone(owner), d)
		}
		for _, f := range x.Findings {
			found++
			r, held := s.Get(f.Claim.Key)
			ok := f.Rule != ""
			switch f.Verdict {
			case reconcile.Wins:
				ok = ok && held && r.Equal(f.Claim.RRset)
			case reconcile.Agrees:
				ok = ok && held && r.SameData(f.Claim.RRset)
			case reconcile.United:
				ok = ok && held && !slices.ContainsFunc(f.Claim.Data, func(d record.Rdata) bool { return !slices.Contains(r.Data, d) })
			case reconcile.Yields:
				ok = ok && f.Claim.Fallback && f.Against != nil
			case reconcile.Loses:
				ok = ok && lost[id(f.Claim)] == claimed[id(f.Claim)] && slices.ContainsFunc(on, func(c reconcile.Conflict) bool { return c.Kind == f.Kind && id(*c.Loser) == id(f.Claim) })
			default:
				ok = false
			}
			if !ok {
				t.Fatalf("finding does not hold: %+v\nin the dataset: %v %v", f, held, r)
			}
		}
	}
	if found != len(all) {
		t.Fatalf("%d claims, %d findings", len(all), found)
	}
}

// losers says which claims lose, and in what kind of conflict.
func losers(conflicts []reconcile.Conflict) (all []string) {
	for _, c := range conflicts {
		all = append(all, string(c.Kind)+" "+id(*c.Loser))
	}
	return all
}

func losesLater(conflicts []reconcile.Conflict, c *record.Claim) bool {
	return slices.ContainsFunc(conflicts, func(d reconcile.Conflict) bool {
		return d.Kind != reconcile.Warning && id(*d.Loser) == id(*c)
	})
}

// id tells claims apart; formatting a claim as a whole gives its key only.
func id(c record.Claim) string {
	return fmt.Sprintf("%s|%d|%q|%s|%s|%s|%v", c.Key, c.TTL, c.Data, c.Source, c.Place, c.Author, c.Fallback)
}
