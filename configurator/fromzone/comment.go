package fromzone

import (
	"strings"
	"unicode"
)

// comments are those of one zone file, by line, until they are taken.
type comments struct {
	lines []string // of each line, "" for none
	whole []bool   // the line has nothing else
	next  int      // index of the first line that was not taken
}

// readComments finds what stands behind semicolons that are neither in quotes nor
// escaped. Quotes do not go beyond their line (package dnswire).
func readComments(text string) *comments {
	c := &comments{}
	for line := range strings.SplitSeq(text, "\n") {
		comment, whole := "", false
		quoted := false
	scan:
		for i := 0; i < len(line); i++ {
			switch line[i] {
			case '\\':
				i++
			case '"':
				quoted = !quoted
			case ';':
				if quoted {
					continue
				}
				comment = oneLine(strings.TrimLeft(line[i:], ";"))
				whole = strings.TrimSpace(line[:i]) == ""
				break scan
			}
		}
		c.lines, c.whole = append(c.lines, comment), append(c.whole, whole)
	}
	return c
}

// oneLine makes text of a comment fit for one line of a program.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " ")))
}

// take gives the comments above a record that starts at a line, counted from 1, and the
// one beside it, each once.
func (c *comments) take(line int) (above []string, beside string) {
	for ; c.next < line-1 && c.next < len(c.lines); c.next++ {
		if c.lines[c.next] != "" {
			above = append(above, c.lines[c.next])
		}
	}
	if i := line - 1; i < len(c.lines) && c.next == i {
		c.next++
		beside = c.lines[i]
	}
	return above, beside
}

// rest gives the comments that no record has taken.
func (c *comments) rest() []string {
	above, _ := c.take(len(c.lines) + 1)
	return above
}
