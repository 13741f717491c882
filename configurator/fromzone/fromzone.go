package fromzone

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/configurator/builtin"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// Program is a zone file as a program.
type Program struct {
	Zone *zonefile.Zone
	Name string // of its file: the zone's with .star behind it
	Text string
}

// width is how long a line may be, in characters, where it can be broken.
const width = 100

// alike is from how many neighbours that differ in their names alone a list is made.
const alike = 5

// Write reads a zone file and writes it as a program.
func Write(fsys fs.FS, file string) (*Program, error) {
	z, err := zonefile.Parse(fsys, file, record.Provenance{})
	if err != nil {
		return nil, err
	}
	w := writer{zone: z, used: map[string]bool{"zone": true, "soa": true}, comments: map[string]*comments{}}
	for _, f := range z.Files {
		b, err := fs.ReadFile(fsys, f)
		if err != nil {
			return nil, err
		}
		w.comments[f] = readComments(string(b))
	}
	origin, err := zonefile.Origin(file)
	if err != nil {
		return nil, err
	}
	if err := w.gather(fsys, file, origin); err != nil {
		return nil, err
	}
	return &Program{Zone: z, Name: fileName(z.Apex), Text: w.program(file)}, nil
}

// fileName is the name of a zone's program: what a path cannot have becomes "-".
func fileName(apex record.Name) string {
	if apex == record.Root {
		return "root.star"
	}
	name := strings.TrimSuffix(apex.String(), ".")
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == '/' || r == '\\' {
			return '-'
		}
		return r
	}, name)
	if strings.HasPrefix(name, ".") {
		name = "-" + name[1:]
	}
	// As it ends it would be a test or a validator.
	if strings.HasSuffix(name, "_test") || strings.HasSuffix(name, ".validate") {
		name += "-zone"
	}
	return name + ".star"
}

type writer struct {
	zone     *zonefile.Zone
	comments map[string]*comments // by file
	sets     []*set               // in the order of their first records
	used     map[string]bool      // functions
	ttl      uint32               // of the zone
}

// set is an RRset with what the file says beside it.
type set struct {
	record.RRset
	data   []record.Rdata // in the order of the file
	beside []string       // comment behind each of data
	above  []string       // comments before the first
}

// gather goes through the file once more, for the order and the comments.
func (w *writer) gather(fsys fs.FS, file string, origin record.Name) error {
	byKey := map[record.Key]*set{}
	for _, c := range w.zone.Claims {
		byKey[c.Key] = &set{RRset: c.RRset}
	}
	_, err := dnswire.ParseZone(fsys, file, origin, func(owner record.Name, t record.Type, _ uint32, rd record.Rdata, place string) error {
		s := byKey[record.Key{Owner: owner, Type: t}]
		if s == nil {
			return fmt.Errorf("%s %s is not in the zone that was read before: did the file change?", owner, t)
		}
		f, line := splitPlace(place)
		above, beside := w.comments[f].take(line)
		if len(s.data) == 0 {
			w.sets = append(w.sets, s)
		}
		s.above = append(s.above, above...)
		if i := slices.Index(s.data, rd); i >= 0 {
			s.beside[i] = cmp.Or(s.beside[i], beside)
			return nil
		}
		s.data, s.beside = append(s.data, rd), append(s.beside, beside)
		return nil
	})
	if err != nil {
		return err
	}
	count := map[uint32]int{}
	for _, s := range w.sets {
		if len(s.data) != len(s.Data) {
			return fmt.Errorf("%s is not what was read before: did the file change?", s.Key)
		}
		count[s.TTL]++
	}
	for _, ttl := range slices.Sorted(maps.Keys(count)) {
		if count[ttl] > count[w.ttl] {
			w.ttl = ttl
		}
	}
	return nil
}

func splitPlace(place string) (file string, line int) {
	i := strings.LastIndexByte(place, ':')
	fmt.Sscan(place[i+1:], &line)
	return place[:i], line
}

