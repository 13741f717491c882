package review

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

func zone(t fatal, s string) record.Name {
	t.Helper()
	z, err := record.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestPolicy(t *testing.T) {
	p, err := ParsePolicy([]byte(`
# The whole fleet.
approvals 2
expire 12h
abandon 4w
group dns   alice bob   # the people
group ops   @dns carol
group all   *
path /**                  @ops
path /zones/              @dns dave approvals=1
path /zones/*/generated/* @all approvals=0
path /OWNERS              alice bob
zone Example.NET.         @dns approvals=1
zone edge.example.net     erin frank
robots path /rollouts/**  rollout
robots zone canary.example.net rollout
`))
	if err != nil {
		t.Fatal(err)
	}
	if p.expire != 12*time.Hour || p.abandon != 28*24*time.Hour {
		t.Errorf("expire %v, abandon %v", p.expire, p.abandon)
	}
	for _, c := range []struct {
		author string
		paths  []string
		zones  []string
		want   []string
	}{
		{"alice", []string{"x"}, nil, []string{"0 of 2 approvals of alice, bob, carol for x (OWNERS:9 path /**)"}},
		{"alice", []string{"zones/x", "zones/y/z"}, nil, []string{"0 of 1 approvals of alice, bob, dave for zones/x (OWNERS:10 path /zones/)"}},
		{"alice", []string{"zones/x/generated/y"}, nil, []string{"0 of 0 approvals of anybody for zones/x/generated/y (OWNERS:11 path /zones/*/generated/*)"}},
		{"alice", []string{"OWNERS"}, nil, []string{"0 of 2 approvals of alice, bob for OWNERS (OWNERS:12 path /OWNERS)"}},
		{"alice", nil, []string{"example.net", "www.example.net", "example.com"}, []string{"0 of 1 approvals of alice, bob for zone example.net. (OWNERS:13 zone example.net.)"}},
		{"alice", nil, []string{"a.edge.example.net"}, []string{"0 of 2 approvals of erin, frank for zone a.edge.example.net. (OWNERS:14 zone edge.example.net.)"}},
		{"rollout", []string{"rollouts/x", "zones/x"}, []string{"a.canary.example.net"}, []string{
			"0 of 0 approvals of alice, bob, carol for rollouts/x (OWNERS:9 path /**)",
			"0 of 1 approvals of alice, bob, dave for zones/x (OWNERS:10 path /zones/)",
			"0 of 0 approvals of alice, bob for zone a.canary.example.net. (OWNERS:13 zone example.net.)",
		}},
	} {
		var zones []record.Name
		for _, z := range c.zones {
			zones = append(zones, zone(t, z))
		}
		var got []string
		for _, q := range p.requirements(c.author, c.paths, zones) {
			got = append(got, q.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s changes %q and %q (-want +got):\n%s", c.author, c.paths, c.zones, diff)
		}
	}
}

// TestPathWithoutRule belongs to those who own OWNERS.
func TestPathWithoutRule(t *testing.T) {
	p, err := ParsePolicy([]byte("path /zones/ alice\npath /OWNERS carol\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.requirements("x", []string{"other"}, nil)[0].String(); got != "0 of 1 approvals of carol for other (OWNERS:2 path /OWNERS)" {
		t.Error(got)
	}
	if p, err = ParsePolicy(nil); err != nil {
		t.Fatal(err)
	}
	if got := p.requirements("x", []string{"other"}, nil)[0].String(); got != "0 of 1 approvals of anybody for other (no rule)" {
		t.Error(got)
	}
}

func TestBadPolicies(t *testing.T) {
	for text, want := range map[string]string{
		"owner /x alice":                     `OWNERS:1: "owner": expected approvals`,
		"\n\npath /x":                        "OWNERS:3: expected path PATTERN",
		"path x alice":                       "expected a path from the root",
		"path /a//b alice":                   "expected a path from the root",
		"path /[ab] alice":                   "expected a path from the root",
		"path /a**/b alice":                  "** stands alone",
		"path /x @gone":                      "group @gone: is not there",
		"path /x @later\ngroup later a":      "group @later: is not there",
		"group g a\ngroup g b":               "OWNERS:2: group g was said in line 1",
		"group g":                            "expected a name and operators",
		"path /x a\npath /x b":               "OWNERS:2: path /x was said in line 1",
		"zone x a\nzone X. b":                "zone x. was said in line 1",
		"zone a..b alice":                    "zone \"a..b\"",
		"path /x alice approvals=2":          "needs 2 approvals and has 1 owners",
		"approvals 3\npath /x a b":           "OWNERS:2: path /x needs 3 approvals",
		"path /x approvals=1":                "expected at least one operator",
		"path /x a approvals=21":             "expected a number from 0 to 20",
		"path /x a approvals=-1":             "expected a number from 0 to 20",
		"path /x a approvals=1 approvals=2":  "approvals= twice",
		"approvals":                          "expected one value",
		"approvals 1\napprovals 2":           "was said in line 1",
		"expire 14":                          "expected 1h to 1000w",
		"expire 0d":                          "expected 1h to 1000w",
		"expire 1001w":                       "expected 1h to 1000w",
		"expire 99999999999999999999w":       "expected 1h to 1000w",
		"robots /x a":                        "robots: expected path PATTERN",
		"robots path /x *":                   "expected names, not *",
		"robots path /x a approvals=1":       "has no meaning here",
		"path /x a,b":                        `operator "a,b"`,
		"path /x a\x00":                      "operator",
		"path /x \xff":                       "is not UTF-8",
		strings.Repeat("#", maxOwnersFile+1): "expected at most 1048576",
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %q", text, err, want)
		}
	}
	var many strings.Builder
	for i := range maxRules + 1 {
		fmt.Fprintf(&many, "path /%d a\n", i)
	}
	if _, err := ParsePolicy([]byte(many.String())); err == nil || !strings.Contains(err.Error(), "more than 10000 rules") {
		t.Errorf("got %v", err)
	}
	// Groups of groups multiply.
	var bomb strings.Builder
	bomb.WriteString("group g")
	for i := range maxWho {
		fmt.Fprintf(&bomb, " u%d", i)
	}
	for i := range 2000 {
		fmt.Fprintf(&bomb, "\npath /%d @g", i)
	}
	if _, err := ParsePolicy([]byte(bomb.String())); err == nil || !strings.Contains(err.Error(), "in all lines together") {
		t.Errorf("got %v", err)
	}
}

// TestMatches compares with regular expressions.
func TestMatches(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "b", "ab", "*", "a*", "*b", "?", "**", "a?b"})
	name := rapid.SampledFrom([]string{"a", "b", "ab", "aab", "abb", "acb"})
	rapid.Check(t, func(t *rapid.T) {
		pattern := "/" + strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, "pattern"), "/")
		if rapid.Bool().Draw(t, "below") {
			pattern += "/"
		}
		if err := checkPattern(pattern); err != nil {
			t.Fatal(err)
		}
		file := strings.Join(rapid.SliceOfN(name, 1, 6).Draw(t, "name"), "/")
		expr := pattern
		if strings.HasSuffix(expr, "/") {
			expr += "**"
		}
		// Each ** is any number of whole parts, with the slash before them.
		expr = strings.ReplaceAll(expr, "/**", "(/X+)!")
		expr = strings.NewReplacer("*", "X!", "?", "X").Replace(expr)
		expr = strings.NewReplacer("X+", "[^/]+", "X!", "[^/]*", "X", "[^/]", "!", "*").Replace(expr)
		want := regexp.MustCompile("^" + expr + "$").MatchString("/" + file)
		if got := matches(patternParts(pattern), strings.Split(file, "/")); got != want {
			t.Fatalf("matches(%q, %q) = %v, want %v (%s)", pattern, file, got, want, expr)
		}
	})
}

// BenchmarkRequirements asks 1,000 rules about a change of 10,000 files.
func BenchmarkRequirements(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "path /zones/%d/*.star alice\n", i)
	}
	p, err := ParsePolicy([]byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	var files []string
	for i := range 10_000 {
		files = append(files, fmt.Sprintf("zones/%d/%d.star", i%1000, i))
	}
	for b.Loop() {
		p.requirements("bob", files, nil)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("approvals 2\nexpire 12h\ngroup g a b\npath /** @g\nzone example.net * approvals=0\nrobots path /x/ r\n"), "a/b")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		p, err := ParsePolicy(b)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "OWNERS:") {
				t.Errorf("no place: %v", err)
			}
			return
		}
		for _, q := range p.requirements("a", []string{path.Clean(name), OwnersFile}, []record.Name{record.Root}) {
			if len(q.Owners) == 0 || len(q.For) == 0 || q.Owners[0] != everybody && len(q.Owners) < q.Need {
				t.Errorf("%+v", q)
			}
			_ = q.String()
		}
	})
}
