package formats

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Bounds of gdnsd's files: our own choice.
const (
	maxVSCF     = 64 << 20 // octets of all files together
	maxVSCFNest = 32       // containers in containers, and files in files
	maxIncludes = 1000
)

// value is a value of vscf, gdnsd's syntax of configuration (gdnsd.config(5)).
type value struct {
	place string // file:line
	kind  valueKind
	text  string
	list  []*value
	pairs []pair
}

type valueKind uint8

const (
	textValue valueKind = iota
	listValue
	hashValue
)

func (k valueKind) String() string {
	return [...]string{"a text", "an array [ … ]", "a hash { … }"}[k]
}

type pair struct {
	key   string
	place string
	value *value
}

func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	for _, p := range v.pairs {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

// items are those of an array; anything else is an array of one.
func (v *value) items() []*value {
	if v.kind == listValue {
		return v.list
	}
	return []*value{v}
}

func (v *value) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", v.place, fmt.Errorf(format, args...))
}

// is tells that v has a kind, or what is wrong.
func (v *value) is(kind valueKind, what string) error {
	if v.kind != kind {
		return v.errorf("%s is %s, expected %s", what, v.kind, kind)
	}
	return nil
}

// vscf reads files.
type vscf struct {
	fsys     fs.FS
	left     int // octets
	includes int
}

// parseVSCF reads a file of fsys and those that it includes.
func parseVSCF(fsys fs.FS, file string) (*value, error) {
	p := vscf{fsys: fsys, left: maxVSCF}
	return p.file(file, 0)
}

func (p *vscf) file(file string, depth int) (*value, error) {
	f, err := p.fsys.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(p.left)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if p.left -= len(b); p.left < 0 {
		return nil, fmt.Errorf("%s and what it includes have more than %d octets", file, maxVSCF)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 { // as where a disk lost what was written
		return nil, fmt.Errorf("%s:%d: found an octet of zero, expected text", file, 1+bytes.Count(b[:i], []byte("\n")))
	}
	t := text{vscf: p, file: file, rest: b, line: 1, depth: depth}
	return t.top()
}

// text is what is left of a file.
type text struct {
	*vscf
	file  string
	rest  []byte
	line  int
	depth int // of includes and containers around
}

func (t *text) place() string { return fmt.Sprintf("%s:%d", t.file, t.line) }

func (t *text) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", t.place(), fmt.Errorf(format, args...))
}

// skip goes over white space and comments.
func (t *text) skip() {
	for len(t.rest) > 0 {
		switch t.rest[0] {
		case '\n':
			t.line++
			t.rest = t.rest[1:]
		case ' ', '\t', '\r':
			t.rest = t.rest[1:]
		case '#', ';':
			if i := bytes.IndexByte(t.rest, '\n'); i >= 0 {
				t.rest = t.rest[i:]
			} else {
				t.rest = nil
			}
		default:
			return
		}
	}
}

// next tells the octet that is next; 0: the file ends.
func (t *text) next() byte {
	t.skip()
	if len(t.rest) == 0 {
		return 0
	}
	return t.rest[0]
}

// found is what is next, for a message.
func (t *text) found() string {
	if t.next() == 0 {
		return "the end of the file"
	}
	line, _, _ := bytes.Cut(t.rest, []byte("\n"))
	return fmt.Sprintf("%q", clip(string(line)))
}

func (t *text) top() (*value, error) {
	v := &value{place: t.place(), kind: hashValue}
	if t.next() == '[' {
		v, err := t.value()
		if err == nil && t.next() != 0 {
			err = t.errorf("found %s, expected nothing behind the array", t.found())
		}
		return v, err
	}
	return v, t.hash(v, 0)
}

// hash reads pairs up to an octet, which is consumed; 0: the end of the file.
func (t *text) hash(v *value, end byte) error {
	seen := map[string]string{}
	add := func(q pair) error {
		if before, twice := seen[q.key]; twice {
			return fmt.Errorf("%s: key %q is there twice, before at %s", q.place, clip(q.key), before)
		}
		seen[q.key] = q.place
		v.pairs = append(v.pairs, q)
		return nil
	}
	for {
		switch t.next() {
		case end:
			if end != 0 {
				t.rest = t.rest[1:]
			}
			return nil
		case 0:
			return t.errorf("found the end of the file, expected %q for the hash of %s", end, v.place)
		}
		if t.included() {
			at := t.place()
			all, err := t.include(true)
			if err != nil {
				return err
			}
			for _, in := range all {
				if in.kind != hashValue {
					return fmt.Errorf("%s: %s is an array, expected key => value", at, in.place)
				}
				for _, q := range in.pairs {
					if err := add(q); err != nil {
						return err
					}
				}
			}
		} else {
			q := pair{place: t.place()}
			key, err := t.string()
			if err != nil {
				return err
			}
			q.key = key
			if t.next() != '=' {
				return t.errorf("found %s, expected => behind key %q", t.found(), clip(key))
			}
			t.rest = bytes.TrimPrefix(t.rest[1:], []byte(">"))
			if q.value, err = t.value(); err != nil {
				return err
			}
			if err := add(q); err != nil {
				return err
			}
		}
		t.comma()
	}
}

func (t *text) comma() {
	if t.next() == ',' {
		t.rest = t.rest[1:]
	}
}

