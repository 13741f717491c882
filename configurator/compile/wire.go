package compile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zonecast/zonecast/record"
)

// Messages between the compiler and its child. Numbers are uvarints, texts have their
// length before them, lists their number of elements.
//
//	request   op u8, steps, workers, base, id, files: list of (path, gone u8, text)
//	note      worker, file, doing
//	answer    status u8, then
//	          errors   list of error
//	          done     changed: list of config, removed: list of path,
//	                   printed: list, tests: list of (place, name, failed u8, error, printed: list)
//	place     file, line, column
//	error     place, text, trace: list of (place, function)
//	printed   place, text
//	config    path, type, JSON, sources: list of path, claims: list of (place, RRset)
//
// An RRset is in the form of record.RRset.AppendBinary.

const (
	opCompile = 1
	opTest    = 2

	statusUnknownBase = 1 // the child has no such tree: send all of it
	statusErrors      = 2
	statusDone        = 3
)

// Bounds of what the child answers.
const (
	maxText       = 64 << 10  // octets of texts but JSON
	maxConfigJSON = 256 << 20 // octets
	maxAnswer     = 512 << 20 // octets
)

type request struct {
	op      byte
	steps   uint64
	workers int
	base    uint64 // 0: none
	id      uint64
	changes map[string]change
}

type answer struct {
	status  byte
	errs    Errors
	changed []Config
	removed []string
	printed []Printed
	tests   []TestResult
}

type encoder struct{ b []byte }

func (w *encoder) number(n int)      { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *encoder) unsigned(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *encoder) text(s string)     { w.number(len(s)); w.b = append(w.b, s...) }

// message is text that a program may have made: it can be anything.
func (w *encoder) message(s string) { w.text(clip(strings.ToValidUTF8(s, "\ufffd"), maxText/2)) }
func (w *encoder) octet(c byte)     { w.b = append(w.b, c) }

func (w *encoder) flag(f bool) {
	if f {
		w.octet(1)
	} else {
		w.octet(0)
	}
}

func (w *encoder) pos(p Pos) {
	w.text(p.File)
	w.number(p.Line)
	w.number(p.Col)
}

func encodeRequest(r request) []byte {
	w := encoder{}
	w.octet(r.op)
	w.unsigned(r.steps)
	w.number(r.workers)
	w.unsigned(r.base)
	w.unsigned(r.id)
	w.number(len(r.changes))
	for path, c := range r.changes {
		w.text(path)
		w.flag(c.gone)
		w.text(c.text)
	}
	return w.b
}

func (w *encoder) error(e *Error) {
	w.pos(e.Pos)
	w.message(e.Msg)
	w.number(len(e.Trace))
	for _, f := range e.Trace {
		w.pos(f.Pos)
		w.message(f.Function)
	}
}

func (w *encoder) printed(all []Printed) {
	w.number(len(all))
	for _, p := range all {
		w.pos(p.Pos)
		w.message(p.Text)
	}
}

func encodeAnswer(a answer) []byte {
	w := encoder{}
	w.octet(a.status)
	switch a.status {
	case statusErrors:
		w.number(len(a.errs))
		for _, e := range a.errs {
			w.error(e)
		}
	case statusDone:
		w.number(len(a.changed))
		for _, c := range a.changed {
			w.text(c.Path)
			w.text(c.Type)
			w.text(string(c.JSON))
			w.number(len(c.Sources))
			for _, s := range c.Sources {
				w.text(s)
			}
			w.number(len(c.Claims))
			for _, k := range c.Claims {
				w.text(k.Place)
				w.b = k.RRset.AppendBinary(w.b)
			}
		}
		w.number(len(a.removed))
		for _, p := range a.removed {
			w.text(p)
		}
		w.printed(a.printed)
		w.number(len(a.tests))
		for _, t := range a.tests {
			w.pos(t.Pos)
			w.message(t.Name)
			w.flag(t.Err != nil)
			if t.Err != nil {
				w.error(t.Err)
			}
			w.printed(t.Printed)
		}
	}
	return w.b
}

// decoder reads untrusted octets. After an error, which is the first, it gives zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

func (d *decoder) unsigned() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("number is cut off")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) number() int {
	v := d.unsigned()
	if v > 1<<31-1 {
		d.fail("number %d is too large", v)
		return 0
	}
	return int(v)
}

// count is the number of elements of a list; each takes at least one octet.
func (d *decoder) count() int {
	n := d.number()
	if n > len(d.b) {
		d.fail("list of %d elements in %d octets", n, len(d.b))
		return 0
	}
	return n
}

