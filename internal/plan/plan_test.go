package plan

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

var update = flag.Bool("update", false, "write testdata anew")

// hostile is what a name, a reason or a file may be called.
const hostile = "</code></details>`**x**`\x1b[31m\n# y <img src=x onerror=alert(1)> [click](https://example.org) @alice #1 | \u202e www.example.org"

func example() *Plan {
	p := New()
	p.Digest = "5ad3"
	p.Configurations = []Config{{Path: "zones/example.net", Type: "zonecast.Zone", Kind: Changed, Change: "1"}, {Path: "rules", Type: "zonecast.Rules", Kind: Removed, Change: "1"}}
	p.MoreConfigurations = 1
	p.Total, p.ZoneCount = Counts{Added: 2, Changed: 3, Removed: 1, TTL: 2}, 3
	p.Zones = []Zone{
		{Name: "example.net.", Counts: Counts{Added: 1, Changed: 3, Removed: 1, TTL: 2}, More: 2, Records: []Record{
			{Owner: "a.example.net.", Type: "A", Kind: Added, After: &Set{TTL: 300, Data: []string{"192.0.2.1", "192.0.2.2"}}},
			{Owner: "b.example.net.", Type: "A", Kind: Changed, Before: &Set{TTL: 300, Data: []string{"192.0.2.3"}}, After: &Set{TTL: 60, Data: []string{"192.0.2.4"}, More: 7}},
			{Owner: "c.example.net.", Type: "TXT", Location: "ams", Kind: Removed, Before: &Set{TTL: 300, Data: []string{hostile}}},
			{Owner: "d.example.net.", Type: "A", Kind: TTL, Before: &Set{TTL: 300, Data: []string{"192.0.2.5"}}, After: &Set{TTL: 60, Data: []string{"192.0.2.5"}}},
			{Owner: "e.example.net.", Type: "NS", Kind: TTL, Before: &Set{TTL: 300, Data: []string{"ns1.example.net.", "ns2.example.net."}}, After: &Set{TTL: 60, Data: []string{"ns1.example.net.", "ns2.example.net."}}},
		}},
		{Counts: Counts{Added: 1}, Records: []Record{{Owner: "x.test.", Type: "AAAA", Kind: Added, After: &Set{TTL: 60, Data: []string{"2001:db8::1"}}}}},
	}
	p.Touches = []string{"example.net."}
	p.Come, p.Go = 5, 2
	p.Claims, p.MoreClaims = []Claim{{Source: "config/zones/example.net", Owner: "a.example.net.", Type: "A", Kind: Added, Fate: "wins"}}, 6
	p.Losing = []Claim{
		{Source: "config/zones/example.net", Place: "zones/example.net.star:9", Owner: "f.example.net.", Type: "A", Kind: Added, Fate: "loses", Against: "override/1", Rule: "precedence override > config", Hint: "it holds when the override ends"},
		{Source: "config/zones/example.net", Owner: "g.example.net.", Type: "A", Location: "ams", Kind: Added, Fate: "agrees", Against: "config/b", At: "b.star:1", Rule: "its TTL is 60 and not 300"},
		{Source: "config/zones/example.net", Owner: "g.example.org.", Type: "A", Kind: Added, Fate: "loses", Rule: "no zone holds the name"},
	}
	p.MoreLosing = 1
	p.Begin, p.End = []string{"one " + hostile}, []string{"another conflict"}
	p.Held = []Held{{Source: "config/zones/example.net", Why: []string{"config/zones/example.net would remove 55 of 61 RRsets of example.net.", "config/zones/example.net would take away " + hostile}}}
	p.Waits = []string{"config/* is frozen by alice (" + hostile + "): `zonecast thaw f1`"}
	p.Notes = []string{"guards are judged by their default bounds " + hostile}
	p.Traffic = &Traffic{Drawn: 1000, Hosts: 3, Queries: 64000, Touched: 0.2, Share: 0.1, Low: 0.08, High: 0.12, Kinds: []Difference{{"nxdomain", 0.1}}, Examples: []Example{
		{Name: "c.example.net.", Type: "TXT", Share: 0.1, Before: hostile, After: "NXDOMAIN"},
	}, More: 2}
	return p
}

