package dnswire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// generate is BIND's $GENERATE start-stop[/step] name [TTL] [class] type rdata: the
// entry once for every number of the range, with each $ in name and rdata
// replaced by it; ${offset,width,base} formats it, $$ and \$ are dollar signs. RDATA
// of several words may stand without quotes, which BIND does not take.
func (p *zoneParser) generate(s *scanner, line int, args []token) error {
	start, stop, step, err := parseRange(args[0].text)
	if err != nil {
		return s.at(args[0], err)
	}
	args = append([]token(nil), args[1:]...) // the scanner's slice is not ours
	toks := make([]token, len(args))
	// BIND takes one word as the RDATA, so people quote RDATA of several: when it
	// is all that follows the type, what is in the quotes is the RDATA.
	last := args[len(args)-1]
	before := args[len(args)-2]
	_, err = record.ParseType(before.text)
	quoted := err == nil && last.quoted && !before.quoted
	for n := start; n <= stop; n += step {
		toks = toks[:len(args):cap(toks)]
		for i, a := range args {
			toks[i] = a
			if toks[i].text, err = expand(a.text, n); err != nil {
				return s.at(a, err)
			}
		}
		if quoted {
			inner, _, err := newScanner(s.file, []byte(toks[len(toks)-1].text)).next()
			if err != nil {
				return s.at(last, withoutPlace(err))
			}
			toks = toks[:len(toks)-1]
			for _, k := range inner.tokens {
				k.line, k.col = last.line, last.col
				toks = append(toks, k)
			}
		}
		owner, err := parseName(toks[0].text, p.origin)
		if err != nil {
			return s.at(args[0], err)
		}
		if err := p.body(s, entry{line: line, tokens: toks}, []byte(owner), toks[1:]); err != nil {
			return err
		}
	}
	return nil
}

// withoutPlace takes the place off an error of text that has another one.
func withoutPlace(err error) error {
	if p := (*posError)(nil); errors.As(err, &p) {
		return p.err
	}
	return err
}

func parseRange(text string) (start, stop, step int64, err error) {
	bad := fmt.Errorf("$GENERATE range %q, expected start-stop or start-stop/step with at most %d numbers", clip(text), maxGenerate)
	r, steps, hasStep := strings.Cut(text, "/")
	from, to, ok := strings.Cut(r, "-")
	if !ok {
		return 0, 0, 0, bad
	}
	step = 1
	for _, x := range []struct {
		text string
		to   *int64
		use  bool
	}{{from, &start, true}, {to, &stop, true}, {steps, &step, hasStep}} {
		if !x.use {
			continue
		}
		v, err := strconv.ParseUint(x.text, 10, 31)
		if err != nil {
			return 0, 0, 0, bad
		}
		*x.to = int64(v)
	}
	if stop < start || step < 1 || (stop-start)/step >= maxGenerate {
		return 0, 0, 0, bad
	}
	return start, stop, step, nil
}

// expand replaces the dollar signs of text. Escapes stay for the parser after it.
func expand(text string, n int64) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	var sb strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			sb.WriteString(text[i : i+2])
			i++
		case text[i] != '$':
			sb.WriteByte(text[i])
		case strings.HasPrefix(text[i:], "$$"):
			sb.WriteByte('$')
			i++
		case strings.HasPrefix(text[i:], "${"):
			spec, _, ok := strings.Cut(text[i+2:], "}")
			if !ok {
				return "", fmt.Errorf("%q has ${ without }", clip(text))
			}
			num, err := format(spec, n)
			if err != nil {
				return "", fmt.Errorf("%q: %w", clip(text), err)
			}
			sb.WriteString(num)
			i += len(spec) + 2
		default:
			sb.WriteString(strconv.FormatInt(n, 10))
		}
	}
	return sb.String(), nil
}

// format is the inside of ${offset,width,base}.
func format(spec string, n int64) (string, error) {
	bad := errors.New("expected ${offset,width,base} with a width up to 255 and a base of d, o, x, X, n or N")
	parts := strings.Split(spec, ",")
	offset, err := strconv.ParseInt(parts[0], 10, 32)
	if err != nil || len(parts) > 3 {
		return "", bad
	}
	n += offset
	if n < 0 || n > 1<<31-1 {
		return "", fmt.Errorf("number %d after the offset, expected 0 to %d", n, 1<<31-1)
	}
	width := 0
	if len(parts) > 1 {
		v, err := strconv.ParseUint(parts[1], 10, 8)
		if err != nil {
			return "", bad
		}
		width = int(v)
	}
	base := "d"
	if len(parts) > 2 {
		base = parts[2]
	}
	switch base {
	case "d", "o", "x", "X":
		return fmt.Sprintf("%0*"+base, width, n), nil
	case "n", "N":
		return nibbles(n, width, base == "N"), nil
	}
	return "", bad
}

// nibbles gives the hexadecimal digits of n as labels, the lowest first, as
// reverse names want them; width counts octets of text with the dots.
func nibbles(n int64, width int, upper bool) string {
	digits := "0123456789abcdef"
	if upper {
		digits = "0123456789ABCDEF"
	}
	var sb strings.Builder
	for {
		sb.WriteByte(digits[n&15])
		n >>= 4
		width--
		// A dot follows when there is more to say, or the width has room for one.
		if n == 0 && width <= 0 {
			return sb.String()
		}
		sb.WriteByte('.')
		width--
		if n == 0 && width <= 0 {
			return sb.String()
		}
	}
}
