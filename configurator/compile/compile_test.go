package compile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(map[string]func() (sandbox.Handler, error){SandboxName: SandboxHandler})
	os.Exit(m.Run())
}

func compiler(t testing.TB, o Options) *Compiler {
	t.Helper()
	c := New(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func treeOf(files map[string]string) fstest.MapFS {
	all := fstest.MapFS{}
	for name, text := range files {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

func text(r *Result, err error) string {
	if err != nil {
		return err.Error()
	}
	var sb strings.Builder
	for _, c := range r.Configs {
		fmt.Fprintf(&sb, "%s %s %s\n%s\n", c.Path, c.Type, c.Sources, c.JSON)
		for _, k := range c.Claims {
			fmt.Fprintf(&sb, "  %s %s %x\n", k.Source, k.Place, k.RRset.AppendBinary(nil))
		}
	}
	fmt.Fprintln(&sb, r.Printed)
	return sb.String()
}

// TestChildGivesTheSame: the trees of testdata come out of the child as they do here.
func TestChildGivesTheSame(t *testing.T) {
	c := compiler(t, Options{Steps: 1_000_000})
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tr, errs := testEngine(t, 1).compile(nil, changesOf(ar.Files))
		tree := fstest.MapFS{}
		for _, f := range ar.Files {
			tree[f.Name] = &fstest.MapFile{Data: f.Data}
		}
		r, err := c.Compile(t.Context(), tree, nil, nil)
		if (err == nil) != (errs == nil) || err != nil && err.Error() != errs.Error() {
			t.Errorf("%s: child says\n%v\nhere it is\n%v", file, err, errs)
			continue
		}
		if err == nil {
			want := &Result{Printed: tr.printed()}
			for _, x := range tr.exports {
				want.Configs = append(want.Configs, x.config)
			}
			if diff := cmp.Diff(text(want, nil), text(r, nil)); diff != "" {
				t.Errorf("%s (-here +child):\n%s", file, diff)
			}
			tests, err := c.Test(t.Context(), tree)
			if err != nil || len(tests) != len(testEngine(t, 1).test(tr)) {
				t.Errorf("%s: %d tests, %v", file, len(tests), err)
			}
		}
	}
}

// hogs are programs that want more than they may have.
var hogs = map[string]struct{ text, want string }{
	"doubling":   {"def f():\n    x = 'a' * 1000\n    for i in range(60):\n        x = x + x\n    return x\nf()\n", "hog.star:1:1: running it: needs more than the 192 MiB of memory"},
	"lists":      {"def f():\n    x = [1]\n    for i in range(60):\n        x = x + x\nf()\n", "hog.star:1:1: running it: needs more than the 192 MiB"},
	"one step":   {"x = max(range(1 << 50))\n", "hog.star:1:1: running it: the compilation takes more than the 4s that it may"},
	"large text": {"x = 'x' * (1 << 29)\n", "hog.star:1:1: running it: needs more than the 192 MiB"},
	"many steps": {"def f():\n    for i in range(1 << 50):\n        pass\nf()\n", "hog.star:2:5: more than 10000000 steps"},
}

// TestHogs: what loops or eats memory is named, and the compiler goes on.
func TestHogs(t *testing.T) {
	for name, h := range hogs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Steps: 10_000_000, Memory: 192 << 20, Time: time.Minute, Workers: 2}
			if name == "one step" {
				o.Time = 4 * time.Second
			}
			c := compiler(t, o)
			good := map[string]string{
				"t.thrift": "struct A { 1: string x = '' }",
				"a.star":   "load('t.thrift', 'A')\nexport(A())\n",
				"b.star":   "load('t.thrift', 'A')\nexport(A(x = 'b'))\n",
			}
			before, err := c.Compile(t.Context(), treeOf(good), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			bad := maps.Clone(good)
			bad["hog.star"] = h.text
			began := time.Now()
			_, err = c.Compile(t.Context(), treeOf(bad), before, []string{"hog.star"})
			var errs Errors
			if !errors.As(err, &errs) || len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), h.want) {
				t.Errorf("error is %v, want %s", err, h.want)
			}
			if took := time.Since(began); took > 2*time.Minute {
				t.Errorf("took %v", took)
			}
			again, err := c.Compile(t.Context(), treeOf(good), before, []string{"hog.star"})
			if diff := cmp.Diff(text(before, nil), text(again, err)); diff != "" {
				t.Errorf("the compiler gives something else afterwards:\n%s", diff)
			}
		})
	}
}

