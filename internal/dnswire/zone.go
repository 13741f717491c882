package dnswire

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Bounds of one zone file with all that it includes. They are our own choice, far
// above real files and far below what would exhaust a machine.
const (
	maxZoneBytes    = 512 << 20 // octets read
	maxIncludes     = 1000      // $INCLUDE lines followed
	maxIncludeDepth = 16        // files inside one another; also ends a cycle
	maxGenerate     = 65536     // records of one $GENERATE line
	maxRecords      = 10 << 20  // records
	maxOctets       = 1 << 30   // octets of owners and RDATA: $GENERATE makes 65,536 of a line
	maxTokens       = 70000     // words of one entry: a 64 KiB RDATA of one-octet words
	maxParens       = 100
)

// ParseZone reads the zone file called file and gives each record to yield, in
// order, with its place as file:line. $INCLUDE finds files inside fsys only.
// files is every file that was read, the zone file first, also when there is an
// error: a change in any of them may mend it. An error starts with
// file:line:column when it is about a line. An error of yield ends the parse and
// is returned with the place before it.
//
// It reads what BIND reads, with these rules where RFC 1035 is silent: a record
// without TTL has that of $TTL, else that of the record before (RFC 1035), else
// the SOA's minimum; an included file starts with the includer's owner and
// origin and gives back neither; a name after $INCLUDE is relative to the
// including file's directory, or if nothing is there to fsys's root. Stricter than
// BIND: a TTL above record.MaxTTL is an error.
func ParseZone(fsys fs.FS, file string, origin record.Name,
	yield func(owner record.Name, t record.Type, ttl uint32, rd record.Rdata, place string) error,
) (files []string, err error) {
	var owner record.Name
	return ScanZone(fsys, file, origin, func(r *ZoneRecord) error {
		if !r.SameOwner {
			owner = record.Name(r.Owner)
		}
		return yield(owner, r.Type, r.TTL, record.Rdata(r.Rdata), r.Place())
	})
}

type zoneParser struct {
	fsys fs.FS
	fn   func(*ZoneRecord) error
	slow bool // every line goes through the scanner, also the plain ones

	files    []string // distinct, in the order of their first reading
	bytes    int64
	includes int
	depth    int
	records  int
	octets   int

	origin record.Name
	owner  []byte // of the record before; empty when there is none yet
	spare  []byte // an owner that is being read
	rdata  []byte // that is being read
	buf    []byte // of the zone file's octets

	rec   ZoneRecord
	given []byte // the owner that fn had last

	// TTLs in force; the last of a record holds only without a default.
	defaultTTL, lastTTL uint32
	hasDefault, hasLast bool
}

// read reads a file, to buf where that is large enough.
func (p *zoneParser) read(file string, buf []byte) ([]byte, error) {
	if !slices.Contains(p.files, file) {
		p.files = append(p.files, file)
	}
	// Before opening it: to open a named pipe would wait for a writer.
	st, err := fs.Stat(p.fsys, file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("is no regular file")
	}
	f, err := p.fsys.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAll(io.LimitReader(f, maxZoneBytes-p.bytes+1), st.Size(), buf)
	if err != nil {
		return nil, err
	}
	if p.bytes += int64(len(b)); p.bytes > maxZoneBytes {
		return nil, fmt.Errorf("zone file and its includes are larger than %d octets", int64(maxZoneBytes))
	}
	return b, nil
}

// readAll is io.ReadAll of about size octets, to b where that is large enough.
func readAll(r io.Reader, size int64, b []byte) ([]byte, error) {
	b = b[:0]
	if need := min(size, maxZoneBytes) + 1; int64(cap(b)) < need { // one more, so that the end is seen without growing
		b = make([]byte, 0, need)
	}
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b)/4+512)
		}
	}
}

func (p *zoneParser) file(file string) error {
	b, err := p.read(file, p.buf)
	if err != nil {
		return fmt.Errorf("%s: %w", file, withoutPath(err))
	}
	p.buf = b
	return p.entries(file, b)
}

