package tinydns

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Report is what a file does not say as the sets say it.
type Report struct {
	Lines    int // written
	Problems []Problem
}

// Problem is one record, set or prefix that tinydns-data cannot say.
type Problem struct {
	What string // owner, type and location, or the prefix
	Why  string
	// Written: the file says it, but not exactly. False: it is left out.
	Written bool
}

// String is the problem as a line for people.
func (p Problem) String() string {
	if p.Written {
		return p.What + ": said differently: " + p.Why
	}
	return p.What + ": left out: " + p.Why
}

// WriteText writes sets and atlas as tinydns-data text, a line for each record and
// prefix, prefixes first, in the order given. Equal input gives equal octets. atlas
// may be nil.
func WriteText(w io.Writer, sets iter.Seq[record.Set], atlas *geo.Atlas) (Report, error) {
	bw := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	r, err := statements(sets, atlas, func(s *statement) error {
		line = append(s.appendText(line[:0]), '\n')
		_, err := bw.Write(line)
		return err
	})
	if err == nil {
		err = bw.Flush()
	}
	if err != nil {
		return r, fmt.Errorf("write tinydns data: %w", err)
	}
	return r, nil
}

// statement is one line: a prefix, or one record.
type statement struct {
	prefix netip.Prefix // valid for a prefix
	loc    record.Location

	owner record.Name
	typ   record.Type
	data  record.Rdata
	ttl   uint32
	ts    uint64
	// plain: the type has a line of its own, and it can say this RDATA.
	plain bool
}

// statements gives each line to yield, which does not keep it.
func statements(sets iter.Seq[record.Set], atlas *geo.Atlas, yield func(*statement) error) (Report, error) {
	w := writer{yield: yield}
	if atlas != nil {
		if err := w.atlas(atlas); err != nil {
			return w.report, err
		}
	}
	for s := range sets {
		w.now = s // one place for all: a pointer to s would be a new place for each
		if err := w.set(&w.now); err != nil {
			return w.report, err
		}
	}
	return w.report, nil
}

type writer struct {
	yield  func(*statement) error
	report Report
	now    record.Set
	s      statement
	own    bool // RRsets of own types were left out
}

func (w *writer) put() error {
	w.report.Lines++
	return w.yield(&w.s)
}

func (w *writer) problem(written bool, what, format string, args ...any) {
	w.report.Problems = append(w.report.Problems, Problem{what, fmt.Sprintf(format, args...), written})
}

func (w *writer) set(s *record.Set) error {
	if s.Type.IsOwn() { // thousands of a map: said once
		if !w.own {
			w.own = true
			w.problem(false, s.Key.String(), "maps, states of PoPs and terms of records are zonecast's own, and tinydns would answer with them")
		}
		return nil
	}
	if why := cannotLocate(s.Location); why != "" {
		w.problem(false, s.Key.String(), "%s", why)
		return nil
	}
	w.choice(s)
	for i, data := range s.Data {
		t := record.Terms{TTL: s.TTL, Weight: 1}
		if s.Terms != nil {
			t = s.Terms[i]
		}
		w.s = statement{loc: s.Location, owner: s.Owner, typ: s.Type, data: data, ttl: t.TTL}
		if !w.time(s.Key, t) || !w.form(s.Key) {
			continue
		}
		if err := w.put(); err != nil {
			return err
		}
	}
	return nil
}

// cannotLocate tells why a location cannot be said, or nothing.
func cannotLocate(lo record.Location) string {
	switch {
	case lo == "":
		return ""
	case len(lo) != 2:
		return fmt.Sprintf("location %q has %d octets, tinydns has locations of two", string(lo), len(lo))
	case lo == "\x00\x00":
		return `location "\x00\x00" means everybody to tinydns`
	case lo[0] == ':' || lo[1] == ':' || lo[0] == '\n' || lo[1] == '\n':
		return fmt.Sprintf("location %q has an octet that ends a field or a line", string(lo))
	}
	return ""
}

// choice reports how addresses are chosen, if tinydns does it differently: all
// records but A, and of A up to eight at random.
func (w *writer) choice(s *record.Set) {
	n := len(s.Data)
	chosen := s.Choose
	if chosen == 0 || chosen > n {
		chosen = n
	}
	tiny := n
	if s.Type == record.TypeA {
		tiny = min(n, most)
	}
	if chosen != tiny {
		w.problem(true, s.Key.String(), "%d of %d records are answered, tinydns answers %d", chosen, n, tiny)
	}
	for _, t := range s.Terms {
		if t.Weight != s.Terms[0].Weight {
			w.problem(true, s.Key.String(), "records have weights, to tinydns they are equal")
			return
		}
	}
}

// time sets TTL and timestamp, and tells whether they can be said: a timestamp is a
// start or, with a TTL of zero, an end.
func (w *writer) time(k record.Key, t record.Terms) bool {
	switch {
	case t.From > 0 && t.Until != 0:
		w.problem(false, k.String(), "a record with a start and an end, tinydns has one of them")
		return false
	case t.From > 0 && t.TTL == 0:
		w.problem(false, k.String(), "a record with a start and TTL 0, to tinydns that is an end")
		return false
	case t.From > 0:
		w.s.ts = label(t.From)
	case t.Until != 0:
		w.s.ts = label(t.Until)
		if t.TTL != 0 {
			w.s.ttl = 0
			w.problem(true, k.String(), "a record with an end and TTL %d, tinydns shrinks the TTL towards the end, from 3600 to 2", t.TTL)
		}
	}
	return true
}

