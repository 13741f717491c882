package tinydns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/zonecast/zonecast/record"
)

// reader gives a file line by line, within the bounds of a file.
type reader struct {
	br    *bufio.Reader
	long  []byte // a line that is longer than br's buffer
	line  uint32 // from 1
	total int64  // octets so far
}

func newReader(r io.Reader) *reader { return &reader{br: bufio.NewReaderSize(r, 256<<10)} }

var errLongLine = fmt.Errorf("line is longer than %d octets", maxLine)

// next gives the next line without its newline, valid until the call after, and
// io.EOF behind the last.
func (r *reader) next() ([]byte, error) {
	b, err := r.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.long = append(r.long[:0], b...)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(r.long) > maxLine {
				r.line++
				return nil, errLongLine
			}
			b, err = r.br.ReadSlice('\n')
			r.long = append(r.long, b...)
		}
		b = r.long
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(b) == 0) {
		return nil, err
	}
	r.line++
	r.total += int64(len(b))
	if r.total > maxBytes {
		return nil, fmt.Errorf("file is longer than %d octets, which is more than a data.cdb can be", int64(maxBytes))
	}
	if n := len(b); b[n-1] == '\n' {
		b = b[:n-1]
	}
	if len(b) > maxLine {
		return nil, errLongLine
	}
	return b, nil
}

// fault is an error at an octet of a field.
type fault struct {
	at  int // from 0
	err error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func faultf(at int, format string, args ...any) error { return &fault{at, fmt.Errorf(format, args...)} }

// maxFields is how many fields a line has for tinydns-data and dnsrocks; what comes
// behind them is ignored.
const maxFields = 15

// parser is what the two text formats have in common: a line cut into fields, and
// where its records go.
type parser struct {
	file   string
	rd     *reader
	notes  notes
	c      *collector
	atlas  atlas
	serial uint32 // of an SOA that gives none

	line []byte // without trailing blanks; line[0] is the kind
	// Field k is line[from[k]:to[k]]; there are n, the others are empty.
	from, to [maxFields]int
	n        int

	owner, name []byte // scratch: names in wire form
	rdata       []byte // scratch
	m           mark
}

func (p *parser) field(k int) []byte {
	if k >= p.n {
		return nil
	}
	return p.line[p.from[k]:p.to[k]]
}

func (p *parser) note(format string, args ...any) {
	p.notes.add(p.file, int(p.rd.line), format, args...)
}

// wrong is the error that field k is wrong for, with its place. Column 1 is the kind.
func (p *parser) wrong(k int, err error) error {
	col := 1
	if k >= 0 {
		col = len(p.line) + 1
		if k < p.n {
			col = p.from[k] + 1
		}
	}
	var f *fault
	if errors.As(err, &f) {
		col += f.at
	}
	return fmt.Errorf("%s:%d:%d: %w", p.file, p.rd.line, col, err)
}

func (p *parser) wrongf(k int, format string, args ...any) error {
	return p.wrong(k, fmt.Errorf(format, args...))
}

// split cuts the line at each sep. It looks at up to maxFields fields.
func (p *parser) split(sep byte) {
	p.n = 0
	start := 1
	line := p.line
	for i := 1; i < len(line); i++ {
		if line[i] == sep {
			p.from[p.n], p.to[p.n] = start, i
			p.n++
			start = i + 1
			if p.n == maxFields {
				return
			}
		}
	}
	if start < len(line) {
		p.from[p.n], p.to[p.n] = start, len(line)
		p.n++
	}
}

// ends notes the fields that a line's kind does not have; kinds have n.
func (p *parser) ends(n int) {
	for k := n; k < p.n; k++ {
		if len(p.field(k)) > 0 {
			p.note("field %d is ignored: %q", k+1, clip(p.field(k)))
		}
	}
}

// add gives a record to the collector.
func (p *parser) add(owner []byte, t record.Type, data []byte) error {
	if err := p.c.add(owner, t, &p.m, data, p.rd.line); err != nil {
		return p.wrong(-1, err)
	}
	return nil
}

// digits reads the decimal number that b begins with, and tells how many octets it
// takes; none if b begins with something else.
func digits(b []byte) (v uint64, n int, err error) {
	for n < len(b) && b[n]-'0' < 10 {
		v = v*10 + uint64(b[n]-'0')
		if v > 1<<40 {
			return 0, 0, fmt.Errorf("number %q is too large", clip(b))
		}
		n++
	}
	return v, n, nil
}

// octets4 reads an IPv4 address as djbdns does: four numbers and dots, leading zeros
// are allowed, and n is how many octets of b it took.
func octets4(b []byte) (ip [4]byte, n int, err error) {
	for i := range ip {
		if i > 0 {
			if n >= len(b) || b[n] != '.' {
				return ip, 0, faultf(n, "expected an IPv4 address, found %q", clip(b))
			}
			n++
		}
		v, k, err := digits(b[n:])
		if err != nil || k == 0 || v > 255 {
			return ip, 0, faultf(n, "expected an IPv4 address, found %q", clip(b))
		}
		ip[i], n = byte(v), n+k
	}
	return ip, n, nil
}

// reverse appends the name under in-addr.arpa or ip6.arpa in wire form.
func reverse(b []byte, ip netip.Addr) []byte {
	if ip.Is4() {
		a := ip.As4()
		for i := 3; i >= 0; i-- {
			at := len(b)
			b = append(b, 0)
			b = fmt.Append(b, a[i])
			b[at] = byte(len(b) - at - 1)
		}
		return append(b, "\x07in-addr\x04arpa\x00"...)
	}
	a := ip.As16()
	const hex = "0123456789abcdef"
	for i := 15; i >= 0; i-- {
		b = append(b, 1, hex[a[i]&15], 1, hex[a[i]>>4])
	}
	return append(b, "\x03ip6\x04arpa\x00"...)
}
