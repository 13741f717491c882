package dnswire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/record"
)

// ParseRdata reads one record's RDATA in presentation form; relative names in it
// are completed with origin. RFC 3597's `\# length hex` is taken for every type.
func ParseRdata(t record.Type, text string, origin record.Name) (record.Rdata, error) {
	s := newScanner("rdata", []byte(text))
	e, _, err := s.next()
	if err == nil {
		// The tokens live in s and another entry would overwrite them.
		if _, more, err2 := newScanner("rdata", s.b[s.pos:]).next(); more || err2 != nil {
			err = errors.New("RDATA goes on after the end of the line")
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", t, withoutPlace(err))
	}
	rd, _, err := parseRdata(t, e.tokens, origin)
	return rd, err
}

// parseRdata reads RDATA from words. On an error bad is the index of the word that
// is wrong: -1 is the type before them, len(toks) something missing at the end.
func parseRdata(t record.Type, toks []token, origin record.Name) (rd record.Rdata, bad int, err error) {
	if !t.IsData() {
		return "", -1, fmt.Errorf("type %s is for questions and messages only and cannot be data", t)
	}
	if len(toks) > 0 && toks[0].text == `\#` && !toks[0].quoted {
		return generic(t, toks)
	}
	f := fields{toks: toks, origin: origin}
	switch t {
	case record.TypeA:
		f.address(netip.Addr.Is4, "IPv4")
	case record.TypeAAAA:
		f.address(netip.Addr.Is6, "IPv6")
	case record.TypeNS, record.TypeCNAME, record.TypePTR, record.TypeDNAME:
		f.name()
	case record.TypeMX:
		f.number(16)
		f.name()
	case record.TypeSRV:
		f.number(16)
		f.number(16)
		f.number(16)
		f.name()
	case record.TypeSOA:
		f.name()
		f.name()
		f.number(32)
		for range 4 {
			f.period()
		}
	case record.TypeTXT, typeSPF:
		f.text()
		for f.err == nil && f.i < len(f.toks) {
			f.text()
		}
	default:
		return library(t, toks, origin)
	}
	if f.err == nil && f.i < len(toks) {
		f.fail(fmt.Errorf("RDATA is complete before %q", clip(toks[f.i].text)))
	}
	if f.err == nil && len(f.out) > record.MaxRdata {
		f.fail(fmt.Errorf("RDATA has %d octets, at most %d", len(f.out), record.MaxRdata))
	}
	if f.err != nil {
		return "", f.i, fmt.Errorf("%s: %w", t, f.err)
	}
	return record.Rdata(f.out), 0, nil
}

const typeSPF record.Type = 99

// fields reads words one by one into wire form and stops at the first error, with
// i at the word.
type fields struct {
	toks   []token
	origin record.Name
	i      int
	out    []byte
	err    error
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) take(want string) (token, bool) {
	if f.err == nil && f.i >= len(f.toks) {
		f.err = fmt.Errorf("%s is missing", want)
	}
	if f.err != nil {
		return token{}, false
	}
	return f.toks[f.i], true
}

func (f *fields) address(is func(netip.Addr) bool, family string) {
	t, ok := f.take("an " + family + " address")
	if !ok {
		return
	}
	a, err := netip.ParseAddr(t.text)
	if err != nil || !is(a) || a.Zone() != "" {
		f.err = fmt.Errorf("expected an %s address, found %q", family, clip(t.text))
		return
	}
	f.out = append(f.out, a.AsSlice()...)
	f.i++
}

func (f *fields) name() {
	t, ok := f.take("a domain name")
	if !ok {
		return
	}
	n, err := parseName(t.text, f.origin)
	if err != nil {
		f.err = err
		return
	}
	f.out = append(f.out, n...)
	f.i++
}

func (f *fields) number(bits int) {
	t, ok := f.take("a number")
	if !ok {
		return
	}
	v, err := strconv.ParseUint(t.text, 10, bits)
	if err != nil {
		f.err = fmt.Errorf("expected a number from 0 to %d, found %q", uint64(1)<<bits-1, clip(t.text))
		return
	}
	if bits == 16 {
		f.out = binary.BigEndian.AppendUint16(f.out, uint16(v))
	} else {
		f.out = binary.BigEndian.AppendUint32(f.out, uint32(v))
	}
	f.i++
}

func (f *fields) period() {
	t, ok := f.take("a time in seconds")
	if !ok {
		return
	}
	v, err := parseTTL(t.text)
	if err != nil {
		f.err = err
		return
	}
	f.out = binary.BigEndian.AppendUint32(f.out, v)
	f.i++
}

func (f *fields) text() {
	t, ok := f.take("a text")
	if !ok {
		return
	}
	b, err := unescape(t.text)
	if err == nil && len(b) > 255 {
		err = fmt.Errorf("text of %d octets, at most 255: split it into several", len(b))
	}
	if err != nil {
		f.err = err
		return
	}
	f.out = append(append(f.out, byte(len(b))), b...)
	f.i++
}

// ParseName reads a name as it stands in a zone file: relative to origin, "@" for
// origin itself, or absolute with a final dot.
func ParseName(text string, origin record.Name) (record.Name, error) { return parseName(text, origin) }

func parseName(text string, origin record.Name) (record.Name, error) {
	if text == "@" {
		return origin, nil
	}
	n, err := record.ParseName(text)
	if err != nil || absolute(text) {
		return n, err
	}
	if len(n)-1+len(origin) > 255 {
		return "", fmt.Errorf("name %q is longer than 255 octets below %s (RFC 1035 §2.3.4)", clip(text), origin)
	}
	return n[:len(n)-1] + origin, nil
}

// absolute tells whether a name ends in a dot that is not escaped.
func absolute(text string) bool {
	rest, ok := strings.CutSuffix(text, ".")
	return ok && (len(rest)-len(strings.TrimRight(rest, `\`)))%2 == 0
}

// unescape resolves \X and \DDD (RFC 1035 §5.1).
func unescape(text string) ([]byte, error) {
	if strings.IndexByte(text, '\\') < 0 {
		return []byte(text), nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' {
			rest := text[i+1:]
			switch {
			case rest == "":
				return nil, errors.New("text ends in a lone backslash")
			case rest[0] < '0' || rest[0] > '9':
				c = rest[0]
				i++
			default:
				v, err := strconv.ParseUint(rest[:min(3, len(rest))], 10, 8)
				if err != nil || len(rest) < 3 {
					return nil, fmt.Errorf("escape %q, expected \\000 to \\255", text[i:min(i+4, len(text))])
				}
				c = byte(v)
				i += 3
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// generic reads the form of RFC 3597 §5.
func generic(t record.Type, toks []token) (record.Rdata, int, error) {
	if len(toks) < 2 {
		return "", 1, fmt.Errorf(`%s: length is missing after \#`, t)
	}
	want, err := strconv.ParseUint(toks[1].text, 10, 16)
	if err != nil {
		return "", 1, fmt.Errorf("%s: length %q, expected 0 to 65535", t, clip(toks[1].text))
	}
	var sb strings.Builder
	for _, k := range toks[2:] {
		sb.WriteString(k.text)
	}
	b, err := hex.DecodeString(sb.String())
	if err != nil {
		return "", min(2, len(toks)), fmt.Errorf("%s: expected octets in hexadecimal, found %q", t, clip(sb.String()))
	}
	if len(b) != int(want) {
		return "", 1, fmt.Errorf("%s: length is %d, found %d octets", t, want, len(b))
	}
	rd, err := Canonical(t, b)
	return rd, min(2, len(toks)), err
}

// library reads the types that need no speed and have the more intricate forms.
func library(t record.Type, toks []token, origin record.Name) (record.Rdata, int, error) {
	if _, ok := dns.TypeToRR[uint16(t)]; !ok || len(toks) == 0 {
		return "", 0, fmt.Errorf(`%s: expected RDATA, for a type without a form of its own as \# length hex (RFC 3597)`, t)
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, ". 0 IN TYPE%d", t)
	for _, k := range toks {
		if k.quoted {
			sb.WriteString(` "` + k.text + `"`)
		} else {
			sb.WriteString(" " + k.text)
		}
	}
	sb.WriteByte('\n')
	zp := dns.NewZoneParser(strings.NewReader(sb.String()), origin.String(), "")
	rr, ok := zp.Next()
	if err := zp.Err(); err != nil || !ok {
		return "", 0, fmt.Errorf("%s: %s", t, libraryError(err))
	}
	wire, err := packRdata(rr)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", t, err)
	}
	rd, err := Canonical(t, wire)
	return rd, 0, err
}

// libraryError is the library's message without its own idea of the place.
func libraryError(err error) string {
	if err == nil {
		return "is empty"
	}
	text := strings.TrimPrefix(err.Error(), "dns: ")
	if i := strings.LastIndex(text, " at line: "); i >= 0 {
		text = text[:i]
	}
	return text
}

// packRdata gives a record's RDATA in wire form, uncompressed.
func packRdata(rr dns.RR) ([]byte, error) {
	buf := make([]byte, dns.Len(rr)+64)
	rr.Header().Name = "."
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if errors.Is(err, dns.ErrBuf) {
		buf = make([]byte, 1<<16+11)
		n, err = dns.PackRR(rr, buf, 0, nil, false)
	}
	if err != nil {
		return nil, err
	}
	return buf[11:n], nil // root 1, type 2, class 2, TTL 4, RDLENGTH 2
}

// Canonical checks that wire is well formed for its type and gives it in canonical
// form (RFC 4034 §6.2, RFC 6840 §5.1). Of types unknown here everything is well
// formed and stays as it is (RFC 3597 §4).
func Canonical(t record.Type, wire []byte) (record.Rdata, error) {
	if _, err := unpackRdata(t, wire); err != nil {
		return "", fmt.Errorf("%s: malformed RDATA of %d octets: %w", t, len(wire), err)
	}
	layout := nameLayout(t)
	out := make([]byte, 0, len(wire))
	rest := wire
	take := func(n int) error {
		if n > len(rest) {
			return fmt.Errorf("%s: RDATA of %d octets is cut off", t, len(wire))
		}
		out, rest = append(out, rest[:n]...), rest[n:]
		return nil
	}
	for _, part := range layout {
		switch part {
		case aName:
			n, used, err := record.NameFromWire(rest)
			if err != nil {
				return "", fmt.Errorf("%s: %w", t, err)
			}
			out, rest = append(out, n...), rest[used:]
		case aText:
			if len(rest) == 0 {
				return "", fmt.Errorf("%s: RDATA of %d octets is cut off", t, len(wire))
			}
			if err := take(1 + int(rest[0])); err != nil {
				return "", err
			}
		default:
			if err := take(part); err != nil {
				return "", err
			}
		}
	}
	return record.Rdata(append(out, rest...)), nil
}

// Parts of a layout that are no number of octets.
const (
	aName = -1
	aText = -2
)

// nameLayout says where the names are that the canonical form lowers; what
// follows the last one is taken as it is. NSEC is not in the list, nor are types
// newer than RFC 3597 (RFC 6840 §5.1).
func nameLayout(t record.Type) []int {
	switch uint16(t) {
	case dns.TypeNS, dns.TypeMD, dns.TypeMF, dns.TypeCNAME, dns.TypeMB, dns.TypeMG, dns.TypeMR, dns.TypePTR, dns.TypeDNAME:
		return []int{aName}
	case dns.TypeSOA, dns.TypeMINFO, dns.TypeRP:
		return []int{aName, aName}
	case dns.TypeMX, dns.TypeAFSDB, dns.TypeRT, dns.TypeKX:
		return []int{2, aName}
	case dns.TypePX:
		return []int{2, aName, aName}
	case dns.TypeSRV:
		return []int{6, aName}
	case dns.TypeNAPTR:
		return []int{4, aText, aText, aText, aName}
	case dns.TypeSIG, dns.TypeRRSIG:
		return []int{18, aName} // type 2, algorithm 1, labels 1, TTL 4, times 8, tag 2
	}
	return nil
}

// unpackRdata makes the library's record of RDATA; all of wire must be used.
func unpackRdata(t record.Type, wire []byte) (dns.RR, error) {
	h := dns.RR_Header{Name: ".", Rrtype: uint16(t), Class: dns.ClassINET, Rdlength: uint16(len(wire))}
	if len(wire) > record.MaxRdata {
		return nil, fmt.Errorf("longer than %d octets", record.MaxRdata)
	}
	if _, known := dns.TypeToRR[uint16(t)]; known && len(wire) == 0 && t != typeAPL {
		return nil, errors.New("no octets") // the library takes that for an update
	}
	rr, n, err := dns.UnpackRRWithHeader(h, wire, 0)
	if err != nil {
		return nil, err
	}
	if n != len(wire) {
		return nil, fmt.Errorf("%d octets too many", len(wire)-n)
	}
	return rr, nil
}

const typeAPL record.Type = 42 // an empty list is an APL (RFC 3123 §4)

// FormatRdata gives RDATA in presentation form, names absolute; in RFC 3597 form
// for types unknown here and for RDATA that is malformed for its type, or that
// the type's own form cannot say exactly.
func FormatRdata(t record.Type, rd record.Rdata) string {
	if _, known := dns.TypeToRR[uint16(t)]; known {
		if rr, err := unpackRdata(t, []byte(rd)); err == nil {
			text := strings.TrimPrefix(rr.String(), rr.Header().String())
			if back, err := ParseRdata(t, text, record.Root); err == nil && back == rd {
				return text
			}
		}
	}
	return strings.TrimRight(fmt.Sprintf(`\# %d %x`, len(rd), string(rd)), " ")
}

// FormatRRset gives the RRset as zone-file lines, absolute and each ended by a
// newline. The location has no form in a zone file and is left out.
func FormatRRset(r record.RRset) string {
	var sb strings.Builder
	for _, d := range r.Data {
		fmt.Fprintf(&sb, "%s\t%d\tIN\t%s\t%s\n", r.Owner, r.TTL, r.Type, FormatRdata(r.Type, d))
	}
	return sb.String()
}

// parseTTL reads seconds, or BIND's 1w2d3h4m5s.
func parseTTL(text string) (uint32, error) {
	v, ok := seconds(text)
	if !ok {
		return 0, fmt.Errorf("expected a time in seconds (or as 1w2d3h4m5s), at most %d, found %q", uint32(1<<32-1), clip(text))
	}
	return v, nil
}

// seconds is parseTTL for where text is often something else.
func seconds(text string) (uint32, bool) {
	var sum, v uint64
	digits, units := false, false
	for _, c := range []byte(text) {
		var unit uint64
		switch c | 0x20 {
		case 's':
			unit = 1
		case 'm':
			unit = 60
		case 'h':
			unit = 3600
		case 'd':
			unit = 86400
		case 'w':
			unit = 604800
		default:
			if c < '0' || c > '9' {
				return 0, false
			}
			digits = true
			v = v*10 + uint64(c-'0')
		}
		if unit != 0 {
			if !digits {
				return 0, false
			}
			sum, v, digits, units = sum+v*unit, 0, false, true
		}
		if sum+v > 1<<32-1 {
			return 0, false
		}
	}
	return uint32(sum + v), digits != units // a number without unit stands alone
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
