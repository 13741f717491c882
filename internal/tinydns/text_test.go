package tinydns_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tinydns/tinytest"
	"github.com/zonecast/zonecast/record"
)

var update = flag.Bool("update", false, "write what the golden files expect")

var changed = time.Unix(1700000000, 0)

// TestGolden reads the files of testdata: data, or rocks, and what they say, or the
// error; and text, if it is there: what WriteText makes of it, and its report.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata has %d golden files: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parse := tinydns.ParseText
	if ar.Files[0].Name == "rocks" {
		parse = tinydns.ParseRocks
	}
	data, err := parse(bytes.NewReader(ar.Files[0].Data), ar.Files[0].Name, changed)
	got := []txtar.File{ar.Files[0]}
	if err != nil {
		got = append(got, txtar.File{Name: "error", Data: []byte(err.Error() + "\n")})
	} else {
		got = append(got, txtar.File{Name: "want", Data: []byte(dump(data))})
		if slices.ContainsFunc(ar.Files, func(f txtar.File) bool { return f.Name == "text" }) {
			got = append(got, txtar.File{Name: "text", Data: written(t, data)})
		}
	}
	ar.Files = append(ar.Files[:0:0], got...)
	if *update {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(txtar.Format(ar))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// written is the text of data, and the report behind it.
func written(t *testing.T, data *tinydns.Data) []byte {
	t.Helper()
	var b bytes.Buffer
	report, err := tinydns.WriteText(&b, slices.Values(data.Sets), &data.Atlas)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b.Bytes(), []byte("\n")); n != report.Lines {
		t.Errorf("report counts %d lines, there are %d", report.Lines, n)
	}
	for _, p := range report.Problems {
		fmt.Fprintf(&b, "# %s\n", p)
	}
	return b.Bytes()
}

// dump says everything that Data says, one thing a line.
func dump(d *tinydns.Data) string {
	var sb strings.Builder
	for _, s := range d.Sets {
		choose := ""
		if s.Choose != 0 {
			choose = fmt.Sprintf(" choose %d", s.Choose)
		}
		fmt.Fprintf(&sb, "%s %d%s\n", s.Key, s.TTL, choose)
		for i, rd := range s.Data {
			fmt.Fprintf(&sb, "\t%s", dnswire.FormatRdata(s.Type, rd))
			if s.Terms != nil {
				fmt.Fprintf(&sb, " ; TTL %d weight %d from %d until %d", s.Terms[i].TTL, s.Terms[i].Weight, s.Terms[i].From, s.Terms[i].Until)
			}
			sb.WriteByte('\n')
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Atlas.Maps)) {
		fmt.Fprintf(&sb, "map %q\n", name)
		for _, e := range d.Atlas.Maps[name] {
			fmt.Fprintf(&sb, "\t%s %q\n", e.Prefix, string(e.Location))
		}
	}
	for _, u := range d.Atlas.Uses {
		by := map[geo.Kind]string{geo.ByResolver: "resolver", geo.BySubnet: "subnet"}[u.Kind]
		fmt.Fprintf(&sb, "use %q by %s for %s below %v\n", u.Map, by, u.Name, u.Below)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&sb, "note %s\n", n)
	}
	return sb.String()
}

func parseText(t *testing.T, text []byte) *tinydns.Data {
	t.Helper()
	d, err := tinydns.ParseText(bytes.NewReader(text), "data", changed)
	if err != nil {
		t.Fatal(err)
	}
	checkData(t, d)
	return d
}

// checkData holds the invariant of Data.
func checkData(t *testing.T, d *tinydns.Data) {
	t.Helper()
	for i := range d.Sets {
		s := &d.Sets[i]
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if i > 0 && d.Sets[i-1].Key.Compare(s.Key) >= 0 {
			t.Fatalf("%s stands before %s", d.Sets[i-1].Key, s.Key)
		}
		if name, n, err := record.NameFromWire([]byte(s.Owner)); err != nil || name != s.Owner || n != len(s.Owner) {
			t.Fatalf("owner %q is no name in canonical form: %v", string(s.Owner), err)
		}
		if s.Terms != nil && len(s.Terms) != len(s.Data) {
			t.Fatalf("%s has %d terms for %d records", s.Key, len(s.Terms), len(s.Data))
		}
	}
	for _, u := range d.Atlas.Uses {
		if _, ok := d.Atlas.Maps[u.Map]; !ok {
			t.Fatalf("map %q is used and not there", u.Map)
		}
	}
}

// TestRoundTrip: text that is written of what was read says the same again, with
// nothing to report and nothing to note.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(30) {
		d := parseText(t, tinytest.Generate(seed, 300))
		var b bytes.Buffer
		report, err := tinydns.WriteText(&b, slices.Values(d.Sets), &d.Atlas)
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Problems) > 0 {
			t.Fatalf("seed %d: %s", seed, report.Problems[0])
		}
		again := parseText(t, b.Bytes())
		if len(again.Notes) > 0 {
			t.Errorf("seed %d: %s", seed, again.Notes[0])
		}
		if diff := cmp.Diff(d.Sets, again.Sets); diff != "" {
			t.Fatalf("seed %d (-first +again)\n%s", seed, diff)
		}
		if diff := cmp.Diff(dump(&tinydns.Data{Atlas: d.Atlas}), dump(&tinydns.Data{Atlas: again.Atlas})); diff != "" {
			t.Fatalf("seed %d (-first +again)\n%s", seed, diff)
		}
	}
}

