package formats

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo/mmdb"
)

func TestKnotSubnet(t *testing.T) {
	const file = `# answers by subnet
foo.example.net:
  - net: 192.0.2.0/24
    A: [ 198.51.100.1, 198.51.100.2 ]
    AAAA: 2001:db8::1      # one
    TXT: "\"a word\""
  - net: 192.0.2.128/25
    A: 198.51.100.3
  - net: 2001:DB8::/32
    A: [
      198.51.100.4,
      198.51.100.5
    ]
*.bar.example.net.:
- net: 192.0.2.128/26
  CNAME: foo.example.net.
- net: 0.0.0.0/0
  A: 198.51.100.6
- net: 203.0.113.7
  TXT: two words
`
	i, err := Knot{Reader: strings.NewReader(file), File: "geo.conf", TTL: 20}.Read()
	if err != nil {
		t.Fatal(err)
	}
	i.Map.Name = "m"
	if err := i.Map.Check(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(`*.bar.example.net. A @"0.0.0.0/0" 198.51.100.6
*.bar.example.net. CNAME @"192.0.2.128/26" foo.example.net.
*.bar.example.net. TXT @"203.0.113.7/32" two`+"\x05"+`words
foo.example.net. A @"192.0.2.0/24" 198.51.100.1 198.51.100.2
foo.example.net. A @"192.0.2.128/25" 198.51.100.3
foo.example.net. A @"2001:db8::/32" 198.51.100.4 198.51.100.5
foo.example.net. TXT @"192.0.2.0/24" a_word
foo.example.net. AAAA @"192.0.2.0/24" 2001:db8::1
`, sets(i.Sets)); d != "" {
		t.Error(d)
	}
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.0/24 0.0.0.0/0", "192.0.2.129": "192.0.2.128/26 192.0.2.128/25 192.0.2.0/24 0.0.0.0/0",
		"192.0.2.193": "192.0.2.128/25 192.0.2.0/24 0.0.0.0/0", "198.51.100.1": "0.0.0.0/0", "2001:db8::1": "2001:db8::/32", "2001:db9::1": "",
		"203.0.113.7": "203.0.113.7/32 0.0.0.0/0",
	} {
		if got := served(&i.Map, address); got != want {
			t.Errorf("%s: %q, expected %q", address, got, want)
		}
	}
	var notes []string
	for _, n := range i.Notes {
		notes = append(notes, n.String())
	}
	slices.Sort(notes)
	if d := cmp.Diff([]string{
		"geo.conf:19: 203.0.113.7/32 has no A, and 0.0.0.0/0 (geo.conf:17) has: Knot answers that there is none, here it is that of 0.0.0.0/0",
		"geo.conf:7: 192.0.2.128/25 has no AAAA, and 192.0.2.0/24 (geo.conf:3) has: Knot answers that there is none, here it is that of 192.0.2.0/24",
		"geo.conf:7: 192.0.2.128/25 has no TXT, and 192.0.2.0/24 (geo.conf:3) has: Knot answers that there is none, here it is that of 192.0.2.0/24",
	}, notes); d != "" {
		t.Error(d)
	}
	var uses []string
	for _, u := range i.Map.Uses {
		uses = append(uses, u.String())
	}
	if d := cmp.Diff([]string{
		"foo.example.net. by resolver", "foo.example.net. by subnet",
		"below bar.example.net. by resolver", "below bar.example.net. by subnet",
	}, uses); d != "" {
		t.Error(d)
	}
}

func TestKnotGeo(t *testing.T) {
	const file = `foo.example.net:
  - geo: CH;Geneva
    A: 198.51.100.1
  - geo: "CH"
    A: 198.51.100.2
  - geo: "US;*"
    A: 198.51.100.3
  - geo: "*"
    A: 198.51.100.4
bar.example.net:
  - geo: US;San Jose
    A: 198.51.100.5
`
	i, err := Knot{Reader: strings.NewReader(file), File: "geo.conf", Keys: []string{"country/iso_code", "city/names/en"}, Databases: []*mmdb.DB{world(t)}, TTL: 20}.Read()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"192.0.2.1": "CH;Geneva CH *", "2001:db8:8000::1": "CH *", "192.0.2.193": "US;San_Jose US *", "192.0.2.129": "US *", "203.0.113.1": "*", "233.252.0.1": "",
	} {
		if got := served(&i.Map, address); got != want {
			t.Errorf("%s: %q, expected %q", address, got, want)
		}
	}
	if len(i.Notes) != 0 || len(i.Sets) != 5 {
		t.Errorf("notes %v, %d sets", i.Notes, len(i.Sets))
	}
}