func render(t *testing.T, write func(w *strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func asText(t *testing.T, p *Plan) string {
	return render(t, func(w *strings.Builder) error { return p.Text(w) })
}

func asMarkdown(t *testing.T, p *Plan) string {
	return render(t, func(w *strings.Builder) error { return p.Markdown(w) })
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestText(t *testing.T) {
	got := asText(t, example())
	golden(t, "plan.txt", got)
	if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && r != '\t' && (r < ' ' || r == 0x7f || r == '\u202e') }); i >= 0 {
		t.Errorf("text has %q at %d", got[i], i)
	}
	if got := asText(t, New()); got != "nothing changes\n" {
		t.Errorf("an empty plan is %q", got)
	}
	unknown := New()
	unknown.Come, unknown.Traffic = 1, &Traffic{Unknown: "no host has said"}
	if got, want := asText(t, unknown), "0 record sets change in 0 zones; 1 claim comes, 0 go\nlive traffic: unknown: no host has said\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	configs := New()
	configs.Configurations = []Config{{Path: "a", Type: "b", Kind: Added}}
	if configs.Empty() {
		t.Error("a plan with a configuration is empty")
	}
}

// harmless holds that nothing of a plan can become markup: foreign text is in indented code,
// or within the plan's own code tags without a character that means anything.
func harmless(t *testing.T, got string) {
	t.Helper()
	own := regexp.MustCompile(`</?(details|summary|code)>|<details open>`)
	codes := regexp.MustCompile(`<code>[^<]*</code>`)
	for i, line := range strings.Split(got, "\n") {
		if strings.HasPrefix(line, "    ") {
			if i == 0 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
				t.Errorf("line %d of code: %q", i, line)
			}
			continue
		}
		for _, c := range codes.FindAllString(line, -1) {
			if inner := strings.TrimSuffix(strings.TrimPrefix(c, "<code>"), "</code>"); strings.ContainsAny(regexp.MustCompile(`&#\d+;`).ReplaceAllString(inner, ""), "<>&*_`[]!|\\~\"'=+-@#:/.") {
				t.Errorf("line %d: %q has a character that means something", i, c)
			}
		}
		line = codes.ReplaceAllString(line, "")
		if opens, closes := strings.Count(line, "<details"), strings.Count(line, "</details>"); opens+closes > 1 {
			t.Errorf("line %d: %q", i, line)
		}
		line = strings.TrimSuffix(strings.TrimPrefix(own.ReplaceAllString(line, ""), "**"), "**")
		if line = strings.TrimPrefix(strings.ReplaceAll(line, " | ", ""), "|---|--:|--:|--:|--:|"); strings.ContainsAny(line, "<>&*_`[]!\\~\"'=+@#") || strings.Contains(line, "//") {
			t.Errorf("line %d: %q has a character that means something", i, line)
		}
	}
	if strings.Count(got, "<details") != strings.Count(got, "\n</details>\n") || strings.Count(got, "<summary>") != strings.Count(got, "</summary>") {
		t.Error("details are not closed")
	}
}

func TestMarkdown(t *testing.T) {
	got := asMarkdown(t, example())
	golden(t, "plan.md", got)
	harmless(t, got)
	p := example()
	for i := range p.Zones {
		p.Zones[i].Name = hostile
	}
	p.Traffic = &Traffic{Unknown: hostile}
	harmless(t, asMarkdown(t, p))
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "text")
		p := example()
		p.Zones[0].Name, p.Zones[0].Records[0].Owner, p.Waits[0], p.Begin[0], p.Notes[0], p.Traffic.Unknown = s, s, s, s, s, s
		harmless(t, asMarkdown(t, p))
	})
}