// TestRoundTripOctets is TestRoundTrip for names, RDATA, locations and times that
// nobody writes.
func TestRoundTripOctets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sets := anySets(rt)
		var b bytes.Buffer
		report, err := tinydns.WriteText(&b, slices.Values(sets), nil)
		if err != nil {
			rt.Fatal(err)
		}
		if len(report.Problems) > 0 {
			rt.Fatalf("%s", report.Problems[0])
		}
		d, err := tinydns.ParseText(&b, "data", changed)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(sets, d.Sets); diff != "" {
			rt.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

// anySets makes sets with one record each that tinydns-data can say.
func anySets(rt *rapid.T) []record.Set {
	name := rapid.Custom(func(rt *rapid.T) record.Name {
		n := record.Root
		for _, l := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 20), 0, 5).Draw(rt, "labels") {
			n, _ = n.Child(string(l))
		}
		return n
	})
	byKey := map[record.Key]record.Set{}
	for range rapid.IntRange(1, 8).Draw(rt, "sets") {
		typ := rapid.SampledFrom([]record.Type{1, 2, 5, 6, 12, 15, 16, 28, 65400}).Draw(rt, "type")
		var data []byte
		target := []byte(name.Draw(rt, "target"))
		some := rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(rt, "octets")
		switch typ {
		case 1:
			data = some[:4]
		case 28:
			data = some[:16]
		case 6:
			data = slices.Concat(target, target, some)
		case 15:
			data = slices.Concat(some[:2], target)
		case 16:
			data = append([]byte{20}, some...)
			if len(target) > 21 {
				data = append(append([]byte{127}, bytes.Repeat(some, 7)[:127]...), data...)
			}
		case 65400:
			data = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "rdata")
		default:
			data = target
		}
		loc := rapid.SampledFrom([]string{"", "ab", "a\x00", "\x00b", "a ", " \t", "\xff\xff"}).Draw(rt, "location")
		terms := rapid.SampledFrom([]record.Terms{
			{TTL: 0, Weight: 1}, {TTL: record.MaxTTL, Weight: 1}, {TTL: 5, Weight: 1, From: 1}, {TTL: 5, Weight: 1, From: 4102444800}, {Weight: 1, Until: 1}, {Weight: 1, Until: 4102444800},
		}).Draw(rt, "terms")
		s := record.NewSet(name.Draw(rt, "owner"), typ, record.Location(loc), []record.Rdata{record.Rdata(data)}, []record.Terms{terms})
		byKey[s.Key] = s
	}
	return slices.SortedFunc(maps.Values(byKey), func(a, b record.Set) int { return a.Key.Compare(b.Key) })
}

// TestSets: sets are those of record.NewSet, which is the plain way to make one.
func TestSets(t *testing.T) {
	var text bytes.Buffer
	for i := range 200 {
		fmt.Fprintf(&text, "+n%d.example.net:192.0.2.%d:%d:%s:%s\n", i%7, i, 100+i%3, []string{"", "4000000065000000"}[i%2], []string{"", "lo"}[i%5/4])
	}
	for _, s := range parseText(t, text.Bytes()).Sets {
		terms := s.Terms
		if terms == nil {
			terms = slices.Repeat([]record.Terms{{TTL: s.TTL, Weight: 1}}, len(s.Data))
		}
		want := record.NewSet(s.Owner, s.Type, s.Location, s.Data, terms)
		want.Choose = s.Choose
		if diff := cmp.Diff(want, s); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// TestManyNames: order and lookups stay right beyond the first blocks and tables.
func TestManyNames(t *testing.T) {
	var text bytes.Buffer
	const n = 20000
	for i := range n {
		fmt.Fprintf(&text, "+h%d.r%d.example.net:192.0.2.1\n:H%d.r%d.example.net:28:%s\n", i*7919%n, i%13, i, i%11, strings.Repeat(`\001`, 16))
	}
	d := parseText(t, text.Bytes())
	if len(d.Sets) < n {
		t.Errorf("got %d sets, expected at least %d", len(d.Sets), n)
	}
	total := 0
	for _, s := range d.Sets {
		total += len(s.Data)
	}
	if total != len(d.Sets) {
		t.Errorf("got %d records in %d sets, expected one each", total, len(d.Sets))
	}
}

// TestTimes follows tdlookup.c: now is unix time + 2^62 + 10; a start is passed when
// ts < now, an end when ts < now.
func TestTimes(t *testing.T) {
	for _, tc := range []struct {
		line        string
		from, until int64
	}{
		{"+a.example.net:192.0.2.1:300:400000000000000a", 1, 0},
		{"+a.example.net:192.0.2.1:300:4000000000000009", 0, 0},
		{"+a.example.net:192.0.2.1:300:40000000f48656fa", 0xf48656fa - 10 + 1, 0},
		{"+a.example.net:192.0.2.1:0:40000000f48656fa", 0, 0xf48656fa - 10 + 1},
		{"+a.example.net:192.0.2.1:0:4000000000000009", 0, 1},
		{"+a.example.net:192.0.2.1:0:0000000000000000", 0, 0},
		{"+a.example.net:192.0.2.1:0:ffffffffffffffff", 0, 1<<63 - 1},
		{"+a.example.net:192.0.2.1:1:ffffffffffffffff", 1<<63 - 1, 0},
	} {
		s := parseText(t, []byte(tc.line+"\n")).Sets[0]
		var got record.Terms
		if s.Terms != nil {
			got = s.Terms[0]
		}
		if got.From != tc.from || got.Until != tc.until {
			t.Errorf("%s: from %d until %d, expected %d and %d", tc.line, got.From, got.Until, tc.from, tc.until)
		}
	}
}
