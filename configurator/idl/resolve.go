package idl

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Candidates are the paths at which a file that `from` includes may be, in order: beside
// it, then below the root.
func Candidates(from, include string) []string {
	beside := path.Join(path.Dir(from), include)
	if root := path.Clean(include); root != beside {
		return []string{beside, root}
	}
	return []string{beside}
}

// Resolve looks up what the file names; included has the resolved file of each of
// f.Includes, in order. Afterwards f is not changed any more.
func (f *File) Resolve(included []*File) error {
	f.included = map[string]*File{}
	for i, inc := range included {
		name := inc.Name()
		if old := f.included[name]; old != nil && old != inc {
			return f.Includes[i].errorf("%s and %s are both called %s", old.Path, inc.Path, name)
		}
		f.included[name] = inc
	}
	r := resolver{file: f, busy: map[any]bool{}}
	return r.all()
}

type resolver struct {
	file *File
	busy map[any]bool // typedefs and constants that are being resolved
}

func (r *resolver) all() error {
	f := r.file
	for _, t := range f.Typedefs {
		if err := r.typedef(t); err != nil {
			return err
		}
	}
	var err error
	for _, t := range f.Typedefs {
		if t.bounds, err = boundsOf(t.Annotations, t.Type); err != nil {
			return err
		}
	}
	for _, s := range f.Structs {
		if err := r.structType(s); err != nil {
			return err
		}
	}
	for _, s := range f.Services {
		if err := r.service(s); err != nil {
			return err
		}
	}
	for _, c := range f.Consts {
		if err := r.typ(c.Type); err != nil {
			return err
		}
	}
	for _, c := range f.Consts {
		if err := r.constant(c); err != nil {
			return err
		}
	}
	for _, s := range f.Structs {
		for _, d := range s.Fields {
			if d.Literal == nil {
				continue
			}
			v, err := r.literal(d.Type, d.Literal)
			if err != nil {
				return err
			}
			if err := allBounds(d.bounds, v); err != nil {
				return d.Literal.errorf("default of %s: %v", d.Name, err)
			}
			d.Default = v
		}
	}
	return nil
}

func (r *resolver) typedef(t *Typedef) error {
	if r.busy[t] {
		return t.errorf("typedef %s leads to itself", t.Name)
	}
	if t.Type.true != nil {
		return nil
	}
	r.busy[t] = true
	err := r.typ(t.Type)
	delete(r.busy, t)
	return err
}

func (r *resolver) structType(s *Struct) error {
	s.index = make(map[string]int, len(s.Fields))
	s.byID = make([]*Field, 0, len(s.Fields))
	for i, d := range s.Fields {
		s.index[d.Name] = i
		s.byID = append(s.byID, d)
	}
	sortByID(s.byID)
	return r.fields(s.Fields)
}

func (r *resolver) fields(all []*Field) (err error) {
	for _, d := range all {
		if err := r.typ(d.Type); err != nil {
			return err
		}
		if d.bounds, err = boundsOf(d.Annotations, d.Type); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) service(s *Service) error {
	if s.Extends != "" {
		if _, ok := r.lookup(s.Extends).(*Service); !ok {
			return s.errorf("service %s extends %s, which is no service here", s.Name, clip(s.Extends))
		}
	}
	for _, m := range s.Methods {
		if m.Returns != nil {
			if err := r.typ(m.Returns); err != nil {
				return err
			}
		}
		if err := r.fields(m.Args); err != nil {
			return err
		}
		if err := r.fields(m.Throws); err != nil {
			return err
		}
		for _, d := range m.Throws {
			if t := d.Type.True(); t.Kind != StructKindOf || t.Struct.Kind != Exception {
				return d.errorf("%s throws %s, expected an exception", m.Name, t)
			}
		}
		for _, d := range m.Args {
			if d.Literal != nil {
				v, err := r.literal(d.Type, d.Literal)
				if err != nil {
					return err
				}
				d.Default = v
			}
		}
	}
	return nil
}

// lookup gives what a name means in the file, or nil.
func (r *resolver) lookup(name string) any {
	if d := r.file.names[name]; d != nil {
		return d
	}
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		if inc := r.file.included[name[:i]]; inc != nil {
			return inc.names[name[i+1:]]
		}
	}
	return nil
}

