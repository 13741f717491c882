package mapclaims

import (
	"bytes"
	"compress/gzip"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

func example() (*geo.Map, []record.Set) {
	m := &geo.Map{
		Name: "world",
		Entries: []geo.Entry{
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "north"},
			{Prefix: netip.MustParsePrefix("2001:db8::/32"), Location: "esams"},
		},
		Orders: map[record.Location][]record.Location{"north": {"esams", "drmrs"}},
		Uses:   []geo.Use{{Name: "\x03www\x07example\x03net\x00", Kind: geo.BySubnet}},
	}
	data := []record.Rdata{"\xc0\x00\x02\x01", "\xc0\x00\x02\x02"}
	s := record.NewSet("\x03www\x07example\x03net\x00", record.TypeA, "esams", data, []record.Terms{{TTL: 60, Weight: 3}, {TTL: 60, Weight: 1}})
	s.Choose = 1
	return m, []record.Set{s}
}

func TestThereAndBack(t *testing.T) {
	m, sets := example()
	b, err := Encode(m, sets)
	if err != nil {
		t.Fatal(err)
	}
	got, names, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if len(names) != 2 || names[0].Key != sets[0].Key || names[1].Type != record.TypeTerms {
		t.Errorf("names %v", names)
	}
	who := record.Provenance{Author: "alice", Reason: "new", Time: time.Unix(1, 0).UTC()}
	claims, err := Claims(got, names, geo.Zone, who, "map.csv")
	if err != nil {
		t.Fatal(err)
	}
	types := map[record.Type]int{}
	for i, c := range claims {
		if c.Source != "map/world" || c.Author != "alice" || c.Fallback != (c.Type == record.TypeSOA || c.Type == record.TypeNS) {
			t.Errorf("claim %v", c)
		}
		if i > 0 && claims[i-1].Key.Compare(c.Key) >= 0 {
			t.Errorf("%s before %s", claims[i-1].Key, c.Key)
		}
		types[c.Type]++
	}
	want := map[record.Type]int{record.TypeSOA: 1, record.TypeNS: 1, record.TypeMapBlock: 2, record.TypeMapOrder: 1, record.TypeMapUse: 1, record.TypeA: 1, record.TypeTerms: 1}
	if d := cmp.Diff(want, types); d != "" {
		t.Error(d)
	}
}

func pack(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

func TestDecodeRefuses(t *testing.T) {
	m, sets := example()
	own, err := m.RRsets(geo.Zone)
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	for _, r := range own {
		whole = r.AppendBinary(whole)
	}
	block := own[slices.IndexFunc(own, func(r record.RRset) bool { return r.Type == record.TypeMapBlock })]
	damaged := record.NewRRset(block.Owner, block.Type, 300, "\x04\xc0\x00\x02\x01\x18a")
	terms := record.NewRRset(sets[0].Owner, record.TypeTerms, 300, "\x00")
	pop, err := geo.PoP{Name: "esams", State: geo.Down}.RRset(geo.Zone)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"nothing", nil, "by gzip"},
		{"no gzip", []byte("prefix,location\n"), "by gzip"},
		{"cut off", pack(whole)[:20], "by gzip"},
		{"no RRsets", pack([]byte("\x01")), ""},
		{"no map", pack(sets[0].RRset.AppendBinary(nil)), "0 maps"},
		{"an RRset twice", pack(append(bytes.Clone(whole), whole...)), "is there twice"},
		{"a damaged block", pack(damaged.AppendBinary(nil)), "192.0.2.1/24"},
		{"damaged terms", pack(terms.AppendBinary(bytes.Clone(whole))), "terms"},
		{"a PoP", pack(pop.AppendBinary(bytes.Clone(whole))), "1 states of PoPs"},
	} {
		_, _, err := Decode(c.content)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", c.name, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	m, sets := example()
	b, err := Encode(m, sets)
	if err != nil {
		f.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		f.Fatal(err)
	}
	var plain bytes.Buffer
	plain.ReadFrom(z)
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, names, err := Decode(pack(b))
		if err != nil {
			return
		}
		if _, err := Claims(m, names, geo.Zone, record.Provenance{Time: time.Unix(1, 0).UTC()}, "x"); err != nil {
			t.Error(err)
		}
	})
}
