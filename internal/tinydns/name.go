package tinydns

import (
	"github.com/zonecast/zonecast/record"
)

// Limits of RFC 1035 §2.3.4 in octets.
const (
	maxName  = 255
	maxLabel = 63
)

// kindOf sorts the octets of a name in text: 0 stands for itself, else the octet
// says what it is.
var kindOf = [256]byte{'.': '.', '\\': '\\'}

// lowerOf is the lower case of an octet.
var lowerOf = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// appendName appends the name that text says as tinydns-data reads it
// (dns_domain_fromdot), in canonical wire form: dots that have no label between them
// count as one, dots at the ends for nothing, \ and up to three octal digits are an
// octet and \ with any other octet is that octet.
func appendName(b, text []byte) ([]byte, error) {
	begin := len(b)
	label := len(b) // of the current label's length octet
	b = append(b, 0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch kindOf[c] {
		case '.':
			if n := len(b) - label - 1; n > 0 {
				b[label] = byte(n)
				label = len(b)
				b = append(b, 0)
			}
			continue
		case '\\':
			v, n, err := octal(text[i:])
			if err != nil {
				return b, &fault{i, err}
			}
			if i += n - 1; n == 1 {
				continue // the text ends in a backslash
			}
			c = v
		}
		if len(b)-label > maxLabel {
			return b, faultf(i, "label of more than %d octets in %q (RFC 1035 §2.3.4)", maxLabel, clip(text))
		}
		b = append(b, lowerOf[c])
	}
	if n := len(b) - label - 1; n > 0 {
		b[label] = byte(n)
		b = append(b, 0)
	}
	if len(b)-begin > maxName {
		return b, faultf(0, "name %q is longer than %d octets in wire form (RFC 1035 §2.3.4)", clip(text), maxName)
	}
	return b, nil
}

// octal reads the escape that b begins with, and tells how many octets it takes: one,
// and no octet, if there is nothing behind the backslash.
func octal(b []byte) (c byte, n int, err error) {
	if len(b) == 1 {
		return 0, 1, nil
	}
	if b[1] < '0' || b[1] > '7' {
		return b[1], 2, nil
	}
	v := 0
	for n = 1; n < len(b) && n < 4 && b[n] >= '0' && b[n] <= '7'; n++ {
		v = v*8 + int(b[n]-'0')
	}
	if v > 255 {
		return 0, 0, faultf(0, "escape %q is no octet, expected \\000 to \\377", b[:n])
	}
	return byte(v), n, nil
}

// appendText appends text with its escapes resolved.
func appendText(b, text []byte) ([]byte, error) {
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			b = append(b, text[i])
			i++
			continue
		}
		c, n, err := octal(text[i:])
		if err != nil {
			return b, &fault{i, err}
		}
		if n > 1 {
			b = append(b, c)
		}
		i += n
	}
	return b, nil
}

// appendEscaped appends octets so that appendName and appendText give them back;
// those of plain stand for themselves.
func appendEscaped(b []byte, octets string, plain *[256]bool) []byte {
	for _, c := range []byte(octets) {
		if plain[c] {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

// plainLabel and plainText have the octets that stand for themselves in names and in
// text. The text of a line is never its end, where blanks would be lost.
var plainLabel, plainText = func() (label, text [256]bool) {
	for c := ' '; c <= '~'; c++ {
		text[c] = c != ':' && c != '\\'
		label[c] = text[c] && c != '.' && c != ' '
	}
	return label, text
}()

// appendDotted appends a name as text, always with a dot in it: without one it would
// be taken for the x of x.ns.fqdn.
func appendDotted(b []byte, n record.Name) []byte {
	if n == record.Root {
		return append(b, '.')
	}
	for rest := n; rest != record.Root; rest = rest.Parent() {
		b = append(appendEscaped(b, rest.FirstLabel(), &plainLabel), '.')
	}
	if n.Labels() > 1 {
		b = b[:len(b)-1]
	}
	return b
}
