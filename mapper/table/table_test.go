package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/mapper/table"
)

var pops = []table.PoP{{Name: "esams", Latitude: 52.3, Longitude: 4.9, Located: true, Capacity: 100}, {Name: "eqiad", Capacity: 50}}

func read(demand, rtt string) (*table.Table, error) {
	return table.Read(pops, strings.NewReader(demand), "demand.csv", strings.NewReader(rtt), "rtt.csv")
}

// What a table is read from: columns in any order, others between them, quotation marks, IPv4-mapped
// prefixes, prefixes within one another, and prefixes that have no demand.
func TestRead(t *testing.T) {
	got, err := read("\ufeffweight,note,prefix\r\n10,\"a, b\",192.0.2.0/24\r\n\r\n2.5,,2001:db8::/32\n1e3,,::ffff:198.51.100.0/120\n0,,192.0.2.128/25",
		"192.0.2.0/24,esams,12.3456\n192.0.2.0/24,eqiad,90\n203.0.113.7,eqiad,1\n198.51.100.0/24,esams,0.001\n192.0.2.128/25,eqiad,10000\n203.0.113.0/24,esams,7\n")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i, p := range got.Prefixes {
		lines = append(lines, fmt.Sprint(p, got.Demand[i], got.Row(i)))
	}
	want := []string{
		"192.0.2.0/24 10 [12346 90000]", "2001:db8::/32 2.5 [-1 -1]", "198.51.100.0/24 1000 [1 -1]", "192.0.2.128/25 0 [-1 10000000]",
		"203.0.113.0/24 0 [7000 -1]", "203.0.113.7/32 0 [-1 1000]",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// Errors name file and line, what is there, and what should be.
func TestReadErrors(t *testing.T) {
	const demand, rtt = "prefix,weight\n192.0.2.0/24,1\n", "prefix,pop,milliseconds\n192.0.2.0/24,esams,1\n"
	for _, c := range []struct{ demand, rtt, want string }{
		{"", rtt, "demand.csv is empty, expected columns prefix,weight"},
		{"net,weight\n", rtt, `demand.csv:1: columns are "net,weight", expected prefix,weight`},
		{demand + "192.0.2.0/24,2\n", rtt, "demand.csv:3: 192.0.2.0/24 is on line 2 already"},
		{demand + "::ffff:192.0.2.0/120,2\n", rtt, "demand.csv:3: 192.0.2.0/24 is on line 2 already"},
		{demand + "\n192.0.2.1/24,2\n", rtt, `demand.csv:4: prefix is "192.0.2.1/24", with bits behind its length, expected 192.0.2.0/24`},
		{demand + "::ffff:0.0.0.0/95,2\n", rtt, "around all IPv4-mapped addresses"},
		{demand + "fe80::1%eth0,2\n", rtt, `prefix is "fe80::1%eth0", expected one such as`},
		{demand + "host,2\n", rtt, `demand.csv:3: prefix is "host", expected one such as 192.0.2.0/24`},
		{demand + "198.51.100.0/24,-1\n", rtt, `demand.csv:3: weight is "-1", expected 0 to 1e+15`},
		{demand + "198.51.100.0/24,NaN\n", rtt, `weight is "NaN"`},
		{demand + "198.51.100.0/24,1e16\n", rtt, `weight is "1e16"`},
		{demand + "198.51.100.0/24,\n", rtt, `weight is ""`},
		{demand + "198.51.100.0/24\n", rtt, `demand.csv:3: 1 columns in "198.51.100.0/24", expected prefix,weight`},
		{demand + "\"198.51.100.0/24,1\n", rtt, "demand.csv:3: quotation marks"},
		{demand + strings.Repeat("x", 5000), rtt, "demand.csv:3: a line of more than 4096 octets"},
		{strings.Repeat("x", 5000), rtt, "demand.csv:1: the first line has more than 4096 octets"},
		{demand, "", "rtt.csv is empty"},
		{demand, rtt + "192.0.2.0/24,bh,1\n", `rtt.csv:3: PoP "bh" is not known, expected one of esams, eqiad`},
		{demand, rtt + "192.0.2.0/24,esams,2\n", "rtt.csv:3: 192.0.2.0/24 to esams is there twice"},
		{demand, rtt + "198.51.100.0/24,esams,2\n198.51.100.0/24,esams,3\n", "rtt.csv:4: 198.51.100.0/24 to esams is there twice"},
		{demand, rtt + "192.0.2.0/24,eqiad,-1\n", `rtt.csv:3: milliseconds is "-1", expected 0 to 10000`},
		{demand, rtt + "192.0.2.0/24,eqiad,-0\n", `milliseconds is "-0"`},
		{demand, rtt + "192.0.2.0/24,eqiad,NaN\n", `milliseconds is "NaN"`},
		{demand, rtt + "192.0.2.0/24,eqiad,inf\n", `milliseconds is "inf"`},
		{demand, rtt + "192.0.2.0/24,eqiad,10000.001\n", `milliseconds is "10000.001"`},
		{demand, rtt + "192.0.2.0/24,eqiad,1e400\n", `milliseconds is "1e400"`},
		{demand, rtt + "192.0.2.0/33,eqiad,1\n", `rtt.csv:3: prefix is "192.0.2.0/33"`},
	} {
		if _, err := read(c.demand, c.rtt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, expected %q", err, c.want)
		}
	}
	broken := iotest.TimeoutReader(strings.NewReader(strings.Repeat(demand, 100_000)))
	if _, err := table.Read(pops, broken, "demand.csv", strings.NewReader(rtt), "rtt.csv"); !errors.Is(err, iotest.ErrTimeout) && (err == nil || !strings.Contains(err.Error(), "demand.csv:")) {
		t.Errorf("a disk that fails: %v", err)
	}
}

// The first line that is wrong is named, however many processors read, and however the file is
// cut into pieces.
func TestFirstError(t *testing.T) {
	var demand, rtt bytes.Buffer
	demand.WriteString("prefix,weight\n")
	rtt.WriteString("prefix,pop,milliseconds\n")
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&demand, "10.%d.%d.%d,1\n", i>>16, i>>8&255, i&255)
		fmt.Fprintf(&rtt, "10.%d.%d.%d,esams,%d.5\n10.%[1]d.%[2]d.%[3]d,eqiad,%[4]d\n", i>>16, i>>8&255, i&255, i%300)
	}
	whole := rtt.String()
	got, err := read(demand.String(), whole)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if want := []int32{int32(i%300)*1000 + 500, int32(i%300) * 1000}; !slices.Equal(got.Row(i), want) {
			t.Fatalf("prefix %d has %v, expected %v", i, got.Row(i), want)
		}
	}
	lines := strings.SplitAfter(whole, "\n")
	for _, bad := range []int{60_000, 120_000, 199_999} {
		lines[bad] = "oops\n"
	}
	for range 5 {
		if _, err := read(demand.String(), strings.Join(lines, "")); err == nil || !strings.HasPrefix(err.Error(), "rtt.csv:60001: ") {
			t.Fatalf("error %v, expected the one of line 60001", err)
		}
	}
}

