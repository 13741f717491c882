package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Bounds of a fleet file.
const (
	MaxLine    = 64 << 10 // octets; a server at all its bounds has about 10 KiB
	MaxServers = 2_000_000
)

// LineError is a broken line of a fleet file.
type LineError struct {
	File string
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the cause.
func (e *LineError) Unwrap() error { return e.Err }

// ParseFleetFile reads a fleet file: one JSON object a line, blank lines allowed,
//
//	{"name": "web1.example.net", "role": "web", "site": "sfo", "cluster": "web.sfo",
//	 "addresses": ["192.0.2.1"], "ttl": 3600, "options": {"port": "80"}, "reason": "…"}
//
// (in one line; name, role, site and addresses are required). All or nothing: the
// first broken line is the error, with file and line. A file without any server is
// an error, too, because it is far more often an accident (a full disk, a script
// that died) than a fleet that is no more; that is said by the only line
// {"servers": 0}. A name or an address that
// stands twice is an error naming both lines. The servers are in the order of the
// file, normal, with Origin and Author "fleet:<file>" and no Time; file is what to
// call it in errors and origins, usually its base name.
func ParseFleetFile(r io.Reader, file string) ([]Server, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4096), MaxLine)
	p := fileParser{file: file, names: make(map[record.Name]int), addresses: make(map[netip.Addr]int)}
	line := 0
	for sc.Scan() {
		line++
		text := bytes.TrimSpace(sc.Bytes())
		if len(text) == 0 {
			continue
		}
		if err := p.line(text, line); err != nil {
			return nil, &LineError{file, line, err}
		}
	}
	switch err := sc.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &LineError{file, line + 1, fmt.Errorf("line is longer than %d octets", MaxLine)}
	case err != nil:
		return nil, &LineError{file, line + 1, err}
	}
	if len(p.servers) == 0 && !p.none {
		return nil, fmt.Errorf(`%s: no server found, expected one a line; if there are to be none, write the line {"servers": 0}`, file)
	}
	return p.servers, nil
}

// fileParser is what is known of the lines so far.
type fileParser struct {
	file      string
	none      bool // the line {"servers": 0} was there
	servers   []Server
	names     map[record.Name]int // line that has it
	addresses map[netip.Addr]int
}

// fileLine is the JSON of one line. Text where Server has parsed values, so that
// errors are ours and say what was expected.
type fileLine struct {
	Name      *string            `json:"name"`
	Addresses []string           `json:"addresses"`
	Role      string             `json:"role"`
	Site      string             `json:"site"`
	Cluster   string             `json:"cluster"`
	TTL       int64              `json:"ttl"`
	Options   map[string]Setting `json:"options"`
	Author    string             `json:"author"`
	Reason    string             `json:"reason"`
	Servers   *int               `json:"servers"`
}

// Setting is an option's value in JSON: people write 80 as well as "80".
type Setting string

// UnmarshalJSON takes a string or a number.
func (s *Setting) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err == nil {
		*s = Setting(text)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("option value is %s, expected a string or a number", clip(string(b)))
	}
	*s = Setting(n)
	return nil
}

func (p *fileParser) line(text []byte, line int) error {
	if len(p.servers) == MaxServers {
		return fmt.Errorf("more than %d servers", MaxServers)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var l fileLine
	if err := d.Decode(&l); err != nil {
		return jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("found more after the server's object, expected one object a line")
	}
	if l.Servers != nil || p.none {
		if l.Servers == nil || *l.Servers != 0 || l.Name != nil || len(p.servers) > 0 || p.none {
			return errors.New(`found {"servers": …} beside something else, expected {"servers": 0} alone in a file without servers`)
		}
		p.none = true
		return nil
	}
	s, err := l.server(p.file)
	if err != nil {
		return err
	}
	if first, ok := p.names[s.Name]; ok {
		return fmt.Errorf("server %s stands in line %d already", s.ID(), first)
	}
	p.names[s.Name] = line
	for _, a := range s.Addresses {
		if first, ok := p.addresses[a]; ok {
			return fmt.Errorf("address %s of server %s belongs to the server of line %d already", a, s.ID(), first)
		}
		p.addresses[a] = line
	}
	p.servers = append(p.servers, s)
	return nil
}

func (l fileLine) server(file string) (Server, error) {
	if l.Name == nil {
		return Server{}, errors.New(`found no "name", expected at least {"name": …, "role": …, "site": …, "addresses": […]}`)
	}
	name, err := ParseName(*l.Name)
	if err != nil {
		return Server{}, err
	}
	if l.TTL < 0 || l.TTL > record.MaxTTL {
		return Server{}, fmt.Errorf("server %s: ttl is %d seconds, expected 0 to %d (RFC 2181 §8)", ID(name), l.TTL, record.MaxTTL)
	}
	s := Server{
		Name: name, Role: l.Role, Site: l.Site, Cluster: l.Cluster, TTL: uint32(l.TTL),
		Origin: OriginFile + file, Author: l.Author, Reason: l.Reason,
	}
	if s.Author == "" {
		s.Author = s.Origin
	}
	if len(l.Options) > 0 {
		s.Options = make(map[string]string, len(l.Options))
		for _, k := range slices.Sorted(maps.Keys(l.Options)) {
			s.Options[k] = string(l.Options[k])
		}
	}
	for _, text := range l.Addresses {
		a, err := ParseAddress(text)
		if err != nil {
			return Server{}, fmt.Errorf("server %s: %w", ID(name), err)
		}
		s.Addresses = append(s.Addresses, a)
	}
	if err := s.Check(); err != nil {
		return Server{}, err
	}
	return s.Normal(), nil
}

// jsonError says found and expected of what encoding/json found wrong.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("no JSON at column %d: %w; expected one object such as {\"name\": \"web1.example.net\", …}", syntax.Offset, err)
	case errors.As(err, &kind):
		return fmt.Errorf("column %d: found a %s for %q, expected %s", kind.Offset, kind.Value, kind.Field, kindNames(kind.Type.String()))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("found the end of the line, expected the rest of a JSON object: one server is one line")
	default:
		return err // unknown field, option value: named already
	}
}

// kindNames says a Go type in words of JSON.
func kindNames(t string) string {
	switch t {
	case "string":
		return "a string"
	case "int64":
		return "a number of seconds"
	case "[]string":
		return "a list of strings"
	default:
		return "an object"
	}
}
