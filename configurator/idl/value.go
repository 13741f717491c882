package idl

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Value is a value of a type:
//
//	bool            bool
//	i8 … i64        int64
//	double          float64, finite
//	string          string, UTF-8
//	binary          []byte
//	list, set       []Value; a set's is in order, without duplicates
//	map             Entries, in the order of their keys
//	enum            *Member
//	struct, …       *Instance
//
// Values are treated as immutable once they have been checked.
type Value any

// Entry is one of a map.
type Entry struct{ Key, Value Value }

// Entries are a map's.
type Entries []Entry

// Instance is a value of a struct, union or exception. New makes it.
type Instance struct {
	Struct *Struct
	Fields []Value // one for each of Struct.Fields; nil: not set
	// Origin is whatever the maker wants to know again, such as where in a program it
	// was made. It is no part of the value.
	Origin any

	depth int // of instances inside one another
}

// maxInside bounds how deep instances may be inside one another: a program can put each
// into the next.
const maxInside = 64

// depth is how deep instances are inside one another in v.
func depth(v Value) int {
	n := 0
	switch v := v.(type) {
	case *Instance:
		return v.depth
	case []Value:
		for _, e := range v {
			switch e.(type) {
			case *Instance, []Value, Entries:
				n = max(n, depth(e))
			default:
				return 0 // as are all others
			}
		}
	case Entries:
		for _, e := range v {
			n = max(n, depth(e.Key), depth(e.Value))
		}
	}
	return n
}

// Get gives a field's value, nil when it is not set or there is none of that name.
func (x *Instance) Get(field string) Value {
	if i := x.Struct.Index(field); i >= 0 {
		return x.Fields[i]
	}
	return nil
}

// FieldError is about a field of a struct that New did not take.
type FieldError struct {
	Field *Field // nil: about the whole struct
	Msg   string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Msg }

// New makes a value of s: fields has one Value for each of s.Fields, nil for those that
// are not set, and is kept. What is not set gets its default. A field that has
// neither must be set, unless it is optional; a union has exactly one field.
func (s *Struct) New(fields []Value) (*Instance, error) {
	set, deep := 0, 0
	for i, f := range s.Fields {
		if fields[i] != nil {
			set++
			if deep = max(deep, depth(fields[i])); deep >= maxInside {
				return nil, &FieldError{f, fmt.Sprintf("%s.%s: values are more than %d deep inside one another", s.Name, f.Name, maxInside)}
			}
			if err := f.Allows(fields[i]); err != nil {
				return nil, &FieldError{f, fmt.Sprintf("%s.%s: %v", s.Name, f.Name, err)}
			}
		}
	}
	if s.Kind == Union {
		if set != 1 {
			return nil, &FieldError{nil, fmt.Sprintf("%s is a union with %d fields set, expected exactly one of %s", s.Name, set, strings.Join(s.fieldNames(), ", "))}
		}
		return &Instance{Struct: s, Fields: fields, depth: deep + 1}, nil
	}
	for i, f := range s.Fields {
		switch {
		case fields[i] != nil:
		case f.Default != nil:
			fields[i] = f.Default
			deep = max(deep, depth(f.Default))
		case f.Requiredness != Optional:
			return nil, &FieldError{f, fmt.Sprintf("%s.%s is missing, expected %s", s.Name, f.Name, f.Type)}
		}
	}
	return &Instance{Struct: s, Fields: fields, depth: deep + 1}, nil
}

func (s *Struct) fieldNames() []string {
	names := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		names[i] = f.Name
	}
	return names
}

// Allows tells why a value that is made of checked parts is no value of the field, or nil.
func (f *Field) Allows(v Value) error {
	if err := f.Type.Allows(v); err != nil {
		return err
	}
	return allBounds(f.bounds, v)
}

var intBits = map[Kind]int{I8: 8, I16: 16, I32: 32, I64: 64}

// Allows tells why a value that is made of checked parts is no value of the type, or nil:
// elements of lists, sets and maps have been asked for already.
func (t *Type) Allows(v Value) error {
	if err := t.True().is(v); err != nil {
		return err
	}
	return t.within(v)
}

