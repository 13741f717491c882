package idl_test

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/configurator/idl"
)

// parse reads a file that includes nothing, or included.thrift of testdata.
func parse(text string) (*idl.File, error) {
	f, err := idl.Parse("t.thrift", text)
	if err != nil {
		return nil, err
	}
	var included []*idl.File
	for _, inc := range f.Includes {
		b, err := os.ReadFile("testdata/" + inc.Path)
		if err != nil {
			return nil, err
		}
		g, err := idl.Parse(inc.Path, string(b))
		if err != nil {
			return nil, err
		}
		if err := g.Resolve(nil); err != nil {
			return nil, err
		}
		included = append(included, g)
	}
	return f, f.Resolve(included)
}

// TestRefused: an error names line and column, what was found and what was expected.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"struct A {\n  1: i32 x\n  1: i32 y\n}", "t.thrift:3:10: field y has the number 1, which x has (t.thrift:2:10)"},
		{"struct A { 1: i32 x; 2: i32 x }", "t.thrift:1:29: field x is there twice, the first at t.thrift:1:19"},
		{"struct A {}\nenum A {}", "t.thrift:2:6: A is defined twice, the first at t.thrift:1:8"},
		{"struct A { 1: Missing x }", "t.thrift:1:15: type Missing is not known here"},
		{"struct A { 1: other.B x }", "t.thrift:1:15: type other.B is not known here, and no file other.thrift is included"},
		{"struct A { 1: i32 x = 'a' }", `t.thrift:1:23: expected i32, found "a"`},
		{"struct A { 1: byte x = 200 }", "t.thrift:1:24: 200 is out of range, expected an i8 (-128 to 127)"},
		{"const i32 A = B\nconst i32 B = A", "t.thrift:1:11: constant A leads to itself"},
		{"typedef B A\ntypedef A B", "t.thrift:1:11: typedef A leads to itself"},
		{"struct A { 1: i32 x (min = \"a\") }", `t.thrift:1:22: annotation min: expected a whole number, found "a"`},
		{"struct A { 1: list<i32> x (min = \"1\") }", "t.thrift:1:28: annotation min: is for numbers, and the type is list<i32>: write it behind the element's type, inside < >"},
		{"struct A { 1: i32 x (pattern = \"a\") }", "t.thrift:1:22: annotation pattern: is for strings, and the type is i32"},
		{"struct A { 1: string x (pattern = \"(\") }", "t.thrift:1:25: annotation pattern: error parsing regexp"},
		{"struct A { 1: string x (length = \"x\") }", "t.thrift:1:25: annotation length: expected a length such as 4, 1..64, 1.. or ..64"},
		{"typedef i32 P (max = \"9\")\nstruct A { 1: P x = 10 }", "t.thrift:2:21: 10 is out of range, expected at most 9 (t.thrift:1:16)"},
		{"struct A { 1: i32 x = 5 (max = \"4\") }", "t.thrift:1:23: default of x: 5 is out of range, expected at most 4"},
		{"enum E { A = 1 A }", "t.thrift:1:16: A is twice in the enum, the first at t.thrift:1:10"},
		{"enum E { A = 2147483648 }", "t.thrift:1:10: number 2147483648 of A does not fit 32 bits"},
		{"enum E { A }\nstruct S { 1: E e = E.B }", "t.thrift:2:21: enum E has no B, expected one of A"},
		{"struct S { 1: i32 e = NOTHING }", "t.thrift:1:23: NOTHING is neither a constant nor an enum's value"},
		{"const string A = 'x", "t.thrift:1:18: text is not closed"},
		{"const string A = 'x\n'", "t.thrift:1:18: text is not closed on its line"},
		{"const string A = '\\q'", "t.thrift:1:18: escape in the text is unknown"},
		{"const i64 A = 9223372036854775808", "t.thrift:1:15: number 9223372036854775808 does not fit 64 bits"},
		{"/* never closed", "t.thrift:1:1: comment is not closed"},
		{"struct A { 1: i32 x", `t.thrift:1:20: expected a type, found the end of the file`},
		{"struct struct {}", `t.thrift:1:8: expected the name of the struct, found the word "struct" of the language`},
		{"struct A.b {}", "t.thrift:1:8: name A.b of the struct has a dot"},
		{"strict A {}", `t.thrift:1:1: expected a definition (const, typedef, enum, struct, union, exception or service), found "strict"`},
		{"struct A {}\ninclude 'x'", "t.thrift:2:1: include stands behind a definition, expected before the first"},
		{"service S extends T {}", "t.thrift:1:9: service S extends T, which is no service here"},
		{"struct A {}\nservice S { void f() throws (1: A a) }", "t.thrift:2:35: f throws A, expected an exception"},
		{"struct A { 1: i32 x }\nconst A C = {'y': 1}", `t.thrift:2:14: A has no field "y", expected one of x`},
		{"struct A { 1: i32 x }\nconst A C = {}", "t.thrift:2:13: A.x is missing, expected i32"},
		{"struct A { 1: string x; 2: A a = {'x': ''} }", "t.thrift:1:34: default of A has a A inside itself"},
		{"union U { 1: i32 a; 2: i32 b }\nconst U C = {'a': 1, 'b': 2}", "t.thrift:2:13: U is a union with 2 fields set, expected exactly one of a, b"},
		{"const " + strings.Repeat("list<", 100) + "i32" + strings.Repeat(">", 100) + " A = []", "t.thrift:1:167: types are more than 32 deep"},
		{"const list<i32> A = " + strings.Repeat("[", 100000), "t.thrift:1:53: values are more than 32 deep"},
		{"struct A { 1: string x " + strings.Repeat("xsd_attrs { 1: string x ", 100), "t.thrift:1:"},
		{"const string A = '\xff'", "t.thrift:1:18: text is not UTF-8"},
		{"struct A { 40000: i32 x }", "t.thrift:1:12: number 40000 of a field, at most 32767"},
		{"@", `t.thrift:1:1: character '@' is not expected here`},
		{strings.Repeat(" ", idl.MaxFile+1), "t.thrift:1:1: file has 4194305 octets, at most 4194304"},
	} {
		_, err := parse(c.text)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.60q: error is\n%v, want\n%s", c.text, err, c.want)
		}
		var e *idl.Error
		if err != nil && (!errors.As(err, &e) || e.Line < 1 || e.Col < 1) {
			t.Errorf("%.60q: error %v has no place", c.text, err)
		}
	}
}

