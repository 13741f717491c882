package datasets

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/record"
)

func name(t testing.TB, text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func division(t testing.TB, texts ...string) (*Division, error) {
	var all []Zones
	for _, text := range texts {
		var z Zones
		if err := z.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		all = append(all, z)
	}
	return New(all)
}

func TestDivision(t *testing.T) {
	d, err := division(t, "internal=* lab.example.net", "edge=example.net EXAMPLE.org.")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"internal", "edge"}, d.Names()); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"example.net": "edge", "www.example.net": "edge", "a.b.example.org": "edge", "lab.example.net": "internal", "x.lab.example.net": "internal",
		"example.com": "internal", "net": "internal", ".": "internal", "notexample.net": "internal",
	} {
		for _, dataset := range d.Names() {
			if got := d.Has(dataset, name(t, text)); got != (dataset == want) {
				t.Errorf("%s in %s: %v, expected it in %s", text, dataset, got, want)
			}
		}
	}
	if err := d.Check("internal"); err != nil {
		t.Error(err)
	}
	if err := d.Check("other"); err == nil || !strings.Contains(err.Error(), "internal, edge") {
		t.Errorf("a dataset that is not named: %v", err)
	}
}

func TestDivisionRefuses(t *testing.T) {
	for want, texts := range map[string][]string{
		"none has *":          {"edge=example.net"},
		"both have *":         {"internal=*", "edge=*"},
		"is there twice":      {"internal=*", "internal=example.net"},
		"is in internal and":  {"internal=* example.net", "edge=example.net"},
		"expected DATASET=":   {"internal"},
		"expected DATASET=Z":  {"internal="},
		"zone \"a..b\" of":    {"internal=a..b"},
		"datasets has \"a/b=": {"a/b=*"},
	} {
		if _, err := division(t, texts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %q", texts, err, want)
		}
	}
	if d, err := New(nil); d != nil || err != nil {
		t.Errorf("no datasets: %v, %v", d, err)
	}
}

// TestPart holds that each claim is in one dataset, in its place, and in all without a division.
func TestPart(t *testing.T) {
	d, err := division(t, "internal=*", "edge=example.net", "lab=lab.example.net example.org")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		label := rapid.SampledFrom([]string{"example", "net", "org", "lab", "www"})
		var claims []record.Claim
		for range rapid.IntRange(0, 6).Draw(rt, "claims") {
			owner := name(t, strings.Join(rapid.SliceOfN(label, 0, 4).Draw(rt, "labels"), ".")+".")
			claims = append(claims, record.Claim{RRset: record.NewRRset(owner, record.TypeA, 60, "\xc0\x00\x02\x01"), Source: "rule/address"})
		}
		ch := claimtree.Change{Source: "rule/address", Shard: "s", Claims: claims}
		times := make([]int, len(claims))
		for _, dataset := range d.Names() {
			part := d.Part(dataset, ch).Claims
			next := 0
			for i, c := range claims {
				if d.Has(dataset, c.Owner) {
					if next >= len(part) || !part[next].RRset.Equal(c.RRset) {
						rt.Fatalf("%s: claim %d for %s is not in its place in %v", dataset, i, c.Owner, part)
					}
					next++
					times[i]++
				}
			}
			if next != len(part) {
				rt.Fatalf("%s has %d claims, expected %d", dataset, len(part), next)
			}
		}
		for i, n := range times {
			if n != 1 {
				rt.Fatalf("claim %d for %s is in %d datasets", i, claims[i].Owner, n)
			}
		}
		var none *Division
		if got := none.Part("internal", ch); len(got.Claims) != len(claims) {
			rt.Fatalf("without a division %d of %d claims", len(got.Claims), len(claims))
		}
	})
}

// TestPartOfPoPs: every dataset has the states of all PoPs, in its own zone of maps.
func TestPartOfPoPs(t *testing.T) {
	d, err := division(t, "internal=*", "edge=example.net")
	if err != nil {
		t.Fatal(err)
	}
	state, err := geo.PoP{Name: "esams", State: geo.Drained}.RRset(geo.Zone)
	if err != nil {
		t.Fatal(err)
	}
	claims := append(steering.Zone(geo.Zone, steering.Source, record.Provenance{}), record.Claim{RRset: state, Source: steering.Source})
	for dataset, zone := range map[string]string{"internal": "maps.zonecast.internal", "edge": "edge._of.maps.zonecast.internal"} {
		if got := d.MapsZone(dataset); got != name(t, zone) || !d.Has(dataset, got) {
			t.Errorf("zone of maps of %s: %s (its own: %v), expected %s", dataset, got, d.Has(dataset, got), zone)
		}
		part := d.Claims(dataset, steering.Source, "esams", claims)
		if len(part) != len(claims) {
			t.Fatalf("%s has %d claims of %d", dataset, len(part), len(claims))
		}
		var rrsets []record.RRset
		for i, c := range part {
			if !c.Owner.IsSubdomainOf(name(t, zone)) || !slices.Equal(c.Data, claims[i].Data) {
				t.Errorf("%s: %s %x", dataset, c.Key, c.Data)
			}
			rrsets = append(rrsets, c.RRset)
		}
		_, pops, err := geo.ParseMaps(rrsets)
		if err != nil || len(pops) != 1 || pops[0] != (geo.PoP{Name: "esams", State: geo.Drained}) {
			t.Errorf("%s: PoPs %v, %v", dataset, pops, err)
		}
	}
	if claims[0].Owner != geo.Zone {
		t.Errorf("the claims themselves are changed: %s", claims[0].Key)
	}
	var none *Division
	if none.MapsZone("internal") != geo.Zone {
		t.Error("without a division maps are elsewhere")
	}
	if err := (&geo.Map{Name: "_of"}).Check(); err == nil {
		t.Error("a map may have the name of the zones of datasets")
	}
}

func TestPartOfFreshness(t *testing.T) {
	d, err := division(t, "internal=*", "edge=example.net")
	if err != nil {
		t.Fatal(err)
	}
	in := func(shard, owner string) (datasets []string) {
		c := record.Claim{RRset: record.NewRRset(name(t, owner), record.TypeTXT, 0, "\x01x"), Source: freshness.Source}
		for _, dataset := range d.Names() {
			if len(d.Claims(dataset, freshness.Source, shard, []record.Claim{c})) > 0 {
				datasets = append(datasets, dataset)
			}
		}
		return datasets
	}
	for _, c := range []struct{ shard, owner, want string }{
		{freshness.ZoneShard, "zonecast.internal", "internal"},
		{freshness.ZoneShardOf("edge"), "edge.zonecast.internal", "edge"},
		{freshness.Shard("edge"), "_fresh.edge.zonecast.internal", "edge"},
		{freshness.Shard("internal"), "_fresh.internal.zonecast.internal", "internal"},
	} {
		if got := in(c.shard, c.owner); !cmp.Equal(got, []string{c.want}) {
			t.Errorf("%s: %v, expected %s", c.owner, got, c.want)
		}
	}
}
