package compile

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
)

// TestResult is one function test_… of a *_test.star.
type TestResult struct {
	Pos
	Name    string
	Err     *Error // nil: it passed
	Printed []Printed
}

// test runs the tests of a tree in the order of their files and names. A file that
// cannot be run is one result without a name.
func (e *engine) test(t *tree) []TestResult {
	var files []string
	for file, u := range t.units {
		if u.kind == test {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	g := grapher{e: e, units: t.units, before: t.modules, modules: maps.Clone(t.modules), on: map[string]int{}}
	results := make([][]TestResult, len(files))
	modules := make([]*module, len(files))
	for i, file := range files {
		g.errs = nil
		modules[i] = g.module(file)
		for _, err := range g.errs {
			results[i] = append(results[i], TestResult{Pos: err.Pos, Err: err})
		}
	}
	e.parallel(len(files), func(worker, i int) {
		if !modules[i].failed {
			results[i] = e.testFile(worker, t, modules[i])
		}
	})
	return slices.Concat(results...)
}

func (e *engine) testFile(worker int, t *tree, m *module) []TestResult {
	e.busy(worker, m.unit.file, "running it")
	lookup := func(path string) (*idl.Instance, error) {
		i, ok := slices.BinarySearchFunc(t.exports, path, func(x *export, path string) int { return strings.Compare(x.path, path) })
		if !ok {
			return nil, fmt.Errorf("exported: there is no configuration %q", clip(path, 200))
		}
		return t.exports[i].value, nil
	}
	r := &running{m: m, kind: test, lookup: lookup}
	globals, err := m.unit.prog.Init(e.thread(m.unit.file, r), e.predeclared(test))
	if err != nil {
		var all []TestResult
		for _, x := range explain(m.unit.file, err, e.steps) {
			all = append(all, TestResult{Pos: x.Pos, Err: x, Printed: r.printed})
		}
		return all
	}
	globals.Freeze()
	var tests []*starlark.Function
	for name, v := range globals {
		if f, ok := v.(*starlark.Function); ok && strings.HasPrefix(name, "test_") && f.NumParams() == 0 {
			tests = append(tests, f)
		}
	}
	slices.SortFunc(tests, func(a, b *starlark.Function) int {
		return posOf(a.Position()).compare(posOf(b.Position()))
	})
	if len(tests) == 0 {
		x := &Error{Pos: Pos{File: m.unit.file}, Msg: "there is no function test_… without arguments"}
		return []TestResult{{Pos: x.Pos, Err: x}}
	}
	var all []TestResult
	for _, f := range tests {
		e.busy(worker, m.unit.file, "running "+f.Name())
		r := &running{m: m, kind: test, lookup: lookup}
		result := TestResult{Pos: posOf(f.Position()), Name: f.Name()}
		if _, err := starlark.Call(e.thread(f.Name(), r), f, nil, nil); err != nil {
			result.Err = explain(m.unit.file, err, e.steps)[0]
		}
		result.Printed = r.printed
		all = append(all, result)
	}
	return all
}

// exported is exported(path) of tests: the value of a configuration.
func exported(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var path string
	if err := starlark.UnpackArgs("exported", args, kwargs, "path", &path); err != nil {
		return nil, err
	}
	x, err := runningOf(thread).lookup(path)
	if err != nil {
		return nil, err
	}
	return &star.Instance{X: x}, nil
}

// assertions are assert.… of tests.
var assertions = &starlarkstruct.Module{Name: "assert", Members: starlark.StringDict{
	"eq":       compare("eq", syntax.EQL, "equal to"),
	"ne":       compare("ne", syntax.NEQ, "other than"),
	"lt":       compare("lt", syntax.LT, "less than"),
	"true":     starlark.NewBuiltin("true", assertTrue),
	"contains": starlark.NewBuiltin("contains", assertContains),
	"fails":    starlark.NewBuiltin("fails", assertFails),
}}

func compare(name string, op syntax.Token, words string) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		var got, want starlark.Value
		if err := starlark.UnpackArgs("assert."+name, args, kwargs, "got", &got, "want", &want); err != nil {
			return nil, err
		}
		ok, err := starlark.Compare(op, got, want)
		if err == nil && !ok {
			err = fmt.Errorf("assert.%s: got %s, want one %s %s", name, clip(got.String(), 500), words, clip(want.String(), 500))
		}
		return starlark.None, err
	})
}

func assertTrue(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	msg := "it is not true"
	if err := starlark.UnpackArgs("assert.true", args, kwargs, "value", &v, "message?", &msg); err != nil {
		return nil, err
	}
	if !v.Truth() {
		return nil, fmt.Errorf("assert.true: %s (%s)", msg, clip(v.String(), 500))
	}
	return starlark.None, nil
}

func assertContains(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var all, v starlark.Value
	if err := starlark.UnpackArgs("assert.contains", args, kwargs, "all", &all, "value", &v); err != nil {
		return nil, err
	}
	in, err := starlark.Binary(syntax.IN, v, all)
	if err == nil && !in.Truth() {
		err = fmt.Errorf("assert.contains: %s is not in %s", clip(v.String(), 500), clip(all.String(), 500))
	}
	return starlark.None, err
}

func assertFails(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var f starlark.Callable
	var pattern string
	if err := starlark.UnpackArgs("assert.fails", args, kwargs, "function", &f, "pattern", &pattern); err != nil {
		return nil, err
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("assert.fails: pattern: %w", err)
	}
	r := runningOf(thread)
	_, err = starlark.Call(thread, f, nil, nil)
	said := ""
	if err != nil {
		said = err.Error()
	}
	for _, p := range r.problems {
		said += "\n" + p.Msg
	}
	failed := err != nil || len(r.problems) > 0
	r.problems = nil
	switch {
	case !failed:
		return nil, errors.New("assert.fails: the function did not fail")
	case !re.MatchString(said):
		return nil, fmt.Errorf("assert.fails: it failed with %q, which does not match %q", clip(said, 500), pattern)
	}
	return starlark.String(said), nil
}