func (p *zoneParser) entries(file string, b []byte) error {
	s := newScanner(file, b)
	for {
		if taken, err := p.plainLine(s); err != nil {
			return err
		} else if taken {
			continue
		}
		e, ok, err := s.next()
		if err != nil || !ok {
			return err
		}
		first := e.tokens[0]
		if !e.blank && !first.quoted && strings.HasPrefix(first.text, "$") {
			err = p.directive(s, e)
		} else {
			err = p.record(s, e)
		}
		if err != nil {
			return err
		}
	}
}

func (p *zoneParser) directive(s *scanner, e entry) error {
	word, args := strings.ToUpper(e.tokens[0].text), e.tokens[1:]
	need := func(least, most int, form string) error {
		if len(args) < least {
			return s.at(e.tokens[len(e.tokens)-1], fmt.Errorf("%s is incomplete, expected %s", word, form))
		}
		if len(args) > most {
			return s.at(args[most], fmt.Errorf("%q after the end of %s, expected %s", clip(args[most].text), word, form))
		}
		return nil
	}
	switch word {
	case "$ORIGIN":
		if err := need(1, 1, "$ORIGIN name"); err != nil {
			return err
		}
		n, err := parseName(args[0].text, p.origin)
		if err != nil {
			return s.at(args[0], err)
		}
		p.origin = n
	case "$TTL":
		if err := need(1, 1, "$TTL seconds"); err != nil {
			return err
		}
		v, err := zoneTTL(args[0].text)
		if err != nil {
			return s.at(args[0], err)
		}
		p.defaultTTL, p.hasDefault = v, true
	case "$INCLUDE":
		if err := need(1, 2, "$INCLUDE file [origin]"); err != nil {
			return err
		}
		return p.include(s, args)
	case "$GENERATE":
		if err := need(4, maxTokens, "$GENERATE start-stop[/step] name [TTL] [class] type rdata"); err != nil {
			return err
		}
		return p.generate(s, e.line, args)
	default:
		return s.at(e.tokens[0], fmt.Errorf("directive %q is unknown, expected $ORIGIN, $TTL, $INCLUDE or $GENERATE", clip(e.tokens[0].text)))
	}
	return nil
}

func (p *zoneParser) include(s *scanner, args []token) error {
	origin := p.origin
	if len(args) == 2 {
		n, err := parseName(args[1].text, p.origin)
		if err != nil {
			return s.at(args[1], err)
		}
		origin = n
	}
	raw, err := unescape(args[0].text)
	if err != nil {
		return s.at(args[0], err)
	}
	where := args[0]
	if p.depth == maxIncludeDepth {
		return s.at(where, fmt.Errorf("$INCLUDE %q: files include one another more than %d deep: is it a cycle?", clip(args[0].text), maxIncludeDepth))
	}
	if p.includes++; p.includes > maxIncludes {
		return s.at(where, fmt.Errorf("$INCLUDE %q: more than %d includes", clip(args[0].text), maxIncludes))
	}
	if path.IsAbs(string(raw)) {
		return s.at(where, fmt.Errorf("$INCLUDE %q: path is absolute, expected one inside the zone directory, relative to the including file", clip(args[0].text)))
	}
	name := path.Join(path.Dir(s.file), string(raw))
	if !fs.ValidPath(name) {
		return s.at(where, fmt.Errorf("$INCLUDE %q: path leads out of the zone directory", clip(args[0].text)))
	}
	b, err := p.read(name, nil)
	if top := path.Clean(string(raw)); errors.Is(err, fs.ErrNotExist) && top != name && fs.ValidPath(top) {
		if b2, err2 := p.read(top, nil); !errors.Is(err2, fs.ErrNotExist) {
			name, b, err = top, b2, err2
		}
	}
	if err != nil {
		return s.at(where, fmt.Errorf("$INCLUDE %q: %w", clip(args[0].text), withoutPath(err)))
	}
	savedOrigin, savedOwner := p.origin, string(p.owner)
	p.origin = origin
	p.depth++
	err = p.entries(name, b)
	p.depth--
	p.origin, p.owner = savedOrigin, append(p.owner[:0], savedOwner...)
	if err != nil {
		return err // says the included file's own place
	}
	return nil
}

