package idl

import "strings"

// cleanDoc gives the text of a doc comment, without its frame of asterisks, as the
// Thrift compiler has it: the steps are those of its clean_up_doctext, oddities
// included.
func cleanDoc(text string) string {
	text = strings.ReplaceAll(text, "\r", "")
	lines := strings.Split(text, "\n")
	const blank = " \t"
	if last := len(lines) - 1; strings.Trim(lines[last], blank) == "" {
		lines = lines[:last]
	}
	if len(lines) == 0 {
		return ""
	}
	if t := strings.TrimLeft(lines[0], blank); t != "" || lines[0] == "" {
		lines[0] = t
	} else {
		lines[0] = ""
	}
	rest := lines[1:]
	indent := func(l string) int { return len(l) - len(strings.TrimLeft(l, blank)) }
	cut := func(n int) {
		for i, l := range rest {
			rest[i] = l[min(n, len(l)):]
		}
	}

	prefix, found, have := 0, false, true
	for i, l := range rest {
		n := indent(l)
		switch {
		case l == "":
		case n == len(l):
			rest[i] = ""
		case !found && l[n] == '*':
			found, prefix = true, n
		case !found, l[n] != '*' || n != prefix:
			have = false
		}
		if !have {
			break
		}
	}
	if have {
		cut(prefix + 1)
	}
	least := -1
	for _, l := range rest {
		if n := indent(l); n < len(l) && (least < 0 || n < least) {
			least = n
		}
	}
	if least >= 0 {
		cut(least)
	}
	for i, l := range lines {
		if t := strings.TrimRight(l, blank); t != "" {
			lines[i] = t
		}
	}
	if lines[0] == "" {
		lines = lines[1:]
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}
