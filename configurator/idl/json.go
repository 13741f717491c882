package idl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

func sortByID(all []*Field) {
	slices.SortFunc(all, func(a, b *Field) int { return int(a.ID) - int(b.ID) })
}

// AppendJSON appends the canonical JSON of a value (docs/format/values.md): no white
// space, fields in the order of their numbers, those that are not set left out, enums
// as names, sets and maps in order.
func AppendJSON(b []byte, v Value) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		return appendDouble(b, v)
	case string:
		return appendText(b, v)
	case []byte:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v)
		return append(b, '"')
	case *Member:
		return appendText(b, v.first.Name)
	case []Value:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendJSON(b, e)
		}
		return append(b, ']')
	case Entries:
		return appendMap(b, v)
	case *Instance:
		b = append(b, '{')
		first := true
		for _, f := range v.Struct.byID {
			x := v.Fields[f.at]
			if x == nil {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = appendText(b, f.Name)
			b = append(b, ':')
			b = AppendJSON(b, x)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("idl: %T is no value", v))
}

// appendMap writes a map whose keys have a text as an object, any other as a list
// of pairs.
func appendMap(b []byte, all Entries) []byte {
	object := true
	for _, e := range all {
		_, ok := keyText(e.Key)
		object = object && ok
	}
	brackets := "{}"
	if !object {
		brackets = "[]"
	}
	b = append(b, brackets[0])
	for i, e := range all {
		if i > 0 {
			b = append(b, ',')
		}
		if object {
			text, _ := keyText(e.Key)
			b = append(appendText(b, text), ':')
			b = AppendJSON(b, e.Value)
			continue
		}
		b = append(AppendJSON(append(b, '['), e.Key), ',')
		b = append(AppendJSON(b, e.Value), ']')
	}
	return append(b, brackets[1])
}

// keyText is a key as the name in an object.
func keyText(k Value) (string, bool) {
	switch k := k.(type) {
	case bool:
		return strconv.FormatBool(k), true
	case int64:
		return strconv.FormatInt(k, 10), true
	case string:
		return k, true
	case *Member:
		return k.first.Name, true
	}
	return "", false
}

// appendDouble writes the shortest digits that read back the same, as ECMAScript
// does (and RFC 8785): an exponent below 1e-6 and from 1e21 on; zero has no sign.
func appendDouble(b []byte, d float64) []byte {
	if d == 0 {
		return append(b, '0')
	}
	if a := math.Abs(d); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(b, d, 'f', -1, 64)
	}
	text := strconv.FormatFloat(d, 'e', -1, 64)
	text = strings.Replace(text, "e-0", "e-", 1) // exponents have two digits at least
	return append(b, text...)
}

// appendText writes a text with no more escapes than JSON asks for.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		if k := strings.IndexByte("\"\\\b\f\n\r\t", c); k >= 0 {
			b = append(b, '\\', `"\bfnrt`[k])
		} else {
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// maxJSONDepth bounds how deep values may be inside one another.
const maxJSONDepth = 100

// DecodeJSON reads what AppendJSON wrote for a value of t. Anything else, also other JSON
// of the same value, is an error that says where in the value it is.
func DecodeJSON(t *Type, b []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: something follows the value", t)
	}
	v, err := fromJSON(t, tree, 0)
	if err != nil {
		return nil, err
	}
	if again := AppendJSON(nil, v); !bytes.Equal(again, b) {
		at := 0
		for at < len(b) && at < len(again) && b[at] == again[at] {
			at++
		}
		return nil, fmt.Errorf("%s: JSON is not canonical at octet %d", t, at)
	}
	return v, nil
}

// inside puts where before what an error says.
func inside(where string, err error) error { return fmt.Errorf("%s: %w", where, err) }

func fromJSON(t *Type, tree any, depth int) (Value, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("values are more than %d deep inside one another", maxJSONDepth)
	}
	v, err := convertJSON(t.True(), tree, depth)
	if err != nil {
		return nil, err
	}
	if err := t.Allows(v); err != nil {
		return nil, err
	}
	return v, nil
}

