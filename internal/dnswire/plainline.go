package dnswire

import (
	"encoding/binary"

	"github.com/zonecast/zonecast/record"
)

// The lines that zone files are full of need no scanner:
//
//	[name] [TTL] [IN] type rdata [; comment]
//
// with TTL and class in either order, the types of plainType, and names and texts
// without escapes. plainLine reads such a line from its octets. Any other line,
// also each that is wrong, it leaves to the scanner, which knows the whole
// language and says the errors: what plainLine takes must be a subset of that
// language and mean the same.

// plainLine takes the line at the scanner's place, or changes nothing.
func (p *zoneParser) plainLine(s *scanner) (taken bool, err error) {
	if p.slow || s.pos == len(s.b) {
		return false, nil
	}
	b, i := s.b, s.pos
	owner := p.owner
	if b[i] != ' ' && b[i] != '\t' {
		if p.spare, i = plainName(p.spare[:0], b, i, p.origin); i < 0 {
			return false, nil
		}
		owner = p.spare
		i = skipBlanks(b, i)
	} else {
		i = skipBlanks(b, i)
	}
	if len(owner) == 0 {
		return false, nil
	}
	t, ttl, hasTTL, i := plainType(b, i)
	if i < 0 {
		return false, nil
	}
	if i = p.plainRdata(t, b, skipBlanks(b, i)); i < 0 {
		return false, nil
	}
	if i = skipComment(b, skipBlanks(b, i)); i < 0 {
		return false, nil
	}
	switch {
	case hasTTL:
		p.lastTTL, p.hasLast = ttl, true
	case p.hasDefault:
		ttl = p.defaultTTL
	case p.hasLast:
		ttl = p.lastTTL
	default:
		return false, nil
	}
	if b[s.pos] != ' ' && b[s.pos] != '\t' {
		p.owner, p.spare = p.spare, p.owner
	}
	if err := p.give(s, s.line, owner, t, ttl, p.rdata); err != nil {
		return false, s.at(token{line: s.line, col: skipBlanks(b, s.pos) - s.start + 1}, err)
	}
	if s.pos = i; i < len(b) {
		s.newline()
	}
	return true, nil
}

// plainType reads [TTL] [class] type, or [class] [TTL] type. The index is -1 when
// that is not plain, as in all functions here.
func plainType(b []byte, i int) (t record.Type, ttl uint32, hasTTL bool, next int) {
	hasClass := false
	for {
		var word uint64 // the last eight octets, letters in lower case, the last octet lowest
		from := i
		for ; i < len(b) && plainOctet[b[i]] != 0; i++ {
			word = word<<8 | uint64(b[i]|0x20)
		}
		n := i - from
		if n == 0 || !ends(b, i) {
			return 0, 0, false, -1
		}
		switch {
		case b[from] >= '0' && b[from] <= '9':
			v, end := plainNumber(b, from, record.MaxTTL)
			if end != i || hasTTL {
				return 0, 0, false, -1
			}
			ttl, hasTTL = v, true
		case n == 2 && word == 'i'<<8|'n' && !hasClass:
			hasClass = true
		default:
			if t = plainMnemonic(word); t == 0 {
				return 0, 0, false, -1
			}
			return t, ttl, hasTTL, i
		}
		i = skipBlanks(b, i)
	}
}

// plainMnemonic is the type of a word as plainType packs it, or 0. No octet of a
// word is zero, so that a longer word is none of these.
func plainMnemonic(word uint64) record.Type {
	switch word {
	case 'a':
		return record.TypeA
	case 'a'<<24 | 'a'<<16 | 'a'<<8 | 'a':
		return record.TypeAAAA
	case 'n'<<8 | 's':
		return record.TypeNS
	case 'c'<<32 | 'n'<<24 | 'a'<<16 | 'm'<<8 | 'e':
		return record.TypeCNAME
	case 'p'<<16 | 't'<<8 | 'r':
		return record.TypePTR
	case 'm'<<8 | 'x':
		return record.TypeMX
	case 't'<<16 | 'x'<<8 | 't':
		return record.TypeTXT
	case 's'<<16 | 'r'<<8 | 'v':
		return record.TypeSRV
	}
	return 0
}

// plainRdata reads RDATA of a type of plainMnemonic to p.rdata.
func (p *zoneParser) plainRdata(t record.Type, b []byte, i int) int {
	out := p.rdata[:0]
	switch t {
	case record.TypeA:
		out, i = plainIPv4(out, b, i)
	case record.TypeAAAA:
		out, i = plainIPv6(out, b, i)
	case record.TypeTXT:
		out, i = plainTexts(out, b, i)
	default:
		numbers := 0
		if t == record.TypeMX {
			numbers = 1
		} else if t == record.TypeSRV {
			numbers = 3
		}
		for range numbers {
			var v uint32
			if v, i = plainNumber(b, i, 1<<16-1); i < 0 {
				return -1
			}
			out = binary.BigEndian.AppendUint16(out, uint16(v))
			i = skipBlanks(b, i)
		}
		out, i = plainName(out, b, i, p.origin)
	}
	p.rdata = out
	return i
}

