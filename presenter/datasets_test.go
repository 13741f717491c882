package presenter

import (
	"context"
	"log/slog"
	"testing"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// carried reads a dataset as a host would.
func carried(t *testing.T, st store.Store, dataset string) *snapshot.Dataset {
	t.Helper()
	d, err := follow.Load(context.Background(), follow.Config{Dataset: dataset, Store: st, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDatasets: presenters of several datasets each make theirs of the same claims; together
// they are what one makes without a division, and one dataset with everything is the same.
func TestDatasets(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		divided := func(texts ...string) *datasets.Division {
			var all []datasets.Zones
			for _, text := range texts {
				var z datasets.Zones
				if err := z.UnmarshalText([]byte(text)); err != nil {
					t.Fatal(err)
				}
				all = append(all, z)
			}
			d, err := datasets.New(all)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		st := memstore.New()
		defer st.Close()
		two := divided("internal=*", "edge=edge.example.net")
		for dataset, d := range map[string]*datasets.Division{"internal": two, "edge": two, "all": nil, "rest": divided("rest=*")} {
			p := run(t, st, func(c *Config, deps *Deps) { c.Dataset, c.Guards, deps.Division = dataset, true, d })
			defer p.stop(t)
		}
		below := zone()
		below.RRset = record.NewRRset(name("edge.example.net."), record.TypeSOA, 300, below.Data...)
		put(t, st, "z", zone(), below)
		put(t, st, "a", address("web1", 1), address("web2.edge", 2), address("web3", 3))
		settle()
		check := func() {
			t.Helper()
			all, inner, edge := carried(t, st, "all"), carried(t, st, "internal"), carried(t, st, "edge")
			if rest := carried(t, st, "rest"); rest.Digest() != all.Digest() {
				t.Errorf("one dataset with everything is %s, without a division it is %s", rest.Digest(), all.Digest())
			}
			if sum := inner.Digest().Add(edge.Digest()); sum != all.Digest() || inner.Len()+edge.Len() != all.Len() {
				t.Errorf("%d and %d RRsets, digest %s, expected %d, digest %s", inner.Len(), edge.Len(), sum, all.Len(), all.Digest())
			}
			for r := range edge.All() {
				if !r.Owner.IsSubdomainOf(name("edge.example.net.")) {
					t.Errorf("edge has %s", r.Owner)
				}
			}
		}
		check()
		if n := carried(t, st, "edge").Len(); n != 2 {
			t.Errorf("edge has %d RRsets, expected SOA and address", n)
		}
		before := [2]uint64{headOf(t, st, "internal").Version, headOf(t, st, "edge").Version}
		rev := put(t, st, "a", address("web1", 1), address("web2.edge", 22), address("web3", 3))
		settle()
		check()
		inner, edge := headOf(t, st, "internal"), headOf(t, st, "edge")
		if inner.Version != before[0] || edge.Version != before[1]+1 {
			t.Errorf("a change in edge made versions %d and %d of %v", inner.Version, edge.Version, before)
		}
		if inner.Claims < rev || edge.Claims < rev {
			t.Errorf("claims up to %d and %d are looked at, expected %d", inner.Claims, edge.Claims, rev)
		}
		put(t, st, "a")
		settle()
		check()
	})
}

func headOf(t *testing.T, st store.Store, dataset string) (h tree.Head) {
	t.Helper()
	n, err := st.Get(t.Context(), tree.HeadPath(dataset))
	if err == nil {
		err = tree.Decode(n, &h)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}
