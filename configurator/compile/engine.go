package compile

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/builtin"
	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
	"github.com/zonecast/zonecast/record"
)

// engine compiles trees in this process.
type engine struct {
	steps   uint64
	workers int
	// busy is told what a worker, counted from 0, is about to do with a file. It may be
	// called concurrently.
	busy func(worker int, file, doing string)

	lib      *builtin.Library
	checks   map[*idl.Struct]star.Check
	globals  map[kind]starlark.StringDict
	builtins map[string]*builtinModule
}

func newEngine(steps uint64, workers int, busy func(int, string, string)) (*engine, error) {
	lib, err := builtin.New()
	if err != nil {
		return nil, err
	}
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	e := &engine{steps: steps, workers: workers, busy: busy, lib: lib, checks: lib.Checks()}
	e.makeGlobals()
	e.builtins = map[string]*builtinModule{
		builtin.TypesFile:     {globals: lib.Types(), file: lib.File},
		builtin.FunctionsFile: {globals: lib.Functions()},
	}
	return e, nil
}

// tree is a tree compiled without errors. It is not changed.
type tree struct {
	units   map[string]*unit
	modules map[string]*module // of every unit but tests
	files   []string           // of modules, sorted
	exports []*export          // by path
}

// change is what becomes of a file; gone: nothing.
type change struct {
	text string
	gone bool
}

// compile compiles the tree that differs from base, which may be nil, in changes.
func (e *engine) compile(base *tree, changes map[string]change) (*tree, Errors) {
	if base == nil {
		base = &tree{}
	}
	t := &tree{units: maps.Clone(base.units)}
	if t.units == nil {
		t.units = map[string]*unit{}
	}
	e.parseAll(t.units, changes)

	g := grapher{e: e, units: t.units, before: base.modules, modules: make(map[string]*module, len(t.units)), on: map[string]int{}}
	for _, file := range slices.Sorted(maps.Keys(t.units)) {
		if t.units[file].kind != test {
			t.files = append(t.files, file)
		}
	}
	for _, file := range t.files {
		g.module(file)
	}
	t.modules = g.modules
	for _, m := range g.fresh {
		m.reaches() // before several workers ask
	}
	errs := append(g.errs, e.evaluateAll(g.fresh)...)
	errs = append(errs, t.gather()...)
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	if errs := e.validateTree(t); len(errs) > 0 {
		return nil, errs.sorted()
	}
	return t, nil
}

// parseAll parses what changed.
func (e *engine) parseAll(units map[string]*unit, changes map[string]change) {
	var files []string
	for _, file := range slices.Sorted(maps.Keys(changes)) {
		c := changes[file]
		_, ok := kindOf(file)
		switch old := units[file]; {
		case !ok:
		case c.gone:
			delete(units, file)
		case old == nil || old.sum != sha256.Sum256([]byte(c.text)):
			files = append(files, file)
		}
	}
	parsed := make([]*unit, len(files))
	e.parallel(len(files), func(worker, i int) {
		e.busy(worker, files[i], "reading it")
		parsed[i] = e.parse(files[i], changes[files[i]].text)
	})
	for i, file := range files {
		units[file] = parsed[i]
	}
}

// parallel calls do for 0 … n-1.
func (e *engine) parallel(n int, do func(worker, i int)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := 0
	for w := range min(e.workers, n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				do(w, i)
			}
		})
	}
	wg.Wait()
}

// evaluateAll runs fresh modules, each after those that it loads. What loads a module
// that failed is not run: one mistake is told once.
func (e *engine) evaluateAll(fresh []*module) Errors {
	var mu sync.Mutex // guards below, and waits and failed of modules
	var errs Errors
	ready := make(chan *module, len(fresh)) // each is sent once, when it waits for nothing
	left := len(fresh)
	if left == 0 {
		return nil
	}
	for _, m := range fresh {
		if m.waits == 0 {
			ready <- m
		}
	}
	var wg sync.WaitGroup
	for w := range min(e.workers, len(fresh)) {
		wg.Go(func() {
			for m := range ready {
				var found Errors
				if !m.failed {
					e.busy(w, m.unit.file, "running it")
					found = e.evaluate(m)
				}
				mu.Lock()
				errs = append(errs, found...)
				m.failed = m.failed || len(found) > 0
				for _, u := range m.usedBy {
					u.failed = u.failed || m.failed
					if u.waits--; u.waits == 0 {
						ready <- u
					}
				}
				m.usedBy, m.fresh = nil, false
				if left--; left == 0 {
					close(ready)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errs
}

// gather sorts the exports of all modules; two of one path, and two zones of one name,
// are errors.
func (t *tree) gather() (errs Errors) {
	zones := map[record.Name]*export{}
	for _, file := range t.files {
		t.exports = append(t.exports, t.modules[file].exports...)
	}
	slices.SortFunc(t.exports, func(a, b *export) int {
		return cmp.Or(cmp.Compare(a.path, b.path), a.pos.compare(b.pos))
	})
	for i, x := range t.exports {
		if i > 0 && t.exports[i-1].path == x.path {
			errs = append(errs, &Error{Pos: x.pos, Msg: fmt.Sprintf("configuration %s is exported at %s, too", x.path, t.exports[i-1].pos)})
			continue
		}
		if x.zone == "" {
			continue
		}
		if old := zones[x.zone]; old != nil {
			errs = append(errs, &Error{Pos: x.place(x.value), Msg: fmt.Sprintf("zone %s is made by %s, too (%s)", x.zone, old.path, old.place(old.value))})
			continue
		}
		zones[x.zone] = x
	}
	return errs
}

// validateTree runs all validators.
func (e *engine) validateTree(t *tree) Errors {
	byType, all, errs := t.rules(e.lib)
	if len(errs) > 0 || len(all) == 0 {
		return errs
	}
	c := reach{byType: byType, known: map[*idl.Struct][]*rule{}}
	rules := make([][]*rule, len(t.exports))
	for i, x := range t.exports {
		rules[i] = c.rules(x.value.Struct)
	}
	found := make([]Errors, len(t.exports))
	e.parallel(len(t.exports), func(worker, i int) {
		if len(rules[i]) > 0 {
			e.busy(worker, t.exports[i].from.unit.file, "running the validators of "+t.exports[i].path)
			found[i] = e.validate(t.exports[i], rules[i], byType)
		}
	})
	for _, f := range found {
		errs = append(errs, f...)
	}
	if len(errs) == 0 {
		errs = e.validateAll(all, t.exports)
	}
	return errs
}

// printed gives what programs printed, in the order of the files.
func (t *tree) printed() []Printed {
	var all []Printed
	for _, file := range t.files {
		all = append(all, t.modules[file].printed...)
	}
	return all
}
