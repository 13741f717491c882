package reconcile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestExplain shows what people are told about a name.
func TestExplain(t *testing.T) {
	s := reconcile.New(reconcile.Policy{Merge: []reconcile.Merge{{Type: record.TypeTXT}}})
	for _, line := range []string{
		"zone/a a.zone:1 example.net. 300 SOA 1",
		"zone/a a.zone:12 www.example.net. 300 A 192.0.2.1",
		"update/key k:1 www.example.net. 200 A 192.0.2.1",
		"rule/web rules/web.go:41 www.example.net. 60 A 192.0.2.2",
		"rule/web rules/web.go:42 www.example.net. 60 SOA 1 fallback",
		"zone/a a.zone:13 *.w.example.net. 300 TXT x",
		"config/c c:1 *.w.example.net. 200 TXT y",
		"zone/a a.zone:14 a.b.w.example.net. 300 TXT x",
		"zone/a a.zone:15 alias.example.net. 300 CNAME www.example.net.",
		"zone/a a.zone:16 sub.example.net. 300 NS ns.sub.example.net.",
		"zone/a a.zone:17 ns.sub.example.net. 300 A 192.0.2.3",
		"zone/a a.zone:18 x.sub.example.net. 300 A 192.0.2.4",
		"zone/a a.zone:19 d.example.net. 300 DNAME www.example.net.",
	} {
		c := claim(t, line)
		s.Replace(c.Source, line, []record.Claim{c})
	}
	s.Reconcile()
	for ask, want := range map[string]string{
		"www.example.net. A": `
www.example.net. A in zone example.net.
  wins   www.example.net. A 300 192.0.2.1 from zone/a (a.zone:12): first in precedence
  agrees www.example.net. A 200 192.0.2.1 from update/key (k:1): the same data, from a claim that goes first and gives the TTL (zone/a (a.zone:12))
  loses  www.example.net. A 60 192.0.2.2 from rule/web (rules/web.go:41): people before robots (precedence zone > rule) (zone/a (a.zone:12))
  above  example.net. SOA 300 \# 54 026e73076578616d706c65036e657400... from zone/a (a.zone:1)`,
		"www.example.net. SOA": `
www.example.net. SOA in zone example.net.
  www.example.net. is there but has no SOA
  yields www.example.net. SOA 60 \# 54 026e73076578616d706c65036e657400... from rule/web (rules/web.go:42): a fallback: it holds only where no zone is, and example.net. is one (example.net. SOA from zone/a (a.zone:1))
  above  example.net. SOA 300 \# 54 026e73076578616d706c65036e657400... from zone/a (a.zone:1)`,
		"q.w.example.net. A": `
q.w.example.net. A in zone example.net.
  q.w.example.net. is not in the dataset, *.w.example.net. answers for it
  above  example.net. SOA 300 \# 54 026e73076578616d706c65036e657400... from zone/a (a.zone:1)`,
		"*.w.example.net. TXT": `
*.w.example.net. TXT in zone example.net.
  united *.w.example.net. TXT 200 "y" from config/c (c:1): the policy merges it, and it gives the TTL
  united *.w.example.net. TXT 300 "x" from zone/a (a.zone:13): the policy merges it, the TTL is that of config/c (config/c (c:1))
  above  example.net. SOA 300 \# 54 026e73076578616d706c65036e657400... from zone/a (a.zone:1)`,
	} {
		n, typ, _ := strings.Cut(ask, " ")
		rt, err := record.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, "\n"+strings.TrimSuffix(s.Explain(name(n), rt).String(), "\n")); d != "" {
			t.Errorf("%s (-want +got):\n%s", ask, d)
		}
	}
	for n, want := range map[string]string{
		"w.example.net.":      "has no records, but names below it have",
		"b.w.example.net.":    "has no records, but names below it have",
		"c.b.w.example.net.":  "is not in the dataset: the answer is a name error", // b.w is the closest encloser
		"nope.example.net.":   "is not in the dataset: the answer is a name error",
		"alias.example.net.":  "is an alias of www.example.net.",
		"sub.example.net.":    "is a zone cut",
		"ns.sub.example.net.": "is glue for the delegation of sub.example.net.",
		"x.sub.example.net.":  "is below the zone cut sub.example.net.",
		"y.sub.example.net.":  "is below the zone cut sub.example.net.",
		"x.d.example.net.":    "is below the DNAME of d.example.net.",
		"www.example.org.":    "no zone of the dataset holds www.example.org.",
	} {
		if got := s.Explain(name(n), 0).Notes; len(got) == 0 || !strings.Contains(got[0], want) {
			t.Errorf("%s: notes are %q, expected %q", n, got, want)
		}
	}
}

// TestPolicyIsChecked holds that what would decide nothing is refused.
func TestPolicyIsChecked(t *testing.T) {
	if err := (reconcile.Policy{}).Check(); err != nil {
		t.Fatal(err)
	}
	if err := reconcile.DefaultPolicy().Check(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []reconcile.Policy{
		{Precedence: []string{record.KindRule}},
		{Precedence: []string{"rule", "rule", "zone", "map", "update", "config"}},
		{Merge: []reconcile.Merge{{Type: record.TypeCNAME}}},
		{Merge: []reconcile.Merge{{Kind: "robot"}}},
		{MinTTL: 2, MaxTTL: 1},
		{MinTTL: 1 << 31},
	} {
		if p.Check() == nil {
			t.Errorf("%+v passes", p)
		}
	}
}
