package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds a configuration file, in bytes: ten times what all options of the
// program with their comments take.
const maxFile = 1 << 20

// loadFile sets opts from the file called path. byKey has every option that exists.
func loadFile(path string, byKey map[string]*option, opts []*option) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	if len(b) > maxFile {
		return fmt.Errorf("read options: %s: larger than %d bytes", path, maxFile)
	}
	var doc map[string]any
	if _, err := toml.Decode(string(b), &doc); err != nil {
		var p toml.ParseError
		if errors.As(err, &p) {
			return fmt.Errorf("%s:%d:%d: %s", path, p.Position.Line, p.Position.Col, p.Message)
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	own := map[*option]bool{}
	for _, o := range opts {
		own[o] = true
	}
	entries := flatten(nil, doc)
	lines := keyLines(string(b))
	slices.SortStableFunc(entries, func(a, b entry) int { return lines[a.key] - lines[b.key] })
	var errs []error
	for _, e := range entries {
		place := path + ":" + strconv.Itoa(lines[e.key])
		o, ok := byKey[e.key]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: unknown key %s%s", place, e.key, hint(e, byKey)))
			continue
		}
		v := reflect.New(o.field.Type()).Elem()
		if err := o.kind.fromTOML(v, e.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s = %s: %w", place, e.key, o.shown(tomlText(e.value)), err))
			continue
		}
		if !own[o] {
			continue // of another command: that it is well written is all
		}
		o.field.Set(v)
		o.from, o.place = fromFile, place
		if abs, err := filepath.Abs(path); err == nil {
			o.place = abs + ":" + strconv.Itoa(lines[e.key])
		}
	}
	return errors.Join(errs...)
}

// entry is a key of a file with its value.
type entry struct {
	key   string // section.name; a part that is no bare key is in quotes
	table bool   // value is a table where none is expected
	value any
}

// flatten lists the keys of a document. Tables of the top are sections; deeper ones
// are values that fit no option.
func flatten(section toml.Key, doc map[string]any) []entry {
	var all []entry
	for k, v := range doc {
		key := append(slices.Clone(section), k)
		t, table := v.(map[string]any)
		if table && len(section) == 0 {
			all = append(all, flatten(key, t)...) // nothing, when all its lines are commented out
			continue
		}
		all = append(all, entry{key.String(), table, v})
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return all
}

// keyLines gives the line, from 1, at which each key of a valid document, and each
// table around it, first appears; keys are written as toml.Key.String does. The
// decoder does not tell. A statement ends where it can be decoded by itself, so
// lines are gathered until that is so; what comes out is exact for every document
// that the decoder takes.
func keyLines(doc string) map[string]int {
	lines := map[string]int{}
	var table toml.Key
	var statement strings.Builder
	first := 0
	for i, line := range strings.SplitAfter(doc, "\n") {
		if statement.Len() == 0 {
			first = i + 1
		}
		statement.WriteString(line)
		var one map[string]any
		md, err := toml.Decode(statement.String(), &one)
		if err != nil {
			continue
		}
		header := strings.HasPrefix(strings.TrimLeft(statement.String(), " \t"), "[")
		statement.Reset()
		if header {
			table = nil
		}
		for _, k := range md.Keys() {
			full := slices.Concat(table, k)
			for n := range full {
				if _, ok := lines[full[:n+1].String()]; !ok {
					lines[full[:n+1].String()] = first
				}
			}
		}
		if header {
			table = slices.MaxFunc(md.Keys(), func(a, b toml.Key) int { return len(a) - len(b) })
		}
	}
	return lines
}

// fromTOML sets v from a decoded value.
func (k kind) fromTOML(v reflect.Value, value any) error {
	found := tomlType(value)
	if !slices.Contains(k.toml, found) {
		return fmt.Errorf("expected %s, found %s", k.wantTOML(), tomlWords(found))
	}
	if k.elem == nil {
		return k.parse(v, tomlText(value))
	}
	list := reflect.MakeSlice(v.Type(), 0, 0)
	for i, e := range value.([]any) {
		ev := reflect.New(v.Type().Elem()).Elem()
		if err := k.elem.fromTOML(ev, e); err != nil {
			return fmt.Errorf("element %d: %w", i+1, err)
		}
		list = reflect.Append(list, ev)
	}
	v.Set(list)
	return nil
}

// wantTOML is want, with the quotes that TOML needs.
func (k kind) wantTOML() string {
	switch {
	case k.elem != nil:
		return "an array, each " + k.elem.wantTOML()
	case k.toml[0] == "string":
		return k.want + " in quotes"
	}
	return k.want
}

// tomlType names the type of a decoded value.
func tomlType(value any) string {
	switch value.(type) {
	case string:
		return "string"
	case int64:
		return "int"
	case float64:
		return "float"
	case bool:
		return "bool"
	case []any, []map[string]any:
		return "array"
	case map[string]any:
		return "table"
	}
	return "time"
}

func tomlWords(t string) string {
	return map[string]string{
		"string": "text in quotes", "int": "a whole number", "float": "a number with a point", "bool": "true or false",
		"array": "an array", "table": "a table", "time": "a date or time",
	}[t]
}

// tomlText writes a scalar as a flag takes it.
func tomlText(value any) string {
	if f, ok := value.(float64); ok {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return fmt.Sprint(value)
}

// hint names the key that was probably meant.
func hint(e entry, byKey map[string]*option) string {
	if e.table {
		return ": tables are not nested"
	}
	best, least := "", 3 // at most two letters wrong
	for k := range byKey {
		if d := distance(e.key, k); d < least || d == least && k < best {
			best, least = k, d
		}
	}
	if best != "" {
		return "; is " + best + " meant?"
	}
	section, _, ok := strings.Cut(e.key, ".")
	var names []string
	for _, o := range byKey {
		if ok && o.section == section {
			names = append(names, o.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return fmt.Sprintf("; [%s] has %s", section, strings.Join(names, ", "))
}

// distance is the number of letters to insert, remove or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
