package star

import (
	"fmt"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/idl"
)

// FromValue gives a value as a frozen Starlark value, nil as None.
func FromValue(v idl.Value) starlark.Value {
	switch v := v.(type) {
	case nil:
		return starlark.None
	case bool:
		return starlark.Bool(v)
	case int64:
		return starlark.MakeInt64(v)
	case float64:
		return starlark.Float(v)
	case string:
		return starlark.String(v)
	case []byte:
		return starlark.Bytes(v)
	case *idl.Member:
		return Member{v}
	case *idl.Instance:
		return &Instance{X: v}
	case idl.Entries:
		d := starlark.NewDict(len(v))
		for _, e := range v {
			_ = d.SetKey(FromValue(e.Key), FromValue(e.Value)) // keys of the types of IDL are hashable
		}
		d.Freeze()
		return d
	case []idl.Value:
		all := make([]starlark.Value, len(v))
		for i, e := range v {
			all[i] = FromValue(e)
		}
		l := starlark.NewList(all)
		l.Freeze()
		return l
	}
	panic(fmt.Sprintf("star: %T is no value", v))
}

// maxDepth bounds how deep lists and dicts of a program may be inside one another: IDL
// types are finite, but a list may hold itself.
const maxDepth = 64

// ToValue converts what a program gave to a value of t, checked. An enum's value may
// be given by its name, a set as a list without duplicates. None is no value.
func ToValue(t *idl.Type, v starlark.Value) (idl.Value, error) {
	x, err := convert(t.True(), v, 0)
	if err != nil {
		return nil, err
	}
	return x, t.Allows(x)
}

func toValue(t *idl.Type, v starlark.Value, depth int) (idl.Value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("values are more than %d deep inside one another", maxDepth)
	}
	x, err := convert(t.True(), v, depth)
	if err != nil {
		return nil, err
	}
	return x, t.Allows(x)
}

func convert(t *idl.Type, v starlark.Value, depth int) (idl.Value, error) {
	switch t.Kind {
	case idl.Bool:
		if b, ok := v.(starlark.Bool); ok {
			return bool(b), nil
		}
	case idl.I8, idl.I16, idl.I32, idl.I64:
		if i, ok := v.(starlark.Int); ok {
			n, ok := i.Int64()
			if !ok {
				return nil, fmt.Errorf("%s is out of range, expected an %s", describe(v), t.Name)
			}
			return n, nil
		}
	case idl.Double:
		switch v := v.(type) {
		case starlark.Float:
			return float64(v), nil
		case starlark.Int:
			return float64(v.Float()), nil
		}
	case idl.String:
		if s, ok := v.(starlark.String); ok {
			return string(s), nil
		}
	case idl.Binary:
		if s, ok := v.(starlark.Bytes); ok {
			return []byte(s), nil
		}
	case idl.EnumKind:
		return toMember(t, v)
	case idl.StructKindOf:
		if x, ok := v.(*Instance); ok {
			if x.X.Struct == t.Struct {
				return x.X, nil
			}
			return nil, fmt.Errorf("expected a %s, found a %s", t.Struct, x.X.Struct)
		}
	case idl.List:
		return toList(t, v, depth)
	case idl.Set:
		all, err := toList(t, v, depth)
		if err != nil {
			return nil, err
		}
		return all, idl.SortSet(all)
	case idl.Map:
		d, ok := v.(*starlark.Dict)
		if !ok {
			break
		}
		all := make(idl.Entries, 0, d.Len())
		for k, e := range d.Entries() {
			key, err := toValue(t.Key, k, depth+1)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", describe(k), err)
			}
			value, err := toValue(t.Elem, e, depth+1)
			if err != nil {
				return nil, fmt.Errorf("[%s]: %w", describe(k), err)
			}
			all = append(all, idl.Entry{Key: key, Value: value})
		}
		return all, idl.SortMap(all)
	}
	return nil, fmt.Errorf("expected %s, found %s", t, describe(v))
}

func toMember(t *idl.Type, v starlark.Value) (idl.Value, error) {
	switch v := v.(type) {
	case Member:
		if v.M.Enum == t.Enum {
			return v.M, nil
		}
	case starlark.String:
		if m := t.Enum.Member(string(v)); m != nil {
			return m, nil
		}
	}
	names := t.Enum.Names()
	if len(names) > 12 {
		names = append(names[:12:12], "…")
	}
	return nil, fmt.Errorf("expected a value of enum %s (%v), found %s", t.Enum.Name, names, describe(v))
}

func toList(t *idl.Type, v starlark.Value, depth int) ([]idl.Value, error) {
	var n int
	var at func(int) starlark.Value
	switch v := v.(type) {
	case *starlark.List:
		n, at = v.Len(), v.Index
	case starlark.Tuple:
		n, at = v.Len(), v.Index
	case *starlark.Set:
		all := make(starlark.Tuple, 0, v.Len())
		for e := range v.Elements() {
			all = append(all, e)
		}
		n, at = len(all), all.Index
	default:
		return nil, fmt.Errorf("expected %s, found %s", t, describe(v))
	}
	all := make([]idl.Value, n)
	for i := range all {
		x, err := toValue(t.Elem, at(i), depth+1)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		all[i] = x
	}
	return all, nil
}

// describe is a program's value for an error message: its type and, shortened, itself.
func describe(v starlark.Value) string {
	switch v := v.(type) {
	case starlark.NoneType:
		return "None"
	case *starlark.List, starlark.Tuple, *starlark.Dict, *starlark.Set:
		return fmt.Sprintf("%s of %d", v.Type(), starlark.Len(v))
	case *Instance:
		return "a " + v.X.Struct.String()
	case starlark.String:
		if len(v) > 80 {
			return fmt.Sprintf("string %s…", v[:80])
		}
	case starlark.Int:
		if _, ok := v.Int64(); !ok {
			return "int beyond 64 bits"
		}
	}
	return v.Type() + " " + v.String()
}
