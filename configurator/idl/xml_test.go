package idl_test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/configurator/idl"
)

// load reads a file of the disk and what it includes.
func load(file string, done map[string]*idl.File) (*idl.File, error) {
	if f := done[file]; f != nil {
		return f, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, err := idl.Parse(file, string(text))
	if err != nil {
		return nil, err
	}
	var included []*idl.File
	for _, inc := range f.Includes {
		g, err := load(filepath.Join(filepath.Dir(file), inc.Path), done)
		if err != nil {
			return nil, err
		}
		included = append(included, g)
	}
	done[file] = f
	return f, f.Resolve(included)
}

// TestAgainstCompiler compares what is read of each file of the corpus with what
// `thrift --gen xml` says about it, octet for octet.
func TestAgainstCompiler(t *testing.T) {
	files := corpus(t)
	agreed := 0
	for _, file := range files {
		if differs[path.Base(path.Dir(file))+"/"+path.Base(file)] {
			continue
		}
		t.Run(strings.TrimPrefix(file, "../../"), func(t *testing.T) {
			dir := t.TempDir()
			said, err := exec.Command("thrift", "-nowarn", "--gen", "xml", "-out", dir, file).CombinedOutput()
			f, mine := load(file, map[string]*idl.File{})
			if err != nil {
				if mine == nil && !lenient.Match(said) {
					t.Errorf("the compiler refuses it: %s", said)
				}
				return
			}
			if mine != nil {
				if !later.MatchString(mine.Error()) {
					t.Error(mine)
				}
				return
			}
			want, err := os.ReadFile(filepath.Join(dir, f.Name()+".xml"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(normal(t, string(want)), normal(t, toXML(f))); diff != "" {
				t.Errorf("(-compiler +package):\n%s", diff)
			}
			agreed++
		})
	}
	t.Logf("%d of %d files are accepted by both and mean the same", agreed, len(files))
	if agreed < len(files)*2/3 {
		t.Errorf("only %d of %d files are accepted by both", agreed, len(files))
	}
}

// element is XML without comments and white space.
type element struct {
	name, text string
	attrs      []string
	inside     []*element
}

func (e *element) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%s%s %q %s\n", indent, e.name, e.attrs, strings.TrimSpace(e.text))
	for _, c := range e.inside {
		c.write(b, indent+"  ")
	}
}

// normal gives XML with the entries of maps in order, which the compiler has by the
// addresses of its objects, and without docs of nothing but line ends.
func normal(t *testing.T, text string) string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	stack := []*element{{}}
	for {
		tok, err := d.RawToken()
		if err != nil {
			break
		}
		top := stack[len(stack)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			e := &element{name: tok.Name.Local}
			for _, a := range tok.Attr {
				if a.Name.Local != "doc" || strings.TrimSpace(a.Value) != "" {
					e.attrs = append(e.attrs, a.Name.Space+":"+a.Name.Local+"="+a.Value)
				}
			}
			top.inside = append(top.inside, e)
			stack = append(stack, e)
		case xml.EndElement:
			if top.name == "map" {
				key := func(e *element) string {
					var b strings.Builder
					e.write(&b, "")
					return b.String()
				}
				slices.SortFunc(top.inside, func(a, b *element) int { return cmp.Compare(key(a), key(b)) })
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(tok)
		}
	}
	if len(stack) != 1 {
		t.Fatalf("XML is not whole: %s", text)
	}
	var b strings.Builder
	for _, e := range stack[0].inside {
		e.write(&b, "")
	}
	return b.String()
}

// lenient is what the compiler refuses and the package takes: words that are
// reserved because they are a nuisance in some generated language, and files that
// cannot be found.
var lenient = regexp.MustCompile(`Cannot use reserved language keyword|Could not (open|find) include file|namespace`)

// differs are files that the package reads otherwise: words of the language as names of
// fields are taken (the compiler does since 0.18), and a constant of a struct must have
// the fields that a value must have.
var differs = map[string]bool{
	"v0.16/NameConflictTest.thrift": true, "test/SmallTest.thrift": true, "v0.16/DebugProtoTest.thrift": true,
}

// later is what the compiler warns of, or leaves to the code that it generates, and the
// package refuses.
var later = regexp.MustCompile(`type uuid is not known here|no such file`)

// corpus is our own IDL, the files of testdata, and the compiler's own test files,
// which come with the module of the library.
func corpus(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../../api/*.thrift", "testdata/*.thrift", "../*/*.thrift"} {
		m, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, m...)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/apache/thrift").Output()
	if err != nil {
		t.Fatal(err)
	}
	module := strings.TrimSpace(string(out))
	err = filepath.WalkDir(module, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".thrift") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 150 {
		t.Fatalf("only %d files", len(files))
	}
	return files
}

// xmlWriter writes as the compiler's t_xml_generator does.
type xmlWriter struct {
	bytes.Buffer
	file  *idl.File
	open  []string
	inTag bool
}

func (w *xmlWriter) indent() { w.WriteString(strings.Repeat("  ", len(w.open))) }

func (w *xmlWriter) closeTag() {
	if w.inTag {
		w.inTag = false
		w.WriteString(">\n")
	}
}

func (w *xmlWriter) start(name string, attrs ...string) {
	w.closeTag()
	w.indent()
	w.WriteString("<" + name)
	w.open = append(w.open, name)
	w.inTag = true
	for i := 0; i < len(attrs); i += 2 {
		w.attr(attrs[i], attrs[i+1])
	}
}

var escaper = strings.NewReplacer("&", "&amp;", `"`, "&quot;", "'", "&apos;", "<", "&lt;", ">", "&gt;")

func (w *xmlWriter) attr(k, v string) { fmt.Fprintf(w, " %s=\"%s\"", k, escaper.Replace(v)) }

func (w *xmlWriter) doc(d string) {
	if d != "" {
		w.attr("doc", d)
	}
}

func (w *xmlWriter) end() {
	name := w.open[len(w.open)-1]
	w.open = w.open[:len(w.open)-1]
	if w.inTag {
		w.inTag = false
		w.WriteString(" />\n")
		return
	}
	w.indent()
	w.WriteString("</" + name + ">\n")
}

func (w *xmlWriter) leaf(name, text string) {
	w.closeTag()
	w.indent()
	fmt.Fprintf(w, "<%s>%s</%s>\n", name, escaper.Replace(text), name)
}

func (w *xmlWriter) typ(t *idl.Type) {
	switch t.Kind {
	case idl.Named:
		module := w.file.Name()
		name := t.Name
		switch {
		case t.Typedef != nil:
			module, name = t.Typedef.File.Name(), t.Typedef.Name
		case t.Enum != nil:
			module, name = t.Enum.File.Name(), t.Enum.Name
		case t.Struct != nil:
			module, name = t.Struct.File.Name(), t.Struct.Name
		}
		w.attr("type", "id")
		w.attr("type-module", module)
		w.attr("type-id", name)
	case idl.Map:
		w.attr("type", "map")
		w.start("keyType")
		w.typ(t.Key)
		w.end()
		w.start("valueType")
		w.typ(t.Elem)
		w.end()
	case idl.List, idl.Set:
		w.attr("type", t.Name)
		w.start("elemType")
		w.typ(t.Elem)
		w.end()
	default:
		w.attr("type", t.Name)
	}
}

// trueType is what the compiler writes for a typedef: without typedefs inside.
func (w *xmlWriter) trueType(t *idl.Type) {
	t = t.True()
	if t.Struct != nil || t.Enum != nil {
		t = &idl.Type{Kind: idl.Named, Name: t.Name, Struct: t.Struct, Enum: t.Enum}
	}
	w.typ(t)
}

func (w *xmlWriter) annotations(all idl.Annotations) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b idl.Annotation) int { return cmp.Compare(a.Key, b.Key) })
	for _, a := range sorted {
		w.start("annotation", "key", a.Key, "value", a.Value)
		w.end()
	}
}

