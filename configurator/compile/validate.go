package compile

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/builtin"
	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
)

// Functions of a validator.
const (
	validateName    = "validate"     // of one value of the type
	validateAllName = "validate_all" // of all configurations
)

// rule is a validator with the type that it is for.
type rule struct {
	m   *module
	one *starlark.Function // validate; may be nil
	all *starlark.Function // validate_all; may be nil
}

// typeKey identifies a struct in a tree.
type typeKey struct{ file, name string }

func keyOf(s *idl.Struct) typeKey { return typeKey{s.File.Path, s.Name} }

// rules gives the validators of a tree, by type and in the order of their files.
func (t *tree) rules(lib *builtin.Library) (byType map[typeKey][]*rule, all []*rule, errs Errors) {
	byType = map[typeKey][]*rule{}
	for _, file := range t.files {
		m := t.modules[file]
		if m.unit.kind != validator || m.failed {
			continue
		}
		k, err := t.validated(lib, file)
		if err != nil {
			errs = append(errs, &Error{Pos: Pos{File: file}, Msg: err.Error()})
			continue
		}
		r := &rule{m: m}
		r.one, _ = m.globals[validateName].(*starlark.Function)
		r.all, _ = m.globals[validateAllName].(*starlark.Function)
		if r.one == nil && r.all == nil {
			errs = append(errs, &Error{Pos: Pos{File: file}, Msg: "validator has neither a function validate(value) nor validate_all(configs)"})
			continue
		}
		byType[k] = append(byType[k], r)
		all = append(all, r)
	}
	return byType, all, errs
}

// validated is the type that the validator `file` is for: a struct of that name in a
// types file of the same folder. <file>.<Type>.validate.star says which file.
func (t *tree) validated(lib *builtin.Library, file string) (typeKey, error) {
	dir, base := path.Split(file)
	name := strings.TrimSuffix(base, validatorSuffix)
	only := ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		only, name = name[:i], name[i+1:]
	}
	var found []typeKey
	look := func(f *idl.File) {
		if s, ok := f.Lookup(name).(*idl.Struct); ok && (only == "" || only == f.Name()) {
			found = append(found, keyOf(s))
		}
	}
	for _, f := range t.files {
		if m := t.modules[f]; m.unit.kind == types && m.file != nil && path.Dir(f) == path.Clean(dir) {
			look(m.file)
		}
	}
	if dir == "" {
		look(lib.File)
	}
	switch len(found) {
	case 0:
		return typeKey{}, fmt.Errorf("validator is for %s, and no .thrift file in its folder has a struct of that name", name)
	case 1:
		return found[0], nil
	}
	return typeKey{}, fmt.Errorf("validator is for %s, and both %s and %s have a struct of that name: call it <file>.%s%s", name, found[0].file, found[1].file, name, validatorSuffix)
}

// reach gives the rules for values of s and of whatever may be in them, each once.
type reach struct {
	byType map[typeKey][]*rule
	known  map[*idl.Struct][]*rule
}

func (c *reach) rules(s *idl.Struct) []*rule {
	if r, ok := c.known[s]; ok {
		return r
	}
	var all []*rule
	seen := map[*idl.Struct]bool{}
	var walk func(*idl.Type)
	var inside func(*idl.Struct)
	walk = func(t *idl.Type) {
		switch t = t.True(); t.Kind {
		case idl.Map:
			walk(t.Key)
			walk(t.Elem)
		case idl.List, idl.Set:
			walk(t.Elem)
		case idl.StructKindOf:
			inside(t.Struct)
		}
	}
	inside = func(s *idl.Struct) {
		if seen[s] {
			return
		}
		seen[s] = true
		all = append(all, c.byType[keyOf(s)]...)
		for _, f := range s.Fields {
			walk(f.Type)
		}
	}
	inside(s)
	slices.SortFunc(all, func(a, b *rule) int { return strings.Compare(a.m.unit.file, b.m.unit.file) })
	c.known[s] = all
	return all
}