func TestReadPoPs(t *testing.T) {
	got, err := table.ReadPoPs(strings.NewReader(`[{"name":"esams","latitude":52.3,"longitude":4.9,"capacity":100},
		{"name":"eqiad","capacity":0},{"name":"codfw","capacity":1.5,"drained":true},{"name":"ulsfo","capacity":2,"state":"down","health":"x"}]`), "pops.json")
	want := []table.PoP{pops[0], {Name: "eqiad"}, {Name: "codfw", Capacity: 1.5, Drained: true}, {Name: "ulsfo", Capacity: 2, Drained: true}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for in, want := range map[string]string{
		``:                                "pops.json:1: EOF, expected [{",
		"[\n{\"name\": 5}]":               "pops.json:2: json: cannot unmarshal number",
		"[\n\n{\"name\" \"x\"}]":          "pops.json:3: invalid character",
		`[]`:                              "pops.json: 0 PoPs, expected 1 to 1024",
		`[{"capacity":1}]`:                "PoP 1 (without a name) has no name",
		`[{"name":"a"}]`:                  "PoP 1 (a) has no capacity",
		`[{"name":"a","capacity":-1}]`:    "a: capacity is -1, expected 0 to 1e+15",
		`[{"name":"a","capacity":1e16}]`:  "capacity is 1e+16",
		`[{"name":"a","capacity":1e999}]`: "cannot unmarshal number 1e999",
		`[{"name":"a b","capacity":1}]`:   `name is "a b"`,
		`[{"name":"","capacity":1}]`:      `name is ""`,
		`[{"name":"a","capacity":1},{"name":"a","capacity":1}]`:     "PoP 2: a is PoP 1 already",
		`[{"name":"a","capacity":1,"latitude":91,"longitude":0}]`:   "latitude is 91, expected -90 to 90",
		`[{"name":"a","capacity":1,"latitude":1,"longitude":-181}]`: "longitude is -181",
		`[{"name":"a","capacity":1,"latitude":1}]`:                  "has no latitude or no longitude",
		`[{"name":"a","capacity":1,"state":"asleep"}]`:              `state "asleep", expected up, drained or down`,
		`[{"name":"a","capacity":1}] {}`:                            "more behind the list",
	} {
		if _, err := table.ReadPoPs(strings.NewReader(in), "pops.json"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", in, err, want)
		}
	}
}

// A map that was written is read as it was; prefixes are looked up by the longest around them.
func TestMap(t *testing.T) {
	in := "prefix,pop,second,third\n0.0.0.0/0,eqiad,,\n192.0.2.0/24,esams,drmrs,eqiad\n192.0.2.64/26,eqiad,esams,\n2001:db8::/32,drmrs,,\n"
	m, err := table.ReadMap(strings.NewReader(in), "map.csv")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := table.WriteMap(&out, slices.Values(m.Lines())); err != nil || out.String() != in {
		t.Errorf("%v: written %q, read %q", err, out.String(), in)
	}
	for p, want := range map[string]string{
		"192.0.2.0/25": "esams", "192.0.2.65": "eqiad", "192.0.2.128/26": "esams", "198.51.100.0/24": "eqiad", "2001:db8:1::/48": "drmrs", "2001:db9::/32": "",
		"192.0.0.0/16": "eqiad", "::/0": "",
	} {
		prefix, err := table.ParsePrefix(p)
		if err != nil {
			t.Fatal(err)
		}
		l, ok := m.Lookup(prefix)
		if got := append(l.Order, "")[0]; got != want || ok != (want != "") {
			t.Errorf("%s: %q, expected %q", p, got, want)
		}
	}
	for in, want := range map[string]string{
		"prefix,pop\n192.0.2.0/24,\n":                  "map.csv:2: 192.0.2.0/24 has no PoP",
		"prefix,pop\n192.0.2.0/24,a\n192.0.2.0/24,b\n": "map.csv:3: 192.0.2.0/24 is on line 2 already",
		"prefix,pop,second\n192.0.2.0/24,a,b/c\n":      `map.csv:2: PoP: name is "b/c"`,
		"prefix,location\n":                            `columns are "prefix,location", expected prefix,pop`,
	} {
		if _, err := table.ReadMap(strings.NewReader(in), "map.csv"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %q", in, err, want)
		}
	}
}

// What is said of a prefix is where no longer one is.
func TestRests(t *testing.T) {
	rests := map[string]string{
		"0.0.0.0/0": "0.0.0.0/32", "10.0.0.0/8": "", "10.0.0.0/9": "10.64.0.0/32", "10.0.0.0/10": "10.0.0.0/32", "10.128.0.0/9": "10.128.0.0/32",
		"255.0.0.0/8": "255.0.0.0/32", "255.128.0.0/9": "255.128.0.0/32", "255.255.255.254/31": "", "255.255.255.254/32": "255.255.255.254/32",
		"255.255.255.255/32": "255.255.255.255/32", "2001:db8::/32": "2001:db8:c000::/128", "2001:db8::/33": "2001:db8::/128", "2001:db8:8000::/34": "2001:db8:8000::/128",
	}
	var prefixes []netip.Prefix
	for p := range rests { // in any order
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	for i, got := range table.Rests(prefixes) {
		if want := rests[prefixes[i].String()]; want == "" && got.IsValid() || want != "" && got.String() != want {
			t.Errorf("%s: %s, expected %q", prefixes[i], got, want)
		}
	}
}

// Foreign files give a table or an error.
func FuzzRead(f *testing.F) {
	f.Add("prefix,weight\n192.0.2.0/24,1\n", "192.0.2.0/24,esams,1.5\n2001:db8::/32,eqiad,7\n", `[{"name":"a","capacity":1}]`)
	f.Add("\ufeff\"prefix\",\"weight\"\r\n\"::ffff:192.0.2.1\",1e3\r\n", "pop,prefix,milliseconds\nesams,\"192.0.2.0/24\",00.5", "[")
	f.Add("\"", "\n\n", "")
	f.Fuzz(func(t *testing.T, demand, rtt, list string) {
		got, err := read(demand, rtt)
		if err == nil {
			if len(got.RTT) != len(got.Prefixes)*len(pops) || len(got.Demand) != len(got.Prefixes) {
				t.Fatalf("%d prefixes, %d demands, %d times", len(got.Prefixes), len(got.Demand), len(got.RTT))
			}
			for i, p := range got.Prefixes {
				if p != p.Masked() || p.Addr().Is4In6() || !(got.Demand[i] >= 0 && got.Demand[i] <= table.MaxAmount) {
					t.Fatalf("%s with demand %v", p, got.Demand[i])
				}
			}
		}
		if pops, err := table.ReadPoPs(strings.NewReader(list), "pops.json"); err == nil {
			if err := table.CheckPoPs(pops); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := table.ReadMap(strings.NewReader(rtt), "map.csv"); err == nil {
			for _, l := range m.Lines() {
				if got, ok := m.Lookup(l.Prefix); !ok || got.Prefix != l.Prefix {
					t.Fatalf("%s is looked up as %v", l.Prefix, got)
				}
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var demand, rtt bytes.Buffer
	demand.WriteString("prefix,weight\n")
	rtt.WriteString("prefix,pop,milliseconds\n")
	many := make([]table.PoP, 14)
	for j := range many {
		many[j] = table.PoP{Name: fmt.Sprintf("pop%02d", j), Capacity: 1}
	}
	for i := range 100_000 {
		p := fmt.Sprintf("%d.%d.%d.0/24", 1+i>>16, i>>8&255, i&255)
		fmt.Fprintf(&demand, "%s,%d.25\n", p, i)
		for j, pop := range many {
			fmt.Fprintf(&rtt, "%s,%s,%d.%03d\n", p, pop.Name, (i+j)%300, i%1000)
		}
	}
	b.SetBytes(int64(rtt.Len()))
	for b.Loop() {
		if _, err := table.Read(many, bytes.NewReader(demand.Bytes()), "", io.Reader(bytes.NewReader(rtt.Bytes())), ""); err != nil {
			b.Fatal(err)
		}
	}
}
