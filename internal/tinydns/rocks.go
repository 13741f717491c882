package tinydns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// ParseRocks reads the text that dnsrocks-data compiles; file names it in errors and
// notes. mtime is when it was changed: the serial of an SOA without one.
func ParseRocks(r io.Reader, file string, mtime time.Time) (*Data, error) {
	p := &rocks{parser: parser{file: file, rd: newReader(r), c: newCollector(), serial: serialOf(mtime)}}
	p.atlas.init()
	for {
		line, err := p.rd.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: line %d: %w", file, p.rd.line, err)
		}
		line = bytes.TrimLeft(bytes.TrimSuffix(line, []byte("\r")), " ")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if len(line) == 1 {
			p.note("line of one octet, %q, is ignored", line)
			continue
		}
		p.line = line
		p.split(separator(line[1:]))
		if err := p.rocksLine(); err != nil {
			return nil, err
		}
	}
	if err := p.addRanges(); err != nil {
		return nil, err
	}
	p.defaultMap()
	d := p.tinyDialect()
	d.choose, d.weighted = chooseOne, true
	return p.data(d)
}

// rocks reads dnsrocks' text. Its lines are those of tinydns-data with other escapes
// and more kinds.
type rocks struct {
	parser
	text   []byte             // scratch: a field without escapes
	ranges map[string][]point // of each map, lines with '!'
}

// chooseOne: dnsrocks answers one address of each family unless it is told otherwise.
func chooseOne(t record.Type, _ int) int {
	if t == record.TypeA || t == record.TypeAAAA {
		return 1
	}
	return 0
}

// separator is the one of , and : that a line has first; , if it has none.
func separator(b []byte) byte {
	if i := bytes.IndexAny(b, ",:"); i >= 0 {
		return b[i]
	}
	return ','
}

func (p *rocks) rocksLine() error {
	switch kind := p.line[0]; kind {
	case '+', '=':
		return p.host(kind == '=')
	case '.', '&':
		return p.server(kind == '.')
	case '@':
		return p.mx()
	case 'S':
		return p.srv()
	case 'C':
		return p.target(record.TypeCNAME)
	case '^':
		return p.target(record.TypePTR)
	case '\'':
		return p.txt()
	case ':':
		return p.generic()
	case 'Z':
		return p.soa()
	case 'B':
		return p.service(record.TypeSVCB)
	case 'H':
		return p.service(record.TypeHTTPS)
	case '%':
		return p.location()
	case 'M':
		return p.mapFor(geo.ByResolver)
	case '8':
		return p.mapFor(geo.BySubnet)
	case '!':
		return p.rangePoint()
	case 'P':
		p.note("a plugin chooses the answer: it is not read, the name is answered by its maps")
		return nil
	default:
		return p.wrongf(-1, "line begins with %q, expected one of . & = + @ ' ^ C Z : S B H %% M 8 ! P #", kind)
	}
}

// unquote gives field k without its escapes: those of Go's strings, \NNN in octal
// among them.
func (p *rocks) unquote(k int) ([]byte, error) {
	f := p.field(k)
	if bytes.IndexByte(f, '\\') < 0 {
		return f, nil
	}
	p.text = p.text[:0]
	for rest := string(f); rest != ""; {
		if rest[0] != '\\' {
			p.text = append(p.text, rest[0])
			rest = rest[1:]
			continue
		}
		c, multibyte, tail, err := strconv.UnquoteChar(rest, 0)
		if err != nil {
			return nil, p.wrong(k, faultf(len(f)-len(rest), "escape %q, expected \\000 to \\377, \\x00 to \\xff or \\\\", rest[:min(4, len(rest))]))
		}
		if multibyte {
			p.text = utf8.AppendRune(p.text, c)
		} else {
			p.text = append(p.text, byte(c))
		}
		rest = tail
	}
	return p.text, nil
}