// What a forge has no room for is counted and left out, and everything is closed.
func TestMarkdownIsBounded(t *testing.T) {
	p := example()
	for i := range 2000 {
		z := Zone{Name: fmt.Sprintf("z%d.%s.", i, strings.Repeat("x", 50))}
		for k := range 3 {
			z.Added++
			z.Records = append(z.Records, Record{Owner: z.Name, Type: "TXT", Kind: Added, After: &Set{TTL: 60, Data: []string{fmt.Sprint(k, strings.Repeat("y", 400))}}})
		}
		p.Zones = append(p.Zones, z)
	}
	p.ZoneCount = len(p.Zones)
	for range 50 {
		p.Begin = append(p.Begin, strings.Repeat("<", MaxText))
		p.Waits = append(p.Waits, strings.Repeat("<", MaxText))
	}
	got := asMarkdown(t, p)
	if len(got) > MaxMarkdown {
		t.Errorf("%d octets, at most %d", len(got), MaxMarkdown)
	}
	harmless(t, got)
	m := regexp.MustCompile(`and (\d+) lines for which there is no room here\n\n$`).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("it does not end with what is left out: %q", got[len(got)-200:])
	}
	if whole := asText(t, p); !strings.Contains(whole, "z1999.") {
		t.Error("the text is not whole")
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), &back); diff != "" {
		t.Errorf("what was read back (-was +is):\n%s", diff)
	}
	if b, err = json.Marshal(New()); err != nil || strings.Contains(string(b), "null") {
		t.Errorf("a plan of nothing is %s, %v", b, err)
	}
}

func TestClip(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("ä", MaxText), "x" + strings.Repeat("ä", MaxText), strings.Repeat("\x80", 2*MaxText)} {
		got := Clip(s)
		if len(got) > MaxText+len("…") || utf8.ValidString(s) && !utf8.ValidString(got) || len(s) <= MaxText && got != s {
			t.Errorf("Clip of %d octets is %d octets: %q", len(s), len(got), got)
		}
	}
}

func drawClaims(t *rapid.T) (claims []record.Claim) {
	for range rapid.IntRange(0, 6).Draw(t, "claims") {
		owner := record.Name("\x01" + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "owner") + "\x00")
		r := record.NewRRset(owner, record.TypeA, rapid.SampledFrom([]uint32{60, 300}).Draw(t, "ttl"), record.Rdata([]byte{192, 0, 2, byte(rapid.IntRange(1, 2).Draw(t, "address"))}))
		claims = append(claims, record.Claim{RRset: r, Source: "config/a", Place: rapid.SampledFrom([]string{"x:1", "x:2"}).Draw(t, "place"), Fallback: rapid.Bool().Draw(t, "fallback")})
	}
	return claims
}

// TestMoves: what goes, taken away, and what comes, added, makes the claims after of those
// before; nothing moves that need not; neither order nor place matters.
func TestMoves(t *testing.T) {
	say := func(r *record.RRset, fallback bool) string { return fmt.Sprint(r.Owner, r.TTL, r.Data, fallback) }
	bag := func(claims []record.Claim) map[string]int {
		m := map[string]int{}
		for i := range claims {
			m[say(&claims[i].RRset, claims[i].Fallback)]++
		}
		return m
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Change{Source: "config/a", Before: drawClaims(t), Claims: drawClaims(t)}
		moves := Moves(c)
		before, after := bag(c.Before), bag(c.Claims)
		still := 0
		for k, n := range before {
			still += min(n, after[k])
		}
		gone, come := 0, 0
		for _, m := range moves {
			if m.Before != nil {
				before[say(m.Before, m.WasFallback)]--
				gone++
			}
			if m.After != nil {
				before[say(m.After, m.IsFallback)]++
				come++
			}
			if m.Before != nil && m.After != nil && m.Before.Key != m.After.Key {
				t.Fatalf("%v becomes %v", m.Before, m.After)
			}
		}
		maps.DeleteFunc(before, func(_ string, n int) bool { return n == 0 })
		if diff := cmp.Diff(after, before); diff != "" {
			t.Fatalf("moves do not lead there (-after +moved):\n%s", diff)
		}
		if gone != len(c.Before)-still || come != len(c.Claims)-still {
			t.Fatalf("%d go and %d come, %d of %d and %d are the same", gone, come, still, len(c.Before), len(c.Claims))
		}
		other := Change{Source: c.Source, Before: rapid.Permutation(c.Before).Draw(t, "before"), Claims: slices.Clone(rapid.Permutation(c.Claims).Draw(t, "claims"))}
		for i := range other.Claims {
			other.Claims[i].Place = "elsewhere"
		}
		if a, b := DigestOf(nil, moves), DigestOf(nil, Moves(other)); a != b {
			t.Fatal("order and places matter for the digest")
		}
		if a, b := DigestOf(nil, moves), DigestOf(nil, rapid.Permutation(moves).Draw(t, "moves")); len(moves) < 2 && a != b {
			t.Fatal("the order of moves matters for the digest")
		}
		if again := Moves(Change{Source: c.Source, Before: c.Claims, Claims: other.Claims}); len(again) != 0 {
			t.Fatalf("%v moves though nothing changes", again)
		}
	})
}