// program gives the text.
func (w *writer) program(file string) string {
	var body strings.Builder
	var soa string
	for i := 0; i < len(w.sets); {
		s := w.sets[i]
		if s.Type == record.TypeSOA {
			soa = w.soa(s)
			i++
			continue
		}
		n := 1
		for i+n < len(w.sets) && w.alike(s, w.sets[i+n]) {
			n++
		}
		if n < alike {
			n = 1
			w.one(&body, s)
		} else {
			w.many(&body, w.sets[i:i+n])
		}
		i += n
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# From the zone file %s.\n", oneLine(file))
	names := slices.Sorted(maps.Keys(w.used))
	for i, n := range names {
		names[i] = syntax.Quote(n, false)
	}
	fmt.Fprintf(&out, "load(\"//%s\", %s)\n\n", builtin.FunctionsFile, strings.Join(names, ", "))
	apex := w.zone.Apex.String()
	if w.zone.Apex != record.Root {
		apex = strings.TrimSuffix(apex, ".")
	}
	fmt.Fprintf(&out, "export(zone(\n    %s,\n", syntax.Quote(apex, false))
	fmt.Fprintf(&out, "    ttl = %d,\n%s    records = [\n%s    ],\n))\n", w.ttl, soa, body.String())
	for _, f := range w.zone.Files {
		for _, c := range w.comments[f].rest() {
			fmt.Fprintf(&out, "# %s\n", c)
		}
	}
	return out.String()
}

// above writes the comments before a set.
func (s *set) writeAbove(b *strings.Builder, indent string) {
	for _, c := range s.above {
		fmt.Fprintf(b, "%s# %s\n", indent, c)
	}
}

func (w *writer) soa(s *set) string {
	rd := []byte(s.data[0])
	primary, n, err := record.NameFromWire(rd)
	if err != nil {
		panic(err) // RDATA of a zone file was parsed
	}
	mailbox, m, err := record.NameFromWire(rd[n:])
	if err != nil {
		panic(err)
	}
	args := []string{w.name(primary), w.name(mailbox)}
	numbers := rd[n+m:]
	for i, field := range []string{"serial", "refresh", "retry_after", "expire", "minimum"} {
		args = append(args, fmt.Sprintf("%s = %d", field, binary.BigEndian.Uint32(numbers[4*i:])))
	}
	if s.TTL != w.ttl {
		args = append(args, fmt.Sprintf("ttl = %d", s.TTL))
	}
	var b strings.Builder
	s.writeAbove(&b, "    ")
	b.WriteString("    soa = soa(" + strings.Join(args, ", ") + "),")
	if s.beside[0] != "" {
		b.WriteString("  # " + s.beside[0])
	}
	return b.String() + "\n"
}

// name is a name as an argument.
func (w *writer) name(n record.Name) string {
	return syntax.Quote(builtin.Relative(n, w.zone.Apex), false)
}

// call is a function with the arguments behind the name: those of one record.
type call struct {
	function string
	args     []string // of the first record; empty: only of each record
	data     []string // one argument for each record
}

// calls gives the calls that make a set: one, or one for each record where a function
// makes only one. The name is not in their arguments.
func (w *writer) calls(s *set) []call {
	switch s.Type {
	case record.TypeA, record.TypeAAAA:
		c := call{function: strings.ToLower(s.Type.String())}
		for _, rd := range s.data {
			c.data = append(c.data, syntax.Quote(dnswire.FormatRdata(s.Type, rd), false))
		}
		return []call{c}
	case record.TypeNS, record.TypePTR, record.TypeCNAME:
		c := call{function: strings.ToLower(s.Type.String())}
		for _, rd := range s.data {
			n, size, err := record.NameFromWire([]byte(rd))
			if err != nil || size != len(rd) {
				return w.plain(s)
			}
			c.data = append(c.data, w.name(n))
		}
		return []call{c}
	case record.TypeMX, record.TypeSRV:
		numbers := map[record.Type]int{record.TypeMX: 1, record.TypeSRV: 3}[s.Type]
		var all []call
		for _, rd := range s.data {
			if len(rd) < 2*numbers {
				return w.plain(s)
			}
			n, size, err := record.NameFromWire([]byte(rd[2*numbers:]))
			if err != nil || size != len(rd)-2*numbers {
				return w.plain(s)
			}
			c := call{function: strings.ToLower(s.Type.String())}
			for i := range numbers {
				c.args = append(c.args, fmt.Sprint(binary.BigEndian.Uint16([]byte(rd[2*i:]))))
			}
			c.data = []string{w.name(n)}
			all = append(all, c)
		}
		return all
	case record.TypeTXT:
		c := call{function: "txt"}
		for _, rd := range s.data {
			text, ok := textOf(rd)
			if !ok {
				return w.plain(s)
			}
			c.data = append(c.data, syntax.Quote(text, false))
		}
		return []call{c}
	case record.TypeCAA:
		return w.caa(s)
	}
	return w.plain(s)
}

// textOf is the text of a TXT record, when txt() makes that record of it and people can
// read it.
func textOf(rd record.Rdata) (string, bool) {
	var sb strings.Builder
	for rest := string(rd); rest != ""; {
		n := int(rest[0])
		if n+1 > len(rest) {
			return "", false
		}
		sb.WriteString(rest[1 : n+1])
		rest = rest[n+1:]
	}
	text := sb.String()
	back, err := dnswire.ParseRdata(record.TypeTXT, builtin.QuoteText(text), record.Root)
	return text, err == nil && back == rd && readable(text)
}

func readable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// caa takes a record apart: flags, length of the tag, tag, value (RFC 8659 §4.1).
func (w *writer) caa(s *set) []call {
	var all []call
	for _, rd := range s.data {
		if len(rd) < 2 || len(rd) < 2+int(rd[1]) {
			return w.plain(s)
		}
		tag, value := string(rd[2:2+int(rd[1])]), string(rd[2+int(rd[1]):])
		back, err := dnswire.ParseRdata(s.Type, fmt.Sprintf("%d %s %s", rd[0], tag, builtin.Quote(value)), record.Root)
		if err != nil || back != rd || !readable(value) || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return w.plain(s)
		}
		all = append(all, call{"caa", []string{fmt.Sprint(rd[0]), syntax.Quote(tag, false)}, []string{syntax.Quote(value, false)}})
	}
	return all
}

