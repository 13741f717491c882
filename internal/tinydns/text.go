package tinydns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/zonecast/zonecast/record"
)

// ParseText reads the text that tinydns-data 1.05 compiles; file names it in errors
// and notes. mtime is when it was changed: the serial of an SOA without one, as unix
// seconds; 1 if that is zero.
func ParseText(r io.Reader, file string, mtime time.Time) (*Data, error) {
	p := &parser{file: file, rd: newReader(r), c: newCollector(), serial: serialOf(mtime)}
	p.atlas.init()
	for {
		line, err := p.rd.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: line %d: %w", file, p.rd.line, err)
		}
		line = bytes.TrimRight(line, " \t")
		if len(line) == 0 || line[0] == '#' || line[0] == '-' {
			continue
		}
		p.line = line
		p.split(':')
		if err := p.tinyLine(); err != nil {
			return nil, err
		}
	}
	return p.data(p.tinyDialect())
}

func serialOf(mtime time.Time) uint32 {
	if mtime.IsZero() || uint32(mtime.Unix()) == 0 {
		return 1
	}
	return uint32(mtime.Unix())
}

// data ends the parse.
func (p *parser) data(d dialect) (*Data, error) {
	sets, err := p.c.sets(d)
	if err != nil {
		return nil, err
	}
	return &Data{Sets: sets, Atlas: p.atlas.done(), AnyDepth: true, Notes: p.notes.all(p.file)}, nil
}

func (p *parser) tinyDialect() dialect {
	return dialect{
		choose: chooseEight,
		note:   func(place uint32, format string, args ...any) { p.notes.add(p.file, int(place), format, args...) },
		err:    func(place uint32, err error) error { return fmt.Errorf("%s:%d: %w", p.file, place, err) },
	}
}

// most is how many A records tinydns answers, at random (tdlookup.c).
const most = 8

func chooseEight(t record.Type, n int) int {
	if t == record.TypeA && n > most {
		return most
	}
	return 0
}

// tinyLine reads one line that says something.
func (p *parser) tinyLine() error {
	switch kind := p.line[0]; kind {
	case '+', '=':
		return p.tinyHost(kind == '=')
	case ':':
		return p.tinyGeneric()
	case '.', '&':
		return p.tinyServer(kind == '.')
	case '@':
		return p.tinyMX()
	case '\'':
		return p.tinyTXT()
	case '^':
		return p.tinyTarget(record.TypePTR)
	case 'C':
		return p.tinyTarget(record.TypeCNAME)
	case 'Z':
		return p.tinySOA()
	case '%':
		return p.tinyLocation()
	default:
		return p.wrongf(-1, "line begins with %q, expected one of . & = + @ ' ^ C Z : %% - #", kind)
	}
}

// begin reads the owner from the first field.
func (p *parser) begin() (err error) {
	if p.owner, err = appendName(p.owner[:0], p.field(0)); err != nil {
		return p.wrong(0, err)
	}
	return nil
}

// tail reads TTL, timestamp and location, which end every line of records, from
// field k on.
func (p *parser) tail(k int, ttl uint32) (err error) {
	p.ends(k + 3)
	p.m = mark{terms: terms{weight: 1}}
	if p.m.ttl, err = p.tinyNumber(k, "TTL", record.MaxTTL, ttl); err != nil {
		return err
	}
	if ts := p.field(k + 1); len(ts) > 0 {
		if err := p.tinyTime(k+1, ts); err != nil {
			return err
		}
	}
	if lo := p.field(k + 2); len(lo) > 0 {
		p.m.loc = p.tinyLo(lo)
	}
	return nil
}

// tinyNumber reads field k: what it begins with if that is a number, else none. As
// tinydns-data it ignores the rest, but says so.
func (p *parser) tinyNumber(k int, what string, most uint64, none uint32) (uint32, error) {
	f := p.field(k)
	if len(f) == 0 {
		return none, nil
	}
	v, n, err := digits(f)
	if err != nil || v > most {
		return 0, p.wrongf(k, "%s is %q, at most %d", what, clip(f), most)
	}
	if n < len(f) {
		if n == 0 {
			v = uint64(none)
		}
		p.note("%s %q: taken as %d, the rest is ignored", what, clip(f), v)
	}
	return uint32(v), nil
}

// tinyTime reads a timestamp: up to 16 hexadecimal digits of a TAI64 label, which
// are its first ones.
func (p *parser) tinyTime(k int, f []byte) error {
	ts := uint64(0)
	for i, c := range f[:min(16, len(f))] {
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		default:
			return p.wrong(k, faultf(i, "timestamp is %q, expected 16 hexadecimal digits in lower case (TAI64)", clip(f)))
		}
		ts |= uint64(d) << (60 - 4*i)
	}
	if len(f) != 16 {
		p.note("timestamp %q has %d digits: taken as %016x", clip(f), len(f), ts)
	}
	if ts == 0 {
		return nil
	}
	if p.m.ttl == 0 {
		p.m.until = end(ts)
	} else {
		p.m.from = start(ts)
	}
	return nil
}

// tinyLo reads a location: two octets as they are, the second zero if there is one.
func (p *parser) tinyLo(f []byte) record.Location {
	if len(f) > 2 {
		p.note("location %q: its first two octets are taken", clip(f))
	}
	lo := [2]byte{f[0]}
	if len(f) > 1 {
		lo[1] = f[1]
	}
	if lo == [2]byte{} {
		return ""
	}
	return record.Location(lo[:])
}

// tinyAddress reads an address if field k has one.
func (p *parser) tinyAddress(k int) (ip [4]byte, ok bool, err error) {
	f := p.field(k)
	if len(f) == 0 {
		return ip, false, nil
	}
	ip, n, err := octets4(f)
	if err != nil {
		return ip, false, p.wrong(k, err)
	}
	if n < len(f) {
		p.note("address %q: taken as %s, the rest is ignored", clip(f), netip.AddrFrom4(ip))
	}
	return ip, true, nil
}
