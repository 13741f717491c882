package compile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/configurator/idl"
)

// Pos is a place in a file of the tree.
type Pos struct {
	File      string
	Line, Col int // from 1; zero: the whole file
}

// String gives file:line:column.
func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, max(p.Line, 1), max(p.Col, 1)) }

func (p Pos) compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Col, q.Col))
}

func posOf(p syntax.Position) Pos {
	return Pos{File: p.Filename(), Line: int(p.Line), Col: int(p.Col)}
}

// Frame is a call that was running.
type Frame struct {
	Pos
	Function string
}

// Error is one thing that is wrong with a tree.
type Error struct {
	Pos
	Msg string
	// Trace has the calls that led to Pos, the innermost first, without that at Pos
	// itself.
	Trace []Frame
}

// Error gives file:line:column and what is wrong, then a line for each call.
func (e *Error) Error() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s: %s", e.Pos, e.Msg)
	for _, f := range e.Trace {
		fmt.Fprintf(&sb, "\n  called at %s in %s", f.Pos, f.Function)
	}
	return sb.String()
}

// Errors are all that is wrong, in the order of their places.
type Errors []*Error

// maxErrors is how many are told; more do not help anybody.
const maxErrors = 100

// Error gives them one after the other.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, x := range e {
		texts[i] = x.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap implements errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, x := range e {
		all[i] = x
	}
	return all
}

// sorted gives the errors in order, each once, and not more than maxErrors.
func (e Errors) sorted() Errors {
	slices.SortFunc(e, func(a, b *Error) int {
		return cmp.Or(a.compare(b.Pos), cmp.Compare(a.Msg, b.Msg), slices.CompareFunc(a.Trace, b.Trace, func(x, y Frame) int { return x.compare(y.Pos) }))
	})
	e = slices.CompactFunc(e, func(a, b *Error) bool { return a.Pos == b.Pos && a.Msg == b.Msg && slices.Equal(a.Trace, b.Trace) })
	if more := len(e) - maxErrors; more > 0 {
		last := e[maxErrors-1]
		e = append(e[:maxErrors:maxErrors], &Error{Pos: last.Pos, Msg: fmt.Sprintf("and %d more errors behind this one", more)})
	}
	return e
}

// explain gives what an error of parsing or running file means to people. steps is the
// bound that was set.
func explain(file string, err error, steps uint64) Errors {
	var eval *starlark.EvalError
	var list resolve.ErrorList
	var syn syntax.Error
	var typ *idl.Error
	switch {
	case errors.As(err, &eval):
		return Errors{explainEval(file, eval, steps)}
	case errors.As(err, &list):
		var all Errors
		for _, x := range list {
			all = append(all, &Error{Pos: posOf(x.Pos), Msg: x.Msg})
		}
		return all
	case errors.As(err, &syn):
		return Errors{{Pos: posOf(syn.Pos), Msg: syn.Msg}}
	case errors.As(err, &typ):
		return Errors{{Pos: Pos{typ.File, typ.Line, typ.Col}, Msg: typ.Msg}}
	}
	return Errors{{Pos: Pos{File: file}, Msg: err.Error()}}
}

func explainEval(file string, eval *starlark.EvalError, steps uint64) *Error {
	e := &Error{Pos: Pos{File: file}, Msg: clip(eval.Msg, 2000)}
	if strings.Contains(eval.Msg, "too many steps") {
		e.Msg = fmt.Sprintf("more than %d steps: does it loop?", steps)
	}
	found := false
	for _, f := range slices.Backward(eval.CallStack) {
		if f.Pos.Line == 0 {
			continue // a built-in function
		}
		if !found {
			e.Pos, found = posOf(f.Pos), true
			continue
		}
		if len(e.Trace) == maxTrace {
			break
		}
		e.Trace = append(e.Trace, Frame{posOf(f.Pos), f.Name})
	}
	return e
}

// maxTrace is how many calls an error tells.
const maxTrace = 30

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