// plain is rr(), which takes everything.
func (w *writer) plain(s *set) []call {
	c := call{function: "rr", args: []string{syntax.Quote(s.Type.String(), false)}}
	for _, rd := range s.data {
		c.data = append(c.data, syntax.Quote(dnswire.FormatRdata(s.Type, rd), false))
	}
	return []call{c}
}

func (w *writer) options(s *set) []string {
	if s.TTL != w.ttl {
		return []string{fmt.Sprintf("ttl = %d", s.TTL)}
	}
	return nil
}

// one writes one set.
func (w *writer) one(b *strings.Builder, s *set) {
	const indent = "        "
	s.writeAbove(b, indent)
	beside := s.beside
	for _, c := range w.calls(s) {
		w.used[c.function] = true
		mine := beside[:len(c.data)]
		beside = beside[len(c.data):]
		args := slices.Concat([]string{w.name(s.Owner)}, c.args, c.data, w.options(s))
		line := fmt.Sprintf("%s%s(%s),", indent, c.function, strings.Join(args, ", "))
		comment := strings.Join(slices.DeleteFunc(slices.Clone(mine), func(t string) bool { return t == "" }), "; ")
		if len(c.data) == 1 || comment == "" && len(line) <= width {
			b.WriteString(line)
			if comment != "" {
				b.WriteString("  # " + comment)
			}
			b.WriteByte('\n')
			continue
		}
		fmt.Fprintf(b, "%s%s(\n%s    %s,\n", indent, c.function, indent, strings.Join(append([]string{w.name(s.Owner)}, c.args...), ", "))
		for i, d := range c.data {
			fmt.Fprintf(b, "%s    %s,", indent, d)
			if mine[i] != "" {
				b.WriteString("  # " + mine[i])
			}
			b.WriteByte('\n')
		}
		for _, o := range w.options(s) {
			fmt.Fprintf(b, "%s    %s,\n", indent, o)
		}
		fmt.Fprintf(b, "%s),\n", indent)
	}
}

// alike tells whether t, behind s, differs from it in its name alone.
func (w *writer) alike(s, t *set) bool {
	return s.Type == t.Type && s.TTL == t.TTL && len(s.data) == 1 && slices.Equal(s.data, t.data) && len(t.above) == 0 && t.beside[0] == "" && s.beside[0] == ""
}

// many writes sets that differ in their names alone, as a list.
func (w *writer) many(b *strings.Builder, sets []*set) {
	const indent = "        "
	s := sets[0]
	s.writeAbove(b, indent)
	c := w.calls(s)[0]
	w.used[c.function] = true
	args := slices.Concat([]string{"name"}, c.args, c.data, w.options(s))
	fmt.Fprintf(b, "%s[%s(%s) for name in [\n", indent, c.function, strings.Join(args, ", "))
	line := indent + "   "
	for _, t := range sets {
		word := " " + w.name(t.Owner) + ","
		if len(line)+len(word) > width && strings.TrimSpace(line) != "" {
			b.WriteString(line + "\n")
			line = indent + "   "
		}
		line += word
	}
	fmt.Fprintf(b, "%s\n%s]],\n", line, indent)
}