const valuesIDL = `
enum E { A, B = 7, C = 7 }
typedef i32 Port (min = "1", max = "65535")
struct Inner { 2: optional string b; 1: i32 a = 3 }
union U { 1: string text; 2: i64 number }
struct S {
  9: optional string s (pattern = "[a-z]*", length = "..5")
  1: optional bool flag
  2: optional i8 i8
  3: optional i64 i64
  4: optional double d
  5: optional binary bin
  6: optional list<Port> ports (length = "1..2")
  7: optional set<string> words
  8: optional map<string, i32> m
  10: optional map<E, Inner> em
  11: optional map<i64, bool> im
  12: optional map<list<i32>, string> lm
  13: optional U u
  14: optional E e
  15: optional Inner inner
  16: optional map<bool, i32> bm
}
`

// structs gives the types of valuesIDL.
func structs(t interface{ Fatal(...any) }) (*idl.File, *idl.Type) {
	f, err := parse(valuesIDL)
	if err != nil {
		t.Fatal(err)
	}
	s := f.Lookup("S").(*idl.Struct)
	return f, &idl.Type{Kind: idl.StructKindOf, Name: "S", Struct: s}
}

// TestJSON: the canonical form is what docs/format/values.md says, and nothing else
// is taken.
func TestJSON(t *testing.T) {
	_, s := structs(t)
	for _, good := range []string{
		`{}`,
		`{"flag":true,"i8":-128,"i64":9223372036854775807,"d":0.1,"bin":"AAE=","s":"a"}`,
		`{"d":1e+21}`, `{"d":1e-7}`, `{"d":100000000000000000000}`, `{"d":0}`, `{"d":-1.5}`, `{"d":0.000001}`,
		`{"ports":[1,65535],"words":["","a","b"]}`,
		`{"m":{"":1,"a":2,"b":3}}`,
		`{"em":{"A":{"a":3},"B":{"a":4,"b":"x"}}}`,
		`{"im":{"-5":true,"3":false,"10":true}}`,
		`{"lm":[[[1,2],"two"],[[],"none"]]}`, `{"lm":{}}`,
		`{"u":{"text":"x"},"e":"B","inner":{"a":3}}`,
		`{"bm":{"false":0,"true":1}}`,
	} {
		v, err := idl.DecodeJSON(s, []byte(good))
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if got := string(idl.AppendJSON(nil, v)); got != good {
			t.Errorf("%s is written as %s", good, got)
		}
	}
	for _, c := range []struct{ bad, want string }{
		{`{"i64":1,"flag":true}`, "JSON is not canonical at octet 2"},
		{`{"flag":true} `, "JSON is not canonical at octet 13"},
		{`{"flag":true}{}`, "something follows"},
		{`{"flag":1}`, ".flag: expected bool, found 1"},
		{`{"i8":128}`, ".i8: 128 is out of range, expected an i8 (-128 to 127)"},
		{`{"i8":1.5}`, ".i8: expected i8, found 1.5"},
		{`{"ports":[0]}`, ".ports: [0]: 0 is out of range, expected at least 1 (t.thrift:3:19)"},
		{`{"ports":[]}`, "S.ports: a list of 0 has 0 elements, expected 1..2"},
		{`{"s":"ABC"}`, `S.s: "ABC" does not match, expected the pattern [a-z]*`},
		{`{"s":"abcdef"}`, `S.s: "abcdef" has 6 characters, expected ..5`},
		{`{"words":["a","a"]}`, `.words: "a" is twice in the set`},
		{`{"words":["b","a"]}`, "not canonical"},
		{`{"em":{"D":{"a":3}}}`, `.em: key: enum E has no "D", expected one of A, B, C`},
		{`{"e":"C"}`, "not canonical"}, // another name of B
		{`{"u":{}}`, ".u: U is a union with 0 fields set"},
		{`{"u":{"text":"x","number":1}}`, ".u: U is a union with 2 fields set"},
		{`{"inner":{}}`, "not canonical"}, // the default is written
		{`{"nothing":1}`, `S has no field "nothing"`},
		{`{"bin":"AA="}`, ".bin: expected binary"},
		{`{"d":1e400}`, ".d: expected double"},
		{`null`, "expected S, found null"},
		{`{"lm":[[1]]}`, ".lm: [0]: expected a pair of key and value"},
		{`[`, "S: unexpected EOF"},
	} {
		_, err := idl.DecodeJSON(s, []byte(c.bad))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.bad, err, c.want)
		}
	}
}

