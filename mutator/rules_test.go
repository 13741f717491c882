package mutator

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// rulesDir is a directory of rules that a test changes.
type rulesDir struct {
	t   *testing.T
	dir string
	n   int
}

func (d *rulesDir) write(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	d.n++ // as if each were written a second after the other
	at := time.Unix(1_700_000_000+int64(d.n), 0)
	if err := os.Chtimes(path, at, at); err != nil {
		d.t.Fatal(err)
	}
	d.settle()
}

func (d *rulesDir) remove(name string) {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
		d.t.Fatal(err)
	}
	d.settle()
}

func (d *rulesDir) settle() { time.Sleep(3 * lookInterval) }

// claimed gives the owners and data that a source claims.
func claimed(t *testing.T, st store.Store, source record.Source) (out []string) {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.ClaimsPrefix(source))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		claims, err := record.DecodeShard(n.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range claims {
			out = append(out, fmt.Sprintf("%s %d %s (%d) at %s", c.Owner, c.TTL, c.Type, len(c.Data), c.Place))
		}
	}
	slices.Sort(out)
	return out
}

func sourceOf(t *testing.T, st store.Store, source record.Source) (s tree.Source) {
	t.Helper()
	n, err := st.Get(t.Context(), tree.SourcePath(source))
	if err != nil {
		return s
	}
	if err := tree.Decode(n, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRulesOfUsers takes a rule, exchanges it, breaks it, has it fail for one server, lets
// it take a built-in rule's place, and takes it away: each concerns that rule alone.
func TestRulesOfUsers(t *testing.T) {
	d := &rulesDir{t: t, dir: t.TempDir()}
	bubble(t, func(c *Config) { c.RulesDir = d.dir }, func(t *testing.T, st *memstore.Store) {
		put(t, st, web(1, nil), web(2, nil))
		d.settle()
		is := func(source record.Source, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, claimed(t, st, source)); diff != "" {
				t.Errorf("%s claims (-want +got):\n%s", source, diff)
			}
		}
		is("rule/racks")
		d.write("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name)\n")
		is("rule/racks", "rack-web1.example.net. 3600 CNAME (1) at racks.star:2, server web1.example.net", "rack-web2.example.net. 3600 CNAME (1) at racks.star:2, server web2.example.net")
		put(t, st, web(3, nil))
		d.settle()
		if got := claimed(t, st, "rule/racks"); len(got) != 3 {
			t.Errorf("a new server is not in it: %q", got)
		}
		d.write("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name, ttl = 60)\n")
		if got := claimed(t, st, "rule/racks"); len(got) != 3 || !strings.Contains(got[0], " 60 CNAME") {
			t.Errorf("exchanged: %q", got)
		}

		d.write("racks.star", "def server(s)\n")
		if got := claimed(t, st, "rule/racks"); len(got) != 3 || !strings.Contains(got[0], " 60 CNAME") {
			t.Errorf("broken, and it claims %q", got)
		}
		if s := sourceOf(t, st, "rule/racks"); !strings.Contains(s.Error, "racks.star:2:1: got newline") || s.Records != 3 {
			t.Errorf("broken: %+v", s)
		}
		put(t, st, web(4, nil)) // the last good rule goes on
		d.settle()
		if got := claimed(t, st, "rule/racks"); len(got) != 4 {
			t.Errorf("broken, and a new server gets %q", got)
		}

		d.write("racks.star", "def server(s):\n  if s.label == 'web2':\n    fail('no rack')\n  return cname('rack-' + s.name, s.name, ttl = 30)\n")
		got := claimed(t, st, "rule/racks")
		if len(got) != 4 || !strings.Contains(got[0], " 30 CNAME") || !strings.Contains(got[1], " 60 CNAME") || !strings.Contains(got[2], " 30 CNAME") {
			t.Errorf("it fails for one server: %q", got)
		}
		if s := sourceOf(t, st, "rule/racks"); !strings.Contains(s.Error, "racks.star:3:9: server web2.example.net: fail: no rack") {
			t.Errorf("it fails for one server: %+v", s)
		}

		address := len(claimed(t, st, "rule/address"))
		d.write("address.star", "def server(s):\n  return address(s.name, s.v4)\n")
		if got := claimed(t, st, "rule/address"); len(got) != address/2 || !strings.Contains(got[0], "address.star:2") {
			t.Errorf("in the place of a built-in rule: %q", got)
		}
		d.remove("address.star")
		if got := claimed(t, st, "rule/address"); len(got) != address {
			t.Errorf("the built-in rule again: %q", got)
		}
		d.write("params.json", "[]")
		if got := claimed(t, st, "rule/racks"); len(got) != 4 {
			t.Errorf("with broken parameters: %q", got)
		}
		if s := sourceOf(t, st, "rule/racks"); !strings.Contains(s.Error, "params.json: expected a JSON object") {
			t.Errorf("with broken parameters: %+v", s)
		}
		d.remove("params.json")
		d.remove("racks.star")
		is("rule/racks")
		if s := sourceOf(t, st, "rule/racks"); s.Source != "" {
			t.Errorf("it is gone, and its source says %+v", s)
		}
		mustBeRight(t, st)
	})
}

// TestRulesAfterRestart: what a rule cannot say after a restart stays as it was, and the
// claims of a rule that went while nobody led go.
func TestRulesAfterRestart(t *testing.T) {
	d := &rulesDir{t: t, dir: t.TempDir()}
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		use := func(c *Config) { c.RulesDir = d.dir }
		put(t, st, web(1, nil), web(2, nil), web(3, func(s *fleet.Server) { s.Site = "ams" }))
		d.write("sites.star", "def groups(s):\n  return s.site\ndef group(g):\n  return [address(g.name + '.example.net', s.addresses) for s in g.servers]\n")
		d.write("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name)\n")
		stop := run(t, st, use)
		d.settle()
		before := claimed(t, st, "rule/sites")
		if len(before) != 4 || !strings.HasPrefix(before[2], "sfo.example.net. 3600 A (2)") {
			t.Fatalf("%q", before)
		}
		stop()
		d.remove("racks.star")
		d.write("sites.star", "def groups(s):\n  if s.label == 'web2':\n    fail('lost')\n  return s.site\ndef group(g):\n  return [address(g.name + '.example.net', s.addresses) for s in g.servers]\n")
		stop = run(t, st, use)
		d.settle()
		if diff := cmp.Diff(before, claimed(t, st, "rule/sites")); diff != "" {
			t.Errorf("it is not known of one server which group it is in (-before +now):\n%s", diff)
		}
		if got := claimed(t, st, "rule/racks"); len(got) != 0 {
			t.Errorf("a rule that is gone claims %q", got)
		}
		d.write("sites.star", "def groups(s):\n  return s.site\ndef group(g):\n  return [address(g.name + '.example.net', s.v4) for s in g.servers]\n")
		if got := claimed(t, st, "rule/sites"); len(got) != 2 {
			t.Errorf("mended: %q", got)
		}
		d.write("sites.star", "def groups(s):\n  if s.label == 'web2':\n    fail('lost')\n  return s.site\ndef group(g):\n  return [address(g.name + '.example.net', s.v6) for s in g.servers]\n")
		if got := claimed(t, st, "rule/sites"); len(got) != 2 || !strings.HasPrefix(got[1], "sfo.example.net. 3600 AAAA (2)") {
			t.Errorf("it fails for one server whose group is known: %q", got)
		}
		stop()
		mustBeRight(t, st)
	})
}