func (w *xmlWriter) field(element string, f *idl.Field) {
	w.start(element, "name", f.Name, "field-id", fmt.Sprint(f.ID))
	w.doc(f.Doc)
	if f.Requiredness != idl.ByDefault {
		w.attr("required", string(f.Requiredness))
	}
	w.typ(f.Type)
	if f.Literal != nil {
		w.start("default")
		w.literal(f.Literal)
		w.end()
	}
	w.annotations(f.Annotations)
	w.end()
}

// cppDouble writes as many digits as the compiler.
func cppDouble(d float64) string { return fmt.Sprintf("%.15g", d) }

func (w *xmlWriter) literal(l *idl.Literal) {
	switch l.Kind {
	case idl.IntLiteral:
		w.leaf("int", fmt.Sprint(l.Int))
	case idl.DoubleLiteral:
		w.leaf("double", cppDouble(l.Double))
	case idl.TextLiteral:
		w.leaf("string", l.Text)
	case idl.NameLiteral:
		w.value(idl.ResolvedForTest(l))
	case idl.ListLiteral:
		w.start("list")
		for _, e := range l.List {
			w.start("entry")
			w.literal(e)
			w.end()
		}
		w.end()
	case idl.MapLiteral:
		w.start("map")
		for i := 0; i < len(l.List); i += 2 {
			w.start("entry")
			w.start("key")
			w.literal(l.List[i])
			w.end()
			w.start("value")
			w.literal(l.List[i+1])
			w.end()
			w.end()
		}
		w.end()
	}
}

