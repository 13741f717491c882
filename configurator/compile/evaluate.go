package compile

import (
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
	"github.com/zonecast/zonecast/record"
)

// export is one value that a program exports.
type export struct {
	from  *module
	path  string // of the configuration
	pos   Pos    // of the call of export
	value *idl.Instance
	shown *star.Instance // value, as programs see it

	config Config
	zone   record.Name // apex when it is a zone

	// accepted has the validators that have accepted the value.
	accepted []*module
}

// Printed is what a program printed.
type Printed struct {
	Pos
	Text string
}

// Bounds of what a program prints; more is left out.
const (
	maxPrinted     = 100
	maxPrintedText = 1000
)

// maxPath is how many octets the path of a configuration may have: it is part of paths
// in the store.
const maxPath = 512

// running is what the functions that a program calls know about it.
type running struct {
	m        *module
	kind     kind
	problems Errors // of a validator
	exports  []*export
	named    map[string]*export
	lookup   func(path string) (*idl.Instance, error) // of tests
	printed  []Printed
}

const runningKey = "running"

func runningOf(thread *starlark.Thread) *running { return thread.Local(runningKey).(*running) }

// thread makes a thread for programs; its name is what they do.
func (e *engine) thread(name string, r *running) *starlark.Thread {
	t := &starlark.Thread{
		Name: name,
		Print: func(t *starlark.Thread, msg string) {
			if len(r.printed) < maxPrinted {
				r.printed = append(r.printed, Printed{posOf(star.CallPosition(t)), clip(strings.ToValidUTF8(msg, "\ufffd"), maxPrintedText)})
			}
		},
		Load: func(_ *starlark.Thread, text string) (starlark.StringDict, error) {
			for i, l := range r.m.unit.loads {
				if l.text == text {
					if b := r.m.builtin[i]; b != nil {
						return b.globals, nil
					}
					return r.m.deps[i].globals, nil
				}
			}
			return nil, fmt.Errorf("load of %s, which is not in the program", text)
		},
	}
	t.SetLocal(runningKey, r)
	t.SetMaxExecutionSteps(e.steps)
	return t
}

// evaluate runs a module, whose deps have run.
func (e *engine) evaluate(m *module) (errs Errors) {
	if m.unit.kind == types {
		return e.resolve(m)
	}
	r := &running{m: m, kind: m.unit.kind, named: map[string]*export{}}
	globals, err := m.unit.prog.Init(e.thread(m.unit.file, r), e.predeclared(m.unit.kind))
	m.printed = r.printed
	if err != nil {
		return explain(m.unit.file, err, e.steps)
	}
	globals.Freeze()
	m.globals, m.exports = globals, r.exports
	for _, x := range m.exports {
		errs = append(errs, e.finish(x)...)
	}
	return errs
}

// resolve makes the constructors of a types file.
func (e *engine) resolve(m *module) Errors {
	f, err := idl.Parse(m.unit.file, m.unit.text)
	if err == nil {
		included := make([]*idl.File, len(m.deps))
		for i, d := range m.deps {
			if d == nil {
				included[i] = m.builtin[i].file
			} else {
				included[i] = d.file
			}
		}
		err = f.Resolve(included)
	}
	if err != nil {
		return explain(m.unit.file, err, 0)
	}
	m.file = f
	m.globals = star.Module(f, e.checks)
	m.globals.Freeze()
	return nil
}

// finish makes the configuration of an export.
func (e *engine) finish(x *export) Errors {
	x.config = Config{Path: x.path, Type: x.value.Struct.String(), JSON: idl.AppendJSON(nil, x.value), Sources: x.from.reaches()}
	switch s := x.value.Struct; {
	case s == e.lib.RecordSet || s == e.lib.SOA:
		return Errors{{Pos: x.pos, Msg: fmt.Sprintf("a %s alone is in no zone: export a zone(…) or records(…) with it", s.Name)}}
	case !e.lib.HasClaims(s):
		return nil
	}
	claims, zone, errs := e.lib.Claims(x.value, SourceOf(x.path))
	x.config.Claims, x.zone = claims, zone
	var all Errors
	for _, err := range errs {
		all = append(all, x.explain(err))
	}
	return all
}

// SourceOf is the source of the claims of a configuration.
func SourceOf(path string) record.Source { return record.Source(record.KindConfig + "/" + path) }

func (e *engine) predeclared(k kind) starlark.StringDict { return e.globals[k] }

// makeGlobals gives what programs of each kind have without loading it.
func (e *engine) makeGlobals() {
	common := func(more starlark.StringDict) starlark.StringDict {
		all := starlark.StringDict{
			"struct":  starlark.NewBuiltin("struct", starlarkstruct.Make),
			"replace": star.Replace(e.checks),
			"export":  starlark.NewBuiltin("export", exportValue),
		}
		for k, v := range more {
			all[k] = v
		}
		all.Freeze()
		return all
	}
	e.globals = map[kind]starlark.StringDict{
		program:   common(nil),
		validator: common(starlark.StringDict{"problem": starlark.NewBuiltin("problem", problem)}),
		test:      common(starlark.StringDict{"assert": assertions, "exported": starlark.NewBuiltin("exported", exported)}),
	}
}

// exportValue is export(value, name = None).
func exportValue(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var value starlark.Value
	var name starlark.Value = starlark.None
	if err := starlark.UnpackArgs("export", args, kwargs, "value", &value, "name?", &name); err != nil {
		return nil, err
	}
	r := runningOf(thread)
	if r.kind != program {
		return nil, fmt.Errorf("export: only programs export, no validators and tests")
	}
	v, ok := value.(*star.Instance)
	if !ok {
		return nil, fmt.Errorf("export: expected a value of a struct of a .thrift file, found %s", value.Type())
	}
	path := strings.TrimSuffix(r.m.unit.file, ".star")
	switch n := name.(type) {
	case starlark.NoneType:
	case starlark.String:
		path += "/" + string(n)
	default:
		return nil, fmt.Errorf("export: name is a %s, expected a string", name.Type())
	}
	if err := SourceOf(path).Check(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("export: path %s has %d octets, at most %d", clip(path, 100), len(path), maxPath)
	}
	x := &export{from: r.m, path: path, pos: posOf(star.CallPosition(thread)), value: v.X, shown: v}
	if old := r.named[path]; old != nil {
		return nil, fmt.Errorf("export: %s was exported at %s already; export(value, name = …) gives several", path, old.pos)
	}
	r.named[path] = x
	r.exports = append(r.exports, x)
	return starlark.None, nil
}
