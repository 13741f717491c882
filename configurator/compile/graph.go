package compile

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/builtin"
	"github.com/zonecast/zonecast/configurator/idl"
)

// module is a unit with what it loads. It is evaluated once and then not changed.
type module struct {
	unit *unit
	// deps has the module of each of unit.loads, nil for what comes with zonecast.
	deps []*module
	// builtin has, for a nil of deps, what is loaded.
	builtin []*builtinModule

	globals starlark.StringDict
	file    *idl.File // of types
	exports []*export
	printed []Printed
	failed  bool // it, or what it loads

	fresh   bool      // to be evaluated in this compilation
	waits   int       // fresh deps that are not evaluated yet
	usedBy  []*module // fresh ones
	sources []string  // the file and all it reaches; nil: not asked for yet
}

// builtinModule is zonecast.thrift or zonecast.star.
type builtinModule struct {
	globals starlark.StringDict
	file    *idl.File
}

// reaches gives the files of the tree that the module is made of, sorted.
func (m *module) reaches() []string {
	if m.sources == nil {
		set := map[string]bool{m.unit.file: true}
		for _, d := range m.deps {
			if d != nil {
				for _, f := range d.reaches() {
					set[f] = true
				}
			}
		}
		m.sources = slices.Sorted(maps.Keys(set))
	}
	return m.sources
}

// grapher makes the modules of a tree out of its units.
type grapher struct {
	e       *engine
	units   map[string]*unit
	before  map[string]*module // that may be used again
	modules map[string]*module
	path    []string // files being looked at, the outermost first
	on      map[string]int
	fresh   []*module // deps before those who load them
	errs    Errors
}

// module gives the module of a file of the tree. It is failed when it cannot be
// evaluated; the errors are noted.
func (g *grapher) module(file string) *module {
	if m := g.modules[file]; m != nil {
		return m
	}
	u := g.units[file]
	m := &module{unit: u, failed: len(u.errs) > 0}
	if m.failed {
		g.errs = append(g.errs, u.errs...)
	}
	g.on[file] = len(g.path)
	g.path = append(g.path, file)
	for _, l := range u.loads {
		target := l.file
		if u.kind == types {
			target = g.include(file, l.text)
		}
		if b := g.e.builtins[target]; b != nil {
			m.deps, m.builtin = append(m.deps, nil), append(m.builtin, b)
			continue
		}
		m.builtin = append(m.builtin, nil)
		m.deps = append(m.deps, nil)
		if at, ok := g.on[target]; ok {
			m.failed = true
			g.cycle(g.path[at:], l)
			continue
		}
		if g.units[target] == nil {
			m.failed = true
			g.errs = append(g.errs, &Error{Pos: l.pos, Msg: fmt.Sprintf("%s is not in the tree%s", clip(target, 200), g.near(target))})
			continue
		}
		d := g.module(target)
		m.deps[len(m.deps)-1] = d
		m.failed = m.failed || d.failed
	}
	g.path = g.path[:len(g.path)-1]
	delete(g.on, file)

	if old := g.before[file]; old != nil && !m.failed && old.unit == u && slices.Equal(old.deps, m.deps) && slices.Equal(old.builtin, m.builtin) {
		m = old
	} else if !m.failed {
		m.fresh = true
		g.fresh = append(g.fresh, m)
		for _, d := range m.deps {
			if d != nil && d.fresh {
				m.waits++
				d.usedBy = append(d.usedBy, m)
			}
		}
	}
	g.modules[file] = m
	return m
}

// include is the file that an include of a types file means: beside it, or below the
// root, or what comes with zonecast.
func (g *grapher) include(from, text string) string {
	all := idl.Candidates(from, strings.TrimPrefix(text, "//"))
	for _, c := range all {
		if g.units[c] != nil {
			return c
		}
	}
	if text == builtin.TypesFile {
		return text
	}
	return all[0]
}

// cycle notes that files load one another in a ring; the same ring is told once, from
// its first file on.
func (g *grapher) cycle(ring []string, l loadOf) {
	first := slices.Index(ring, slices.Min(ring))
	turned := append(slices.Clone(ring[first:]), ring[:first]...)
	turned = append(turned, turned[0])
	g.errs = append(g.errs, &Error{Pos: l.pos, Msg: "files load one another: " + strings.Join(turned, " → ")})
}

// near proposes a file of the tree for one that is not there.
func (g *grapher) near(file string) string {
	var best []string
	for f := range g.units {
		if path.Base(f) == path.Base(file) {
			best = append(best, f)
		}
	}
	if base := path.Base(file); base == builtin.TypesFile || base == builtin.FunctionsFile {
		best = []string{base}
	}
	if len(best) == 0 {
		return ""
	}
	return fmt.Sprintf(": is //%s meant?", slices.Min(best))
}