// validate asks the rules about an export. They are those of reach for its type.
func (e *engine) validate(x *export, rules []*rule, byType map[typeKey][]*rule) (errs Errors) {
	modules := make([]*module, len(rules))
	for i, r := range rules {
		modules[i] = r.m
	}
	if slices.Equal(modules, x.accepted) {
		return nil
	}
	threads := map[*rule]*starlark.Thread{}
	var walk func(v idl.Value)
	walk = func(v idl.Value) {
		switch v := v.(type) {
		case []idl.Value:
			for _, e := range v {
				walk(e)
			}
		case idl.Entries:
			for _, e := range v {
				walk(e.Key)
				walk(e.Value)
			}
		case *idl.Instance:
			for _, r := range byType[keyOf(v.Struct)] {
				if r.one == nil || len(errs) >= maxErrors {
					continue
				}
				t := threads[r]
				if t == nil {
					t = e.thread("validate "+x.path, &running{m: r.m, kind: validator})
					threads[r] = t
				}
				errs = append(errs, e.ask(t, r.one, &star.Instance{X: v}, x.place(v))...)
			}
			for _, f := range v.Fields {
				walk(f)
			}
		}
	}
	walk(x.value)
	if len(errs) == 0 {
		x.accepted = modules
	}
	return errs
}

// place is where a value inside the export was made.
func (x *export) place(v *idl.Instance) Pos {
	if pos, ok := star.OriginOf(v); ok && pos.Line > 0 {
		return posOf(pos)
	}
	return x.pos
}

// explain gives an error of what the export means, at the record that it is about.
func (x *export) explain(err error) *Error {
	var p *builtin.PlaceError
	if errors.As(err, &p) && p.Pos.Line > 0 {
		return &Error{Pos: posOf(p.Pos), Msg: p.Err.Error()}
	}
	return &Error{Pos: x.pos, Msg: err.Error()}
}

// ask calls a validator's function; what it refuses is told at the value's place.
func (e *engine) ask(t *starlark.Thread, f *starlark.Function, arg starlark.Value, at Pos) Errors {
	r := runningOf(t)
	r.problems = nil
	result, err := starlark.Call(t, f, starlark.Tuple{arg}, nil)
	file := f.Position().Filename()
	errs := r.problems
	for _, p := range errs {
		if p.File == "" {
			p.Pos = at
		}
	}
	if err == nil {
		if result != starlark.None {
			errs = append(errs, &Error{Pos: posOf(f.Position()), Msg: fmt.Sprintf("%s returned a %s, expected nothing: call fail(…) or problem(…)", f.Name(), result.Type())})
		}
		return errs
	}
	for _, x := range explain(file, err, e.steps) {
		if msg, ok := strings.CutPrefix(x.Msg, "fail: "); ok {
			x.Trace = append([]Frame{{x.Pos, f.Name()}}, x.Trace...)
			x.Pos, x.Msg = at, fmt.Sprintf("%s (refused by %s)", msg, x.Trace[0].Pos)
			x.Trace = nil
		} else {
			x.Msg = fmt.Sprintf("%s (while validating the value made at %s)", x.Msg, at)
		}
		errs = append(errs, x)
	}
	return errs
}

// validateAll asks the rules about all configurations together.
func (e *engine) validateAll(rules []*rule, exports []*export) (errs Errors) {
	var dict *starlark.Dict
	for _, r := range rules {
		if r.all == nil {
			continue
		}
		if dict == nil {
			dict = starlark.NewDict(len(exports))
			for _, x := range exports {
				_ = dict.SetKey(starlark.String(x.path), x.shown) // strings are hashable
			}
			dict.Freeze()
		}
		e.busy(0, r.m.unit.file, "running validate_all")
		t := e.thread("validate_all", &running{m: r.m, kind: validator})
		errs = append(errs, e.ask(t, r.all, dict, posOf(r.all.Position()))...)
	}
	return errs
}

// problem is problem(message, at = None) of validators: one of several errors, told at
// the place where the value `at` was made.
func problem(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var msg string
	var at starlark.Value = starlark.None
	if err := starlark.UnpackArgs("problem", args, kwargs, "message", &msg, "at?", &at); err != nil {
		return nil, err
	}
	r := runningOf(thread)
	if len(r.problems) >= maxErrors {
		return starlark.None, nil
	}
	p := &Error{Msg: fmt.Sprintf("%s (refused by %s)", clip(msg, 2000), star.CallPosition(thread))}
	switch v := at.(type) {
	case starlark.NoneType:
	case *star.Instance:
		if pos, ok := star.OriginOf(v.X); ok && pos.Line > 0 {
			p.Pos = posOf(pos)
		}
	default:
		return nil, fmt.Errorf("problem: at is a %s, expected a value of a struct", at.Type())
	}
	r.problems = append(r.problems, p)
	return starlark.None, nil
}
