package formats

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

func TestCSV(t *testing.T) {
	const file = "\ufeffPrefix,weight,location,pops\r\n192.0.2.0/24,1,north,\"esams drmrs\"\r\n2001:db8::/32,2,eqiad,\r\n192.0.2.128/25,,,\r\n198.51.100.0/24,1,north,esams drmrs\r\n"
	i, err := ReadCSV(strings.NewReader(file), "map.csv")
	if err != nil {
		t.Fatal(err)
	}
	i.Map.Name = "m"
	if err := i.Map.Check(); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.1": "esams drmrs", "192.0.2.129": "", "2001:db8::1": "eqiad", "198.51.100.7": "esams drmrs"} {
		if got := served(&i.Map, address); got != want {
			t.Errorf("%s: %q, expected %q", address, got, want)
		}
	}
	if d := cmp.Diff([]Note{{"map.csv:1", `column "weight" is not read`}}, i.Notes); d != "" {
		t.Error(d)
	}
	var out bytes.Buffer
	if err := WriteCSV(&out, &i.Map); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("prefix,location,pops\n192.0.2.0/24,north,esams drmrs\n192.0.2.128/25,,\n198.51.100.0/24,north,\n2001:db8::/32,eqiad,\n", out.String()); d != "" {
		t.Error(d)
	}
	again, err := ReadCSV(&out, "again.csv")
	if err != nil {
		t.Fatal(err)
	}
	sorted := i.Map
	sorted.Entries = again.Map.Entries
	again.Map.Name = "m"
	if d := cmp.Diff(sorted, again.Map, cmp.Comparer(func(a, b geo.Entry) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

// TestCSVTakeovers reads what `zonecast map compute` writes.
func TestCSVTakeovers(t *testing.T) {
	i, err := ReadCSV(strings.NewReader("prefix,pop,second,third\n192.0.2.0/24,esams,drmrs,eqiad\n198.51.100.0/24,esams,,\n203.0.113.0/24,esams,drmrs,eqiad\n"), "map.csv")
	if err != nil {
		t.Fatal(err)
	}
	i.Map.Name = "m"
	if err := i.Map.Check(); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.1": "esams drmrs eqiad", "198.51.100.1": "esams", "203.0.113.1": "esams drmrs eqiad"} {
		if got := served(&i.Map, address); got != want {
			t.Errorf("%s: %q, expected %q", address, got, want)
		}
	}
	if len(i.Map.Orders) != 1 {
		t.Errorf("orders %v", i.Map.Orders)
	}
}

// TestLongOrder has names whose octets are more than their characters.
func TestLongOrder(t *testing.T) {
	long := strings.Repeat("\u6771", record.MaxLocation/3)
	i := &Import{}
	a, b := i.order([]string{long, "x"}, ","), i.order([]string{long, "y"}, ",")
	if len(a) > record.MaxLocation || !utf8.ValidString(string(a)) || a == b || len(i.Map.Orders) != 2 {
		t.Errorf("%q of %d octets, and %q", a, len(a), b)
	}
}

func TestCSVRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "map.csv: empty, expected a first line such as prefix,location"},
		{"192.0.2.0/24,a\n", "map.csv:1: columns"},
		{"prefix,location,pop\n", `columns "location" and "pop", expected one of both`},
		{"prefix,location\n192.0.2.0/24\n", "map.csv:2:1: wrong number of fields"},
		{"prefix,location\n\"192.0.2.0/24,a\n", "map.csv:"},
		{"prefix,location\n\n192.0.2.1,a\n", `map.csv:3: prefix is "192.0.2.1", expected one such as 192.0.2.0/24`},
		{"prefix,location\n192.0.2.1/24,a\n", "has bits behind its length, expected 192.0.2.0/24"},
		{"prefix,location\n::ffff:192.0.2.0/120,a\n", "IPv4 in the form of IPv6, expected 192.0.2.0/24"},
		{"prefix,location\n192.0.2.0/24,a\n2001:db8::/32,b\n192.0.2.0/24,a\n", "map.csv:4: 192.0.2.0/24 is there twice, before in line 2"},
		{"prefix,location\n192.0.2.0/24," + strings.Repeat("x", 256) + "\n", "location has 256 octets"},
		{"prefix,location,pops\n192.0.2.0/24,a,b c\n198.51.100.0/24,a,c\n", `map.csv:3: the PoPs of location "a" are "c", and "b c" in line 2`},
		{"prefix,location,pops\n192.0.2.0/24,,b\n", "pops without a location"},
		{"prefix,location,second\n", "expected second and third beside pop alone"},
		{"prefix,pop,second\n192.0.2.0/24,a/b,\n198.51.100.0/24,a,b\n", `map.csv:3: the PoPs of location "a/b" are "a b", and "a/b" in line 2`},
		{"prefix,pop,second\n192.0.2.0/24,a,a\n", "map.csv:2: PoPs are \"a\", \"a\", expected each once"},
	} {
		_, err := ReadCSV(strings.NewReader(c.text), "map.csv")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, expected %q", c.text, err, c.want)
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("prefix,location,pops\n192.0.2.0/24,north,a b\n192.0.2.128/25,\"\",\n")
	f.Add("pop,prefix\na,2001:db8::/32\n")
	f.Fuzz(func(t *testing.T, text string) {
		i, err := ReadCSV(strings.NewReader(text), "x")
		if err != nil {
			return
		}
		i.Map.Name = "m"
		for l, order := range i.Map.Orders { // what only geo looks at
			if len(order) == 0 || len(order) > 64 || len(l) == 0 {
				return
			}
		}
		var out bytes.Buffer
		if err := WriteCSV(&out, &i.Map); err != nil {
			t.Fatal(err)
		}
		again, err := ReadCSV(bytes.NewReader(out.Bytes()), "again")
		if err != nil {
			t.Fatalf("%v:\n%s", err, out.String())
		}
		if len(again.Map.Entries) != len(i.Map.Entries) {
			t.Fatalf("%d entries, then %d", len(i.Map.Entries), len(again.Map.Entries))
		}
	})
}

func BenchmarkCSV(b *testing.B) {
	var in strings.Builder
	in.WriteString("prefix,location\n")
	for n := range 1 << 20 {
		fmt.Fprintf(&in, "%d.%d.%d.0/20,p%d\n", n>>12, n>>4&255, n<<4&255, n%14)
	}
	for b.Loop() {
		if _, err := ReadCSV(strings.NewReader(in.String()), "x"); err != nil {
			b.Fatal(err)
		}
	}
}
