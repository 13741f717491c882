package star

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/idl"
)

// Check looks at a value that a constructor is about to give; an error refuses it.
type Check func(x *idl.Instance) error

// Module gives what a program can load from a resolved file. checks, which may be nil,
// has a check for some of its structs.
func Module(f *idl.File, checks map[*idl.Struct]Check) starlark.StringDict {
	all := starlark.StringDict{}
	for _, c := range f.Consts {
		all[c.Name] = FromValue(c.Value)
	}
	for _, e := range f.Enums {
		all[e.Name] = Enum{e}
	}
	for _, s := range f.Structs {
		all[s.Name] = Constructor(s, checks[s])
	}
	for _, t := range f.Typedefs {
		switch u := t.Type.True(); u.Kind {
		case idl.StructKindOf:
			all[t.Name] = Constructor(u.Struct, checks[u.Struct])
		case idl.EnumKind:
			all[t.Name] = Enum{u.Enum}
		default:
			all[t.Name] = checker(t)
		}
	}
	return all
}

// Constructor is the function that makes values of s. check may be nil.
func Constructor(s *idl.Struct, check Check) *starlark.Builtin {
	return starlark.NewBuiltin(s.Name, func(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) > 0 {
			return nil, fmt.Errorf("%s takes fields by name: %s(%s = …)", s.Name, s.Name, firstField(s))
		}
		return Make(thread, s, make([]idl.Value, len(s.Fields)), kwargs, check)
	})
}

func firstField(s *idl.Struct) string {
	if len(s.Fields) > 0 {
		return s.Fields[0].Name
	}
	return "field"
}

// Make makes a value of s out of fields, which it keeps, and of kwargs that replace some
// of them; None unsets one.
func Make(thread *starlark.Thread, s *idl.Struct, fields []idl.Value, kwargs []starlark.Tuple, check Check) (*Instance, error) {
	for _, kw := range kwargs {
		name := string(kw[0].(starlark.String))
		i := s.Index(name)
		if i < 0 {
			return nil, fmt.Errorf("%s has no field %q, expected %s", s.Name, name, fieldNames(s))
		}
		if kw[1] == starlark.None {
			fields[i] = nil
			continue
		}
		v, err := ToValue(s.Fields[i].Type, kw[1])
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", s.Name, name, err)
		}
		fields[i] = v
	}
	x, err := s.New(fields)
	if err != nil {
		return nil, err
	}
	x.Origin = Origin{CallPosition(thread)}
	if check != nil {
		if err := check(x); err != nil {
			return nil, err
		}
	}
	return &Instance{X: x}, nil
}

func fieldNames(s *idl.Struct) string {
	if len(s.Fields) == 0 {
		return "none"
	}
	names := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// checker is a typedef of anything but a struct or enum: it gives its argument back
// when that is of the type.
func checker(t *idl.Typedef) *starlark.Builtin {
	return starlark.NewBuiltin(t.Name, func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) != 1 || len(kwargs) > 0 {
			return nil, fmt.Errorf("%s takes one value", t.Name)
		}
		v, err := t.Value(func(u *idl.Type) (idl.Value, error) { return ToValue(u, args[0]) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		return FromValue(v), nil
	})
}

// Replace is replace(value, field = …): a copy of a struct's value with some fields
// changed, checked anew.
func Replace(checks map[*idl.Struct]Check) *starlark.Builtin {
	return starlark.NewBuiltin("replace", func(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) != 1 {
			return nil, errors.New("replace takes one value of a struct, and fields by name")
		}
		v, ok := args[0].(*Instance)
		if !ok {
			return nil, fmt.Errorf("replace: expected a value of a struct, found %s", describe(args[0]))
		}
		return Make(thread, v.X.Struct, append([]idl.Value(nil), v.X.Fields...), kwargs, checks[v.X.Struct])
	})
}
