package formats

import (
	"fmt"
	"strings"
)

// knotLines reads Knot's own subset of YAML:
//
//	key:                     level 0
//	  - key: value           level 1
//	    key: [value, value]  level 2
//
// A value may be in double quotes, with backslashes. # begins a comment. Libraries for
// YAML do not read what Knot does: names that begin with *, and NO, which is Norway.
type knotLines struct {
	file string
	rest string
	line int
}

// knotItem is a key and its values.
type knotItem struct {
	place  string
	level  int
	key    string
	values []string
}

func (i *knotItem) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", i.place, fmt.Errorf(format, args...))
}

// next gives the next item; nil: the file ends.
func (l *knotLines) next() (*knotItem, error) {
	for l.rest != "" {
		line := l.cut()
		text := strings.TrimLeft(line, " ")
		if text == "" || text[0] == '#' || text == "---" {
			continue
		}
		i := &knotItem{place: fmt.Sprintf("%s:%d", l.file, l.line)}
		if text[0] == '\t' {
			return nil, i.errorf("a tab at the beginning, expected spaces")
		}
		if len(text) < len(line) {
			i.level = 2
		}
		if after, ok := strings.CutPrefix(text, "- "); ok {
			i.level, text = 1, strings.TrimLeft(after, " ")
		}
		key, value, ok := strings.Cut(text, ":")
		for ok && value != "" && value[0] != ' ' && value[0] != '\t' { // a colon within the key
			var more string
			more, value, ok = strings.Cut(value, ":")
			key += ":" + more
		}
		i.key = strings.Trim(strings.TrimSpace(key), `"`)
		if !ok || i.key == "" {
			return nil, i.errorf("found %q, expected key: value", clip(text))
		}
		return i, l.values(i, strings.TrimSpace(value))
	}
	return nil, nil
}

// cut takes the next line.
func (l *knotLines) cut() string {
	line, rest, _ := strings.Cut(l.rest, "\n")
	l.rest = rest
	l.line++
	return strings.TrimRight(line, " \t\r")
}

// maxValues bounds the values of an item.
const maxValues = 4096

// values reads what stands behind a key; a list may go on over lines.
func (l *knotLines) values(i *knotItem, text string) error {
	list := strings.HasPrefix(text, "[")
	if list {
		text = text[1:]
	}
	comma := true
	for {
		text = strings.TrimLeft(text, " \t")
		switch {
		case text == "" || text[0] == '#':
			if !list {
				return nil
			}
			if l.rest == "" {
				return i.errorf("the list is not closed, expected ]")
			}
			text = l.cut()
			continue
		case list && text[0] == ']':
			if tail := strings.TrimLeft(text[1:], " \t"); tail != "" && tail[0] != '#' {
				return i.errorf("found %q behind the list, expected nothing", clip(tail))
			}
			return nil
		case list && text[0] == ',':
			comma, text = true, text[1:]
			continue
		case !list && len(i.values) > 0 || !comma:
			return i.errorf("found %q behind a value, expected nothing, or a comma in a list", clip(text))
		case len(i.values) == maxValues:
			return i.errorf("more than %d values", maxValues)
		}
		var v string
		var err error
		if text[0] == '"' {
			v, text, err = quoted(text[1:])
			if err != nil {
				return i.errorf("%w", err)
			}
		} else {
			end := len(text)
			if list {
				if n := strings.IndexAny(text, ",]"); n >= 0 {
					end = n
				}
			}
			if n := strings.Index(text[:end], " #"); n >= 0 {
				end = n
			}
			v, text = strings.TrimRight(text[:end], " \t"), text[end:]
		}
		i.values = append(i.values, v)
		comma = false
	}
}

// quoted reads up to the closing quote.
func quoted(text string) (value, rest string, err error) {
	var b strings.Builder
	for n := 0; n < len(text); n++ {
		switch c := text[n]; {
		case c == '"':
			return b.String(), text[n+1:], nil
		case c == '\\' && n+1 < len(text) && (text[n+1] == '"' || text[n+1] == '\\'):
			n++
			b.WriteByte(text[n])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("a quote is not closed on its line")
}