// maxData is the largest record in a data.cdb that tinydns answers, in octets
// (tdlookup.c); one that is larger makes it silent about the whole name. 17 of them
// are type, location, TTL and timestamp.
const maxData = 32767 - 17

// form finds the line that says the RDATA, and tells whether there is one.
func (w *writer) form(k record.Key) bool {
	s := &w.s
	if len(s.data) > maxData {
		w.problem(false, k.String(), "RDATA has %d octets, tinydns answers up to %d", len(s.data), maxData)
		return false
	}
	switch s.typ {
	case record.TypeA:
		s.plain = len(s.data) == 4
	case record.TypeNS, record.TypeCNAME, record.TypePTR:
		s.plain = nameAt(s.data, 0) == len(s.data)
	case record.TypeMX:
		s.plain = len(s.data) > 2 && nameAt(s.data, 2) == len(s.data)
	case record.TypeSOA:
		rname := nameAt(s.data, 0)
		s.plain = rname > 0 && nameAt(s.data, rname) == len(s.data)-20
	case record.TypeTXT:
		s.plain = inPieces(s.data)
	}
	if !s.plain && prohibited(s.typ) {
		w.problem(false, k.String(), "RDATA of %d octets is malformed, and ':' cannot say this type", len(s.data))
		return false
	}
	return true
}

// nameAt gives where a name ends that begins at from; -1 if there is none.
func nameAt(d record.Rdata, from int) int {
	if from > len(d) {
		return -1
	}
	_, n, err := record.NameFromWire([]byte(d[from:min(len(d), from+maxName)]))
	if err != nil {
		return -1
	}
	return from + n
}

// inPieces tells whether a TXT is cut as both servers cut a text.
func inPieces(d record.Rdata) bool {
	if len(d) < 2 {
		return false
	}
	for i := 0; i < len(d); i += 1 + int(d[i]) {
		left := len(d) - i - 1
		if int(d[i]) != min(piece, left) || left == 0 {
			return false
		}
	}
	return true
}

// appendText appends the line without its newline.
func (s *statement) appendText(b []byte) []byte {
	if s.prefix.IsValid() {
		return s.appendPrefix(b)
	}
	d := string(s.data)
	kind := byte(':')
	if s.plain {
		kind = lineOf(s.typ)
	}
	b = appendDotted(append(b, kind), s.owner)
	b = append(b, ':')
	switch kind {
	case '+':
		b = netip.AddrFrom4([4]byte([]byte(d))).AppendTo(b)
	case '&':
		b = appendDotted(append(b, ':'), record.Name(d))
	case 'C', '^':
		b = appendDotted(b, record.Name(d))
	case '@':
		b = appendDotted(append(b, ':'), record.Name(d[2:]))
		b = fmt.Appendf(b, ":%d", binary.BigEndian.Uint16([]byte(d[:2])))
	case 'Z':
		b = appendSOA(b, d)
	case '\'':
		for d != "" {
			n := 1 + int(d[0])
			b, d = appendEscaped(b, d[1:n], &plainText), d[n:]
		}
	default:
		b = append(strconv.AppendUint(b, uint64(s.typ), 10), ':')
		b = appendEscaped(b, d, &plainText)
	}
	return s.appendTail(b)
}

// lineOf is the kind of line that a type has of its own.
func lineOf(t record.Type) byte {
	switch t {
	case record.TypeA:
		return '+'
	case record.TypeNS:
		return '&'
	case record.TypeCNAME:
		return 'C'
	case record.TypePTR:
		return '^'
	case record.TypeMX:
		return '@'
	case record.TypeSOA:
		return 'Z'
	}
	return '\''
}

func appendSOA(b []byte, d string) []byte {
	rname := nameAt(record.Rdata(d), 0)
	b = appendDotted(b, record.Name(d[:rname]))
	b = appendDotted(append(b, ':'), record.Name(d[rname:len(d)-20]))
	for i := len(d) - 20; i < len(d); i += 4 {
		b = fmt.Appendf(b, ":%d", binary.BigEndian.Uint32([]byte(d[i:i+4])))
	}
	return b
}

// appendTail appends TTL, timestamp and location, as much of them as there is.
func (s *statement) appendTail(b []byte) []byte {
	b = strconv.AppendUint(append(b, ':'), uint64(s.ttl), 10)
	if s.ts != 0 {
		b = fmt.Appendf(b, ":%016x", s.ts)
	} else if s.loc != "" {
		b = append(b, ':')
	}
	if s.loc != "" {
		b = appendLo(append(b, ':'), s.loc)
		if c := b[len(b)-1]; c == ' ' || c == '\t' {
			b = append(b, ':') // blanks at the end of a line are lost
		}
	}
	return b
}

// appendLo appends a location. One of "a" and a zero octet is written as a.
func appendLo(b []byte, lo record.Location) []byte {
	return append(b, strings.TrimSuffix(string(lo), "\x00")...)
}

func (s *statement) appendPrefix(b []byte) []byte {
	b = appendLo(append(b, '%'), s.loc)
	b = append(b, ':')
	a := s.prefix.Addr().As4()
	for i := range s.prefix.Bits() / 8 {
		if i > 0 {
			b = append(b, '.')
		}
		b = fmt.Append(b, a[i])
	}
	return b
}
