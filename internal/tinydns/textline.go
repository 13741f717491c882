package tinydns

import (
	"bytes"
	"errors"
	"net/netip"

	"github.com/zonecast/zonecast/record"
)

// +fqdn:ip:ttl:ts:lo and =fqdn:ip:ttl:ts:lo
func (p *parser) tinyHost(ptr bool) error {
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.tail(2, ttlPositive); err != nil {
		return err
	}
	ip, ok, err := p.tinyAddress(1)
	if err != nil {
		return err
	}
	if !ok {
		p.note("the line gives no address and makes no record")
		return nil
	}
	if err := p.add(p.owner, record.TypeA, ip[:]); err != nil || !ptr {
		return err
	}
	p.name = reverse(p.name[:0], netip.AddrFrom4(ip))
	return p.add(p.name, record.TypePTR, p.owner)
}

// host reads the name of field k: x is x.<middle>.fqdn unless a dot is in it.
func (p *parser) host(k int, middle string) (err error) {
	f := p.field(k)
	if bytes.IndexByte(f, '.') < 0 {
		f = bytes.Join([][]byte{f, []byte(middle), p.field(0)}, []byte{'.'})
	}
	if p.name, err = appendName(p.name[:0], f); err != nil {
		return p.wrong(k, errors.Unwrap(err))
	}
	return nil
}

// .fqdn:ip:x:ttl:ts:lo and &fqdn:ip:x:ttl:ts:lo
func (p *parser) tinyServer(apex bool) error {
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.tail(3, ttlNS); err != nil {
		return err
	}
	if err := p.host(2, "ns"); err != nil {
		return err
	}
	if apex {
		if err := p.apex(); err != nil {
			return err
		}
	}
	if err := p.add(p.owner, record.TypeNS, p.name); err != nil {
		return err
	}
	return p.tinyGlue()
}

// apex adds the SOA of a '.' line. Its TTL is that of negative answers, but zero if
// the line's is: then the timestamp is its end too.
func (p *parser) apex() error {
	p.rdata = append(append(p.rdata[:0], p.name...), "\x0ahostmaster"...)
	p.rdata = append(p.rdata, p.owner...)
	if len("\x0ahostmaster")+len(p.owner) > maxName {
		return p.wrongf(0, "name %q is too long for hostmaster before it: more than %d octets", clip(p.field(0)), maxName)
	}
	p.rdata = appendNumbers(p.rdata, [5]uint32{p.serial, soaRefresh, soaRetry, soaExpire, soaMinimum})
	ttl := p.m.ttl
	if ttl != 0 {
		p.m.ttl = ttlNegative
	}
	err := p.add(p.owner, record.TypeSOA, p.rdata)
	p.m.ttl = ttl
	return err
}

// tinyGlue adds the address of a server's name, if there is one.
func (p *parser) tinyGlue() error {
	ip, ok, err := p.tinyAddress(1)
	if err != nil || !ok {
		return err
	}
	return p.add(p.name, record.TypeA, ip[:])
}

// @fqdn:ip:x:dist:ttl:ts:lo
func (p *parser) tinyMX() error {
	if err := p.begin(); err != nil {
		return err
	}
	dist, err := p.tinyNumber(3, "distance", 1<<16-1, 0)
	if err != nil {
		return err
	}
	if err := p.tail(4, ttlPositive); err != nil {
		return err
	}
	if err := p.host(2, "mx"); err != nil {
		return err
	}
	p.rdata = append(append(p.rdata[:0], byte(dist>>8), byte(dist)), p.name...)
	if err := p.add(p.owner, record.TypeMX, p.rdata); err != nil {
		return err
	}
	return p.tinyGlue()
}

// ^fqdn:p:ttl:ts:lo and Cfqdn:p:ttl:ts:lo
func (p *parser) tinyTarget(t record.Type) (err error) {
	if err := p.begin(); err != nil {
		return err
	}
	if p.name, err = appendName(p.name[:0], p.field(1)); err != nil {
		return p.wrong(1, err)
	}
	if err := p.tail(2, ttlPositive); err != nil {
		return err
	}
	return p.add(p.owner, t, p.name)
}

// 'fqdn:s:ttl:ts:lo
func (p *parser) tinyTXT() (err error) {
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.tail(2, ttlPositive); err != nil {
		return err
	}
	if p.name, err = appendText(p.name[:0], p.field(1)); err != nil {
		return p.wrong(1, err)
	}
	return p.addTXT(p.name)
}

