package idl

import (
	"fmt"
	"path"
	"strings"
)

// Pos is a place in a file.
type Pos struct {
	File      string
	Line, Col int // from 1; Col counts octets
}

// String gives file:line:column.
func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// Error is what is wrong with a file, and where.
type Error struct {
	Pos
	Msg string
}

// Error implements error.
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Msg }

func (p Pos) errorf(format string, args ...any) error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

// File is one *.thrift file.
type File struct {
	Path        string // as given to Parse
	Doc         string
	Namespaces  []*Namespace
	Includes    []*Include
	CppIncludes []string
	Consts      []*Const
	Typedefs    []*Typedef
	Enums       []*Enum
	Structs     []*Struct // and unions and exceptions
	Services    []*Service

	names    map[string]any   // of definitions: *Const, *Typedef, *Enum, *Struct, *Service
	included map[string]*File // by the name that stands before the dot
}

// Name is what stands before the dot in other files: the file's name without folder
// and ".thrift".
func (f *File) Name() string { return strings.TrimSuffix(path.Base(f.Path), ".thrift") }

// Lookup gives the *Const, *Typedef, *Enum, *Struct or *Service of a name, or nil.
func (f *File) Lookup(name string) any { return f.names[name] }

// Namespace says where generated code of a language goes.
type Namespace struct {
	Scope, Name string // Scope "*" is every language
	Annotations Annotations
}

// Include is a file that is included, as written.
type Include struct {
	Pos
	Path string
}

// Annotation is `key = "value"` in parentheses; without a value it is "1".
type Annotation struct {
	Pos
	Key, Value string
}

// Annotations are in the order in which they are written.
type Annotations []Annotation

// Const is a constant.
type Const struct {
	Pos
	Name    string
	Doc     string
	Type    *Type
	Literal *Literal
	Value   Value // of Literal, once resolved
}

// Typedef is another name of a type.
type Typedef struct {
	Pos
	Name        string
	Doc         string
	Type        *Type
	Annotations Annotations
	File        *File

	bounds []bound
}

// Enum is an enumeration.
type Enum struct {
	Pos
	Name        string
	Doc         string
	Members     []*Member
	Annotations Annotations
	File        *File
}

// String gives file.Name.
func (e *Enum) String() string { return e.File.Name() + "." + e.Name }

// Member gives the member of a name, or nil.
func (e *Enum) Member(name string) *Member {
	for _, m := range e.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Names are the members' names, in the order in which they are written.
func (e *Enum) Names() []string {
	names := make([]string, len(e.Members))
	for i, m := range e.Members {
		names[i] = m.Name
	}
	return names
}

// Member is a value of an Enum.
type Member struct {
	Pos
	Name        string
	Doc         string
	Number      int32
	Annotations Annotations
	Enum        *Enum

	first *Member // of the Enum that has the Number
}

// StructKind tells what a Struct is.
type StructKind string

// Kinds of Struct.
const (
	PlainStruct StructKind = "struct"
	Union       StructKind = "union"
	Exception   StructKind = "exception"
)

// Struct is a struct, a union or an exception.
type Struct struct {
	Pos
	Kind        StructKind
	Name        string
	Doc         string
	Fields      []*Field // in the order in which they are written
	Annotations Annotations
	File        *File

	byID  []*Field       // in the order of their numbers
	index map[string]int // of Fields
}

// String gives file.Name.
func (s *Struct) String() string { return s.File.Name() + "." + s.Name }

// Index gives the index of a name in Fields, or -1.
func (s *Struct) Index(name string) int {
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// Requiredness is what stands before a field's type.
type Requiredness string

// What a field may say; ByDefault is nothing.
const (
	ByDefault Requiredness = ""
	Required  Requiredness = "required"
	Optional  Requiredness = "optional"
)

// Field is a field of a Struct, or an argument or exception of a Method.
type Field struct {
	Pos
	ID           int32
	Name         string
	Doc          string
	Requiredness Requiredness
	Type         *Type
	Literal      *Literal // of the default; nil: none
	Default      Value    // of Literal, once resolved
	Annotations  Annotations

	at     int // index in Fields
	bounds []bound
}

// Service is a service; configuration has no use for it.
type Service struct {
	Pos
	Name        string
	Doc         string
	Extends     string // as written; empty: nothing
	Methods     []*Method
	Annotations Annotations
}

// Method is a method of a Service.
type Method struct {
	Pos
	Name        string
	Doc         string
	Oneway      bool
	Returns     *Type // nil: void
	Args        []*Field
	Throws      []*Field
	Annotations Annotations
}

// Kind is the kind of a Type.
type Kind int

// Kinds of types. A Named type is one of the others by another name: see Type.True.
const (
	Bool Kind = iota + 1
	I8
	I16
	I32
	I64
	Double
	String
	Binary
	List
	Set
	Map
	EnumKind
	StructKindOf
	Named
)

// Type is a type where it is used.
type Type struct {
	Pos
	Kind        Kind
	Name        string // as written
	Annotations Annotations
	Key, Elem   *Type // of lists, sets (Elem) and maps

	// Of a Named type, once resolved, the one that it names.
	Typedef *Typedef
	Enum    *Enum
	Struct  *Struct

	true   *Type
	bounds []bound
}

// True is the type without typedefs: its Kind is never Named.
func (t *Type) True() *Type {
	if t.true == nil {
		return t
	}
	return t.true
}

// String gives the type as it is written: list<i32>.
func (t *Type) String() string {
	switch t.Kind {
	case List, Set:
		return t.Name + "<" + t.Elem.String() + ">"
	case Map:
		return "map<" + t.Key.String() + ", " + t.Elem.String() + ">"
	}
	return t.Name
}
