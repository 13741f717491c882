package star

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/configurator/idl"
)

// Instance is a value of a struct, union or exception in Starlark. It is immutable.
type Instance struct {
	X *idl.Instance
	// attrs has the fields as Starlark values once one has been asked for that is not
	// converted in no time.
	attrs atomic.Pointer[[]starlark.Value]
}

var (
	_ starlark.HasAttrs   = (*Instance)(nil)
	_ starlark.Comparable = (*Instance)(nil)
)

// Origin is where a value was made: the call of its constructor.
type Origin struct {
	Pos syntax.Position
}

// OriginOf gives where a value was made; ok is false when no program has made it, as
// with defaults.
func OriginOf(x *idl.Instance) (pos syntax.Position, ok bool) {
	o, ok := x.Origin.(Origin)
	return o.Pos, ok
}

// CallPosition is where the running built-in function was called from a program.
func CallPosition(thread *starlark.Thread) syntax.Position {
	for depth := 1; depth < thread.CallStackDepth(); depth++ {
		if pos := thread.CallFrame(depth).Pos; pos.Line > 0 {
			return pos
		}
	}
	return syntax.Position{}
}

// String gives the call that makes the value.
func (v *Instance) String() string {
	var sb strings.Builder
	sb.WriteString(v.X.Struct.Name + "(")
	first := true
	for i, f := range v.X.Struct.Fields {
		if v.X.Fields[i] == nil {
			continue
		}
		if !first {
			sb.WriteString(", ")
		}
		first = false
		fmt.Fprintf(&sb, "%s = %s", f.Name, v.fields()[i])
	}
	return sb.String() + ")"
}

// Type is the struct's name.
func (v *Instance) Type() string { return v.X.Struct.Name }

// Freeze does nothing: the value is immutable.
func (v *Instance) Freeze() {}

// Truth is always true.
func (v *Instance) Truth() starlark.Bool { return true }

// hashSeed is one for the process: hashes of these values are not seen by programs.
var hashSeed = maphash.MakeSeed()

// Hash implements starlark.Value.
func (v *Instance) Hash() (uint32, error) {
	return uint32(maphash.Bytes(hashSeed, idl.AppendJSON(nil, v.X))), nil
}

// CompareSameType knows == and !=.
func (v *Instance) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	w := y.(*Instance)
	same := v.X == w.X || v.X.Struct == w.X.Struct && idl.Equal(v.X, w.X)
	switch op {
	case syntax.EQL:
		return same, nil
	case syntax.NEQ:
		return !same, nil
	}
	return false, fmt.Errorf("%s %s %s: values of structs have no order", v.Type(), op, y.Type())
}

// fields are the fields as Starlark values.
func (v *Instance) fields() []starlark.Value {
	if p := v.attrs.Load(); p != nil {
		return *p
	}
	all := make([]starlark.Value, len(v.X.Fields))
	for i, x := range v.X.Fields {
		all[i] = FromValue(x)
	}
	v.attrs.Store(&all) // whoever is second stores equal values
	return all
}

// Attr gives a field's value, None when it is not set.
func (v *Instance) Attr(name string) (starlark.Value, error) {
	i := v.X.Struct.Index(name)
	if i < 0 {
		return nil, nil // the interpreter says it, with the nearest name
	}
	switch x := v.X.Fields[i].(type) {
	case []idl.Value, idl.Entries, *idl.Instance:
		return v.fields()[i], nil
	default:
		return FromValue(x), nil
	}
}

// AttrNames are the fields' names.
func (v *Instance) AttrNames() []string {
	names := make([]string, len(v.X.Struct.Fields))
	for i, f := range v.X.Struct.Fields {
		names[i] = f.Name
	}
	return names
}

// Member is an enum's value in Starlark.
type Member struct{ M *idl.Member }

var (
	_ starlark.HasAttrs   = Member{}
	_ starlark.Comparable = Member{}
)

// String gives Enum.NAME.
func (m Member) String() string { return m.M.Enum.Name + "." + m.M.Name }

// Type is the enum's name.
func (m Member) Type() string { return m.M.Enum.Name }

// Freeze does nothing.
func (m Member) Freeze() {}

// Truth is always true.
func (m Member) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (m Member) Hash() (uint32, error) { return uint32(m.M.Number), nil }

// Attr knows name and number.
func (m Member) Attr(name string) (starlark.Value, error) {
	switch name {
	case "name":
		return starlark.String(m.M.Name), nil
	case "number":
		return starlark.MakeInt(int(m.M.Number)), nil
	}
	return nil, nil
}

// AttrNames are name and number.
func (m Member) AttrNames() []string { return []string{"name", "number"} }

// CompareSameType orders values of one enum by number.
func (m Member) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	n := y.(Member)
	same := m.M.Enum == n.M.Enum && m.M.Number == n.M.Number
	switch {
	case op == syntax.EQL:
		return same, nil
	case op == syntax.NEQ:
		return !same, nil
	case m.M.Enum != n.M.Enum:
		return false, fmt.Errorf("%s and %s are values of different enums", m, n)
	}
	a, b := m.M.Number, n.M.Number
	switch op {
	case syntax.LT:
		return a < b, nil
	case syntax.LE:
		return a <= b, nil
	case syntax.GT:
		return a > b, nil
	default:
		return a >= b, nil
	}
}

// Enum is an enum in Starlark: its values are attributes, and it can be iterated.
type Enum struct{ E *idl.Enum }

var (
	_ starlark.HasAttrs = Enum{}
	_ starlark.Sequence = Enum{}
)

// String gives the enum's name.
func (e Enum) String() string { return "enum " + e.E.Name }

// Type is "enum".
func (e Enum) Type() string { return "enum" }

// Freeze does nothing.
func (e Enum) Freeze() {}

// Truth is always true.
func (e Enum) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (e Enum) Hash() (uint32, error) { return 0, fmt.Errorf("enum %s cannot be a key", e.E.Name) }

// Attr gives a value of the enum.
func (e Enum) Attr(name string) (starlark.Value, error) {
	if m := e.E.Member(name); m != nil {
		return Member{m}, nil
	}
	return nil, starlark.NoSuchAttrError(fmt.Sprintf("enum %s has no %s", e.E.Name, name))
}

// AttrNames are the values' names.
func (e Enum) AttrNames() []string { return e.E.Names() }

// Len counts the values.
func (e Enum) Len() int { return len(e.E.Members) }

// Iterate gives the values in the order in which they are written.
func (e Enum) Iterate() starlark.Iterator {
	all := make(starlark.Tuple, len(e.E.Members))
	for i, m := range e.E.Members {
		all[i] = Member{m}
	}
	return all.Iterate()
}