// within checks the bounds of the type and of the typedefs that lead to it.
func (t *Type) within(v Value) error {
	if err := allBounds(t.bounds, v); err != nil {
		return err
	}
	if t.Typedef != nil {
		if err := allBounds(t.Typedef.bounds, v); err != nil {
			return err
		}
		return t.Typedef.Type.within(v)
	}
	return nil
}

// is tells whether v is of the type, which is no Named one but for bounds.
func (t *Type) is(v Value) error {
	ok := false
	switch t.Kind {
	case Bool:
		_, ok = v.(bool)
	case I8, I16, I32, I64:
		var n int64
		if n, ok = v.(int64); ok {
			bits := intBits[t.Kind]
			if n < -1<<(bits-1) || n > 1<<(bits-1)-1 {
				return fmt.Errorf("%d is out of range, expected an %s (%d to %d)", n, t.Name, -1<<(bits-1), int64(1<<(bits-1)-1))
			}
		}
	case Double:
		var d float64
		if d, ok = v.(float64); ok && (math.IsNaN(d) || math.IsInf(d, 0)) {
			return fmt.Errorf("%v is no number that JSON has", d)
		}
	case String:
		var s string
		if s, ok = v.(string); ok && !utf8.ValidString(s) {
			return fmt.Errorf("%q is not UTF-8", clip(s))
		}
	case Binary:
		_, ok = v.([]byte)
	case List, Set:
		_, ok = v.([]Value)
	case Map:
		_, ok = v.(Entries)
	case EnumKind:
		var m *Member
		m, ok = v.(*Member)
		ok = ok && m.Enum == t.Enum
	case StructKindOf:
		var x *Instance
		x, ok = v.(*Instance)
		ok = ok && x.Struct == t.Struct
	}
	if !ok {
		return fmt.Errorf("expected %s, found %s", t, Describe(v))
	}
	return nil
}

// Describe is a value for an error message, shortened.
func Describe(v Value) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", clip(v))
	case []byte:
		return fmt.Sprintf("%d octets", len(v))
	case []Value:
		return fmt.Sprintf("a list of %d", len(v))
	case Entries:
		return fmt.Sprintf("a map of %d", len(v))
	case *Member:
		return v.Enum.Name + "." + v.Name
	case *Instance:
		return "a " + v.Struct.Name
	case nil:
		return "nothing"
	default:
		return fmt.Sprint(v)
	}
}

// SortSet puts the elements of a set in order; a duplicate is an error.
func SortSet(all []Value) error {
	slices.SortFunc(all, Compare)
	for i := 1; i < len(all); i++ {
		if Compare(all[i-1], all[i]) == 0 {
			return fmt.Errorf("%s is twice in the set", Describe(all[i]))
		}
	}
	return nil
}

// SortMap puts the entries of a map in order; a key that is there twice is an error.
func SortMap(all Entries) error {
	slices.SortFunc(all, func(a, b Entry) int { return Compare(a.Key, b.Key) })
	for i := 1; i < len(all); i++ {
		if Compare(all[i-1].Key, all[i].Key) == 0 {
			return fmt.Errorf("key %s is twice in the map", Describe(all[i].Key))
		}
	}
	return nil
}

// Compare orders values of one type: numbers and enums by number, texts and octets by
// octet, others by their JSON.
func Compare(a, b Value) int {
	switch a := a.(type) {
	case bool:
		if b, ok := b.(bool); ok {
			return cmp.Compare(oneIf(a), oneIf(b))
		}
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(a, b)
		}
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b)
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return bytes.Compare(a, b)
		}
	case *Member:
		if b, ok := b.(*Member); ok {
			return cmp.Compare(a.Number, b.Number)
		}
	}
	return bytes.Compare(AppendJSON(nil, a), AppendJSON(nil, b))
}

// Equal tells whether two values of one type are the same value.
func Equal(a, b Value) bool { return Compare(a, b) == 0 }

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Value asks convert for a value of the type that t names, and checks t's own bounds.
func (t *Typedef) Value(convert func(*Type) (Value, error)) (Value, error) {
	v, err := convert(t.Type)
	if err != nil {
		return nil, err
	}
	return v, allBounds(t.bounds, v)
}