// addTXT adds a text in pieces of 127 octets, as both servers cut it.
func (p *parser) addTXT(text []byte) error {
	if len(text) == 0 {
		p.note("the text is empty: taken as one empty string, TXT without any is malformed")
	}
	p.rdata = appendPieces(p.rdata[:0], text)
	if len(p.rdata) > record.MaxRdata {
		return p.wrongf(1, "text has %d octets, which is more than fit RDATA", len(text))
	}
	return p.add(p.owner, record.TypeTXT, p.rdata)
}

// piece is the length of the strings into which texts are cut, in octets.
const piece = 127

func appendPieces(b, text []byte) []byte {
	if len(text) == 0 {
		return append(b, 0)
	}
	for len(text) > 0 {
		n := min(piece, len(text))
		b = append(append(b, byte(n)), text[:n]...)
		text = text[n:]
	}
	return b
}

// :fqdn:n:rdata:ttl:ts:lo
func (p *parser) tinyGeneric() (err error) {
	if err := p.begin(); err != nil {
		return err
	}
	v, err := p.tinyNumber(1, "type", 1<<16-1, 0)
	if err != nil {
		return err
	}
	t := record.Type(v)
	if prohibited(t) {
		return p.wrongf(1, "type %d cannot be said with ':', expected another type, or the line that this one has", v)
	}
	if p.rdata, err = appendText(p.rdata[:0], p.field(2)); err != nil {
		return p.wrong(2, err)
	}
	if err := p.tail(3, ttlPositive); err != nil {
		return err
	}
	return p.addGeneric(t, 1, 2)
}

// addGeneric adds RDATA that is given octet by octet; fields k and d have type and
// RDATA.
func (p *parser) addGeneric(t record.Type, k, d int) error {
	if !t.IsData() {
		return p.wrongf(k, "type %s is for questions and messages only and cannot be data", t)
	}
	if t == record.TypeTXT && len(p.rdata) == 0 {
		p.note("the text is empty: taken as one empty string, TXT without any is malformed")
		p.rdata = append(p.rdata, 0)
	}
	data, err := canonical(t, p.rdata)
	if err != nil {
		return p.wrong(d, err)
	}
	return p.add(p.owner, t, data)
}

// Zfqdn:mname:rname:ser:ref:ret:exp:min:ttl:ts:lo
func (p *parser) tinySOA() (err error) {
	if err := p.begin(); err != nil {
		return err
	}
	p.rdata = p.rdata[:0]
	for k := 1; k <= 2; k++ {
		if p.rdata, err = appendName(p.rdata, p.field(k)); err != nil {
			return p.wrong(k, err)
		}
	}
	numbers := [5]uint32{p.serial, soaRefresh, soaRetry, soaExpire, soaMinimum}
	for i, what := range soaFields {
		if numbers[i], err = p.tinyNumber(3+i, what, 1<<32-1, numbers[i]); err != nil {
			return err
		}
	}
	p.rdata = appendNumbers(p.rdata, numbers)
	if err := p.tail(8, ttlNegative); err != nil {
		return err
	}
	return p.add(p.owner, record.TypeSOA, p.rdata)
}

// soaFields are the numbers of an SOA as people say them.
var soaFields = [5]string{"serial", "refresh time", "retry time", "expire time", "minimum"}

// %lo:ipprefix
func (p *parser) tinyLocation() error {
	p.ends(2)
	lo := record.Location("")
	if f := p.field(0); len(f) > 0 {
		lo = p.tinyLo(f)
	}
	var ip [4]byte
	n := 0
	f := p.field(1)
	for i := 0; i < len(f); {
		if f[i] == '.' {
			i++
			continue
		}
		v, k, err := digits(f[i:])
		if err != nil || k == 0 || v > 255 {
			return p.wrong(1, faultf(i, "prefix is %q, expected up to four numbers from 0 to 255 with dots between", clip(f)))
		}
		if n == len(ip) {
			return p.wrong(1, faultf(i, "prefix %q has more than four numbers", clip(f)))
		}
		ip[n] = byte(v)
		n, i = n+1, i+k
	}
	p.tinyPrefix(netip.PrefixFrom(netip.AddrFrom4(ip), 8*n), lo)
	return nil
}

// tinyPrefix adds a prefix to the map of tinydns; the first of several holds.
func (p *parser) tinyPrefix(prefix netip.Prefix, lo record.Location) {
	p.atlas.everywhere()
	if have, again := p.atlas.add(tinyMap, prefix, lo, p.rd.line); again && have.lo != lo {
		p.note("%s has location %q already (line %d): the first one holds", prefix, string(have.lo), have.place)
	}
}