func (t *text) value() (*value, error) {
	c := t.next()
	v := &value{place: t.place()}
	if c == '[' || c == '{' {
		if t.depth++; t.depth > maxVSCFNest {
			return nil, t.errorf("more than %d containers in one another", maxVSCFNest)
		}
		defer func() { t.depth-- }()
		t.rest = t.rest[1:]
	}
	switch {
	case c == '{':
		v.kind = hashValue
		return v, t.hash(v, '}')
	case c == '[':
		v.kind = listValue
		for t.next() != ']' {
			if t.next() == 0 {
				return nil, t.errorf("found the end of the file, expected ']' for the array of %s", v.place)
			}
			e, err := t.value()
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, e)
			t.comma()
		}
		t.rest = t.rest[1:]
		return v, nil
	case t.included():
		all, err := t.include(false)
		if err != nil {
			return nil, err
		}
		return all[0], nil
	}
	s, err := t.string()
	v.text = s
	return v, err
}

// special are octets that a text without quotes has only with a backslash before them.
const special = "}{;# \t\n\r,\"=\\[]"

// string reads a text, in quotes or without.
func (t *text) string() (string, error) {
	var b strings.Builder
	begin := t.place()
	switch t.next() {
	case 0:
		return "", t.errorf("found the end of the file, expected a key or a value")
	case '"':
		t.rest = t.rest[1:]
		for {
			switch {
			case len(t.rest) == 0:
				return "", fmt.Errorf("%s: a quote is not closed", begin)
			case t.rest[0] == '"':
				t.rest = t.rest[1:]
				return b.String(), nil
			case t.rest[0] == '\\':
				if err := t.escape(&b); err != nil {
					return "", err
				}
			default:
				if t.rest[0] == '\n' {
					t.line++
				}
				b.WriteByte(t.rest[0])
				t.rest = t.rest[1:]
			}
		}
	case '$':
		return "", t.errorf("found %s, expected $include{…} or a text that does not begin with $", t.found())
	}
	for len(t.rest) > 0 {
		if t.rest[0] == '\\' {
			if err := t.escape(&b); err != nil {
				return "", err
			}
			continue
		}
		if strings.IndexByte(special, t.rest[0]) >= 0 {
			break
		}
		b.WriteByte(t.rest[0])
		t.rest = t.rest[1:]
	}
	if b.Len() == 0 {
		return "", t.errorf("found %s, expected a key or a value", t.found())
	}
	return b.String(), nil
}

// escape reads a backslash and what is behind it: an octet, or three decimal digits.
func (t *text) escape(b *strings.Builder) error {
	if len(t.rest) < 2 {
		return t.errorf("found the end of the file, expected something behind the backslash")
	}
	c := t.rest[1]
	if c < '0' || c > '9' {
		if c == '\n' {
			t.line++
		}
		b.WriteByte(c)
		t.rest = t.rest[2:]
		return nil
	}
	n := 0
	for i := 1; i < 4; i++ {
		if i >= len(t.rest) || t.rest[i] < '0' || t.rest[i] > '9' {
			return t.errorf("escape %q, expected \\ and three digits, 000 to 255", t.rest[:min(4, len(t.rest))])
		}
		n = 10*n + int(t.rest[i]-'0')
	}
	if n > 255 {
		return t.errorf("escape %q, expected \\ and three digits, 000 to 255", t.rest[:4])
	}
	b.WriteByte(byte(n))
	t.rest = t.rest[4:]
	return nil
}

const includeMark = "$include{"

func (t *text) included() bool { return bytes.HasPrefix(t.rest, []byte(includeMark)) }

// include reads what stands at $include{…}; several files only where they are merged.
func (t *text) include(several bool) ([]*value, error) {
	at := t.place()
	t.rest = t.rest[len(includeMark):]
	name, err := t.string()
	if err != nil {
		return nil, err
	}
	if t.next() != '}' {
		return nil, t.errorf("found %s, expected } behind the file to include", t.found())
	}
	t.rest = t.rest[1:]
	if path.IsAbs(name) {
		return nil, fmt.Errorf("%s: include of %q, expected a path relative to this file's: others are not read", at, clip(name))
	}
	file := path.Join(path.Dir(t.file), name)
	if !fs.ValidPath(file) {
		return nil, fmt.Errorf("%s: include of %q leaves the directory, expected a file in it", at, clip(name))
	}
	files := []string{file}
	if st, err := fs.Stat(t.fsys, file); err == nil && st.IsDir() {
		if files, err = fs.Glob(t.fsys, file+"/*"); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
	} else if strings.ContainsAny(name, "*?[") {
		if files, err = fs.Glob(t.fsys, file); err != nil {
			return nil, fmt.Errorf("%s: include of %q: %w", at, clip(name), err)
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s: include of %q: there is no such file", at, clip(name))
		}
	}
	if !several && len(files) != 1 {
		return nil, fmt.Errorf("%s: include of %q as a value: %d files, expected one", at, clip(name), len(files))
	}
	if t.depth >= maxVSCFNest {
		return nil, fmt.Errorf("%s: more than %d files and containers in one another; does a file include itself?", at, maxVSCFNest)
	}
	var all []*value
	for _, f := range files {
		if t.includes++; t.includes > maxIncludes {
			return nil, fmt.Errorf("%s: more than %d files are included", at, maxIncludes)
		}
		v, err := t.vscf.file(f, t.depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: include: %w", at, err)
		}
		all = append(all, v)
	}
	return all, nil
}
