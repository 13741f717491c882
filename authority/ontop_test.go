package authority

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// topModel says what is to be answered: a dataset, what is tried on it, and what lies on top
// of both.
type topModel struct {
	dataset *snapshot.Dataset
	trial   *snapshot.Delta // nil: nothing is tried
	on      []tree.Direct
}

// fits tells whether the dataset has what the trial stands on.
func (m *topModel) fits() bool {
	if m.trial == nil {
		return false
	}
	var before snapshot.Digest
	for r := range m.dataset.All() {
		if slices.Contains(m.trial.Remove, r.Key) || slices.ContainsFunc(m.trial.Put, func(p record.RRset) bool { return p.Key == r.Key }) {
			before = before.Add(snapshot.HashRRset(r))
		}
	}
	return before == m.trial.BaseDigest
}

// get is an RRset with what is tried, without what lies on top.
func (m *topModel) get(k record.Key) record.RRset {
	if m.fits() {
		for _, r := range m.trial.Put {
			if r.Key == k {
				return r
			}
		}
		if slices.Contains(m.trial.Remove, k) {
			return record.RRset{Key: k}
		}
	}
	r, _ := m.dataset.Get(k)
	return r
}

// has tells whether there is an RRset of a type, for whomever.
func (m *topModel) has(owner record.Name, t record.Type) bool {
	return len(m.get(record.Key{Owner: owner, Type: t}).Data) > 0 || len(m.get(record.Key{Owner: owner, Type: t, Location: "lab"}).Data) > 0
}

// stands tells of each override whether it is answered.
func (m *topModel) stands(t *rapid.T) (sets []record.RRset, stands []bool) {
	for _, d := range m.on {
		r, err := direct.RRset(d)
		if err != nil {
			t.Fatal(err)
		}
		ok := false
		for at := r.Owner; at != ""; at = at.Parent() {
			if m.has(at, record.TypeSOA) {
				ok = at != r.Owner || r.Type != record.TypeCNAME
				break
			}
			if m.has(at, record.TypeNS) {
				break
			}
		}
		sets, stands = append(sets, r), append(stands, ok)
	}
	for i := range stands { // the newer is on top of the older
		for j := range i {
			if stands[i] && direct.Covers(sets[i], m.on[i].Whole, sets[j].Key) {
				stands[j] = false
			}
		}
	}
	return sets, stands
}

// rrset is what is to be answered for a key; nil Data is nothing.
func (m *topModel) rrset(k record.Key, sets []record.RRset, stands []bool) record.RRset {
	for i := range sets {
		if stands[i] && sets[i].Key == k {
			return sets[i]
		}
	}
	for i := range sets {
		if stands[i] && direct.Covers(sets[i], m.on[i].Whole, k) {
			return record.RRset{Key: k}
		}
	}
	return m.get(k)
}

