package idl

import (
	"math"
	"strconv"
	"strings"
)

// Parse reads the text of a file that is called name. What it names stays unresolved
// until Resolve.
func Parse(name, text string) (*File, error) {
	p := parser{sc: scanner{file: name, src: strings.TrimPrefix(text, "\ufeff"), line: 1}, file: &File{Path: name, names: map[string]any{}}}
	if len(text) > MaxFile {
		return nil, p.sc.pos().errorf("file has %d octets, at most %d", len(text), MaxFile)
	}
	if p.advance(); p.err == nil {
		p.headers()
	}
	for p.err == nil && p.tok.kind != tokenEnd {
		p.definition()
	}
	if p.err != nil {
		return nil, p.err
	}
	if p.sc.headerBefore {
		p.file.Doc = p.sc.fileDoc
	}
	return p.file, nil
}

// parser has one token ahead. After an error, which is the first, it does nothing
// more, and the token is the end's.
type parser struct {
	sc    scanner
	tok   token
	err   error
	file  *File
	depth int
}

func (p *parser) fail(pos Pos, format string, args ...any) {
	if p.err == nil {
		p.err = pos.errorf(format, args...)
	}
	p.tok = token{pos: p.tok.pos}
}

func (p *parser) advance() {
	if p.err != nil {
		return
	}
	t, err := p.sc.next()
	if err != nil {
		p.err = err
		t = token{pos: t.pos}
	}
	p.tok = t
}

// takeDoc gives the doc comment before the token, once.
func (p *parser) takeDoc() string {
	d := p.sc.doc
	p.sc.doc = ""
	return d
}

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the file"
	case tokenLiteral:
		return strconv.Quote(clip(t.text))
	}
	return strconv.Quote(clip(t.text))
}

func (p *parser) is(symbol string) bool { return p.tok.kind == tokenSymbol && p.tok.text == symbol }
func (p *parser) isWord(w string) bool  { return p.tok.kind == tokenName && p.tok.text == w }