func TestKnotWeighted(t *testing.T) {
	const file = `foo.example.net:
  - weight: 3
    A: 198.51.100.1
    AAAA: 2001:db8::1
  - weight: 1
    A: 198.51.100.2
bar.example.net:
  - weight: 2
    CNAME: one.example.net.
  - weight: 5
    CNAME: two.example.net.
`
	i, err := Knot{Reader: strings.NewReader(file), File: "geo.conf", TTL: 20}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(`bar.example.net. CNAME two.example.net.
foo.example.net. A 198.51.100.1*3 198.51.100.2*1 choose 1
foo.example.net. AAAA 2001:db8::1*3
`, sets(i.Sets)); d != "" {
		t.Error(d)
	}
	if len(i.Map.Entries) != 0 || len(i.Map.Uses) != 4 || len(i.Notes) != 2 {
		t.Errorf("%v", i)
	}
}

func TestKnotRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "geo.conf: no names, expected NAME:"},
		{"x", `geo.conf:1: found "x", expected key: value`},
		{"a.example.net:\n", "geo.conf:1: a.example.net. has nothing below it"},
		{"a.example.net: b\n", `found "b" behind it`},
		{"a..b:\n", "geo.conf:1:"},
		{"  - net: 192.0.2.0/24\n", `"net" before the first name`},
		{"a.example.net:\n    A: 192.0.2.1\n", `geo.conf:2: "A" before the first entry of a.example.net.`},
		{"a.example.net:\n  - subnet: 192.0.2.0/24\n", "found - subnet, expected - net, - geo or - weight"},
		{"a.example.net:\n  - net: 192.0.2/24\n", `net is "192.0.2/24", expected a prefix`},
		{"a.example.net:\n  - net: ::ffff:192.0.2.0/120\n", "IPv4 in the form of IPv6, expected 192.0.2.0/24"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    A: x\n", "geo.conf:3: A"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    XY: x\n", `type is "XY"`},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    RRSIG: x\n", "is of DNSSEC"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    A: 192.0.2.1\n    CNAME: b.\n", "expected a CNAME alone"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    CNAME: b.\n    A: 192.0.2.1\n", "expected a CNAME alone"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    A: 192.0.2.1\n  - geo: CH\n", "- geo in a file with - net"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n  - net: 192.0.2.0/24\n", `has "192.0.2.0/24" twice, before at geo.conf:2`},
		{"a.example.net:\n  - weight: 256\n", `weight is "256"`},
		{"a.example.net:\n  - geo: CH;x\n", "of 2 parts, expected at most 1"},
		{"a.example.net:\n  - geo: CH\n", "need a database"},
		{"a.example.net:\n  - geo: CH\na.example.net:\n", "geo.conf:3: a.example.net. is there twice, before at geo.conf:1"},
		{"a.example.net:\n\t- geo: CH\n", "a tab at the beginning"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    A: [192.0.2.1\n", "the list is not closed"},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    A: [192.0.2.1] x\n", `found "x" behind the list`},
		{"a.example.net:\n  - net: 192.0.2.0/24\n    TXT: \"x\n", "a quote is not closed"},
	} {
		_, err := Knot{Reader: strings.NewReader(c.text), File: "geo.conf"}.Read()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, expected %q", c.text, err, c.want)
		}
	}
}

func FuzzKnot(f *testing.F) {
	f.Add("a.example.net:\n  - net: 192.0.2.0/24\n    A: [ 192.0.2.1, 192.0.2.2 ]\n  - net: 2001:db8::/32\n    TXT: \"x\"\n")
	f.Add("a.example.net:\n  - geo: \"CH;*;x\"\n    CNAME: b.\n  - geo: NO\n    MX: 10 c\n")
	f.Add("a.example.net:\n  - weight: 3\n    A: 192.0.2.1\n")
	db := world(f)
	f.Fuzz(func(t *testing.T, text string) {
		k := Knot{Reader: strings.NewReader(text), File: "x", Keys: []string{"country/iso_code", "(id)city/geoname_id", "city/names/en"}}
		k.Databases = append(k.Databases, db)
		i, err := k.Read()
		if err != nil {
			return
		}
		i.Map.Name = "m"
		if err := i.Map.Check(); err != nil {
			t.Error(err)
		}
		for _, s := range i.Sets {
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		}
	})
}
