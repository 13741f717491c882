package operator

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Bounds of the file of operators.
const (
	maxFile      = 1 << 20 // octets
	maxOperators = 10_000
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// Operators are who may act, each with a key.
type Operators struct {
	keys   map[string]ed25519.PublicKey
	rights map[string][]string // nil: all
}

// Load reads a file of operators: one a line, the name and the public key in base64,
// and what the operator may do, as Rights joined by commas (all, when it is left out),
// separated by blanks; "#" begins a comment.
func Load(path string) (*Operators, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read operators: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read operators %s: %w", path, err)
	}
	return Parse(path, text)
}

// Parse reads what Load reads; file names it in errors.
func Parse(file string, text []byte) (*Operators, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: more than %d octets of operators", file, maxFile)
	}
	o := &Operators{keys: map[string]ed25519.PublicKey{}, rights: map[string][]string{}}
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, maxFile)
	for n := 1; s.Scan(); n++ {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 || len(fields) > 3 {
			return nil, fmt.Errorf("%s:%d: %d words, expected a name, a key and, perhaps, rights (`zonecast operator keygen` prints such a line)", file, n, len(fields))
		}
		if !nameForm.MatchString(fields[0]) {
			return nil, fmt.Errorf("%s:%d: name is %.80q, expected up to 64 lower-case letters, digits, dots, dashes, underscores and @", file, n, fields[0])
		}
		key, err := base64.StdEncoding.DecodeString(fields[1])
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%s:%d: key of %s is %.60q, expected the %d octets of an ed25519 key in base64", file, n, fields[0], fields[1], ed25519.PublicKeySize)
		}
		if _, twice := o.keys[fields[0]]; twice {
			return nil, fmt.Errorf("%s:%d: %s is there twice", file, n, fields[0])
		}
		if len(o.keys) == maxOperators {
			return nil, fmt.Errorf("%s:%d: more than %d operators", file, n, maxOperators)
		}
		o.keys[fields[0]] = key
		if len(fields) == 2 {
			continue
		}
		for _, r := range strings.Split(fields[2], ",") {
			if !slices.Contains(Rights, r) {
				return nil, fmt.Errorf("%s:%d: right %.60q of %s is unknown, expected %s", file, n, r, fields[0], strings.Join(Rights, ", "))
			}
			o.rights[fields[0]] = append(o.rights[fields[0]], r)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(o.keys) == 0 {
		return nil, fmt.Errorf("%s: no operator in it: nobody could do anything", file)
	}
	return o, nil
}

// Line is an operator as Parse reads it.
func Line(name string, key ed25519.PublicKey) (string, error) {
	if !nameForm.MatchString(name) {
		return "", fmt.Errorf("name is %.80q, expected up to 64 lower-case letters, digits, dots, dashes, underscores and @", name)
	}
	return name + " " + base64.StdEncoding.EncodeToString(key), nil
}

// May tells whether an operator has a right.
func (o *Operators) May(name, right string) bool {
	rights, bound := o.rights[name]
	_, known := o.keys[name]
	return known && (!bound || slices.Contains(rights, right))
}

// Names lists the operators in order.
func (o *Operators) Names() []string {
	var names []string
	for n := range o.keys {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