// draw makes a value of a type, within its bounds as far as valuesIDL has them.
func draw(t *rapid.T, ty *idl.Type, depth int) idl.Value {
	switch ty = ty.True(); ty.Kind {
	case idl.Bool:
		return rapid.Bool().Draw(t, "bool")
	case idl.I8:
		return int64(rapid.Int8().Draw(t, "i8"))
	case idl.I32:
		return int64(rapid.Int32Range(1, 65535).Draw(t, "i32"))
	case idl.I64:
		return rapid.Int64().Draw(t, "i64")
	case idl.Double:
		d := rapid.Float64().Draw(t, "double")
		if math.IsNaN(d) || math.IsInf(d, 0) {
			d = 0
		}
		return d
	case idl.String:
		return rapid.String().Draw(t, "string")
	case idl.Binary:
		return rapid.SliceOf(rapid.Byte()).Draw(t, "binary")
	case idl.EnumKind:
		return rapid.SampledFrom(ty.Enum.Members).Draw(t, "enum")
	case idl.List, idl.Set:
		all := make([]idl.Value, rapid.IntRange(1, 2).Draw(t, "n"))
		for i := range all {
			all[i] = draw(t, ty.Elem, depth+1)
		}
		if ty.Kind == idl.Set && idl.SortSet(all) != nil {
			return all[:1]
		}
		return all
	case idl.Map:
		all := make(idl.Entries, rapid.IntRange(0, 3).Draw(t, "n"))
		for i := range all {
			all[i] = idl.Entry{Key: draw(t, ty.Key, depth+1), Value: draw(t, ty.Elem, depth+1)}
		}
		if idl.SortMap(all) != nil {
			return all[:1]
		}
		return all
	}
	fields := make([]idl.Value, len(ty.Struct.Fields))
	for i, f := range ty.Struct.Fields {
		if ty.Struct.Kind == idl.Union && i > 0 {
			break
		}
		if f.Name == "s" {
			fields[i] = rapid.StringMatching("[a-z]{0,5}").Draw(t, "s")
		} else if ty.Struct.Kind == idl.Union || rapid.Bool().Draw(t, f.Name) {
			fields[i] = draw(t, f.Type, depth+1)
		}
	}
	x, err := ty.Struct.New(fields)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestJSONGivesValuesBack: what is written is read as the same value.
func TestJSONGivesValuesBack(t *testing.T) {
	_, s := structs(t)
	rapid.Check(t, func(t *rapid.T) {
		v := draw(t, s, 0)
		b := idl.AppendJSON(nil, v)
		back, err := idl.DecodeJSON(s, b)
		if err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		if !idl.Equal(v, back) || string(idl.AppendJSON(nil, back)) != string(b) {
			t.Fatalf("%s is read as %s", b, idl.AppendJSON(nil, back))
		}
	})
}

// TestOrderOfFieldsIsNoMatter: a struct whose text is in another order has the same JSON.
func TestOrderOfFieldsIsNoMatter(t *testing.T) {
	var got [2]string
	for i, text := range []string{"struct S { 1: i32 a; 2: i32 b }", "struct S { 2: i32 b; 1: i32 a }"} {
		f, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		s := f.Lookup("S").(*idl.Struct)
		fields := make([]idl.Value, 2)
		fields[s.Index("a")], fields[s.Index("b")] = int64(1), int64(2)
		x, err := s.New(fields)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = string(idl.AppendJSON(nil, x))
	}
	if got[0] != got[1] || got[0] != `{"a":1,"b":2}` {
		t.Errorf("JSON is %q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/grammar.thrift", "testdata/included.thrift", "../../api/control.thrift"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(valuesIDL)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parse(text); err != nil {
			var e *idl.Error
			if noFile := (*os.PathError)(nil); !errors.As(err, &e) && !errors.As(err, &noFile) {
				t.Errorf("error without place: %v", err)
			}
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add(`{"flag":true,"i8":-128,"i64":9223372036854775807,"d":0.1,"bin":"AAE=","s":"a"}`)
	f.Add(`{"ports":[1,65535],"words":["","a","b"],"m":{"":1,"a":2,"b":3},"em":{"A":{"a":3}}}`)
	f.Add(`{"im":{"-5":true},"lm":[[[],"none"],[[1,2],"two"]],"u":{"text":"x"},"e":"B","inner":{"a":3}}`)
	_, s := structs(f)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := idl.DecodeJSON(s, []byte(text))
		if err == nil && string(idl.AppendJSON(nil, v)) != text {
			t.Errorf("%q is not what is written", text)
		}
	})
}
