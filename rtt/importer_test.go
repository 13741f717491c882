package rtt

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var now = time.Unix(1_764_240_000, 0)

func TestImportCSV(t *testing.T) {
	table := New(Limit{})
	done, err := table.ImportCSV(strings.NewReader(`pop,prefix,milliseconds,kind,client,time
esams,192.0.2.0/24,12.5,,probe1,1764000000
esams,192.0.2.77,13.5,client,probe1,2025-11-24T16:00:00Z
"eqiad",2001:db8:1:2::/64,91,,,
eqiad,::ffff:198.51.100.7,80,resolver,,
`), now)
	if err != nil || done.Measurements != 4 {
		t.Fatalf("%+v, %v", done, err)
	}
	var got []string
	for r := range table.All() {
		for _, c := range r.Cells {
			got = append(got, r.Kind.String()+" "+r.Prefix.String()+" "+c.PoP+" "+c.Times.Quantile(0.5).Round(time.Millisecond).String())
			if r.Prefix.String() == "192.0.2.0/24" && (c.Clients.Count() != 1 || c.Times.Count() != 2) {
				t.Errorf("%d clients of %d times, expected 1 of 2", c.Clients.Count(), c.Times.Count())
			}
		}
	}
	if want := "client 192.0.2.0/24 esams 12ms;client 2001:db8:1::/48 eqiad 91ms;resolver 198.51.100.0/24 eqiad 80ms"; !near(got, want) {
		t.Errorf("got %v, expected %s", got, want)
	}
}

// near compares what was joined, with times as they are rounded by the sketch.
func near(got []string, want string) bool {
	all := strings.Split(want, ";")
	if len(got) != len(all) {
		return false
	}
	for i, g := range got {
		a, b := strings.LastIndex(g, " "), strings.LastIndex(all[i], " ")
		x, err1 := time.ParseDuration(g[a+1:])
		y, err2 := time.ParseDuration(all[i][b+1:])
		if g[:a] != all[i][:b] || err1 != nil || err2 != nil || (x-y).Abs() > y/25+time.Millisecond {
			return false
		}
	}
	return true
}

func TestImportCSVErrors(t *testing.T) {
	const head = "prefix,pop,milliseconds\n"
	for _, c := range []struct {
		in   string
		line int
		want string
	}{
		{"", 1, "it is empty"},
		{"prefix,pop\n", 1, "column milliseconds is missing"},
		{"prefix,pop,milliseconds,speed\n", 1, `column "speed"`},
		{"prefix,pop,milliseconds,pop\n", 1, `column "pop" is there twice`},
		{head + "192.0.2.0/24,esams\n", 2, "wrong number of fields"},
		{head + "192.0.2.0/24,esams,1\n192.0.2.1/24,esams,1\n", 3, "has bits behind its length, expected 192.0.2.0/24"},
		{head + "192.0.2.256,esams,1\n", 2, `prefix "192.0.2.256"`},
		{head + "fe80::1%eth0,esams,1\n", 2, `prefix "fe80::1%eth0"`},
		{head + ",esams,1\n", 2, `prefix ""`},
		{head + "192.0.2.1,,1\n", 2, `PoP ""`},
		{head + "192.0.2.1,es ams,1\n", 2, `PoP "es ams"`},
		{head + "192.0.2.1,esams,NaN\n", 2, `milliseconds "NaN"`},
		{head + "192.0.2.1,esams,-1\n", 2, `milliseconds "-1"`},
		{head + "192.0.2.1,esams,0\n", 2, `milliseconds "0"`},
		{head + "192.0.2.1,esams,1e300\n", 2, `milliseconds "1e300"`},
		{head + "192.0.2.1,esams,60001\n", 2, `above 0 and up to 60000`},
		{head + "192.0.2.1,esams,\"1\n", 2, "extraneous or missing"},
		{"prefix,pop,milliseconds,kind\n192.0.2.1,esams,1,user\n", 2, `kind "user"`},
		{"prefix,pop,milliseconds,time\n192.0.2.1,esams,1,yesterday\n", 2, `time "yesterday"`},
		{head + "192.0.2.1,esams," + strings.Repeat("1", 3<<20) + "\n", 2, "more than 1 MiB"},
	} {
		_, err := New(Limit{}).ImportCSV(strings.NewReader(c.in), now)
		var at *LineError
		if !errors.As(err, &at) || at.Line != c.line || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, expected line %d: %s", c.in, err, c.line, c.want)
		}
	}
}

const ping = `{"fw":5080,"mver":"2.6.2","lts":30,"dst_name":"esams.example.net","af":4,"dst_addr":"198.51.100.1","src_addr":"10.0.0.2","proto":"ICMP","ttl":52,"size":32,
"result":[{"rtt":21.5},{"rtt":19.75},{"rtt":3.1,"dup":1},{"x":"*"}],"dup":0,"rcvd":2,"sent":3,"min":19.75,"max":21.5,"avg":20.6,"msm_id":1,"prb_id":42,"timestamp":1764000000,"msm_name":"Ping","from":"192.0.2.9","type":"ping"}`

