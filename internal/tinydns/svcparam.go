package tinydns

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// paramKeys has the SvcParamKeys that dnsrocks knows, by number (RFC 9460 §14.3.2).
var paramKeys = [...]string{"mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"}

// param is a SvcParam in wire form.
type param struct {
	key   int
	value []byte
}

// appendParams appends the parameters of a B or H line in wire form. They are parted
// by ; and their values by |, and stand in any order.
func appendParams(b, text []byte) ([]byte, error) {
	var list []param
	at := 0
	for part := range bytes.SplitSeq(text, []byte{';'}) {
		if len(part) == 0 {
			if rest := text[at:]; len(bytes.Trim(rest, ";")) > 0 {
				return b, faultf(at, "empty parameter, expected key=value")
			}
			break
		}
		p, err := parseParam(part)
		if err != nil {
			return b, &fault{at, err}
		}
		if slices.ContainsFunc(list, func(q param) bool { return q.key == p.key }) {
			return b, faultf(at, "parameter %s is there twice", paramKeys[p.key])
		}
		list = append(list, p)
		at += len(part) + 1
	}
	slices.SortFunc(list, func(p, q param) int { return cmp.Compare(p.key, q.key) })
	if err := checkMandatory(list); err != nil {
		return b, err
	}
	for _, p := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(p.key))
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.value)))
		b = append(b, p.value...)
	}
	return b, nil
}

func checkMandatory(list []param) error {
	if len(list) == 0 || list[0].key != 0 {
		return nil
	}
	for v := list[0].value; len(v) > 0; v = v[2:] {
		key := int(binary.BigEndian.Uint16(v))
		if !slices.ContainsFunc(list, func(p param) bool { return p.key == key }) {
			return fmt.Errorf("parameter %s is mandatory, but it is not there", paramKeys[key])
		}
	}
	return nil
}

func parseParam(text []byte) (param, error) {
	name, value, ok := bytes.Cut(text, []byte{'='})
	key := slices.Index(paramKeys[:], string(name))
	if !ok || key < 0 {
		return param{}, fmt.Errorf("parameter %q, expected one of %v with = and a value", clip(text), paramKeys)
	}
	p := param{key: key}
	value = bytes.Trim(value, `"`)
	if key == 2 {
		if len(value) > 0 {
			return p, fmt.Errorf("parameter no-default-alpn has the value %q, expected none", clip(value))
		}
		return p, nil
	}
	if len(value) == 0 {
		return p, fmt.Errorf("parameter %s has no value", name)
	}
	if err := p.parse(bytes.Split(value, []byte{'|'})); err != nil {
		return p, fmt.Errorf("parameter %s: %w", name, err)
	}
	if len(p.value) > 1<<16-1 {
		return p, fmt.Errorf("parameter %s has %d octets, at most %d", name, len(p.value), 1<<16-1)
	}
	return p, nil
}

func (p *param) parse(values [][]byte) (err error) {
	if len(values) > 1 && (p.key == 3 || p.key == 5) {
		return fmt.Errorf("it has %d values, expected one", len(values))
	}
	switch p.key {
	case 0:
		return p.mandatory(values)
	case 1:
		for _, v := range values {
			if len(v) == 0 || len(v) > 255 {
				return fmt.Errorf("protocol %q has %d octets, expected 1 to 255", clip(v), len(v))
			}
			p.value = append(append(p.value, byte(len(v))), v...)
		}
	case 3:
		port, err := strconv.ParseUint(string(values[0]), 10, 16)
		if err != nil {
			return fmt.Errorf("port %q, expected 0 to 65535", clip(values[0]))
		}
		p.value = binary.BigEndian.AppendUint16(p.value, uint16(port))
	case 5:
		if p.value, err = base64.StdEncoding.DecodeString(string(values[0])); err != nil {
			return fmt.Errorf("expected base64, found %q", clip(values[0]))
		}
	default:
		return p.hints(values)
	}
	return nil
}

// mandatory takes names of keys, which go out in ascending order.
func (p *param) mandatory(values [][]byte) error {
	var keys []int
	for _, v := range values {
		key := slices.Index(paramKeys[:], string(v))
		if key <= 0 {
			return fmt.Errorf("key %q, expected one of %v", clip(v), paramKeys[1:])
		}
		if slices.Contains(keys, key) {
			return fmt.Errorf("key %s is there twice", v)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, k := range keys {
		p.value = binary.BigEndian.AppendUint16(p.value, uint16(k))
	}
	return nil
}

// hints takes addresses of the family that the key says.
func (p *param) hints(values [][]byte) error {
	for _, v := range values {
		a, err := netip.ParseAddr(string(v))
		if err != nil || a.Zone() != "" || a.Is4() != (p.key == 4) {
			return fmt.Errorf("address %q, expected one of the family that the key says", clip(v))
		}
		p.value = append(p.value, a.AsSlice()...)
	}
	return nil
}
