package record

import (
	"fmt"
	"strings"
)

// Limits of a domain name in octets (RFC 1035 §2.3.4). maxName counts the length
// octets and the root label.
const (
	maxLabel = 63
	maxName  = 255
)

// Name is a domain name in canonical wire form: length octet and label, lower
// case, ended by the root's zero octet. The zero value "" is no name at all.
type Name string

// Root is the name of the root of the DNS.
const Root Name = "\x00"

// ParseName reads an absolute name in presentation form (RFC 1035 §5.1: `\.` and
// `\DDD` escapes). The final dot may be missing: people type names without it.
func ParseName(text string) (Name, error) {
	if text == "." {
		return Root, nil
	}
	if text == "" {
		return "", fmt.Errorf("name is empty, expected a domain name such as www.example.net")
	}
	buf := make([]byte, 1, len(text)+2)
	start := 0 // index of the current label's length octet
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.':
			if len(buf)-start-1 == 0 {
				return "", fmt.Errorf("name %q has an empty label at octet %d, expected a label of 1 to 63 octets", clip(text), i+1)
			}
			if err := closeLabel(buf, start, text); err != nil {
				return "", err
			}
			start = len(buf)
			buf = append(buf, 0)
			continue
		case c == '\\':
			d, n, err := escape(text, i)
			if err != nil {
				return "", err
			}
			c, i = d, i+n
		case c <= ' ' || c == 0x7f:
			return "", fmt.Errorf("name %q has the octet 0x%02x at %d, write it as \\%03d if it is meant", clip(text), c, i+1, c)
		}
		buf = append(buf, lower(c))
		if len(buf) > 4*maxName {
			break // far too long already: the check below says so
		}
	}
	if len(buf)-start > 1 {
		if err := closeLabel(buf, start, text); err != nil {
			return "", err
		}
		buf = append(buf, 0)
	}
	if len(buf) > maxName {
		return "", fmt.Errorf("name %q is longer than %d octets in wire form, at most %d (RFC 1035 §2.3.4)", clip(text), maxName, maxName)
	}
	return Name(buf), nil
}

func closeLabel(buf []byte, start int, text string) error {
	n := len(buf) - start - 1
	if n > maxLabel {
		return fmt.Errorf("name %q has a label of %d octets (%q), at most %d (RFC 1035 §2.3.4)", clip(text), n, clip(string(buf[start+1:])), maxLabel)
	}
	buf[start] = byte(n)
	return nil
}

// escape decodes the escape at text[i] == '\\': the octet and how many more
// octets of text it takes.
func escape(text string, i int) (c byte, n int, err error) {
	rest := text[i+1:]
	if rest == "" {
		return 0, 0, fmt.Errorf("name %q ends in a lone backslash", clip(text))
	}
	if rest[0] < '0' || rest[0] > '9' {
		return rest[0], 1, nil
	}
	v := 0
	for k := range 3 {
		if k >= len(rest) || rest[k] < '0' || rest[k] > '9' {
			return 0, 0, fmt.Errorf("name %q has a bad escape at octet %d, expected \\DDD with three digits", clip(text), i+1)
		}
		v = v*10 + int(rest[k]-'0')
	}
	if v > 255 {
		return 0, 0, fmt.Errorf("name %q has the escape \\%d at octet %d, at most \\255", clip(text), v, i+1)
	}
	return byte(v), 3, nil
}

// NameFromWire reads an uncompressed name from the front of b and returns it in
// canonical form with the number of octets it took.
func NameFromWire(b []byte) (Name, int, error) {
	for i := 0; i < len(b) && i < maxName; {
		n := int(b[i])
		if n > maxLabel {
			return "", 0, fmt.Errorf("name in wire form has the length octet 0x%02x at %d, expected 0 to 63 (no compression here)", n, i)
		}
		i += n + 1
		if n == 0 {
			return Name(lowerWire(b[:i])), i, nil
		}
	}
	return "", 0, fmt.Errorf("name in wire form does not end within %d octets", min(len(b), maxName))
}