func (r *resolver) typ(t *Type) (err error) {
	if t.true != nil {
		return nil
	}
	switch t.Kind {
	case Named:
		switch d := r.lookup(t.Name).(type) {
		case *Typedef:
			if d.File == r.file {
				if err := r.typedef(d); err != nil {
					return err
				}
			}
			t.Typedef, t.true = d, d.Type.True()
		case *Enum:
			t.Enum = d
			t.true = &Type{Pos: t.Pos, Kind: EnumKind, Name: t.Name, Enum: d}
		case *Struct:
			t.Struct = d
			t.true = &Type{Pos: t.Pos, Kind: StructKindOf, Name: t.Name, Struct: d}
		case nil:
			return t.errorf("type %s is not known here%s", clip(t.Name), r.hint(t.Name))
		default:
			return t.errorf("%s is no type", clip(t.Name))
		}
	case Map:
		if err = r.typ(t.Key); err != nil {
			return err
		}
		fallthrough
	case List, Set:
		if err = r.typ(t.Elem); err != nil {
			return err
		}
		t.true = t
	default:
		t.true = t
	}
	t.bounds, err = boundsOf(t.Annotations, t)
	return err
}

// hint says which file would have to be included.
func (r *resolver) hint(name string) string {
	if i := strings.LastIndexByte(name, '.'); i > 0 && r.file.included[name[:i]] == nil {
		return fmt.Sprintf(", and no file %s.thrift is included", clip(name[:i]))
	}
	return ""
}

func (r *resolver) constant(c *Const) error {
	if c.Value != nil {
		return nil
	}
	if r.busy[c] {
		return c.errorf("constant %s leads to itself", c.Name)
	}
	r.busy[c] = true
	defer delete(r.busy, c)
	v, err := r.literal(c.Type, c.Literal)
	c.Value = v
	return err
}

// named gives what a name in a literal stands for.
func (r *resolver) named(t *Type, l *Literal) (Value, error) {
	if t.Kind == EnumKind {
		// The compiler looks at the last part alone.
		if m := t.Enum.Member(l.Text[strings.LastIndexByte(l.Text, '.')+1:]); m != nil && strings.Contains(l.Text, ".") {
			return m, nil
		}
	}
	if c, ok := r.lookup(l.Text).(*Const); ok {
		if r.file.names[c.Name] == c {
			if err := r.constant(c); err != nil {
				return nil, err
			}
		}
		return c.Value, nil
	}
	if i := strings.LastIndexByte(l.Text, '.'); i > 0 {
		if e, ok := r.lookup(l.Text[:i]).(*Enum); ok {
			m := e.Member(l.Text[i+1:])
			if m == nil {
				return nil, l.errorf("enum %s has no %s, expected %s", e.Name, clip(l.Text[i+1:]), anyOf(e.Names()))
			}
			if t.Kind != EnumKind && intBits[t.Kind] > 0 {
				return int64(m.Number), nil
			}
			return m, nil
		}
	}
	return nil, l.errorf("%s is neither a constant nor an enum's value (Enum.VALUE)", clip(l.Text))
}

// literal gives the value of a literal as a value of t.
func (r *resolver) literal(t *Type, l *Literal) (Value, error) {
	v, err := r.convert(t, t.True(), l)
	if err != nil {
		return nil, err
	}
	if err := t.Allows(v); err != nil {
		return nil, l.errorf("%v", err)
	}
	l.value = v
	return v, nil
}