// TestLandedRules takes rules that people landed: they come, change and go with the
// configuration, are there after a restart without a gap, and stay when it cannot be read.
func TestLandedRules(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		t.Cleanup(func() { st.Close() })
		stop := run(t, st, nil)
		land := func(value string) {
			t.Helper()
			w, err := configtree.Open(t.Context(), st)
			if err != nil {
				t.Fatal(err)
			}
			l := configtree.Landing{Revision: fmt.Sprint(len(value)), All: true}
			if value != "" {
				l.Put = []configtree.Config{{Path: "rules", Type: "zonecast.Rules", Revision: "r", Sources: []string{"rules/racks.star"}, Value: []byte(value)}}
			}
			if _, err := w.Land(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		is := func(want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, claimed(t, st, "rule/racks")); diff != "" {
				t.Errorf("it claims (-want +got):\n%s", diff)
			}
		}
		put(t, st, web(1, nil))
		land(`{"files":{"racks.star":"def server(s):\n  return cname('rack-' + s.name, s.name)\n"}}`)
		is("rack-web1.example.net. 3600 CNAME (1) at rules/racks.star:2, server web1.example.net")
		if s := sourceOf(t, st, "rule/racks"); s.Where != "rules/racks.star" || s.Error != "" {
			t.Errorf("source %+v", s)
		}
		land(`{"files":{"lib/ttl.star":"ttl = 77\n","racks.star":"load('lib/ttl.star', 'ttl')\ndef server(s):\n  return cname('rack-' + s.name, s.name, ttl = ttl)\n"}}`)
		is("rack-web1.example.net. 77 CNAME (1) at rules/racks.star:3, server web1.example.net")
		before := modified(t, st, "web1")
		stop()
		run(t, st, nil)
		put(t, st, web(2, nil))
		time.Sleep(time.Minute)
		is("rack-web1.example.net. 77 CNAME (1) at rules/racks.star:3, server web1.example.net", "rack-web2.example.net. 77 CNAME (1) at rules/racks.star:3, server web2.example.net")
		if got := modified(t, st, "web1"); got != before {
			t.Errorf("another mutator wrote the same again: %d, before %d", got, before)
		}
		land(`{"files":{"racks.star":"def server(s):\n  if s.label == 'web2':\n    fail('no rack')\n  return cname('rack-' + s.name, s.name, ttl = 78)\n"}}`)
		is("rack-web1.example.net. 78 CNAME (1) at rules/racks.star:4, server web1.example.net", "rack-web2.example.net. 77 CNAME (1) at rules/racks.star:3, server web2.example.net")
		if s := sourceOf(t, st, "rule/racks"); s.Error != "rules/racks.star:3:9: server web2.example.net: fail: no rack" || s.Failing != 1 {
			t.Errorf("source %+v", s)
		}
		land(`{"files":{"../racks.star":""}}`)
		if got := claimed(t, st, "rule/racks"); len(got) != 2 {
			t.Errorf("unreadable, and it claims %q", got)
		}
		if s := sourceOf(t, st, "rule/racks"); !strings.Contains(s.Error, `"../racks.star" is no name of a file`) {
			t.Errorf("source %+v", s)
		}
		land("")
		is()
	})
}

// modified is the revision at which a server's claims of the rule were written.
func modified(t *testing.T, st store.Store, server string) (newest store.Revision) {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.ClaimsPrefix("rule/racks"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if strings.Contains(n.Path, server) {
			newest = n.Modified
		}
	}
	if newest == 0 {
		t.Errorf("%s has no claims", server)
	}
	return newest
}