// lowerWire lowers the letters of a wire-form name. Length octets are at most 63
// and so below 'A' (65): one pass over all octets is right.
func lowerWire(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = lower(c)
	}
	return out
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// String gives the presentation form with the final dot.
func (n Name) String() string {
	if n == Root {
		return "."
	}
	var sb strings.Builder
	sb.Grow(len(n)) // enough without escapes
	for i := 0; i < len(n) && n[i] != 0; {
		end := min(i+1+int(n[i]), len(n))
		for _, c := range []byte(n[i+1 : end]) {
			switch {
			case c <= ' ' || c >= 0x7f:
				fmt.Fprintf(&sb, "\\%03d", c)
			case strings.IndexByte(`.\"();@$`, c) >= 0:
				sb.WriteByte('\\')
				sb.WriteByte(c)
			default:
				sb.WriteByte(c)
			}
		}
		sb.WriteByte('.')
		i = end
	}
	return sb.String()
}

// Labels counts the labels, the root's not included.
func (n Name) Labels() int {
	k := 0
	for i := 0; i < len(n) && n[i] != 0; i += int(n[i]) + 1 {
		k++
	}
	return k
}

// Parent is the name without its first label. The root's parent is "".
func (n Name) Parent() Name {
	if n == Root || n == "" {
		return ""
	}
	return n[int(n[0])+1:]
}

// FirstLabel is the octets of the first label; "" for the root.
func (n Name) FirstLabel() string {
	if n == Root || n == "" {
		return ""
	}
	return string(n[1 : int(n[0])+1])
}

// IsWildcard tells whether the first label is a single asterisk (RFC 4592 §2.1.1).
func (n Name) IsWildcard() bool { return strings.HasPrefix(string(n), "\x01*") }

// Wildcard is "*." before n. It fails when the result would be too long.
func (n Name) Wildcard() (Name, error) { return n.Child("*") }

// Child puts one label before n; the label's octets are taken as they are.
func (n Name) Child(label string) (Name, error) {
	if len(label) == 0 || len(label) > maxLabel {
		return "", fmt.Errorf("label %q is %d octets long, expected 1 to %d", clip(label), len(label), maxLabel)
	}
	if len(label)+1+len(n) > maxName {
		return "", fmt.Errorf("name %s.%s is longer than %d octets (RFC 1035 §2.3.4)", clip(label), n, maxName)
	}
	return Name(append([]byte{byte(len(label))}, lowerWire([]byte(label))...)) + n, nil
}

// IsSubdomainOf tells whether n is zone or lies below it.
func (n Name) IsSubdomainOf(zone Name) bool {
	if len(n) < len(zone) || zone == "" {
		return false
	}
	if !strings.HasSuffix(string(n), string(zone)) {
		return false
	}
	cut := len(n) - len(zone)
	for i := 0; i <= cut; i += int(n[i]) + 1 { // the suffix must start at a label
		if i == cut {
			return true
		}
	}
	return false
}

// Compare orders names canonically (RFC 4034 §6.1): by label from the root down,
// so that a zone's names are together and a parent stands before its children.
func (n Name) Compare(m Name) int {
	if n == m {
		return 0
	}
	var ni, mi [128]uint8 // offsets of the labels; a name has at most 127
	nk, mk := n.offsets(&ni), m.offsets(&mi)
	for nk > 0 && mk > 0 {
		nk, mk = nk-1, mk-1
		a, b := int(ni[nk]), int(mi[mk])
		if c := strings.Compare(string(n[a+1:a+1+int(n[a])]), string(m[b+1:b+1+int(m[b])])); c != 0 {
			return c
		}
	}
	return nk - mk
}

func (n Name) offsets(to *[128]uint8) int {
	k := 0
	for i := 0; i < len(n) && n[i] != 0; i += int(n[i]) + 1 {
		to[k] = uint8(i)
		k++
	}
	return k
}

// MarshalText gives the presentation form, so that names read well in JSON.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (n *Name) UnmarshalText(b []byte) (err error) {
	*n, err = ParseName(string(b))
	return err
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