func (r *resolver) convert(declared, t *Type, l *Literal) (Value, error) {
	if l.Kind == NameLiteral {
		v, err := r.named(t, l)
		if n, ok := v.(int64); ok && t.Kind == Double {
			v = float64(n)
		}
		return v, err
	}
	wrong := func() (Value, error) {
		return nil, l.errorf("expected %s, found %s", declared, l.describe())
	}
	switch t.Kind {
	case Bool:
		if l.Kind == IntLiteral && (l.Int == 0 || l.Int == 1) {
			return l.Int == 1, nil
		}
	case I8, I16, I32, I64:
		if l.Kind == IntLiteral {
			return l.Int, nil
		}
	case Double:
		switch l.Kind {
		case IntLiteral:
			return float64(l.Int), nil
		case DoubleLiteral:
			return l.Double, nil
		}
	case String:
		if l.Kind == TextLiteral {
			return l.Text, nil
		}
	case Binary:
		if l.Kind == TextLiteral {
			return []byte(l.Text), nil
		}
	case EnumKind:
		if l.Kind == IntLiteral {
			for _, m := range t.Enum.Members {
				if int64(m.Number) == l.Int {
					return m, nil
				}
			}
			return nil, l.errorf("enum %s has no value %d", t.Enum.Name, l.Int)
		}
	case List, Set:
		// {} is an empty map to the parser.
		if l.Kind != ListLiteral && (l.Kind != MapLiteral || len(l.List) > 0) {
			return wrong()
		}
		all := make([]Value, len(l.List))
		for i, e := range l.List {
			v, err := r.literal(t.Elem, e)
			if err != nil {
				return nil, err
			}
			all[i] = v
		}
		if t.Kind == Set { // the compiler takes duplicates
			slices.SortFunc(all, Compare)
			all = slices.CompactFunc(all, Equal)
		}
		return all, nil
	case Map:
		if l.Kind != MapLiteral && (l.Kind != ListLiteral || len(l.List) > 0) {
			return wrong()
		}
		all := make(Entries, 0, len(l.List)/2)
		for i := 0; i < len(l.List); i += 2 {
			k, err := r.literal(t.Key, l.List[i])
			if err != nil {
				return nil, err
			}
			v, err := r.literal(t.Elem, l.List[i+1])
			if err != nil {
				return nil, err
			}
			all = append(all, Entry{k, v})
		}
		if err := SortMap(all); err != nil {
			return nil, l.errorf("%v", err)
		}
		return all, nil
	case StructKindOf:
		if l.Kind != MapLiteral {
			return wrong()
		}
		return r.instance(t.Struct, l)
	}
	return wrong()
}

// instance reads a struct's literal: field names as texts, and values. A struct of
// the same file may not have its defaults yet: they are resolved here.
func (r *resolver) instance(s *Struct, l *Literal) (Value, error) {
	fields := make([]Value, len(s.Fields))
	for i := 0; i < len(l.List); i += 2 {
		k := l.List[i]
		if k.Kind != TextLiteral {
			return nil, k.errorf("expected the name of a field in quotes, found %s", k.describe())
		}
		at := s.Index(k.Text)
		if at < 0 {
			return nil, k.errorf("%s has no field %q, expected %s", s.Name, clip(k.Text), anyOf(s.fieldNames()))
		}
		if fields[at] != nil {
			return nil, k.errorf("field %q is there twice", clip(k.Text))
		}
		v, err := r.literal(s.Fields[at].Type, l.List[i+1])
		if err != nil {
			return nil, err
		}
		fields[at] = v
	}
	if r.busy[s] {
		return nil, l.errorf("default of %s has a %s inside itself", s.Name, s.Name)
	}
	r.busy[s] = true
	defer delete(r.busy, s)
	if s.File == r.file && s.Kind != Union {
		for i, d := range s.Fields {
			if fields[i] == nil && d.Literal != nil && d.Default == nil {
				v, err := r.literal(d.Type, d.Literal)
				if err != nil {
					return nil, err
				}
				fields[i] = v
			}
		}
	}
	x, err := s.New(fields)
	if err != nil {
		return nil, l.errorf("%v", err)
	}
	return x, nil
}

func (l *Literal) describe() string {
	switch l.Kind {
	case IntLiteral:
		return fmt.Sprint(l.Int)
	case DoubleLiteral:
		return fmt.Sprint(l.Double)
	case TextLiteral:
		return fmt.Sprintf("%q", clip(l.Text))
	case ListLiteral:
		return "a list"
	case MapLiteral:
		return "a map"
	}
	return clip(l.Text)
}

// anyOf lists names for an error message.
func anyOf(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "nothing: it has none"
	}
	if len(names) > most {
		return fmt.Sprintf("one of %s, … (%d)", strings.Join(names[:most], ", "), len(names))
	}
	return "one of " + strings.Join(names, ", ")
}
