package script

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

func compile(t testing.TB, files fs.FS, name string) *Program {
	t.Helper()
	p, err := Compile(files, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shards divides servers as a rule says.
func shards(t testing.TB, shardsOf func(fleet.Server) ([]string, error), servers []fleet.Server) map[string][]fleet.Server {
	t.Helper()
	out := map[string][]fleet.Server{}
	for _, s := range servers {
		names, err := shardsOf(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			out[n] = append(out[n], s)
		}
	}
	return out
}

// lines are the records of claims, one a line, and whose they are.
func lines(claims []record.Claim) (out []string) {
	for _, c := range claims {
		for _, d := range c.Data {
			out = append(out, fmt.Sprintf("%s %d %s %s fallback %v, %s %s", c.Owner, c.TTL, c.Type, dnswire.FormatRdata(c.Type, d), c.Fallback, c.Author, c.Time))
		}
	}
	return out
}

func wikimedia(t testing.TB) []fleet.Server {
	t.Helper()
	f, err := os.Open("../../examples/wikimedia-cut/fleet.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	servers, err := fleet.ParseFleetFile(f, "fleet.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for i := range servers {
		servers[i].Time = int64(i+1) * 1000
	}
	return servers
}

// TestBuiltInRules holds that the rules in examples/rules make the records that the built-in
// ones make of a real fleet, with the same provenance.
func TestBuiltInRules(t *testing.T) {
	builtIn, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	servers := wikimedia(t)
	for i := range servers {
		if i%3 == 0 {
			servers[i].Options = map[string]string{fleet.OptionPort: "443", fleet.OptionWeight: fmt.Sprint(i)}
		}
	}
	for _, r := range builtIn {
		name := strings.TrimPrefix(string(r.Source()), "rule/")
		t.Run(name, func(t *testing.T) {
			p := compile(t, os.DirFS("../../examples/rules"), name+".star")
			var want, got []string
			for shard, members := range shards(t, r.Shards, servers) {
				claims, err := r.Claims(shard, func() []fleet.Server { return members })
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, lines(claims)...)
			}
			for shard, members := range shards(t, p.Shards, servers) {
				claims, err := p.Claims(shard, func() []fleet.Server { return members })
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range claims {
					if c.Source != r.Source() || !strings.HasPrefix(c.Place, name+".star:") {
						t.Fatalf("%+v", c)
					}
				}
				got = append(got, lines(claims)...)
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" || len(got) < 90 && name != "reverse-zone" {
				t.Errorf("%d records (-built in +written in Starlark):\n%s", len(got), diff)
			}
		})
	}
}

// TestErrors: what is wrong is said with its place.
func TestErrors(t *testing.T) {
	one := fleet.Server{Name: "\x03web\x07example\x03net\x00", Role: "web", Site: "ams"}.Normal()
	for _, c := range []struct{ file, says string }{
		{"def server(s)\n", "x.star:2:1: got newline, want ':'"},
		{"x = 1\n", "x.star: defines none of server(s), cluster(c), group(g), fleet(f)"},
		{"server = 3\n", "x.star: server is int, expected a function of one parameter"},
		{"def server(s, t): pass\n", "x.star: server is function, expected a function of one parameter"},
		{"def group(g): pass\n", "one of group(g) and groups(s) is missing"},
		{"load('y.star', 'y')\ndef server(s): pass\n", "x.star:1:1: cannot load y.star: y.star:1:1: cannot load x.star: x.star: loads itself: x.star -> y.star -> x.star"},
		{"load('../up.star', 'y')\n", `cannot load ../up.star: "../up.star": expected a file beside this one`},
		{"load('none.star', 'y')\n", "cannot load none.star: open none.star: file does not exist"},
		{"def server(s):\n  return a(s.name, '192.0.2.300')\n", `x.star:2:11: server web.example.net: a: A data "192.0.2.300": is no address of that kind`},
		{"def server(s):\n  return a(s.name)\n", "x.star:2:11: server web.example.net: a: web.example.net. A has no data"},
		{"def server(s):\n  return a('a..b', '192.0.2.3')\n", "x.star:2:11: server web.example.net: a: owner: "},
		{"def server(s):\n  return a(s.name, '192.0.2.3', ttl = -1)\n", "ttl is -1, expected 0 to 2147483647"},
		{"def server(s):\n  return cname(s.name, 'a', 'b')\n", "x.star:2:15: server web.example.net: cname: web.example.net. CNAME has 2 records, expected one"},
		{"def server(s):\n  return [[1]]\n", "x.star: server web.example.net: returned int, expected records, lists of them, or None"},
		{"def server(s):\n  return deep(s)\ndef deep(s):\n  return s.nothing\n", "x.star:4:11: server web.example.net: server has no .nothing field or method (called from x.star:2:14)"},
		{"def server(s):\n  for i in range(10000000):\n    pass\n", "server web.example.net: Starlark computation cancelled: too many steps"},
		{"def server(s):\n  return server(s)\n", "function server called recursively"},
		{"def server(s):\n  s.options['x'] = '1'\n", "cannot insert into frozen hash table"},
		{"l = []\ndef server(s):\n  l.append(s.name)\n", "cannot append to frozen list"},
		{"def server(s):\n  return fail('no rack for', s.name)\n", "x.star:2:14: server web.example.net: fail: no rack for web.example.net"},
		{"def groups(s): return '/'\ndef group(g): pass\n", `x.star: groups of server web.example.net: returned the group "/", expected one path element`},
		{"def groups(s): return [1]\ndef group(g): pass\n", "returned a list with int in it, expected names of groups"},
		{"def server(s): return match('(', s.name)\n", "match: error parsing regexp: missing closing )"},
		{"x = [i for i in range(100000000)]\n", "x.star:1:"},
	} {
		err := func() error {
			p, err := Compile(fstest.MapFS{"x.star": {Data: []byte(c.file)}, "y.star": {Data: []byte("load('x.star', 'server')\n")}}, "x.star", nil)
			if err != nil {
				return err
			}
			names, err := p.Shards(one)
			if err != nil {
				return err
			}
			_, err = p.Claims(names[0], func() []fleet.Server { return []fleet.Server{one} })
			return err
		}()
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %s", c.file, err, c.says)
		}
	}
	for _, name := range []string{"x.py", "X Y.star", "a/b.star/"} {
		if _, err := Compile(fstest.MapFS{}, name, nil); err == nil {
			t.Errorf("%q is a rule", name)
		}
	}
}

// TestOneFailsOthersGoOn has a rule that fails for one server of a hundred.
func TestOneFailsOthersGoOn(t *testing.T) {
	p := compile(t, fstest.MapFS{"x.star": {Data: []byte(`
def server(s):
    if s.label == "h42":
        fail("unlucky")
    return address(s.name, s.addresses)
`)}}, "x.star")
	failed, made := 0, 0
	for i := range 100 {
		name, err := record.ParseName(fmt.Sprintf("h%d.example.net", i))
		if err != nil {
			t.Fatal(err)
		}
		s := wikimedia(t)[0]
		s.Name = name
		claims, err := p.Claims("s."+s.ID(), func() []fleet.Server { return []fleet.Server{s} })
		if err != nil {
			failed++
		} else if len(claims) > 0 {
			made++
		}
	}
	if failed != 1 || made != 99 {
		t.Errorf("%d failed, %d made", failed, made)
	}
}

// TestFunctions evaluates what is there for rules.
func TestFunctions(t *testing.T) {
	p, err := Compile(fstest.MapFS{"x.star": {Data: []byte(`
load("names.star", "rack")

def check(got, want):
    if got != want:
        fail("got %r, want %r" % (got, want))

def server(s):
    check(s.name, "web1.ams.example.net")
    check(s.label, "web1")
    check(s.domain, "ams.example.net")
    check((s.role, s.site, s.cluster, s.ttl), ("web", "ams", "web.ams", 3600))
    check(s.addresses, ["192.0.2.1", "2001:db8::1"])
    check(s.v4, ["192.0.2.1"])
    check(s.v6, ["2001:db8::1"])
    check(s.options, {"port": "443"})
    check(match("^(web)([0-9]+)", s.label), ["web1", "web", "1"])
    check(match("^db", s.label), None)
    check(inside("192.0.2.1", "192.0.2.0/24"), True)
    check(inside("2001:db8::1", "192.0.2.0/24"), False)
    check(reverse_name("192.0.2.1"), "1.2.0.192.in-addr.arpa")
    check(reverse_zone("192.0.2.1"), "2.0.192.in-addr.arpa")
    check(params, {"racks": [7, 8], "share": 0.5, "on": True, "none": None})
    check(str(txt(s.name, 'a "b" \\ \n')), 'web1.ams.example.net. 3600 TXT "a \\"b\\" \\\\ \\010"')
    check(a(s.name, "192.0.2.1"), record(s.name, "A", ["192.0.2.1"]))
    check(a(s.name, "192.0.2.1") == a(s.name, "192.0.2.1", ttl = 60), False)
    check(a(s.name, "192.0.2.1").data, ["192.0.2.1"])
    return [
        rack(s),
        None,
        (a("a.example.net", "192.0.2.2", ttl = 60), a("a.example.net", "192.0.2.1")),
        mx("example.net", "10 mail.example.net."),
        record("example.net", "CAA", '0 issue "ca.example.net"'),
        txt("long.example.net", "x" * 300),
    ]
`)}, "names.star": {Data: []byte(`
def rack(s):
    return cname("rack.%s" % s.domain, s.name)
`)}}, "x.star", map[string]any{"racks": []any{7, 8.0}, "share": 0.5, "on": true, "none": nil})
	if err != nil {
		t.Fatal(err)
	}
	s := fleet.Server{
		Name: "\x04web1\x03ams\x07example\x03net\x00", Role: "web", Site: "ams", Options: map[string]string{"port": "443"},
		Addresses: wikimedia(t)[0].Addresses[:0],
	}
	for _, text := range []string{"192.0.2.1", "2001:db8::1"} {
		a, err := fleet.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		s.Addresses = append(s.Addresses, a)
	}
	s = s.Normal()
	claims, err := p.Claims("s."+s.ID(), func() []fleet.Server { return []fleet.Server{s} })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range claims {
		var data []string
		for _, d := range c.Data {
			data = append(data, dnswire.FormatRdata(c.Type, d))
		}
		got = append(got, fmt.Sprintf("%s %d %s %s (%s)", c.Owner, c.TTL, c.Type, strings.Join(data, " | "), c.Place))
	}
	want := []string{
		"example.net. 3600 MX 10 mail.example.net. (x.star:32, server web1.ams.example.net)",
		`example.net. 3600 CAA 0 issue "ca.example.net" (x.star:33, server web1.ams.example.net)`,
		"a.example.net. 60 A 192.0.2.1 | 192.0.2.2 (x.star:31, server web1.ams.example.net)",
		"rack.ams.example.net. 3600 CNAME web1.ams.example.net. (names.star:3, server web1.ams.example.net)",
		`long.example.net. 3600 TXT "` + strings.Repeat("x", 255) + `" "` + strings.Repeat("x", 45) + `" (x.star:34, server web1.ams.example.net)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTests runs the tests beside the example rules, and some that must fail.
func TestTests(t *testing.T) {
	all, err := Test(os.DirFS("../../examples/rules"))
	if err != nil || len(all) < 5 {
		t.Fatal(all, err)
	}
	for _, o := range all {
		if o.Err != nil {
			t.Errorf("%s %s: %v", o.File, o.Name, o.Err)
		}
	}
	all, err = Test(fstest.MapFS{
		"rule.star": {Data: []byte("def server(s): return a(s.name, '192.0.2.1')\n")},
		"rule_test.star": {Data: []byte(`load("rule.star", "server")
def test_good(): equal(server(new_server("x.example.net")), a("x.example.net", "192.0.2.1"))
def test_not_equal(): equal(server(new_server("x.example.net")), a("y.example.net", "192.0.2.1"))
def test_name(): new_server("x..y")
def test_fails_not(): fails(lambda: 1)
def test_fails_otherwise(): fails(lambda: fail("a"), "b")
def helper(): fail("is no test")
`)},
		"broken_test.star": {Data: []byte("def\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range all {
		text := "ok"
		if o.Err != nil {
			text = o.Err.Error()
		}
		got = append(got, fmt.Sprintf("%s %s: %.100s", o.File, o.Name, text))
	}
	want := []string{
		"broken_test.star : broken_test.star:2:1: not an identifier",
		`rule_test.star test_fails_not: rule_test.star:5:28: test_fails_not: lambda does not fail`,
		`rule_test.star test_fails_otherwise: rule_test.star:6:34: test_fails_otherwise: lambda fails with "fail: a", want "b" in it`,
		"rule_test.star test_good: ok",
		"rule_test.star test_name: rule_test.star:4:28: test_name: new_server: name: ",
		"rule_test.star test_not_equal: rule_test.star:3:28: test_not_equal: got x.example.net. 3600 A 192.0.2.1, want y.example.net. ",
	}
	for i := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], want[i]) && !strings.HasPrefix(want[i], got[i]) {
			t.Errorf("outcome %d of %q, want %q", i, got, want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d outcomes, want %d", len(got), len(want))
	}
}

// BenchmarkServer evaluates a server's addresses, beside the built-in rule.
func BenchmarkServer(b *testing.B) {
	p := compile(b, os.DirFS("../../examples/rules"), "address.star")
	builtIn, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		b.Fatal(err)
	}
	s := wikimedia(b)[0]
	for _, c := range []struct {
		name string
		f    func() ([]record.Claim, error)
	}{
		{"starlark", func() ([]record.Claim, error) {
			return p.Claims("s."+s.ID(), func() []fleet.Server { return []fleet.Server{s} })
		}},
		{"built-in", func() ([]record.Claim, error) {
			return builtIn[0].Claims(s.ID(), func() []fleet.Server { return []fleet.Server{s} })
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if claims, err := c.f(); err != nil || len(claims) == 0 {
					b.Fatal(claims, err)
				}
			}
		})
	}
}