// TestDirectOnTop changes the dataset, what is tried and the overrides on top at random, folds, has
// the journal read anew, and starts again from an image: each RRset that is answered is that
// of an override, hidden by one, or the dataset's; and what is told of each override is
// what holds now.
func TestDirectOnTop(t *testing.T) {
	owners := []string{"example.net", "www.example.net", "a.www.example.net", "sub.example.net", "x.sub.example.net"}
	types := []record.Type{record.TypeA, record.TypeTXT, record.TypeCNAME, record.TypeNS, record.TypeSOA}
	locations := []record.Location{"", "lab"}
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		begin := func() (*Server, *follower) {
			s := testServer(dir)
			return s, &follower{server: s, again: func() {}}
		}
		s, f := begin()
		m := &topModel{dataset: snapshot.NewDataset("internal")}
		var deltas []*snapshot.Delta
		event := func(e journal.Event) {
			if err := f.event(e); err != nil {
				t.Fatal(err)
			}
		}
		event(journal.Event{Reset: m.dataset.Clone()})
		ids := 0
		draw := func(i byte) ([]record.RRset, []record.Key) {
			var put []record.RRset
			if i == 0 || rapid.IntRange(0, 3).Draw(t, "zone") == 0 {
				put = append(put, soa("example.net"))
			}
			for range rapid.IntRange(0, 4).Draw(t, "sets") {
				owner := rapid.SampledFrom(owners).Draw(t, "owner")
				r := address(owner, i)
				switch rapid.SampledFrom(types).Draw(t, "type") {
				case record.TypeTXT:
					r = text(owner, fmt.Sprint(i))
				case record.TypeCNAME:
					r = record.NewRRset(name(owner), record.TypeCNAME, uint32(i), record.Rdata(name("target.example.org")))
				case record.TypeNS:
					r = record.NewRRset(name(owner), record.TypeNS, uint32(i), record.Rdata(name("ns.example.org")))
				case record.TypeSOA:
					r = soa(owner)
				}
				r.Location = rapid.SampledFrom(locations).Draw(t, "location")
				if !slices.ContainsFunc(put, func(o record.RRset) bool { return o.Key == r.Key }) {
					put = append(put, r)
				}
			}
			var gone []record.Key
			for r := range m.dataset.All() {
				if !slices.ContainsFunc(put, func(o record.RRset) bool { return o.Key == r.Key }) && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					gone = append(gone, r.Key)
				}
			}
			return put, gone
		}
		for i := range byte(rapid.IntRange(1, 15).Draw(t, "steps")) {
			what := rapid.IntRange(0, 11).Draw(t, "what")
			if i == 0 {
				what = 0
			}
			switch what {
			default:
				put, gone := draw(i)
				delta, err := m.dataset.Change(int64(i)+1, put, gone)
				if what == 1 {
					delta, err = m.dataset.Replace(int64(i)+1, put)
				}
				if err == nil {
					err = m.dataset.Apply(delta)
				}
				if err != nil {
					t.Fatal(err)
				}
				deltas = append(deltas, delta)
				event(journal.Event{Delta: delta})
			case 10, 11: // what is tried is composed on what there is, or taken away
				o, d := (*trial.Offer)(nil), (*snapshot.Delta)(nil)
				if rapid.IntRange(0, 3).Draw(t, "try") > 0 {
					put, gone := draw(i + 100)
					var err error
					if d, err = m.dataset.Change(int64(i)+1, put, gone); err != nil {
						t.Fatal(err)
					}
					var old []record.RRset
					for r := range m.dataset.All() {
						if slices.Contains(d.Remove, r.Key) || slices.ContainsFunc(d.Put, func(p record.RRset) bool { return p.Key == r.Key }) {
							old = append(old, r)
						}
					}
					b, err := trial.Compose("internal", m.dataset.Version(), reconcile.Change{Put: d.Put, Remove: d.Remove, Old: old})
					if err != nil {
						t.Fatal(err)
					}
					if d, err = snapshot.DecodeDelta(b); err != nil {
						t.Fatal(err)
					}
					o = &trial.Offer{ID: "t", Number: uint64(i), Base: m.dataset.Version()}
				}
				m.trial = d
				f.putTrial(o, d, nil)
			case 4, 5, 6:
				m.on = slices.DeleteFunc(m.on, func(tree.Direct) bool { return rapid.Bool().Draw(t, "off") })
				for range rapid.IntRange(0, 3).Draw(t, "overrides") {
					ids++
					d := onTop(fmt.Sprint(ids), rapid.SampledFrom(owners).Draw(t, "owner"), "A", time.Hour, fmt.Sprintf("198.51.100.%d", ids))
					switch rapid.IntRange(0, 3).Draw(t, "type") {
					case 0:
						d.Type, d.Rdata = "CNAME", []string{"other.example.org."}
					case 1:
						d.Type, d.Rdata = "TXT", []string{fmt.Sprintf(`"%d"`, ids)}
					}
					d.Whole = rapid.Bool().Draw(t, "whole")
					m.on = append(m.on, d)
				}
				f.putOn(slices.Clone(m.on))
			case 7:
				folds := s.folds.Load()
				if err := f.fold(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, stands := m.stands(t); (slices.Contains(stands, true) || m.fits()) && s.folds.Load() != folds {
					t.Fatal("what is on top was folded into an image")
				}
			case 8:
				event(journal.Event{Reset: m.dataset.Clone()})
			case 9: // a new life goes on from the image
				if f.view == nil {
					break
				}
				im := f.view.Image()
				s, f = begin()
				f.putOn(slices.Clone(m.on))
				m.trial = nil // it is forgotten
				if f.resuming = f.resume(im); !f.resuming {
					t.Fatal("the image is of no use")
				}
				for _, d := range deltas {
					if d.Version > f.ledger.Version() {
						event(journal.Event{Delta: d})
					}
				}
				event(journal.Event{Resumed: true})
			}
			now := s.current.Load()
			if now.Version != m.dataset.Version() || now.Digest != m.dataset.Digest().String() {
				t.Fatalf("step %d: answered is version %d with %s, the dataset is %d with %s", i, now.Version, now.Digest, m.dataset.Version(), m.dataset.Digest())
			}
			sets, stands := m.stands(t)
			for n, told := range now.Direct {
				if told.ID != m.on[n].ID || (told.Refused == "") != stands[n] {
					t.Fatalf("step %d: override %+v is told as %+v, want it answered: %v", i, m.on[n], told, stands[n])
				}
			}
			if told := now.Trial; (told != nil) != (m.trial != nil) || told != nil && (told.Refused == "") != m.fits() {
				t.Fatalf("step %d: the trial is told as %+v, want it answered: %v", i, told, m.fits())
			}
			if len(now.Direct) != len(m.on) {
				t.Fatalf("step %d: %d overrides told of %d", i, len(now.Direct), len(m.on))
			}
			for _, owner := range owners {
				for _, kind := range types {
					for _, l := range locations {
						k := record.Key{Owner: name(owner), Type: kind, Location: l}
						want := m.rrset(k, sets, stands)
						got, ok := now.view.RRset(k)
						if kind == record.TypeSOA && len(want.Data) == 1 {
							if _, zone := m.dataset.Stamp(k.Owner); !zone && len(got.Data) == 1 { // of a zone that is only tried, any
								got.Data[0] = snapshot.SOAWithSerial(got.Data[0], 0)
							}
							want.Data = []record.Rdata{snapshot.SOAWithSerial(want.Data[0], m.dataset.Serial(k.Owner))}
						}
						if !ok || !slices.Equal(got.Data, want.Data) || len(want.Data) > 0 && got.TTL != want.TTL {
							t.Fatalf("step %d: %s for %q is %d %q, want %d %q", i, k, k.Location, got.TTL, got.Data, want.TTL, want.Data)
						}
					}
				}
			}
		}
	})
}
