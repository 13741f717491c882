package main

import (
	"strconv"
	"strings"
	"unicode"
)

// plain makes text from the network fit for a terminal: control characters, which
// could move the cursor, hide lines or begin new ones, and what turns the direction
// of writing are shown as escapes. Reasons may have any text; JSON has them as they
// are.
func plain(text string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if strings.IndexFunc(text, odd) < 0 {
		return text
	}
	var sb strings.Builder
	for _, r := range text {
		if !odd(r) {
			sb.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		sb.WriteString(q[1 : len(q)-1])
	}
	return sb.String()
}
