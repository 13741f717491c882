package dnswire

import (
	"bytes"
	"fmt"
	"strings"
)

// token is a word of a zone file. text has its escapes still in it; a quoted one
// stands without its quotes.
type token struct {
	text      string
	quoted    bool
	line, col int // from 1; col counts octets
}

// entry is one logical line: parentheses are resolved and comments gone.
type entry struct {
	line   int
	blank  bool // starts with white space: the owner is the one before
	tokens []token
}

// scanner cuts a master file (RFC 1035 §5.1) into entries, as BIND's lexer does:
// parentheses, quotes and white space end a word, a line end inside parentheses is
// white space, and inside quotes an error.
type scanner struct {
	file   string
	b      []byte
	pos    int
	line   int
	start  int // index of the line's first octet
	tokens []token
}

func newScanner(file string, b []byte) *scanner { return &scanner{file: file, b: b, line: 1} }

// posError is an error with its place in a file.
type posError struct {
	file      string
	line, col int
	err       error
}

func (e *posError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", e.file, e.line, e.col, e.err)
}

func (e *posError) Unwrap() error { return e.err }

func (s *scanner) errorf(line, col int, format string, args ...any) error {
	return &posError{s.file, line, col, fmt.Errorf(format, args...)}
}

func (s *scanner) at(t token, err error) error { return &posError{s.file, t.line, t.col, err} }

// next gives the next entry with at least one token; ok is false at the end. The
// tokens are valid until the call after.
func (s *scanner) next() (e entry, ok bool, err error) {
	if s.pos == 0 && bytes.HasPrefix(s.b, []byte("\xef\xbb\xbf")) {
		return entry{}, false, s.errorf(1, 1, "file starts with a byte order mark: save it as UTF-8 without one")
	}
	s.tokens = s.tokens[:0]
	var open []token // parentheses not closed yet
	bol := true      // at the beginning of the logical line
	for s.pos < len(s.b) {
		c := s.b[s.pos]
		if bol {
			e = entry{line: s.line, blank: c == ' ' || c == '\t'}
			bol = false
		}
		col := s.pos - s.start + 1
		switch c {
		case ' ', '\t':
			s.pos++
		case '\n', '\r':
			s.newline()
			if len(open) > 0 {
				continue
			}
			if len(s.tokens) > 0 {
				e.tokens = s.tokens
				return e, true, nil
			}
			bol = true
		case ';':
			for s.pos < len(s.b) && s.b[s.pos] != '\n' && s.b[s.pos] != '\r' {
				s.pos++
			}
		case '(':
			if len(open) == maxParens {
				return entry{}, false, s.errorf(s.line, col, "more than %d parentheses inside one another", maxParens)
			}
			open = append(open, token{line: s.line, col: col})
			s.pos++
		case ')':
			if len(open) == 0 {
				return entry{}, false, s.errorf(s.line, col, "closing parenthesis without an opening one")
			}
			open = open[:len(open)-1]
			s.pos++
		case '"':
			if err := s.quoted(col); err != nil {
				return entry{}, false, err
			}
		default:
			if err := s.word(col); err != nil {
				return entry{}, false, err
			}
		}
		if len(s.tokens) > maxTokens {
			return entry{}, false, s.errorf(e.line, 1, "entry has more than %d words", maxTokens)
		}
	}
	if len(open) > 0 {
		return entry{}, false, s.errorf(open[0].line, open[0].col, "opening parenthesis is never closed")
	}
	e.tokens = s.tokens
	return e, len(s.tokens) > 0, nil
}

func (s *scanner) newline() {
	if s.b[s.pos] == '\r' && s.pos+1 < len(s.b) && s.b[s.pos+1] == '\n' {
		s.pos++
	}
	s.pos++
	s.line++
	s.start = s.pos
}

func (s *scanner) quoted(col int) error {
	s.pos++
	from := s.pos
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case '"':
			s.tokens = append(s.tokens, token{string(s.b[from:s.pos]), true, s.line, col})
			s.pos++
			return nil
		case '\n', '\r':
			return s.errorf(s.line, col, "quoted text is not closed on its line")
		case '\\':
			s.pos++
			if s.pos < len(s.b) && (s.b[s.pos] == '\n' || s.b[s.pos] == '\r') {
				continue
			}
		}
		s.pos++
	}
	return s.errorf(s.line, col, "quoted text is not closed")
}

func (s *scanner) word(col int) error {
	from := s.pos
	for s.pos < len(s.b) && strings.IndexByte(" \t\r\n;()\"", s.b[s.pos]) < 0 {
		if s.b[s.pos] == 0 {
			return s.errorf(s.line, s.pos-s.start+1, "octet 0x00 in a zone file: is it text?")
		}
		if s.b[s.pos] == '\\' {
			s.pos++
			if s.pos == len(s.b) || s.b[s.pos] == '\n' || s.b[s.pos] == '\r' {
				return s.errorf(s.line, s.pos-s.start, "backslash at the end of the line")
			}
		}
		s.pos++
	}
	s.tokens = append(s.tokens, token{string(s.b[from:s.pos]), false, s.line, col})
	return nil
}
