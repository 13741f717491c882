package control

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/mapclaims"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

func mapContent(t *testing.T, name string, location record.Location) []byte {
	t.Helper()
	m := &geo.Map{
		Name: name, Entries: []geo.Entry{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: location}, {Prefix: netip.MustParsePrefix("2001:db8::/32"), Location: "eqiad"}},
		Orders: map[record.Location][]record.Location{"north": {"esams", "eqiad"}},
		Uses:   []geo.Use{{Name: "\x03www\x07example\x03net\x00", Kind: geo.BySubnet}},
	}
	s := record.NewSet("\x03www\x07example\x03net\x00", record.TypeA, "esams", []record.Rdata{"\xc0\x00\x02\x50"}, []record.Terms{{TTL: 60, Weight: 1}})
	b, err := mapclaims.Encode(m, []record.Set{s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestImportMap(t *testing.T) {
	w := newWorld(t)
	alice := &controlapi.Doer{Author: "alice", Reason: "first"}
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(zone), alice); err != nil {
		t.Fatal(err)
	}
	ch, err := w.ImportMap(t.Context(), "world", "map.csv", mapContent(t, "world", "north"), alice, nil, nil)
	if err != nil || !ch.Changed || ch.Revision == 0 {
		t.Fatalf("import = %+v, %v", ch, err)
	}
	var refused *answer.Refused
	for name, content := range map[string][]byte{
		"world": []byte("prefix,location\n"), "other": mapContent(t, "world", "north"), "a/b": mapContent(t, "world", "north"), "pops": mapContent(t, "world", "north"), "": nil,
	} {
		if _, err := w.ImportMap(t.Context(), name, "map.csv", content, alice, nil, nil); !errors.As(err, &refused) || refused.Code != api.Invalid {
			t.Errorf("%q: %v, expected it refused", name, err)
		}
	}
	// What stays the same keeps who brought it.
	if _, err := w.ImportMap(t.Context(), "world", "map.csv", mapContent(t, "world", "eqiad"), &controlapi.Doer{Author: "bob", Reason: "second"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	claims, err := claimtree.Load(t.Context(), w.st, "map/world")
	if err != nil {
		t.Fatal(err)
	}
	var rrsets []record.RRset
	authors := map[record.Type]string{}
	for _, c := range claims {
		rrsets = append(rrsets, c.RRset)
		if c.Type != record.TypeMapBlock || strings.Contains(c.Owner.String(), "v4") {
			authors[c.Type] = c.Author
		}
	}
	if authors[record.TypeMapBlock] != "bob" || authors[record.TypeMapUse] != "alice" || authors[record.TypeA] != "alice" {
		t.Errorf("authors %v, expected bob of the block that changed and alice of others", authors)
	}
	w.publish(1, rrsets...)
	w.eventually(func() error {
		all, err := w.Maps(t.Context())
		if err != nil {
			return err
		}
		if len(all) != 1 || all[0].Name != "world" || all[0].Prefixes != 2 || all[0].Orders != 1 || all[0].Blocks != 2 || all[0].UseCount != 1 || all[0].Uses[0] != "www.example.net. by subnet" || all[0].Where != "map.csv" || all[0].TimeMs == 0 {
			return errors.New("maps: " + all[0].String())
		}
		return nil
	})
	page, err := w.MapContent(t.Context(), "world", "")
	if err != nil || page.NextAfter != "" {
		t.Fatalf("content: %v, %v", page, err)
	}
	got, err := mapclaims.Unpack(page.Content)
	if err != nil {
		t.Fatal(err)
	}
	maps, _, err := geo.ParseMaps(got)
	if err != nil || len(maps) != 1 || maps[0].Entries[0].Location != "eqiad" {
		t.Errorf("maps %v, %v", maps, err)
	}
	for name, after := range map[string]string{"none": "", "world": "x", "world ": "1/0"} {
		if _, err := w.MapContent(t.Context(), name, after); !errors.As(err, &refused) {
			t.Errorf("content of %q after %q: %v, expected it refused", name, after, err)
		}
	}
	if _, err := w.ImportMap(t.Context(), "world", "", nil, alice, nil, nil); err != nil {
		t.Fatal(err)
	}
	if claims, err = claimtree.Load(t.Context(), w.st, "map/world"); err != nil || len(claims) != 0 {
		t.Errorf("%d claims are left, %v", len(claims), err)
	}
}

// TestImportMapPoPs: a map that names what is no PoP is refused, unless it is to be made.
func TestImportMapPoPs(t *testing.T) {
	w := newWorld(t)
	alice := &controlapi.Doer{Author: "alice", Reason: "first"}
	content := mapContent(t, "world", "north")
	pops := []string{"eqiad", "esams"}
	for _, c := range []struct {
		pops, add []string
		want      string // of the refusal; "" it is not refused
		known     string // PoPs behind it
	}{
		{pops, nil, `names "eqiad", which is no PoP, expected one of []`, ""},
		{pops, []string{"eqiad"}, `names "esams", which is no PoP`, ""},
		{pops, []string{"a.b", "eqiad", "esams"}, `PoP is "a.b", expected 1 to 63 of a-z`, ""},
		{pops, pops, "", "eqiad esams"},
		{pops, pops, "", "eqiad esams"},
		{[]string{"drmrs"}, nil, `names "drmrs", which is no PoP, expected one of ["eqiad" "esams"]`, "eqiad esams"},
		{nil, nil, "", "eqiad esams"},
		{make([]string, 1001), nil, "names 1001 PoPs", "eqiad esams"},
	} {
		_, err := w.ImportMap(t.Context(), "world", "map.csv", content, alice, c.pops, c.add)
		var refused *answer.Refused
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q, %q: %v", c.pops, c.add, err)
		case c.want != "" && (!errors.As(err, &refused) || refused.Code != api.Invalid || !strings.Contains(refused.Message, c.want)):
			t.Errorf("%.60q, %q: %v, expected %q", c.pops, c.add, err, c.want)
		}
		known, err := w.Pops(t.Context())
		if err != nil || strings.Join(known, " ") != c.known {
			t.Errorf("behind %.60q, %q: PoPs %q, %v, expected %q", c.pops, c.add, known, err, c.known)
		}
	}
	n, err := w.st.Get(t.Context(), tree.PoPPath("esams"))
	if err != nil {
		t.Fatal(err)
	}
	var p tree.PoP
	if err := tree.Decode(n, &p); err != nil || p.Author != "alice" || p.Capacity != 0 || p.State() != geo.Up {
		t.Errorf("the PoP is %+v, %v", p, err)
	}
}

// TestMapPages reads a map that does not fit one page.
func TestMapPages(t *testing.T) {
	w := newWorld(t)
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(zone), &controlapi.Doer{Author: "alice"}); err != nil {
		t.Fatal(err)
	}
	m := &geo.Map{Name: "large"}
	for i := range 1200 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		m.Entries = append(m.Entries, geo.Entry{Prefix: p, Location: record.Location(strings.Repeat("x", 20))})
	}
	rrsets, err := m.RRsets(geo.Zone)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(1, rrsets...)
	pages, count := 0, 0
	w.eventually(func() error {
		pages, count = 0, 0
		for after := ""; ; pages++ {
			page, err := w.mapContent("large", after, 4000)
			if err != nil {
				return err
			}
			got, err := mapclaims.Unpack(page.Content)
			if err != nil {
				return err
			}
			count += len(got)
			if after = page.NextAfter; after == "" {
				return nil
			}
		}
	})
	if pages < 3 || count != len(rrsets) {
		t.Errorf("%d pages with %d RRsets, expected some with %d", pages+1, count, len(rrsets))
	}
}
