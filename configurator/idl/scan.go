package idl

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of one file, our own choice: far above real ones.
const (
	// MaxFile is how many octets a file may have.
	MaxFile = 4 << 20
	// maxDepth is how deep types, and how deep literals, may be inside one another.
	maxDepth = 32
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenSymbol
	tokenName
	tokenInt
	tokenDouble
	tokenLiteral
)

type token struct {
	kind   tokenKind
	text   string // of a literal: without quotes and escapes
	int    int64
	double float64
	pos    Pos
}

type scanner struct {
	file string
	src  string
	at   int
	line int
	bol  int    // offset of the line's first octet
	doc  string // the last doc comment that nothing has taken

	// As the compiler has it, the first doc comment is the file's when no header
	// stands before it.
	fileDoc      string
	hasFileDoc   bool
	headerBefore bool
}

func (s *scanner) pos() Pos { return Pos{s.file, s.line, s.at - s.bol + 1} }

func (s *scanner) rest() string { return s.src[s.at:] }

// skip goes on by n octets, which may have line ends.
func (s *scanner) skip(n int) {
	text := s.src[s.at : s.at+n]
	if k := strings.Count(text, "\n"); k > 0 {
		s.line += k
		s.bol = s.at + strings.LastIndexByte(text, '\n') + 1
	}
	s.at += n
}

// blank skips white space and comments; doc comments are kept.
func (s *scanner) blank() error {
	for s.at < len(s.src) {
		rest := s.rest()
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			s.skip(1)
		case rest[0] == '#', strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			s.skip(n)
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return s.pos().errorf("comment is not closed, expected */")
			}
			text := rest[2 : n+2]
			s.skip(n + 4)
			// As the compiler has it: comments of asterisks alone are no doc.
			if strings.HasPrefix(text, "*") && strings.Trim(text, "*") != "" {
				s.doc = cleanDoc(text[1:] + " ")
				if !s.hasFileDoc && !s.headerBefore {
					s.fileDoc, s.hasFileDoc = s.doc, true
				}
			}
		default:
			return nil
		}
	}
	return nil
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// next gives the next token.
func (s *scanner) next() (token, error) {
	if err := s.blank(); err != nil {
		return token{}, err
	}
	t := token{pos: s.pos()}
	if s.at == len(s.src) {
		return t, nil
	}
	rest := s.rest()
	c := rest[0]
	switch {
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n]) ||
			rest[n] == '.' && n+1 < len(rest) && (isLetter(rest[n+1]) || isDigit(rest[n+1]))) {
			n++
		}
		t.kind, t.text = tokenName, rest[:n]
		s.skip(n)
	case c == '"' || c == '\'':
		return s.literal(t)
	case isDigit(c) || c == '+' || c == '-' || c == '.':
		return s.number(t)
	case strings.IndexByte(":;,{}()=<>[]*&", c) >= 0:
		t.kind, t.text = tokenSymbol, rest[:1]
		s.skip(1)
	default:
		r, _ := utf8.DecodeRuneInString(rest)
		return t, t.pos.errorf("character %q is not expected here", r)
	}
	return t, nil
}

func (s *scanner) number(t token) (token, error) {
	rest := s.rest()
	digits := func(i int, is func(byte) bool) int {
		for i < len(rest) && is(rest[i]) {
			i++
		}
		return i
	}
	i := 0
	if rest[0] == '+' || rest[0] == '-' {
		i = 1
	}
	if strings.HasPrefix(rest[i:], "0x") {
		isHex := func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
		if n := digits(i+2, isHex); n > i+2 {
			t.kind, t.text = tokenInt, rest[:n]
			v, err := strconv.ParseInt(strings.TrimPrefix(rest[:i], "+")+rest[i+2:n], 16, 64)
			if err != nil {
				return t, t.pos.errorf("number %s does not fit 64 bits", clip(rest[:n]))
			}
			t.int = v
			s.skip(n)
			return t, nil
		}
	}
	n := digits(i, isDigit)
	whole := n
	if n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
		n = digits(n+1, isDigit)
	}
	if n < len(rest) && rest[n]|0x20 == 'e' && n > i {
		k := n + 1
		if k < len(rest) && (rest[k] == '+' || rest[k] == '-') {
			k++
		}
		if m := digits(k, isDigit); m > k {
			n = m
		}
	}
	if n == i {
		return t, t.pos.errorf("character %q is not expected here", rest[0])
	}
	t.text = rest[:n]
	var err error
	if n == whole {
		t.kind = tokenInt
		t.int, err = strconv.ParseInt(strings.TrimPrefix(t.text, "+"), 10, 64)
	} else {
		t.kind = tokenDouble
		t.double, err = strconv.ParseFloat(t.text, 64)
	}
	if err != nil {
		return t, t.pos.errorf("number %s does not fit 64 bits", clip(t.text))
	}
	s.skip(n)
	return t, nil
}

func (s *scanner) literal(t token) (token, error) {
	mark := s.src[s.at]
	var sb strings.Builder
	rest := s.rest()
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; c {
		case mark:
			t.kind, t.text = tokenLiteral, sb.String()
			s.skip(i + 1)
			if !utf8.ValidString(t.text) {
				return t, t.pos.errorf("text is not UTF-8")
			}
			return t, nil
		case '\n':
			return t, t.pos.errorf("text is not closed on its line, expected %c", mark)
		case '\\':
			i++
			k := -1
			if i < len(rest) {
				k = strings.IndexByte(`rnt"'\`, rest[i])
			}
			if k < 0 {
				return t, t.pos.errorf(`escape in the text is unknown, expected \r, \n, \t, \", \' or \\`)
			}
			sb.WriteByte("\r\n\t\"'\\"[k])
		default:
			sb.WriteByte(c)
		}
	}
	return t, t.pos.errorf("text is not closed, expected %c", mark)
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