func (w *xmlWriter) value(v idl.Value) {
	switch v := v.(type) {
	case int64:
		w.leaf("int", fmt.Sprint(v))
	case *idl.Member:
		w.leaf("int", fmt.Sprint(v.Number))
	case string:
		w.leaf("string", v)
	case float64:
		w.leaf("double", cppDouble(v))
	default:
		w.leaf("unknown", fmt.Sprintf("%T", v))
	}
}

func targetNamespace(f *idl.File) string {
	const prefix = "http://thrift.apache.org/xml/ns/"
	for _, scope := range []string{"xml", "*"} {
		for _, n := range slices.Backward(f.Namespaces) {
			if n.Scope != scope {
				continue
			}
			for _, a := range n.Annotations {
				if a.Key == map[string]string{"xml": "targetNamespace", "*": "xml.targetNamespace"}[scope] {
					return a.Value
				}
			}
			return prefix + n.Name
		}
	}
	return prefix + f.Name()
}

func toXML(f *idl.File) string {
	w := &xmlWriter{file: f}
	w.start("idl", "xmlns", "http://thrift.apache.org/xml/idl", "xmlns:idl", "http://thrift.apache.org/xml/idl")
	w.start("document", "name", f.Name(), "targetNamespace", targetNamespace(f), "xmlns:"+f.Name(), targetNamespace(f))
	w.doc(f.Doc)
	for _, i := range f.Includes {
		w.start("include", "name", strings.TrimSuffix(path.Base(i.Path), ".thrift"))
		w.end()
	}
	spaces := map[string]*idl.Namespace{}
	var scopes []string
	for _, n := range f.Namespaces {
		if spaces[n.Scope] == nil {
			scopes = append(scopes, n.Scope)
		}
		spaces[n.Scope] = n
	}
	slices.Sort(scopes)
	for _, s := range scopes {
		w.start("namespace", "name", s, "value", spaces[s].Name)
		w.annotations(spaces[s].Annotations)
		w.end()
	}
	for _, c := range f.Consts {
		w.start("const", "name", c.Name)
		w.doc(c.Doc)
		w.typ(c.Type)
		w.literal(c.Literal)
		w.end()
	}
	for _, t := range f.Typedefs {
		w.start("typedef", "name", t.Name)
		w.doc(t.Doc)
		w.trueType(t.Type)
		w.annotations(t.Annotations)
		w.end()
	}
	for _, e := range f.Enums {
		w.start("enum", "name", e.Name)
		w.doc(e.Doc)
		for _, m := range e.Members {
			w.start("member", "name", m.Name, "value", fmt.Sprint(m.Number))
			w.doc(m.Doc)
			w.annotations(m.Annotations)
			w.end()
		}
		w.annotations(e.Annotations)
		w.end()
	}
	for _, s := range f.Structs {
		w.start(string(s.Kind), "name", s.Name)
		w.doc(s.Doc)
		for _, d := range s.Fields {
			w.field("field", d)
		}
		w.annotations(s.Annotations)
		w.end()
	}
	for _, s := range f.Services {
		tns := strings.TrimSuffix(targetNamespace(f), "/") + "/" + s.Name
		w.start("service", "name", s.Name, "targetNamespace", tns, "xmlns:tns", tns)
		if s.Extends != "" {
			module, name, ok := strings.Cut(s.Extends, ".")
			if !ok {
				module, name = f.Name(), s.Extends
			}
			w.attr("parent-module", module)
			w.attr("parent-id", name)
		}
		w.doc(s.Doc)
		for _, m := range s.Methods {
			w.start("method", "name", m.Name)
			if m.Oneway {
				w.attr("oneway", "true")
			}
			w.doc(m.Doc)
			w.start("returns")
			if m.Returns == nil {
				w.attr("type", "void")
			} else {
				w.typ(m.Returns)
			}
			w.end()
			for _, a := range m.Args {
				w.field("arg", a)
			}
			for _, a := range m.Throws {
				w.field("throws", a)
			}
			w.annotations(m.Annotations)
			w.end()
		}
		w.annotations(s.Annotations)
		w.end()
	}
	w.end()
	w.end()
	return w.String()
}