// withoutPath takes away what fs.PathError repeats.
func withoutPath(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (p *zoneParser) record(s *scanner, e entry) error {
	toks := e.tokens
	if !e.blank {
		n, err := parseName(toks[0].text, p.origin)
		if err != nil {
			return s.at(toks[0], err)
		}
		p.owner = append(p.owner[:0], n...)
		toks = toks[1:]
	}
	if len(p.owner) == 0 {
		return s.at(toks[0], errors.New("the first record has no owner: the line starts with white space, expected a name"))
	}
	return p.body(s, e, p.owner, toks)
}

// body reads [TTL] [class] type rdata, or [class] [TTL] type rdata.
func (p *zoneParser) body(s *scanner, e entry, owner []byte, toks []token) error {
	var ttl uint32
	var hasTTL, hasClass bool
	i := 0
	for ; i < len(toks); i++ {
		text := toks[i].text
		if v, ok := seconds(text); ok && !hasTTL {
			if v > record.MaxTTL {
				return s.at(toks[i], fmt.Errorf("TTL is %d, at most %d (RFC 2181 §8)", v, record.MaxTTL))
			}
			ttl, hasTTL = v, true
			continue
		}
		if class, ok := className(text); ok && !hasClass {
			if class != 1 {
				return s.at(toks[i], fmt.Errorf("class is %s, only IN is served", strings.ToUpper(clip(text))))
			}
			hasClass = true
			continue
		}
		break
	}
	if i == len(toks) {
		return s.at(e.tokens[len(e.tokens)-1], errors.New("record ends before its type"))
	}
	t, err := record.ParseType(toks[i].text)
	if err != nil {
		return s.at(toks[i], err)
	}
	rd, bad, err := parseRdata(t, toks[i+1:], p.origin)
	if err != nil {
		return s.at(toks[min(i+1+bad, len(toks)-1)], err)
	}
	switch {
	case hasTTL:
		p.lastTTL, p.hasLast = ttl, true
	case p.hasDefault:
		ttl = p.defaultTTL
	case p.hasLast:
		ttl = p.lastTTL
	case t == record.TypeSOA:
		ttl = soaMinimum(rd)
		p.defaultTTL, p.hasDefault = ttl, true
	default:
		return s.at(toks[i], errors.New("no TTL: expected one here, a $TTL line before, or the SOA as the first record"))
	}
	if ttl > record.MaxTTL {
		return s.at(toks[i], fmt.Errorf("TTL is %d, at most %d (RFC 2181 §8)", ttl, record.MaxTTL))
	}
	p.rdata = append(p.rdata[:0], rd...)
	if err := p.give(s, e.line, owner, t, ttl, p.rdata); err != nil {
		return s.at(e.tokens[0], err)
	}
	return nil
}

// soaMinimum is the last field of a SOA (RFC 1035 §3.3.13).
func soaMinimum(rd record.Rdata) uint32 {
	b := rd[len(rd)-4:]
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func zoneTTL(text string) (uint32, error) {
	v, err := parseTTL(text)
	if err == nil && v > record.MaxTTL {
		err = fmt.Errorf("TTL is %d, at most %d (RFC 2181 §8)", v, record.MaxTTL)
	}
	return v, err
}

// className reads the classes of RFC 1035 §3.2.4 and CLASSnnn (RFC 3597 §5).
func className(text string) (uint16, bool) {
	if text == "" || text[0]|0x20 != 'i' && text[0]|0x20 != 'c' && text[0]|0x20 != 'h' {
		return 0, false
	}
	switch up := strings.ToUpper(text); up {
	case "IN", "CLASS1":
		return 1, true
	case "CH", "CHAOS":
		return 3, true
	case "HS", "HESIOD":
		return 4, true
	default:
		rest, ok := strings.CutPrefix(up, "CLASS")
		return 0, ok && rest != "" && strings.Trim(rest, "0123456789") == ""
	}
}