func convertJSON(t *Type, tree any, depth int) (Value, error) {
	wrong := func() (Value, error) {
		return nil, fmt.Errorf("expected %s, found %s", t, describeJSON(tree))
	}
	switch t.Kind {
	case Bool:
		if b, ok := tree.(bool); ok {
			return b, nil
		}
	case I8, I16, I32, I64:
		if n, ok := tree.(json.Number); ok {
			if i, err := n.Int64(); err == nil {
				return i, nil
			}
		}
	case Double:
		if n, ok := tree.(json.Number); ok {
			if f, err := n.Float64(); err == nil {
				return f, nil
			}
		}
	case String:
		if s, ok := tree.(string); ok {
			return s, nil
		}
	case Binary:
		if s, ok := tree.(string); ok {
			if b, err := base64.StdEncoding.Strict().DecodeString(s); err == nil {
				return b, nil
			}
		}
	case EnumKind:
		if s, ok := tree.(string); ok {
			m := t.Enum.Member(s)
			if m == nil {
				return nil, fmt.Errorf("enum %s has no %q, expected %s", t.Enum.Name, clip(s), anyOf(t.Enum.Names()))
			}
			return m, nil
		}
	case List, Set:
		all, ok := tree.([]any)
		if !ok {
			return wrong()
		}
		values := make([]Value, len(all))
		for i, e := range all {
			v, err := fromJSON(t.Elem, e, depth+1)
			if err != nil {
				return nil, inside(fmt.Sprintf("[%d]", i), err)
			}
			values[i] = v
		}
		if t.Kind == Set {
			if err := SortSet(values); err != nil {
				return nil, err
			}
		}
		return values, nil
	case Map:
		return mapFromJSON(t, tree, depth)
	case StructKindOf:
		return structFromJSON(t, tree, depth)
	}
	return wrong()
}

func mapFromJSON(t *Type, tree any, depth int) (Value, error) {
	values := Entries{}
	add := func(key, value any) error {
		k, err := fromJSON(t.Key, key, depth+1)
		if err != nil {
			return inside("key", err)
		}
		v, err := fromJSON(t.Elem, value, depth+1)
		if err != nil {
			return inside("["+Describe(k)+"]", err)
		}
		values = append(values, Entry{k, v})
		return nil
	}
	switch tree := tree.(type) {
	case map[string]any:
		for text, value := range tree {
			var key any = text
			switch t.Key.True().Kind {
			case Bool:
				key = text == "true"
			case I8, I16, I32, I64:
				key = json.Number(text)
			}
			if err := add(key, value); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, e := range tree {
			pair, ok := e.([]any)
			if !ok || len(pair) != 2 {
				return nil, fmt.Errorf("[%d]: expected a pair of key and value, found %s", i, describeJSON(e))
			}
			if err := add(pair[0], pair[1]); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("expected %s, found %s", t, describeJSON(tree))
	}
	return values, SortMap(values)
}

func structFromJSON(t *Type, tree any, depth int) (Value, error) {
	s := t.Struct
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected %s, found %s", t, describeJSON(tree))
	}
	fields := make([]Value, len(s.Fields))
	for name, value := range object {
		i := s.Index(name)
		if i < 0 {
			return nil, fmt.Errorf("%s has no field %q", s.Name, clip(name))
		}
		v, err := fromJSON(s.Fields[i].Type, value, depth+1)
		if err != nil {
			return nil, inside("."+name, err)
		}
		fields[i] = v
	}
	return s.New(fields)
}

func describeJSON(tree any) string {
	switch tree := tree.(type) {
	case nil:
		return "null"
	case string:
		return fmt.Sprintf("%q", clip(tree))
	case []any:
		return fmt.Sprintf("a list of %d", len(tree))
	case map[string]any:
		return "an object"
	}
	return clip(fmt.Sprint(tree))
}