// TestHoggingValidator: a validator is bounded as any program is.
func TestHoggingValidator(t *testing.T) {
	c := compiler(t, Options{Memory: 192 << 20, Workers: 2})
	_, err := c.Compile(t.Context(), treeOf(map[string]string{
		"t.thrift":        "struct A { 1: string x = '' }",
		"a.star":          "load('t.thrift', 'A')\nexport(A())\n",
		"A.validate.star": "def validate(a):\n    x = [0]\n    for i in range(60):\n        x = x + x\n",
	}), nil, nil)
	if want := "a.star:1:1: running the validators of a: needs more than the 192 MiB"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestCancel(t *testing.T) {
	c := compiler(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Compile(ctx, treeOf(map[string]string{"a.star": "x = max(range(1 << 50))\n"}), nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if _, err := c.Compile(t.Context(), treeOf(map[string]string{"a.star": "x = 1\n"}), nil, nil); err != nil {
		t.Error(err)
	}
}

// TestSourcesThatCannotBeRead are errors with the file.
func TestSourcesThatCannotBeRead(t *testing.T) {
	c := compiler(t, Options{})
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link.star")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Compile(t.Context(), os.DirFS(dir), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "link.star:1:1: source is no regular file") {
		t.Errorf("error is %v", err)
	}
	for want, text := range map[string]string{"x.star:1:1: file is not UTF-8": "x = '\xff'", "x.star:1:1: file has more than": strings.Repeat(" ", maxFile+1)} {
		if _, err := c.Compile(t.Context(), treeOf(map[string]string{"x.star": text}), nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	r, err := c.Compile(t.Context(), treeOf(map[string]string{".git/x.star": "(", ".x.star": "(", "README": "("}), nil, nil)
	if err != nil || len(r.Configs) > 0 {
		t.Errorf("%v: what is no source is read", err)
	}
}

// drawTree makes a tree of a few files that load one another, mostly without mistakes.
func drawTree(t *rapid.T) map[string]string {
	files := map[string]string{"t.thrift": "include \"zonecast.thrift\"\nstruct A { 1: string x; 2: optional i32 n (max = \"50\"); 3: optional zonecast.RecordSet r }\n"}
	n := rapid.IntRange(1, 6).Draw(t, "files")
	for i := range n {
		files[fmt.Sprintf("f%d.star", i)] = drawProgram(t, i, n)
	}
	if rapid.Bool().Draw(t, "validator") {
		files["A.validate.star"] = drawValidator(t)
	}
	return files
}

func drawValidator(t *rapid.T) string {
	limit := rapid.IntRange(20, 50).Draw(t, "limit")
	return fmt.Sprintf("def validate(a):\n    if a.n and a.n > %d:\n        fail('n is %%d' %% a.n)\n\ndef validate_all(configs):\n    if len(configs) > %d:\n        fail('many')\n", limit, rapid.IntRange(3, 12).Draw(t, "most"))
}

func drawProgram(t *rapid.T, i, n int) string {
	var sb strings.Builder
	sb.WriteString("load('//zonecast.star', 'a', 'soa', 'zone')\nload('t.thrift', 'A')\n")
	sum := fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "n"))
	for j := range i { // only earlier ones: no cycles
		if rapid.Bool().Draw(t, "loads") {
			fmt.Fprintf(&sb, "load('f%d.star', v%d = 'v')\n", j, j)
			sum += fmt.Sprintf(" + v%d", j)
		}
	}
	fmt.Fprintf(&sb, "v = (%s) %% 60\n", sum)
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
	case 1:
		fmt.Fprintf(&sb, "export(zone('f%d.example.net', soa('ns', 'host'), [a('w%%d' %% i, '192.0.2.%%d' %% i) for i in range(v)]))\n", i)
	case 2:
		fmt.Fprintf(&sb, "for i in range(v %% 3):\n    export(A(x = 'f%d', n = v), name = str(i))\n", i)
	case 3:
		fmt.Fprintf(&sb, "print('v is', v)\nexport(A(x = 'f%d', r = a('w', '192.0.2.1')))\n", i)
	default:
		fmt.Fprintf(&sb, "export(A(x = 'f%d', n = v))\n", i)
	}
	return sb.String()
}

// TestEqualTreesGiveEqualBytes: a tree that was reached by changes gives what it gives
// when it is compiled at once, whatever the number of workers; errors as well.
func TestEqualTreesGiveEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := drawTree(t)
		e := engineFor(t, rapid.IntRange(1, 4).Draw(t, "workers"))
		var base *tree
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			changes := map[string]change{}
			if base == nil {
				for name, text := range files {
					changes[name] = change{text: text}
				}
			} else {
				next := drawTree(t)
				for _, name := range slices.Sorted(maps.Keys(next)) {
					if rapid.Bool().Draw(t, "change "+name) {
						files[name] = next[name]
						changes[name] = change{text: next[name]}
					}
				}
				if _, there := files["A.validate.star"]; there && rapid.Bool().Draw(t, "remove") {
					delete(files, "A.validate.star")
					changes["A.validate.star"] = change{gone: true}
				}
			}
			all := map[string]change{}
			for name, text := range files {
				all[name] = change{text: text}
			}
			got, gotErrs := e.compile(base, changes)
			want, wantErrs := engineFor(t, 1).compile(nil, all)
			if diff := cmp.Diff(show(want, wantErrs), show(got, gotErrs)); diff != "" {
				t.Fatalf("(-at once +by changes):\n%s", diff)
			}
			if gotErrs == nil {
				base = got
			} else if base != nil {
				return // files are no longer what base came from
			}
		}
	})
}

