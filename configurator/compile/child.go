package compile

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"

	"github.com/zonecast/zonecast/internal/sandbox"
)

// SandboxName is the name of the compiler's handler.
const SandboxName = "compile"

// maxTrees is how many trees a child keeps: what is landed, and proposals that are
// looked at again.
const maxTrees = 6

// kept is a tree that the child has.
type kept struct {
	id   uint64
	tree *tree
}

// child is the compiler's child process.
type child struct {
	engine *engine
	trees  []kept // the one used last at the end
	note   func([]byte)
}

// SandboxHandler makes the handler that runs in the child; programs that compile give
// it to sandbox.Main under SandboxName.
func SandboxHandler() (sandbox.Handler, error) {
	c := &child{}
	var err error
	c.engine, err = newEngine(0, 1, func(worker int, file, doing string) {
		w := encoder{}
		w.number(worker)
		w.text(file)
		w.text(doing)
		c.note(w.b)
	})
	if err != nil {
		return nil, err
	}
	return func(b []byte, note func([]byte)) []byte {
		c.note = note
		r, err := decodeRequest(b)
		if err != nil {
			fmt.Fprintln(os.Stderr, err) // the parent's mistake
			os.Exit(1)
		}
		return encodeAnswer(c.answer(r))
	}, nil
}

func (c *child) answer(r request) answer {
	var base *tree
	for i, k := range c.trees {
		if k.id == r.base {
			base = k.tree
			c.trees = append(append(c.trees[:i:i], c.trees[i+1:]...), k)
			break
		}
	}
	if base == nil && r.base != 0 {
		return answer{status: statusUnknownBase}
	}
	c.spare(base)
	c.engine.steps, c.engine.workers = r.steps, max(r.workers, 1)
	t, errs := c.engine.compile(base, r.changes)
	if len(errs) > 0 {
		return answer{status: statusErrors, errs: errs}
	}
	c.trees = append(c.trees, kept{r.id, t})
	if over := len(c.trees) - maxTrees; over > 0 {
		c.trees = append([]kept(nil), c.trees[over:]...)
	}
	a := answer{status: statusDone, printed: t.printed()}
	a.changed, a.removed = t.since(base)
	if r.op == opTest {
		a.tests = c.engine.test(t)
	}
	return a
}

// spare forgets all trees but base when what is in use is more than half of what this
// process may have: a change that reaches everything makes everything once more.
func (c *child) spare(base *tree) {
	use := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(use)
	if int64(use[0].Value.Uint64()) < debug.SetMemoryLimit(-1)/2 {
		return
	}
	c.trees = slices.DeleteFunc(c.trees, func(k kept) bool { return k.tree != base })
}

// since gives what is other than in base, which may be nil: configurations that are new
// or were made anew, and the paths of those that are gone.
func (t *tree) since(base *tree) (changed []Config, removed []string) {
	var old []*export
	if base != nil {
		old = base.exports
	}
	now := t.exports
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) == 0 || len(now) > 0 && now[0].path < old[0].path:
			changed = append(changed, now[0].config)
			now = now[1:]
		case len(now) == 0 || old[0].path < now[0].path:
			removed = append(removed, old[0].path)
			old = old[1:]
		default:
			if now[0] != old[0] {
				changed = append(changed, now[0].config)
			}
			now, old = now[1:], old[1:]
		}
	}
	return changed, removed
}
