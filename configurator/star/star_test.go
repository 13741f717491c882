package star_test

import (
	"fmt"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
)

const types = `
enum E { A, B = 5, C }
typedef i32 Port (min = "1", max = "65535")
typedef E Also
struct Inner { 1: optional i32 a; 2: optional Inner inner }
typedef Inner Other
union U { 1: string text; 2: i64 number }
const list<string> WORDS = ["a", "b"]
const Inner ONE = {"a": 1}
struct S {
  1: optional bool flag
  2: optional i8 small
  3: optional i64 large
  4: optional double d
  5: optional string s
  6: optional binary bin
  7: optional list<list<i32>> lists
  8: optional set<string> words
  9: optional map<E, Inner> m
  10: optional U u
  11: optional E e
  12: optional map<list<i32>, string> odd
}
`

func module(t interface{ Fatal(...any) }) (starlark.StringDict, *idl.File) {
	f, err := idl.Parse("t.thrift", types)
	if err == nil {
		err = f.Resolve(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := star.Module(f, nil)
	m["replace"] = star.Replace(nil)
	return m, f
}

func run(m starlark.StringDict, text string) (starlark.StringDict, error) {
	return starlark.ExecFileOptions(&syntax.FileOptions{Set: true, TopLevelControl: true}, &starlark.Thread{Name: "test"}, "x.star", text, m)
}

// TestPrograms: what programs do with values of the types.
func TestPrograms(t *testing.T) {
	m, _ := module(t)
	g, err := run(m, `
s = S(flag = True, small = -128, large = 1 << 62, d = 3, s = "ü", bin = b"\x00\xff", lists = [(1, 2), []], words = set(["b", "a"]),
      m = {E.B: Inner(a = 1), "A": Inner()}, u = U(number = 5), e = "C")
results = [
    s.flag, s.small, s.large == 1 << 62, s.d, s.s, s.bin == b"\x00\xff", s.lists, s.words, s.m[E.B].a, s.u.number, s.u.text, s.e, s.e.number,
    s == replace(s), s == replace(s, flag = False), replace(s, flag = None).flag, hasattr(s, "flag"), type(s), dir(s.u),
    E.A < E.B, E.A == E.A, [e.name for e in E], Also.C == E.C, Port(80), Other(a = 2) == Inner(a = 2), WORDS, ONE.a, {s: 1}[replace(s)],
    str(Inner(a = 1, inner = ONE)),
]
`)
	if err != nil {
		t.Fatal(err)
	}
	want := `[True, -128, True, 3.0, "ü", True, [[1, 2], []], ["a", "b"], 1, 5, None, E.C, 6, True, False, None, True, "S", ["number", "text"], ` +
		`True, True, ["A", "B", "C"], True, 80, True, ["a", "b"], 1, 1, "Inner(a = 1, inner = Inner(a = 1))"]`
	if got := g["results"].String(); got != want {
		t.Errorf("results are\n%s\nwant\n%s", got, want)
	}
}

func TestRefused(t *testing.T) {
	m, _ := module(t)
	for text, want := range map[string]string{
		"S(flag = 1)":                         "S.flag: expected bool, found int 1",
		"S(small = 128)":                      "S.small: 128 is out of range, expected an i8 (-128 to 127)",
		"S(large = 1 << 63)":                  "S.large: int beyond 64 bits is out of range, expected an i64",
		"S(s = 'x' + '\\xff')":                "non-UTF-8", // refused by the language itself
		"S(bin = 'text')":                     `S.bin: expected binary, found string "text"`,
		"S(words = ['a', 'a'])":               `S.words: "a" is twice in the set`,
		"S(lists = [[1], 'x'])":               `S.lists: [1]: expected list<i32>, found string "x"`,
		"S(m = {E.A: Inner(), 'A': Inner()})": "S.m: key E.A is twice in the map",
		"S(m = {'D': Inner()})":               `S.m: key string "D": expected a value of enum E ([A B C]), found string "D"`,
		"S(e = 0)":                            "S.e: expected a value of enum E ([A B C]), found int 0",
		"S(u = Inner())":                      "S.u: expected a t.U, found a t.Inner",
		"U()":                                 "U is a union with 0 fields set, expected exactly one of text, number",
		"Port(0)":                             "Port: 0 is out of range, expected at least 1 (t.thrift:3:19)",
		"Port()":                              "Port takes one value",
		"E.D":                                 "enum E has no D",
		"E.A < 1":                             "E < int not implemented",
		"S() < S()":                           "S < S: values of structs have no order",
		"replace(1)":                          "replace: expected a value of a struct, found int 1",
		"replace(S(), none = 1)":              `S has no field "none"`,
		"S(d = 'x')":                          "S.d: expected double",
		"S(d = float('inf'))":                 "S.d: +Inf is no number that JSON has",
		"S(1)":                                "S takes fields by name: S(flag = …)",
		"def f():\n  x = [1]\n  x.append(x)\n  S(lists = x)\nf()":                        "S.lists: [0]: expected list<i32>, found int 1",
		"def f():\n  x = Inner()\n  for i in range(100):\n    x = Inner(inner = x)\nf()": "Inner.inner: values are more than 64 deep inside one another",
	} {
		_, err := run(m, text+"\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			if want == "non-UTF-8" && err != nil {
				continue
			}
			t.Errorf("%s: error is %v, want one with %s", text, err, want)
		}
	}
}

// TestThereAndBack: a value shown to a program and given back is the same.
func TestThereAndBack(t *testing.T) {
	_, f := module(t)
	inner := f.Lookup("Inner").(*idl.Struct)
	e := f.Lookup("E").(*idl.Enum)
	s := f.Lookup("S").(*idl.Struct)
	rapid.Check(t, func(t *rapid.T) {
		fields := make([]idl.Value, len(s.Fields))
		set := func(name string, v idl.Value) {
			if rapid.Bool().Draw(t, name) {
				fields[s.Index(name)] = v
			}
		}
		set("flag", rapid.Bool().Draw(t, "flag"))
		set("small", int64(rapid.Int8().Draw(t, "small")))
		set("large", rapid.Int64().Draw(t, "large"))
		set("d", float64(rapid.Int32().Draw(t, "d"))/8)
		set("s", rapid.String().Draw(t, "s"))
		set("bin", rapid.SliceOf(rapid.Byte()).Draw(t, "bin"))
		x, err := inner.New([]idl.Value{int64(rapid.Int32().Draw(t, "a")), nil})
		if err != nil {
			t.Fatal(err)
		}
		set("m", idl.Entries{{Key: rapid.SampledFrom(e.Members).Draw(t, "key"), Value: x}})
		set("e", rapid.SampledFrom(e.Members).Draw(t, "e"))
		set("lists", []idl.Value{[]idl.Value{}, []idl.Value{int64(rapid.Int32().Draw(t, "element"))}})
		v, err := s.New(fields)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range s.Fields {
			if fields[i] == nil {
				continue
			}
			back, err := star.ToValue(f.Type, star.FromValue(fields[i]))
			if err != nil || !idl.Equal(back, fields[i]) {
				t.Fatalf("%s: %v, %s became %s", f.Name, err, idl.AppendJSON(nil, fields[i]), idl.AppendJSON(nil, back))
			}
		}
		if shown := star.FromValue(v).(*star.Instance); shown.X != v || fmt.Sprint(shown) == "" {
			t.Fatal("another instance")
		}
	})
}
