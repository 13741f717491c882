package formats

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// shown is a value in a form for comparisons.
func shown(v *value) string {
	switch v.kind {
	case textValue:
		return "<" + v.text + ">"
	case listValue:
		var all []string
		for _, e := range v.list {
			all = append(all, shown(e))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	var all []string
	for _, p := range v.pairs {
		all = append(all, p.key+"="+shown(p.value))
	}
	return "{" + strings.Join(all, " ") + "}"
}

func TestVSCF(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "{}"},
		{"simple", "a => b, c = d", "{a=<b> c=<d>}"},
		{"no white space", "options={listen=[192.0.2.1 192.0.2.2]}", "{options={listen=[<192.0.2.1> <192.0.2.2>]}}"},
		{"commas and none", "a => [b, c d,]\ne => {f => g h => i,},", "{a=[<b> <c> <d>] e={f=<g> h=<i>}}"},
		{"comments", "a => b ; one\n# two\nc => d# three", "{a=<b> c=<d>}"},
		{"quotes", `"a b" => "c\"d\\e#f,g"`, `{a b=<c"d\e#f,g>}`},
		{"escapes", `ex\097mpl\e => white\ space`, "{example=<white space>}"},
		{"special ones", `"braces{every[where]oh}my" => a\{\}\[\]\;\#\,\=\"\\`, `{braces{every[where]oh}my=<a{}[];#,="\>}`},
		{"empty ones", `a => {} b => [] c => ""`, "{a={} b=[] c=<>}"},
		{"an array on top", "[a, [b]]", "[<a> [<b>]]"},
		{"a colon and a dollar inside", "2001:db8::/32 => a$b", "{2001:db8::/32=<a$b>}"},
		{"included", "a => $include{list} $include{ \"more\" }\nz => y", "{a=[<1> <2>] b={c=<d>} e=<f> z=<y>}"},
		{"a directory", "$include{dir}", "{x=<1> y=<2>}"},
		{"a pattern", "$include{dir/*}", "{x=<1> y=<2>}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := parseVSCF(fstest.MapFS{
				"c/file": {Data: []byte(c.text)}, "c/list": {Data: []byte("[1 2]")}, "c/more": {Data: []byte("b => { c => d }\n$include{deep/er}")},
				"c/deep/er": {Data: []byte("e => f")}, "c/dir/1": {Data: []byte("x => 1")}, "c/dir/2": {Data: []byte("y => 2")},
			}, "c/file")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, shown(v)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVSCFRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a => {\nb => c", `c/file:2: found the end of the file, expected '}' for the hash of c/file:1`},
		{"a => [", "expected ']' for the array"},
		{"a => b\n\x00\nc => d", "c/file:2: found an octet of zero"},
		{"a\nb", `c/file:2: found "b", expected => behind key "a"`},
		{"a =>", "found the end of the file, expected a key or a value"},
		{"a => b\na => c", `c/file:2: key "a" is there twice, before at c/file:1`},
		{`a => "b`, "c/file:1: a quote is not closed"},
		{`a => \256`, "expected \\ and three digits, 000 to 255"},
		{`a => \1`, "expected \\ and three digits, 000 to 255"},
		{"a => $b", "expected $include{…} or a text that does not begin with $"},
		{"a => }", `found "}", expected a key or a value`},
		{"[a] b", "expected nothing behind the array"},
		{"$include{none}", "c/file:1: include: open c/none"},
		{"$include{/etc/passwd}", "expected a path relative to this file's"},
		{"$include{../../x}", "leaves the directory"},
		{"$include{none*}", "there is no such file"},
		{"$include{list}", "c/list:1 is an array, expected key => value"},
		{"a => $include{*}", "3 files, expected one"},
		{"$include{file}", "does a file include itself?"},
		{"a => " + strings.Repeat("[", 100), "more than 32 containers in one another"},
		{"a => b $include{clash}", `c/clash:1: key "a" is there twice, before at c/file:1`},
	} {
		_, err := parseVSCF(fstest.MapFS{"c/file": {Data: []byte(c.text)}, "c/list": {Data: []byte("[1 2]")}, "c/clash": {Data: []byte("a => c")}}, "c/file")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, expected %q", c.text, err, c.want)
		}
	}
}

func FuzzGDNSD(f *testing.F) {
	f.Add("m => { datacenters => [a, b], nets => { 192.0.2.0/24 => b }, geoip2_db => x, map => { EU => { CH => b } } }")
	f.Add("plugins => { geoip => { maps => { m => { datacenters => a } }, resources => { r => { map => m, dcmap => { a => 192.0.2.1 } } } } }")
	f.Add(`m => { datacenters => a, $include{x}, nets => "\000" }`)
	f.Add("m => { datacenters => [a b], auto_dc_coords => { a => [1 2] }, auto_dc_limit => 0, geoip2_db => x }")
	db := world(f)
	who := names(f, "www.example.net")
	f.Fuzz(func(t *testing.T, text string) {
		g := GDNSD{FS: fstest.MapFS{"x": {Data: []byte(text)}}, File: "x", Names: who}
		g.Databases = append(g.Databases, db)
		for _, g.Resource = range []string{"", "r"} {
			i, err := g.Read()
			if err != nil {
				continue
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
		}
	})
}