func TestImportAtlas(t *testing.T) {
	targets := map[string]string{"esams.example.net": "esams", "203.0.113.1": "eqiad"}
	elsewhere := strings.Replace(ping, "esams.example.net", "other.example.net", 1)
	byAddress := strings.NewReplacer("esams.example.net", "203.0.113.1", "198.51.100.1", "203.0.113.1", `"from":"192.0.2.9"`, `"from":"2001:db8::9"`).Replace(ping)
	lost := `{"type":"ping","dst_name":"esams.example.net","from":"192.0.2.9","prb_id":1,"timestamp":1764000000,"min":-1,"avg":-1,"result":[{"x":"*"},{"error":"connect failed"}]}`
	average := `{"dst_name":"esams.example.net","from":"192.0.2.9","prb_id":7,"timestamp":1764000000,"avg":20}`
	for name, in := range map[string]string{
		"array":     "\n [" + strings.Join([]string{ping, elsewhere, byAddress, lost, average}, ",\n") + "]\n",
		"lines":     strings.Join([]string{ping, elsewhere, byAddress, lost, average}, "\n"),
		"unbroken":  ping + elsewhere + byAddress + lost + average,
		"behind it": "[" + strings.Join([]string{ping, elsewhere, byAddress, lost, average}, ",") + "]",
	} {
		table := New(Limit{})
		done, err := table.ImportAtlas(strings.NewReader(in), targets)
		if err != nil || done != (Imported{Measurements: 3, Lost: 1, Elsewhere: 1}) {
			t.Errorf("%s: %+v, %v", name, done, err)
			continue
		}
		var got []string
		for r := range table.All() {
			for _, c := range r.Cells {
				got = append(got, r.Prefix.String()+" "+c.PoP+" "+c.Times.Quantile(0.5).String())
			}
		}
		if want := "192.0.2.0/24 esams 20ms;2001:db8::/48 eqiad 20ms"; !near(got, want) {
			t.Errorf("%s: %v, expected %s", name, got, want)
		}
	}
}

func TestImportAtlasErrors(t *testing.T) {
	targets := map[string]string{"esams.example.net": "esams"}
	change := func(old, new string) string { return strings.Replace(ping, old, new, 1) }
	for _, c := range []struct {
		in   string
		line int
		want string
	}{
		{"", 1, "it is empty"},
		{"\n\n{", 3, "it ends within a result"},
		{"[" + ping + ",\n" + ping, 4, "it ends within the array of results"},
		{"[" + ping + "]\n[]", 3, "follows the array"},
		{"[" + ping + ",\n\n]", 4, "it has ']', expected an object"},
		{ping + "\n" + change(`"192.0.2.9"`, `"here"`), 3, `probe 42: from "here", expected an address`},
		{ping + "\n" + change(`"from":"192.0.2.9",`, ``), 3, `from ""`},
		{"[" + change(`"ttl":52`, `"ttl":52,,`), 1, "invalid character"},
		{change(`"x":"*"`, `"x":*`), 2, "invalid character"},
		{change(`19.75`, `-5`), 1, "-5 milliseconds"},
		{change(`19.75`, `0`), 1, "0 milliseconds"},
		{change(`{"x":"*"}`, `{"rtt":"fast"}`), 2, "is a JSON string"},
		{change(`"ping"}`, `"traceroute"}`), 1, `type "traceroute", expected ping`},
		{change(`1764000000`, `-1`), 1, "timestamp -1"},
		{ping + "\n\n5", 4, "it has '5', expected an object"},
		{`{"` + strings.Repeat("a", 3<<20), 1, "more than 1 MiB"},
	} {
		_, err := New(Limit{}).ImportAtlas(strings.NewReader(c.in), targets)
		var at *LineError
		if !errors.As(err, &at) || at.Line != c.line || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q…: %v, expected line %d: %s", c.in, err, c.line, c.want)
		}
	}
}

func FuzzImport(f *testing.F) {
	f.Add("prefix,pop,milliseconds\n192.0.2.0/24,esams,1\n")
	f.Add(ping)
	f.Add("[" + ping + "]")
	f.Fuzz(func(t *testing.T, in string) {
		for name, read := range map[string]func(*Table) (Imported, error){
			"csv": func(table *Table) (Imported, error) { return table.ImportCSV(strings.NewReader(in), now) },
			"atlas": func(table *Table) (Imported, error) {
				return table.ImportAtlas(strings.NewReader(in), map[string]string{"esams.example.net": "esams"})
			},
		} {
			table := New(Limit{Rows: 100})
			_, err := read(table)
			var at *LineError
			if err != nil && (!errors.As(err, &at) || at.Line < 1 || at.Line > 1+strings.Count(in, "\n")) {
				t.Errorf("%s: %v", name, err)
			}
			encoded(t, table)
		}
	})
}