// Each thing that is agreed to is in the digest.
func TestDigestOf(t *testing.T) {
	set := func(f func(*record.RRset)) *record.RRset {
		r := record.NewRRset("\x01a\x00", record.TypeA, 60, "\xc0\x00\x02\x01")
		f(&r)
		return &r
	}
	as := func(*record.RRset) {}
	base := Move{Source: "config/a", After: set(as), Fate: "holds"}
	seen := map[string]string{}
	for what, d := range map[string]string{
		"nothing":       DigestOf(nil, nil),
		"base":          DigestOf(nil, []Move{base}),
		"source":        DigestOf(nil, []Move{{Source: "config/b", After: base.After, Fate: "holds"}}),
		"fate":          DigestOf(nil, []Move{{Source: "config/a", After: base.After, Fate: "loses"}}),
		"goes":          DigestOf(nil, []Move{{Source: "config/a", Before: base.After, Fate: "holds"}}),
		"fallback":      DigestOf(nil, []Move{{Source: "config/a", After: base.After, Fate: "holds", IsFallback: true}}),
		"owner":         DigestOf(nil, []Move{{Source: "config/a", After: set(func(r *record.RRset) { r.Owner = "\x01b\x00" }), Fate: "holds"}}),
		"type":          DigestOf(nil, []Move{{Source: "config/a", After: set(func(r *record.RRset) { r.Type = record.TypeTXT }), Fate: "holds"}}),
		"location":      DigestOf(nil, []Move{{Source: "config/a", After: set(func(r *record.RRset) { r.Location = "ams" }), Fate: "holds"}}),
		"ttl":           DigestOf(nil, []Move{{Source: "config/a", After: set(func(r *record.RRset) { r.TTL = 61 }), Fate: "holds"}}),
		"data":          DigestOf(nil, []Move{{Source: "config/a", After: set(func(r *record.RRset) { r.Data = []record.Rdata{"\xc0\x00\x02\x02"} }), Fate: "holds"}}),
		"more data":     DigestOf(nil, []Move{{Source: "config/a", After: set(func(r *record.RRset) { r.Data = append(r.Data, "\xc0\x00\x02\x02") }), Fate: "holds"}}),
		"twice":         DigestOf(nil, []Move{base, base}),
		"configuration": DigestOf([]Config{{Path: "a", Type: "T", Kind: Added, Change: "1"}}, []Move{base}),
		"its path":      DigestOf([]Config{{Path: "b", Type: "T", Kind: Added, Change: "1"}}, []Move{base}),
		"its type":      DigestOf([]Config{{Path: "a", Type: "U", Kind: Added, Change: "1"}}, []Move{base}),
		"its value":     DigestOf([]Config{{Path: "a", Type: "T", Kind: Added, Change: "2"}}, []Move{base}),
		"it goes":       DigestOf([]Config{{Path: "a", Type: "T", Kind: Removed, Change: "1"}}, []Move{base}),
	} {
		if other, known := seen[d]; known {
			t.Errorf("%s and %s have the same digest", what, other)
		}
		seen[d] = what
	}
	if DigestOf(nil, []Move{base, {Source: "rule/a", After: base.After, Fate: "holds", Derived: true}}) != DigestOf(nil, []Move{base}) {
		t.Error("what follows from the fleet is agreed to")
	}
	a, b := Config{Path: "a", Type: "T", Kind: Added, Change: "1"}, Config{Path: "b", Type: "T", Kind: Added, Change: "1"}
	if DigestOf([]Config{a, b}, nil) != DigestOf([]Config{b, a}, nil) {
		t.Error("the order of configurations matters")
	}
}