// appendName appends the name of field k in wire form. An escaped dot parts labels too.
func (p *rocks) appendName(b []byte, k int) ([]byte, error) {
	f, err := p.unquote(k)
	if err != nil {
		return b, err
	}
	if b, err = appendLabels(b, f); err != nil {
		return b, p.wrong(k, err)
	}
	return b, nil
}

// appendLabels appends what stands between dots as labels, and the root.
func appendLabels(b, text []byte) ([]byte, error) {
	begin := len(b)
	for label := range bytes.SplitSeq(text, []byte{'.'}) {
		if len(label) == 0 {
			continue
		}
		if len(label) > maxLabel {
			return b, fmt.Errorf("label of %d octets in %q, at most %d (RFC 1035 §2.3.4)", len(label), clip(text), maxLabel)
		}
		b = append(b, byte(len(label)))
		for _, c := range label {
			b = append(b, lowerOf[c])
		}
	}
	if b = append(b, 0); len(b)-begin > maxName {
		return b, fmt.Errorf("name %q is longer than %d octets in wire form (RFC 1035 §2.3.4)", clip(text), maxName)
	}
	return b, nil
}

// begin reads the owner. Types that dnsrocks keeps no wildcards of are wild here.
func (p *rocks) begin(wild bool) (err error) {
	if p.owner, err = p.appendName(p.owner[:0], 0); err != nil {
		return err
	}
	if !wild && bytes.HasPrefix(p.owner, []byte("\x01*")) {
		p.note("%s: dnsrocks answers this type for the name * alone, here it is a wildcard", record.Name(p.owner))
	}
	return nil
}

// tail reads TTL, timestamp and location from field k on.
func (p *rocks) tail(k int, ttl uint32) (err error) {
	p.m = mark{terms: terms{weight: 1}}
	if p.m.ttl, err = p.number(k, "TTL", record.MaxTTL, ttl); err != nil {
		return err
	}
	if ts := p.field(k + 1); len(ts) > 0 && len(bytes.Trim(ts, "0")) > 0 {
		p.note("timestamp %q is ignored by dnsrocks", clip(ts))
	}
	p.m.loc, err = p.lo(k + 2)
	return err
}

// number reads field k, or gives none if it is no number, which is what dnsrocks
// does, but says so.
func (p *rocks) number(k int, what string, most uint64, none uint32) (uint32, error) {
	f := p.field(k)
	if len(f) == 0 {
		return none, nil
	}
	v, n, err := digits(f)
	if err != nil || n == len(f) && v > most {
		return 0, p.wrongf(k, "%s is %q, at most %d", what, clip(f), most)
	}
	if n < len(f) {
		p.note("%s %q is no number: taken as %d", what, clip(f), none)
		return none, nil
	}
	return uint32(v), nil
}

// lo reads a location: of less than two octets it is none.
func (p *rocks) lo(k int) (record.Location, error) {
	f, err := p.unquote(k)
	if err != nil || len(f) == 0 || string(f) == "\x00\x00" {
		return "", err
	}
	if len(f) == 1 {
		p.note("location %q has one octet: it is none, locations have two or more", f)
		return "", nil
	}
	if len(f) > 255 {
		return "", p.wrongf(k, "location has %d octets, at most 255", len(f))
	}
	return record.Location(f), nil
}

// address reads field k if there is an address in it.
func (p *rocks) address(k int) (ip netip.Addr, ok bool, err error) {
	f := p.field(k)
	if len(f) == 0 {
		return ip, false, nil
	}
	ip, err = netip.ParseAddr(string(f))
	if err != nil || ip.Zone() != "" {
		return ip, false, p.wrongf(k, "expected an address, found %q", clip(f))
	}
	return ip.Unmap(), true, nil
}

func (p *rocks) addAddress(owner []byte, ip netip.Addr) error {
	if ip.Is4() {
		a := ip.As4()
		return p.add(owner, record.TypeA, a[:])
	}
	a := ip.As16()
	return p.add(owner, record.TypeAAAA, a[:])
}