// accept takes a symbol or word when it is there.
func (p *parser) accept(text string) bool {
	if (p.tok.kind == tokenSymbol || p.tok.kind == tokenName) && p.tok.text == text {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expect(symbol string) {
	if !p.accept(symbol) {
		p.fail(p.tok.pos, "expected %q, found %s", symbol, p.tok)
	}
}

func (p *parser) separator() { _ = p.accept(",") || p.accept(";") }

// keywords cannot be names of definitions.
var keywords = func() map[string]bool {
	m := map[string]bool{}
	for _, k := range strings.Fields(`true false namespace cpp_include cpp_type xsd_all xsd_optional xsd_nillable xsd_attrs include void bool byte i8 i16 i32 i64
		double string binary map list set oneway typedef struct union exception extends throws service enum const required optional async`) {
		m[k] = true
	}
	return m
}()

// name takes a name without dots. what it is for stands in the error.
func (p *parser) name(what string) (string, Pos) {
	t := p.tok
	switch {
	case t.kind != tokenName:
		p.fail(t.pos, "expected the name of %s, found %s", what, t)
	case strings.Contains(t.text, "."):
		p.fail(t.pos, "name %s of %s has a dot", clip(t.text), what)
	case keywords[t.text]:
		p.fail(t.pos, "expected the name of %s, found the word %q of the language", what, t.text)
	}
	p.advance()
	return t.text, t.pos
}

func (p *parser) literalText(what string) (string, Pos) {
	t := p.tok
	if t.kind != tokenLiteral {
		p.fail(t.pos, "expected %s in quotes, found %s", what, t)
	}
	p.advance()
	return t.text, t.pos
}

func (p *parser) headers() {
	for p.err == nil {
		if p.isWord("include") || p.isWord("cpp_include") || p.isWord("namespace") {
			p.sc.doc = "" // a doc comment before a header is at most the file's
		}
		switch {
		case p.isWord("include"):
			p.advance()
			p.sc.headerBefore = true
			path, pos := p.literalText("the file to include")
			p.file.Includes = append(p.file.Includes, &Include{Pos: pos, Path: path})
		case p.isWord("cpp_include"):
			p.advance()
			p.sc.headerBefore = true
			text, _ := p.literalText("the file to include")
			p.file.CppIncludes = append(p.file.CppIncludes, text)
		case p.isWord("namespace"):
			p.advance()
			n := &Namespace{Scope: p.tok.text}
			all := p.is("*")
			if !all && p.tok.kind != tokenName {
				p.fail(p.tok.pos, "expected a language or * after namespace, found %s", p.tok)
			}
			p.advance()
			n.Name = p.tok.text
			if p.tok.kind != tokenName {
				p.fail(p.tok.pos, "expected the name of the namespace, found %s", p.tok)
			}
			p.sc.headerBefore = p.sc.headerBefore || all
			p.advance()
			p.sc.headerBefore = true
			if !all {
				n.Annotations = p.annotations()
			}
			p.file.Namespaces = append(p.file.Namespaces, n)
		default:
			return
		}
	}
}

func (p *parser) definition() {
	doc := p.takeDoc()
	start := p.tok
	p.advance()
	if start.kind != tokenName {
		p.fail(start.pos, "expected a definition (const, typedef, enum, struct, union, exception or service), found %s", start)
		return
	}
	var name string
	var pos Pos
	var def any
	switch start.text {
	case "const":
		c := &Const{Doc: doc, Type: p.typ()}
		c.Name, c.Pos = p.name("the constant")
		p.expect("=")
		c.Literal = p.value()
		p.separator()
		p.file.Consts = append(p.file.Consts, c)
		name, pos, def = c.Name, c.Pos, c
	case "typedef":
		t := &Typedef{Doc: doc, Type: p.typ(), File: p.file}
		t.Name, t.Pos = p.name("the type")
		t.Annotations = p.annotations()
		p.separator()
		p.file.Typedefs = append(p.file.Typedefs, t)
		name, pos, def = t.Name, t.Pos, t
	case "enum", "senum":
		e := &Enum{Doc: doc, File: p.file}
		e.Name, e.Pos = p.name("the enum")
		p.members(e, start.text == "senum")
		e.Annotations = p.annotations()
		p.file.Enums = append(p.file.Enums, e)
		name, pos, def = e.Name, e.Pos, e
	case "struct", "union", "exception":
		s := &Struct{Doc: doc, Kind: StructKind(start.text), File: p.file}
		s.Name, s.Pos = p.name("the " + start.text)
		if s.Kind != Exception {
			p.accept("xsd_all")
		}
		p.expect("{")
		s.Fields = p.fields("}", false)
		p.expect("}")
		if s.Kind == Union {
			for _, f := range s.Fields {
				f.Requiredness = Optional
			}
		}
		s.Annotations = p.annotations()
		p.file.Structs = append(p.file.Structs, s)
		name, pos, def = s.Name, s.Pos, s
	case "service":
		s := &Service{Doc: doc}
		s.Name, s.Pos = p.name("the service")
		if p.accept("extends") {
			s.Extends = p.tok.text
			if p.tok.kind != tokenName {
				p.fail(p.tok.pos, "expected the name of a service after extends, found %s", p.tok)
			}
			p.advance()
		}
		p.expect("{")
		for p.err == nil && !p.is("}") {
			s.Methods = append(s.Methods, p.method())
		}
		p.expect("}")
		s.Annotations = p.annotations()
		p.file.Services = append(p.file.Services, s)
		name, pos, def = s.Name, s.Pos, s
	case "include", "cpp_include", "namespace":
		p.fail(start.pos, "%s stands behind a definition, expected before the first", start.text)
	default:
		p.fail(start.pos, "expected a definition (const, typedef, enum, struct, union, exception or service), found %s", start)
	}
	if p.err != nil {
		return
	}
	if old, ok := p.file.names[name]; ok {
		p.fail(pos, "%s is defined twice, the first at %s", name, posOf(old))
		return
	}
	p.file.names[name] = def
}

func posOf(def any) Pos {
	switch d := def.(type) {
	case *Const:
		return d.Pos
	case *Typedef:
		return d.Pos
	case *Enum:
		return d.Pos
	case *Struct:
		return d.Pos
	case *Service:
		return d.Pos
	}
	return Pos{}
}

// members reads what is between the braces of an enum. A senum's are literals
// (the compiler has dropped it in 0.17; here it is an enum of these names).
func (p *parser) members(e *Enum, text bool) {
	p.expect("{")
	last := int64(-1)
	seen, numbers := map[string]*Member{}, map[int32]*Member{}
	for p.err == nil && !p.is("}") {
		m := &Member{Doc: p.takeDoc(), Enum: e}
		if text {
			m.Name, m.Pos = p.literalText("a value")
		} else {
			m.Name, m.Pos = p.name("a value")
		}
		if !text && p.accept("=") {
			if p.tok.kind != tokenInt {
				p.fail(p.tok.pos, "expected the number of %s, found %s", m.Name, p.tok)
			}
			last = p.tok.int
			p.advance()
		} else {
			last++
		}
		if last < math.MinInt32 || last > math.MaxInt32 {
			p.fail(m.Pos, "number %d of %s does not fit 32 bits", last, m.Name)
		}
		m.Number = int32(last)
		m.Annotations = p.annotations()
		p.separator()
		if old := seen[m.Name]; old != nil {
			p.fail(m.Pos, "%s is twice in the enum, the first at %s", m.Name, old.Pos)
		}
		seen[m.Name] = m
		if m.first = numbers[m.Number]; m.first == nil {
			m.first, numbers[m.Number] = m, m
		}
		e.Members = append(e.Members, m)
	}
	p.expect("}")
}

// fields reads the fields of a struct, or arguments.
func (p *parser) fields(end string, args bool) []*Field {
	var all []*Field
	ids, names := map[int32]*Field{}, map[string]*Field{}
	auto := int32(-1)
	for p.err == nil && !p.is(end) {
		f := &Field{Doc: p.takeDoc(), Pos: p.tok.pos}
		if id := p.tok; id.kind == tokenInt {
			p.advance()
			p.expect(":")
			if id.int > math.MaxInt16 {
				p.fail(id.pos, "number %d of a field, at most %d", id.int, math.MaxInt16)
			}
			f.ID = int32(id.int)
			if id.int <= 0 { // as the compiler does without --allow-neg-keys
				f.ID = auto
				auto--
			}
		} else {
			f.ID = auto
			auto--
		}
		switch {
		case p.accept("required"):
			f.Requiredness = Required
		case p.accept("optional"):
			if !args {
				f.Requiredness = Optional
			}
		}
		f.Type = p.typ()
		p.accept("&")
		f.Pos = p.tok.pos
		f.Name = p.tok.text
		if p.tok.kind != tokenName {
			p.fail(p.tok.pos, "expected the name of a field, found %s", p.tok)
		} else if strings.Contains(f.Name, ".") {
			p.fail(p.tok.pos, "name %s of a field has a dot", clip(f.Name))
		}
		p.advance()
		if p.accept("=") {
			f.Literal = p.value()
		}
		p.accept("xsd_optional")
		p.accept("xsd_nillable")
		if p.accept("xsd_attrs") {
			p.expect("{")
			if p.depth++; p.depth > maxDepth {
				p.fail(f.Pos, "more than %d braces inside one another", maxDepth)
			}
			p.fields("}", false)
			p.depth--
			p.expect("}")
		}
		f.Annotations = p.annotations()
		p.separator()
		if p.err != nil {
			return nil
		}
		if old := ids[f.ID]; old != nil {
			p.fail(f.Pos, "field %s has the number %d, which %s has (%s)", f.Name, f.ID, old.Name, old.Pos)
		}
		if old := names[f.Name]; old != nil {
			p.fail(f.Pos, "field %s is there twice, the first at %s", f.Name, old.Pos)
		}
		ids[f.ID], names[f.Name] = f, f
		f.at = len(all)
		all = append(all, f)
	}
	return all
}

func (p *parser) method() *Method {
	m := &Method{Doc: p.takeDoc()}
	m.Oneway = p.accept("oneway") || p.accept("async")
	if !p.accept("void") {
		m.Returns = p.typ()
	}
	m.Name, m.Pos = p.name("a method")
	p.expect("(")
	m.Args = p.fields(")", true)
	p.expect(")")
	if p.accept("throws") {
		p.expect("(")
		m.Throws = p.fields(")", true)
		p.expect(")")
	}
	m.Annotations = p.annotations()
	p.separator()
	return m
}

var baseKinds = map[string]Kind{
	"bool": Bool, "byte": I8, "i8": I8, "i16": I16, "i32": I32, "i64": I64, "double": Double, "string": String, "binary": Binary,
}

func (p *parser) typ() *Type {
	t := &Type{Pos: p.tok.pos, Name: p.tok.text}
	if p.tok.kind != tokenName {
		p.fail(p.tok.pos, "expected a type, found %s", p.tok)
		return t
	}
	if p.depth++; p.depth > maxDepth {
		p.fail(p.tok.pos, "types are more than %d deep inside one another", maxDepth)
		return t
	}
	defer func() { p.depth-- }()
	p.advance()
	switch kind, base := baseKinds[t.Name]; {
	case base:
		if t.Kind = kind; t.Name == "byte" {
			t.Name = "i8"
		}
		t.Annotations = p.annotations()
	case t.Name == "list" || t.Name == "set" || t.Name == "map":
		t.Kind = map[string]Kind{"list": List, "set": Set, "map": Map}[t.Name]
		p.cppType()
		p.expect("<")
		if t.Kind == Map {
			t.Key = p.typ()
			p.expect(",")
		}
		t.Elem = p.typ()
		p.expect(">")
		if t.Kind == List {
			p.cppType()
		}
		t.Annotations = p.annotations()
	case keywords[t.Name]:
		p.fail(t.Pos, "expected a type, found the word %q of the language", t.Name)
	default:
		t.Kind = Named
	}
	return t
}

func (p *parser) cppType() {
	if p.accept("cpp_type") {
		p.literalText("the type of C++")
	}
}

func (p *parser) annotations() Annotations {
	if !p.accept("(") {
		return nil
	}
	all := Annotations{}
	for p.err == nil && !p.is(")") {
		a := Annotation{Pos: p.tok.pos, Key: p.tok.text, Value: "1"}
		if p.tok.kind != tokenName {
			p.fail(p.tok.pos, "expected an annotation such as min = \"1\", found %s", p.tok)
		}
		p.advance()
		if p.accept("=") {
			a.Value, _ = p.literalText("the annotation's value")
		}
		p.separator()
		all = append(all, a)
	}
	p.expect(")")
	return all
}

// LiteralKind is the kind of a Literal.
type LiteralKind int

// Kinds of literals.
const (
	IntLiteral LiteralKind = iota + 1
	DoubleLiteral
	TextLiteral
	NameLiteral
	ListLiteral
	MapLiteral
)

// Literal is a constant value as written.
type Literal struct {
	Pos
	Kind   LiteralKind
	Int    int64 // also of true (1) and false (0)
	Double float64
	Text   string     // of a text or name
	List   []*Literal // of a map: key and value by turns

	value Value // once resolved
}

func (p *parser) value() *Literal {
	t := p.tok
	l := &Literal{Pos: t.pos}
	if p.depth++; p.depth > maxDepth {
		p.fail(t.pos, "values are more than %d deep inside one another", maxDepth)
		return l
	}
	defer func() { p.depth-- }()
	p.advance()
	switch {
	case t.kind == tokenInt:
		l.Kind, l.Int = IntLiteral, t.int
	case t.kind == tokenDouble:
		l.Kind, l.Double = DoubleLiteral, t.double
	case t.kind == tokenLiteral:
		l.Kind, l.Text = TextLiteral, t.text
	case t.kind == tokenName && (t.text == "true" || t.text == "false"):
		l.Kind = IntLiteral
		if t.text == "true" {
			l.Int = 1
		}
	case t.kind == tokenName && !keywords[t.text]:
		l.Kind, l.Text = NameLiteral, t.text
	case t.kind == tokenSymbol && t.text == "[":
		l.Kind = ListLiteral
		for p.err == nil && !p.is("]") {
			l.List = append(l.List, p.value())
			p.separator()
		}
		p.expect("]")
	case t.kind == tokenSymbol && t.text == "{":
		l.Kind = MapLiteral
		for p.err == nil && !p.is("}") {
			key := p.value()
			p.expect(":")
			l.List = append(l.List, key, p.value())
			p.separator()
		}
		p.expect("}")
	default:
		p.fail(t.pos, "expected a value, found %s", t)
	}
	return l
}