func (d *decoder) octets(most int) []byte {
	n := d.number()
	if n > most || n > len(d.b) {
		d.fail("text of %d octets, at most %d", n, min(most, len(d.b)))
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) text() string {
	s := string(d.octets(maxText))
	if !utf8.ValidString(s) {
		d.fail("text is not UTF-8")
	}
	return s
}

func (d *decoder) octet() byte {
	if len(d.b) == 0 {
		d.fail("message is cut off")
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) flag() bool {
	c := d.octet()
	if c > 1 {
		d.fail("flag is %d", c)
	}
	return c == 1
}

func (d *decoder) pos() Pos { return Pos{d.text(), d.number(), d.number()} }

// list calls one for each element of a list.
func (d *decoder) list(one func()) {
	for range d.count() {
		if d.err != nil {
			return
		}
		one()
	}
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d octets too many", len(d.b))
	}
	return d.err
}

func decodeRequest(b []byte) (request, error) {
	d := decoder{b: b}
	r := request{op: d.octet(), steps: d.unsigned(), workers: d.number(), base: d.unsigned(), id: d.unsigned(), changes: map[string]change{}}
	d.list(func() {
		path := d.text()
		gone := d.flag()
		r.changes[path] = change{gone: gone, text: string(d.octets(maxFile))}
	})
	return r, d.end()
}

func (d *decoder) error() *Error {
	e := &Error{Pos: d.pos(), Msg: d.text()}
	d.list(func() { e.Trace = append(e.Trace, Frame{d.pos(), d.text()}) })
	return e
}

func (d *decoder) printed() (all []Printed) {
	d.list(func() { all = append(all, Printed{d.pos(), d.text()}) })
	return all
}

func (d *decoder) config() Config {
	c := Config{Path: d.text(), Type: d.text(), JSON: d.octets(maxConfigJSON)}
	source := SourceOf(c.Path)
	if err := source.Check(); d.err == nil && err != nil {
		d.fail("%w", err)
	}
	if len(c.Path) > maxPath {
		d.fail("path of %d octets, at most %d", len(c.Path), maxPath)
	}
	if d.err == nil && !json.Valid(c.JSON) {
		d.fail("configuration %s is no JSON", c.Path)
	}
	d.list(func() { c.Sources = append(c.Sources, d.text()) })
	for i, s := range c.Sources {
		if _, ok := kindOf(s); !ok || !fs.ValidPath(s) || i > 0 && c.Sources[i-1] >= s {
			d.fail("configuration %s has sources %q", c.Path, c.Sources)
		}
	}
	d.list(func() {
		k := record.Claim{Source: source, Place: d.text()}
		if d.err != nil {
			return
		}
		var err error
		if k.RRset, d.b, err = record.DecodeRRset(d.b); err != nil {
			d.fail("claim of %s: %w", c.Path, err)
			return
		}
		if n := len(c.Claims); n > 0 && c.Claims[n-1].Key.Compare(k.Key) >= 0 {
			d.fail("claims of %s are not in order", c.Path)
		}
		if strings.ContainsFunc(k.Place, func(r rune) bool { return r < ' ' }) {
			d.fail("claim of %s has the place %q", c.Path, k.Place)
		}
		c.Claims = append(c.Claims, k)
	})
	return c
}

// decodeAnswer reads what the child answered.
func decodeAnswer(b []byte) (answer, error) {
	d := decoder{b: b}
	a := answer{status: d.octet()}
	switch a.status {
	case statusUnknownBase:
	case statusErrors:
		d.list(func() { a.errs = append(a.errs, d.error()) })
		if len(a.errs) == 0 {
			d.fail("errors are missing")
		}
	case statusDone:
		d.list(func() { a.changed = append(a.changed, d.config()) })
		d.list(func() { a.removed = append(a.removed, d.text()) })
		a.printed = d.printed()
		d.list(func() {
			t := TestResult{Pos: d.pos(), Name: d.text()}
			if d.flag() {
				t.Err = d.error()
			}
			t.Printed = d.printed()
			a.tests = append(a.tests, t)
		})
		sorted := func(i, j string) bool { return i < j }
		for i := 1; i < len(a.changed); i++ {
			if !sorted(a.changed[i-1].Path, a.changed[i].Path) {
				d.fail("configurations are not in order")
			}
		}
		if !slices.IsSorted(a.removed) {
			d.fail("removed configurations are not in order")
		}
	default:
		d.fail("status %d", a.status)
	}
	if err := d.end(); err != nil {
		return answer{}, errors.Join(errors.New("answer of the compiler's child"), err)
	}
	return a, nil
}
