package control

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// simple answers with the first record that a name has, or NXDOMAIN: no zones, no
// wildcards.
type simple map[record.Key]record.RRset

func (s simple) Put(sets []record.RRset) error {
	for _, r := range sets {
		s[r.Key] = r
	}
	return nil
}

func (s simple) Ask(name record.Name, t record.Type) []byte {
	b := append([]byte{0, 0, 0x84, 3, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = append(b, 0, 1)
	if r, ok := s[record.Key{Owner: name, Type: t}]; ok {
		b[3], b[7] = 0, 1
		b = binary.BigEndian.AppendUint16(append(b, name...), uint16(t))
		b = binary.BigEndian.AppendUint32(append(b, 0, 1), r.TTL)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Data[0]))), r.Data[0]...)
	}
	return b
}

// TestEffect has a change held that takes one of two names away, and asks what it does as
// hosts say more and less of what they are asked; and what versions differ in.
func TestEffect(t *testing.T) {
	w := newWorld(t)
	const zone, rule record.Source = "zone/example.net", "rule/address"
	claim := func(s record.Source, r record.RRset) record.Claim { return record.Claim{RRset: r, Source: s} }
	soa := rrset(t, "example.net.", record.TypeSOA, record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00")+record.Rdata(make([]byte, 20)))
	www, old := rrset(t, "www.example.net.", record.TypeA, "\xc0\x00\x02\x01"), rrset(t, "old.example.net.", record.TypeA, "\xc0\x00\x02\x02")
	d, err := w.dataset.Replace(1, []record.RRset{soa, www, old})
	if err == nil {
		err = w.dataset.Apply(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, log, err := follow.LogOps("internal", d.Version, b)
	if err != nil {
		t.Fatal(err)
	}
	admitted := func(s record.Source, claims ...record.Claim) store.Op {
		return store.Op{Path: tree.AdmittedPath("internal", s, "0"), Value: record.EncodeShard(s, claims)}
	}
	w.commit(log, admitted(zone, claim(zone, soa)), admitted(rule, claim(rule, www), claim(rule, old)),
		claimtree.Ops(zone, "0", []record.Claim{claim(zone, soa)}), claimtree.Ops(rule, "0", []record.Claim{claim(rule, www)}),
		store.Op{Path: tree.HeadPath("internal"), Value: tree.Encode(tree.Head{
			Version: d.Version, Digest: w.dataset.Digest().String(), Chain: w.dataset.Chain().String(), Time: 1, Content: d.Version, Gated: true,
		})},
		store.Op{Path: tree.HoldPath("5ad3c1e0"), Value: tree.Encode(tree.Hold{ID: "5ad3c1e0", Dataset: "internal", Source: rule, Why: []string{"x"}, Removed: 1})})

	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	// effect is what is said when it is found anew, once ok is content with it.
	effect := func(what string, ok func(e *controlapi.Effect) bool) {
		t.Helper()
		w.eventually(func() error {
			w.effects.mu.Lock()
			clear(w.effects.made)
			w.effects.mu.Unlock()
			held, err := w.Holds(t.Context())
			if err != nil {
				return err
			}
			if len(held) != 1 || !ok(held[0].Effect) {
				return fmt.Errorf("%s: %v", what, held)
			}
			return nil
		})
	}
	effect("without hosts", func(e *controlapi.Effect) bool { return e.Sampled == 0 && strings.Contains(e.Unknown, "no host") })
	now := time.Now().UnixMilli()
	sample := func(host string, age time.Duration, questions ...string) {
		s := tree.Sample{From: now - age.Milliseconds() - 60_000, To: now - age.Milliseconds(), Queries: 6400}
		for _, q := range questions {
			var x tree.SampleQuestion
			if err := x.UnmarshalText([]byte(q)); err != nil {
				t.Fatal(err)
			}
			s.Questions = append(s.Questions, x)
		}
		w.commit(store.Op{Path: tree.SamplePath("internal", host), Value: tree.Encode(s)})
	}
	for _, host := range []string{"host0", "host1", "host2", "host3"} {
		w.host(host, 1)
	}
	sample("host0", time.Second, "30 positive A www.example.net.", "10 positive A old.example.net.")
	sample("host1", 2*replay.SampleAge, "99 positive A old.example.net.")
	w.commit(store.Op{Path: tree.SamplePath("internal", "host2"), Value: []byte("{")})
	effect("one host has said something", func(e *controlapi.Effect) bool {
		return e.Sampled == 40 && e.Hosts == 1 && e.Queries == 6400 && near(e.Share, 0.25) && e.Low > 0.1 && e.High < 0.45 && e.Unknown == "" && e.UntilMs-e.SinceMs == 60_000
	})
	sample("host1", time.Second, "20 nxdomain A nobody.example.net.")
	effect("two hosts have", func(e *controlapi.Effect) bool {
		return e.Sampled == 60 && e.Hosts == 2 && near(e.Share, 0.125) && near(e.NoName, 0.5) && e.More == 0 && len(e.Kinds) == 1 && e.Kinds[0].Kind == "nxdomain" &&
			len(e.Examples) == 1 && *e.Examples[0] == controlapi.Example{Name: "old.example.net.", Type: "A", Share: e.Share, Kind: "nxdomain", Before: "192.0.2.2", After: "NXDOMAIN"}
	})
	// What was found is said for a while.
	held, err := w.Holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sample("host1", time.Second, "20 nxdomain A old.example.net.")
	if again, err := w.Holds(t.Context()); err != nil || again[0].Effect.Share != held[0].Effect.Share {
		t.Errorf("%v, %v; want what was found before", again, err)
	}
	// What was tried is not in force.
	if r, err := w.Why(t.Context(), "old.example.net.", "A"); err != nil || len(r.Claims) == 0 {
		t.Errorf("why: %v, %v", r, err)
	}
	if got, err := w.GetRecords(t.Context(), "old.example.net.", "A"); err != nil || len(got.Records) != 1 {
		t.Errorf("published: %v, %v", got, err)
	}

	// A source that claims what is in force has nothing held.
	w.commit(claimtree.Ops(rule, "0", []record.Claim{claim(rule, www), claim(rule, old)}))
	effect("the change is gone", func(e *controlapi.Effect) bool { return e.Sampled == 0 && strings.Contains(e.Unknown, "rule/address") })

	diff, err := w.Diff(t.Context(), 0, 0, 10)
	if err != nil || diff.Effect.Sampled != 60 || diff.Effect.Share != 0 || math.Abs(diff.Effect.High-0.067) > 0.001 {
		t.Errorf("diff of now and now: %v, %v", diff, err)
	}
}

// TestPublishedBelow changes what is published, and holds the names below every name against
// looking through all; with what is in force otherwise, as in a pinned dataset.
func TestPublishedBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawName := func() record.Name {
			n := record.Root
			for range rapid.IntRange(0, 3).Draw(t, "labels") {
				n, _ = n.Child(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "label"))
			}
			return n
		}
		drawRRset := func() record.RRset {
			return record.NewRRset(drawName(), rapid.SampledFrom([]record.Type{record.TypeA, record.TypeTXT}).Draw(t, "type"), 60, "\xc0\x00\x02\x01")
		}
		c := &Control{}
		c.claims.state = reconcile.New(reconcile.DefaultPolicy())
		claims := []record.Claim{{Source: "config/x", RRset: record.NewRRset(record.Root, record.TypeSOA, 60, record.Rdata("\x00\x00")+record.Rdata(make([]byte, 20)))}}
		for range rapid.IntRange(0, 8).Draw(t, "in force") {
			claims = append(claims, record.Claim{Source: "config/x", RRset: drawRRset()})
		}
		c.claims.state.Replace("config/x", "0", claims)
		c.claims.state.Reconcile()
		d := snapshot.NewDataset("internal")
		c.published.reset(d.Clone())
		for range rapid.IntRange(1, 6).Draw(t, "versions") {
			var put []record.RRset
			for range rapid.IntRange(0, 5).Draw(t, "put") {
				put = append(put, drawRRset())
			}
			var remove []record.Key
			for range rapid.IntRange(0, 5).Draw(t, "remove") {
				remove = append(remove, drawRRset().Key)
			}
			remove = slices.DeleteFunc(remove, func(k record.Key) bool {
				_, there := d.Get(k)
				return !there || slices.ContainsFunc(put, func(r record.RRset) bool { return r.Key == k })
			})
			slices.SortFunc(put, func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
			put = slices.CompactFunc(put, func(a, b record.RRset) bool { return a.Key == b.Key })
			slices.SortFunc(remove, record.Key.Compare)
			delta, err := d.Change(d.Time()+1, put, slices.Compact(remove))
			if rapid.IntRange(0, 9).Draw(t, "whole") == 0 {
				delta, err = d.Replace(d.Time()+1, put)
			}
			if err == nil {
				err = d.Apply(delta)
			}
			if err == nil {
				err = c.published.apply(delta)
			}
			if err != nil {
				t.Fatal(err)
			}
			owners := map[record.Name]bool{}
			for r := range d.All() {
				owners[r.Owner] = true
			}
			for n, i := record.Root, 0; i < 6; n, i = drawName(), i+1 {
				var want []record.Name
				for o := range maps.Keys(owners) {
					if o != n && o.IsSubdomainOf(n) {
						want = append(want, o)
					}
				}
				slices.Sort(want)
				if diff := cmp.Diff(want, slices.Sorted(reader{c}.Below(n))); diff != "" {
					t.Fatalf("below %s: %s", n, diff)
				}
			}
		}
	})
}