func engineFor(t *rapid.T, workers int) *engine {
	e, err := newEngine(1_000_000, workers, func(int, string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestOnlyWhatAChangeReaches is run again.
func TestOnlyWhatAChangeReaches(t *testing.T) {
	files := map[string]change{
		"t.thrift":        {text: "struct A { 1: string x = '' }"},
		"u.thrift":        {text: "struct B { 1: string x = '' }"},
		"lib.star":        {text: "load('t.thrift', 'A')\nx = 'x'\n"},
		"a.star":          {text: "load('t.thrift', 'A')\nload('lib.star', 'x')\nexport(A(x = x))\n"},
		"b.star":          {text: "load('t.thrift', 'A')\nexport(A())\n"},
		"c.star":          {text: "load('u.thrift', 'B')\nexport(B())\n"},
		"A.validate.star": {text: "def validate(a):\n    pass\n"},
	}
	var mu sync.Mutex
	var did []string
	e, err := newEngine(1_000_000, 2, func(_ int, file, doing string) {
		mu.Lock()
		defer mu.Unlock()
		if doing != "reading it" {
			did = append(did, file+" "+doing)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	base, errs := e.compile(nil, files)
	if errs != nil {
		t.Fatal(errs)
	}
	for _, c := range []struct {
		file string
		change
		want []string
	}{
		{"b.star", change{text: "load('t.thrift', 'A')\nexport(A(x = 'b'))\n"}, []string{"b.star running it", "b.star running the validators of b"}},
		{"lib.star", change{text: "x = 'y'\n"}, []string{"a.star running it", "a.star running the validators of a", "lib.star running it"}},
		{"u.thrift", change{text: "struct B { 1: string x = 'u' }"}, []string{"c.star running it", "u.thrift running it"}},
		{"A.validate.star", change{text: "def validate(a):\n    a.x\n"}, []string{"A.validate.star running it", "a.star running the validators of a", "b.star running the validators of b"}},
		{"b.star", files["b.star"], nil}, // as it was
		{"README", change{text: "x"}, nil},
	} {
		did = nil
		next, errs := e.compile(base, map[string]change{c.file: c.change})
		if errs != nil {
			t.Fatal(errs)
		}
		// Validators look at each export that they have not accepted; that they do so
		// again after another tree was looked at is their own matter.
		var ran []string
		for _, d := range did {
			if !strings.Contains(d, "validators") || slices.Contains(c.want, d) {
				ran = append(ran, d)
			}
		}
		slices.Sort(ran)
		if diff := cmp.Diff(c.want, ran); diff != "" {
			t.Errorf("change of %s (-want +got):\n%s", c.file, diff)
		}
		_ = next
	}
}

// TestSchemaChange: a change of a type that stored configurations do not fit names
// each place, and what was before is still there.
func TestSchemaChange(t *testing.T) {
	c := compiler(t, Options{})
	files := map[string]string{
		"t.thrift": "struct A { 1: string x; 2: optional i32 port }",
		"a.star":   "load('t.thrift', 'A')\nexport(A(\n    x = 'a',\n    port = 8080,\n))\n",
		"b.star":   "load('t.thrift', 'A')\nload('lib.star', 'make')\nexport(make('b'))\n",
		"lib.star": "load('t.thrift', 'A')\ndef make(x):\n    return A(x = x)\n",
	}
	before, err := c.Compile(t.Context(), treeOf(files), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	files["t.thrift"] = "struct A { 1: string x; 2: optional i16 port (max = '1024'); 3: required string owner }"
	_, err = c.Compile(t.Context(), treeOf(files), before, []string{"t.thrift"})
	want := "a.star:2:9: A.port: 8080 is out of range, expected at most 1024 (t.thrift:1:47)\n" +
		"lib.star:3:13: A.owner is missing, expected string\n  called at b.star:3:12 in <toplevel>"
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestChildRestarted: results of a child that died are no base, and nobody notices.
func TestChildRestarted(t *testing.T) {
	c := compiler(t, Options{})
	files := map[string]string{"t.thrift": "struct A { 1: string x = '' }", "a.star": "load('t.thrift', 'A')\nexport(A())\n"}
	before, err := c.Compile(t.Context(), treeOf(files), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		c.child.Close()
		name := fmt.Sprintf("n%d.star", i)
		files[name] = files["a.star"]
		r, err := c.Compile(t.Context(), treeOf(files), before, []string{name})
		if err != nil || len(r.Configs) != 2+i {
			t.Fatalf("%v, %v", r, err)
		}
		before = r
	}
	// And a base that the child has forgotten for others.
	first := before
	for i := range maxTrees + 2 {
		if before, err = c.Compile(t.Context(), treeOf(files), before, []string{"a.star"}); err != nil {
			t.Fatal(i, err)
		}
	}
	delete(files, "n0.star")
	r, err := c.Compile(t.Context(), treeOf(files), first, []string{"n0.star"})
	if err != nil || len(r.Configs) != 3 {
		t.Fatalf("%v, %v", r, err)
	}
}

// TestExample: what examples/ has compiles, and its tests pass.
func TestExample(t *testing.T) {
	c := compiler(t, Options{})
	tree := os.DirFS("../../examples/wikimedia-config")
	r, err := c.Compile(t.Context(), tree, nil, nil)
	if err != nil || len(r.Configs) != 161 {
		t.Fatalf("%v", err)
	}
	tests, err := c.Test(t.Context(), tree)
	if err != nil || len(tests) < 3 {
		t.Fatalf("%d tests, %v", len(tests), err)
	}
	for _, x := range tests {
		if x.Err != nil {
			t.Error(x.Err)
		}
	}
}

// TestHostileAnswers: what a child answers is looked at before it is believed.
func TestHostileAnswers(t *testing.T) {
	ar, err := txtar.ParseFile("testdata/zones.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tr, errs := testEngine(t, 1).compile(nil, changesOf(ar.Files))
	if errs != nil {
		t.Fatal(errs)
	}
	for name, c := range map[string]struct {
		spoil func(*answer)
		want  string
	}{
		"nothing":        {func(*answer) {}, ""},
		"path":           {func(a *answer) { a.changed[0].Path = "../x" }, `path element ".."`},
		"long path":      {func(a *answer) { a.changed[0].Path = strings.Repeat("a/", 300) + "a" }, "path of 601 octets"},
		"no JSON":        {func(a *answer) { a.changed[0].JSON = []byte("{") }, "is no JSON"},
		"order":          {func(a *answer) { slices.Reverse(a.changed) }, "not in order"},
		"order of gone":  {func(a *answer) { a.removed = []string{"b", "a"} }, "not in order"},
		"sources":        {func(a *answer) { a.changed[0].Sources = []string{"b.star", "a.star"} }, "has sources"},
		"source outside": {func(a *answer) { a.changed[0].Sources = []string{"../a.star"} }, "has sources"},
		"claims":         {func(a *answer) { slices.Reverse(a.changed[0].Claims) }, "claims of zones/example.net are not in order"},
		"RRset":          {func(a *answer) { a.changed[0].Claims[0].Data = nil }, "no RDATA"},
		"place":          {func(a *answer) { a.changed[0].Claims[0].Place = "a\nb" }, "has the place"},
		"no errors":      {func(a *answer) { a.status = statusErrors }, "errors are missing"},
		"status":         {func(a *answer) { a.status = 9 }, "status 9"},
	} {
		a := answer{status: statusDone}
		a.changed, _ = tr.since(nil)
		a.changed = slices.Clone(a.changed)
		for i := range a.changed {
			a.changed[i].Claims = slices.Clone(a.changed[i].Claims)
		}
		c.spoil(&a)
		if _, err := decodeAnswer(encodeAnswer(a)); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	c := compiler(t, Options{})
	if _, _, err := c.result(1, nil, answer{status: statusDone, removed: []string{"x"}}); err == nil {
		t.Error("a configuration is gone that was not there")
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	ar, err := txtar.ParseFile("testdata/good.txtar")
	if err != nil {
		f.Fatal(err)
	}
	e := testEngine(f, 1)
	tr, errs := e.compile(nil, changesOf(ar.Files))
	if errs != nil {
		f.Fatal(errs)
	}
	a := answer{status: statusDone, printed: tr.printed(), tests: e.test(tr), removed: []string{"x"}}
	a.changed, _ = tr.since(nil)
	f.Add(encodeAnswer(a))
	if ar, err = txtar.ParseFile("testdata/zones.txtar"); err != nil {
		f.Fatal(err)
	}
	if tr, errs = e.compile(nil, changesOf(ar.Files)); errs != nil {
		f.Fatal(errs)
	}
	a = answer{status: statusDone}
	a.changed, _ = tr.since(nil)
	f.Add(encodeAnswer(a))
	f.Add(encodeAnswer(answer{status: statusErrors, errs: Errors{{Pos: Pos{"a.star", 1, 2}, Msg: "x", Trace: []Frame{{Pos{"b.star", 3, 4}, "f"}}}}}))
	f.Add(encodeAnswer(answer{status: statusUnknownBase}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAnswer(b)
		if err != nil {
			return
		}
		again, err := decodeAnswer(encodeAnswer(a))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(encodeAnswer(a), encodeAnswer(again)); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	})
}

// FuzzCompile: whatever a program and a types file say, the compiler answers, at once,
// with a result or with errors that have a place in the tree.
func FuzzCompile(f *testing.F) {
	for _, name := range []string{"good", "zones", "errors", "validators"} {
		ar, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range ar.Files {
			if strings.HasSuffix(x.Name, ".star") {
				f.Add(string(x.Data), "struct Vip { 1: required string name; 2: i32 port = 80; 3: optional Vip inner }")
			} else if strings.HasSuffix(x.Name, ".thrift") {
				f.Add("load('t.thrift', 'Vip')\nexport(Vip(name = 'x'))\n", string(x.Data))
			}
		}
	}
	var c *Compiler
	f.Fuzz(func(t *testing.T, program, types string) {
		if c == nil {
			c = New(Options{Steps: 100_000, Memory: 128 << 20, Time: 5 * time.Second, Workers: 1})
		}
		tree := map[string]string{"x.star": program, "t.thrift": types, "Vip.validate.star": "def validate(v):\n    str(v)\n"}
		_, err := c.Compile(t.Context(), treeOf(tree), nil, nil)
		if err == nil {
			return
		}
		var errs Errors
		if !errors.As(err, &errs) {
			t.Fatal(err)
		}
		for _, e := range errs {
			if _, ok := tree[e.File]; !ok || strings.Contains(e.Msg, "mistake in zonecast") {
				t.Error(e)
			}
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(encodeRequest(request{op: opCompile, steps: 5, workers: 2, base: 1, id: 2, changes: map[string]change{"a.star": {text: "x = 1"}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRequest(b); err == nil {
			if _, err := decodeRequest(encodeRequest(r)); err != nil {
				t.Error(err)
			}
		}
	})
}