// plainName appends a name that is without escapes and "@" only as a whole.
func plainName(out, b []byte, i int, origin record.Name) ([]byte, int) {
	if i < len(b) && b[i] == '@' {
		if origin == "" || !ends(b, i+1) {
			return out, -1
		}
		return append(out, origin...), i + 1
	}
	base := len(out)
	label := base // index of the label's length octet
	out = append(out, 0)
	for ; i < len(b); i++ {
		c := plainOctet[b[i]]
		if c == 0 {
			break
		}
		if c != '.' {
			out = append(out, c)
			continue
		}
		n := len(out) - label - 1
		if n == 0 || n > 63 {
			return out, -1
		}
		out[label] = byte(n)
		label = len(out)
		out = append(out, 0)
	}
	switch n := len(out) - label - 1; {
	case !ends(b, i) || n > 63 || len(out) == base+1:
		return out, -1
	case n > 0: // no dot at its end: relative
		out[label] = byte(n)
		out = append(out, origin...)
	}
	if len(out)-base > 255 {
		return out, -1
	}
	return out, i
}

// plainNumber reads a word of up to ten digits.
func plainNumber(b []byte, i int, most uint64) (uint32, int) {
	from, v := i, uint64(0)
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if i-from == 10 {
			return 0, -1
		}
		v = v*10 + uint64(b[i]-'0')
	}
	if i == from || v > most || !ends(b, i) {
		return 0, -1
	}
	return uint32(v), i
}

func plainIPv4(out, b []byte, i int) ([]byte, int) {
	for k := range 4 {
		if k > 0 {
			if i == len(b) || b[i] != '.' {
				return out, -1
			}
			i++
		}
		from, v := i, 0
		for i < len(b) && i < from+3 && b[i]-'0' <= 9 {
			v = v*10 + int(b[i]-'0')
			i++
		}
		if i == from || v > 255 || b[from] == '0' && i > from+1 {
			return out, -1
		}
		out = append(out, byte(v))
	}
	if !ends(b, i) {
		return out, -1
	}
	return out, i
}

// plainIPv6 reads an address without an IPv4 address in it.
func plainIPv6(out, b []byte, i int) ([]byte, int) {
	var a [16]byte
	n, gap := 0, -1 // octets of a; where "::" is among them
	if i+1 < len(b) && b[i] == ':' && b[i+1] == ':' {
		gap = 0
		i += 2
	}
	for i < len(b) && hexDigit[b[i]] != 0 {
		if n == 16 {
			return out, -1
		}
		v, from := 0, i
		for i < len(b) && hexDigit[b[i]] != 0 {
			v = v<<4 | int(hexDigit[b[i]]-1)
			i++
			if i > from+4 {
				return out, -1
			}
		}
		a[n], a[n+1] = byte(v>>8), byte(v)
		n += 2
		if i == len(b) || b[i] != ':' {
			break
		}
		i++
		switch {
		case i == len(b):
			return out, -1
		case b[i] == ':':
			if gap >= 0 {
				return out, -1
			}
			gap = n
			i++
		case hexDigit[b[i]] == 0:
			return out, -1
		}
	}
	if !ends(b, i) || (gap < 0) != (n == 16) {
		return out, -1
	}
	if gap >= 0 {
		tail := copy(a[16-(n-gap):], a[gap:n])
		clear(a[gap : 16-tail])
	}
	return append(out, a[:]...), i
}

// plainTexts reads one text or more, quoted or words, to the end of the line.
func plainTexts(out, b []byte, i int) ([]byte, int) {
	texts := 0
	for ; i < len(b); i = skipBlanks(b, i) {
		quoted := b[i] == '"'
		if quoted {
			i++
		}
		from := i
		for i < len(b) && textOctet[b[i]]&wordText != 0 || quoted && i < len(b) && textOctet[b[i]]&quotedText != 0 {
			i++
		}
		n := i - from
		if quoted {
			if i == len(b) || b[i] != '"' {
				return out, -1
			}
			i++
		} else if n == 0 {
			break
		}
		if n > 255 || len(out)+1+n > record.MaxRdata {
			return out, -1
		}
		out = append(append(out, byte(n)), b[from:from+n]...)
		texts++
	}
	if texts == 0 || !ends(b, i) {
		return out, -1
	}
	return out, i
}

func skipBlanks(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return i
}

// skipComment gives the index of the line's end, before which only a comment may be.
func skipComment(b []byte, i int) int {
	if i == len(b) || b[i] == '\n' || b[i] == '\r' {
		return i
	}
	if b[i] != ';' {
		return -1
	}
	for i < len(b) && b[i] != '\n' && b[i] != '\r' {
		i++
	}
	return i
}

// ends tells whether a word may end before b[i]. A quote or a parenthesis is not
// plain there.
func ends(b []byte, i int) bool {
	return i == len(b) || b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' || b[i] == ';'
}

// plainOctet is what an octet of a plain name, TTL, class or type is in lower case,
// and 0 for octets that are not plain there.
var plainOctet = func() (to [256]byte) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-_*/.") {
		to[c] = c
		if c >= 'a' && c <= 'z' {
			to[c-0x20] = c
		}
	}
	return to
}()

// hexDigit is the value of a hexadecimal digit and 1, and 0 for other octets.
var hexDigit = func() (to [256]byte) {
	for i, c := range []byte("0123456789abcdef") {
		to[c] = byte(i) + 1
		if c >= 'a' {
			to[c-0x20] = byte(i) + 1
		}
	}
	return to
}()

// Where an octet can be in a plain text.
const (
	wordText   = 1 << iota // in a word, and in quotes
	quotedText             // in quotes only
)

var textOctet = func() (to [256]byte) {
	for c := range 256 {
		to[c] = wordText
	}
	for _, c := range []byte("\x00 \t;()") {
		to[c] = quotedText
	}
	for _, c := range []byte("\r\n\\\"") {
		to[c] = 0
	}
	return to
}()
