package builtin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
)

// function is one of zonecast.star. thread knows where it was called.
type function func(l *Library, thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// functions of zonecast.star, with how they are called.
var functions = map[string]struct {
	usage string
	call  function
}{
	"zone":         {"zone(origin, *records, soa, ttl = 3600)", (*Library).zone},
	"records":      {"records(origin, *records, ttl = 3600)", (*Library).records},
	"soa":          {"soa(primary, mailbox, serial = 1, refresh = 43200, retry_after = 7200, expire = 1209600, minimum = 3600, ttl = None)", (*Library).soa},
	"rr":           {"rr(name, type, *data, ttl = None, location = None, weights = None, most = None)", (*Library).rr},
	"a":            {"a(name, *addresses, ttl = None, location = None, weights = None, most = None)", each("A")},
	"aaaa":         {"aaaa(name, *addresses, ttl = None, location = None, weights = None, most = None)", each("AAAA")},
	"ns":           {"ns(name, *servers, ttl = None, location = None)", each("NS")},
	"ptr":          {"ptr(name, *targets, ttl = None, location = None)", each("PTR")},
	"cname":        {"cname(name, target, ttl = None, location = None)", words("CNAME", 1)},
	"mx":           {"mx(name, preference, exchange, ttl = None, location = None)", words("MX", 2)},
	"srv":          {"srv(name, priority, weight, port, target, ttl = None, location = None)", words("SRV", 4)},
	"txt":          {"txt(name, *texts, ttl = None, location = None)", (*Library).txt},
	"caa":          {"caa(name, flags, tag, value, ttl = None, location = None)", (*Library).caa},
	"reverse_name": {"reverse_name(address)", (*Library).reverseName},
}

// Functions gives what programs load from zonecast.star.
func (l *Library) Functions() starlark.StringDict {
	all := starlark.StringDict{}
	for name, f := range functions {
		all[name] = starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			v, err := f.call(l, thread, args, kwargs)
			var u usageError
			if errors.As(err, &u) {
				return nil, fmt.Errorf("%s: %w; expected %s", name, err, f.usage)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return v, nil
		})
	}
	all.Freeze()
	return all
}

// usageError is a call with other arguments than the function has.
type usageError string

func (e usageError) Error() string { return string(e) }

func str(s string) starlark.Tuple { return starlark.Tuple{starlark.String(s)} }

// recordSet makes a RecordSet; kwargs may have ttl, location, weights and most.
func (l *Library) recordSet(thread *starlark.Thread, name starlark.Value, t string, data []idl.Value, kwargs []starlark.Tuple) (starlark.Value, error) {
	for _, kw := range kwargs {
		switch k := string(kw[0].(starlark.String)); k {
		case "ttl", "location", "weights", "most":
		default:
			return nil, usageError(fmt.Sprintf("there is no argument %q", k))
		}
	}
	s := l.RecordSet
	fields := make([]idl.Value, len(s.Fields))
	fields[s.Index("type")], fields[s.Index("data")] = t, data
	n, ok := starlark.AsString(name)
	if !ok {
		return nil, fmt.Errorf("name: expected a string, found %s %s", name.Type(), name)
	}
	fields[s.Index("name")] = n
	return unwrap(star.Make(thread, s, fields, kwargs, checkRecordSet))
}

// unwrap keeps a nil pointer from becoming a value.
func unwrap(v *star.Instance, err error) (starlark.Value, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// each is a function of a name and any number of texts, each one record's data.
func each(t string) function {
	return func(l *Library, thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) < 2 {
			return nil, usageError(fmt.Sprintf("%d arguments", len(args)))
		}
		data, err := texts(args[1:])
		if err != nil {
			return nil, err
		}
		for i, d := range data {
			if !isWord(d.(string)) {
				return nil, fmt.Errorf("argument %d: expected one address or name, found %q", i+2, d)
			}
		}
		return l.recordSet(thread, args[0], t, data, kwargs)
	}
}

// isWord tells whether RDATA of this text is one word: what ends words, and what begins
// comments, is escaped.
func isWord(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ' ', '\t', '\r', '\n', ';', '(', ')', '"':
			return false
		}
	}
	return s != ""
}

// texts gives strings, lists taken apart.
func texts(args starlark.Tuple) ([]idl.Value, error) {
	var all []idl.Value
	for _, a := range args {
		switch a := a.(type) {
		case starlark.String:
			all = append(all, string(a))
		case *starlark.List, starlark.Tuple:
			var inner starlark.Tuple
			for e := range starlark.Elements(a.(starlark.Iterable)) {
				if _, ok := e.(starlark.String); !ok {
					return nil, fmt.Errorf("expected a string in the %s, found %s %s", a.Type(), e.Type(), e)
				}
				inner = append(inner, e)
			}
			more, err := texts(inner)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		default:
			return nil, fmt.Errorf("expected a string, found %s %s", a.Type(), a)
		}
	}
	return all, nil
}

// words is a function of a name and n words, which are one record's data: numbers, and
// a name at the end.
func words(t string, n int) function {
	return func(l *Library, thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) != n+1 {
			return nil, usageError(fmt.Sprintf("%d arguments", len(args)))
		}
		parts := make([]string, n)
		for i, a := range args[1:] {
			switch a := a.(type) {
			case starlark.Int:
				parts[i] = a.String()
			case starlark.String:
				if i < n-1 {
					return nil, fmt.Errorf("argument %d: expected a number, found string %s", i+2, a)
				}
				if parts[i] = string(a); !isWord(parts[i]) {
					return nil, fmt.Errorf("argument %d: expected a name, found %s", i+2, a)
				}
			default:
				return nil, fmt.Errorf("argument %d: expected a number or a name, found %s %s", i+2, a.Type(), a)
			}
		}
		return l.recordSet(thread, args[0], t, []idl.Value{strings.Join(parts, " ")}, kwargs)
	}
}

func (l *Library) rr(thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) < 3 {
		return nil, usageError(fmt.Sprintf("%d arguments", len(args)))
	}
	t, ok := starlark.AsString(args[1])
	if !ok {
		return nil, fmt.Errorf("type: expected a string, found %s %s", args[1].Type(), args[1])
	}
	data, err := texts(args[2:])
	if err != nil {
		return nil, err
	}
	return l.recordSet(thread, args[0], t, data, kwargs)
}

// Quote gives a text as one character-string in presentation form.
func Quote(s string) string {
	var sb strings.Builder
	sb.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			sb.WriteByte('\\')
			sb.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&sb, "\\%03d", c)
		default:
			sb.WriteByte(c)
		}
	}
	sb.WriteByte('"')
	return sb.String()
}

// maxString is how many octets a character-string may have (RFC 1035 §3.3).
const maxString = 255

// QuoteText gives a text as the character-strings of one TXT record: as many as its
// length needs.
func QuoteText(s string) string {
	var parts []string
	for {
		n := min(len(s), maxString)
		parts = append(parts, Quote(s[:n]))
		if s = s[n:]; s == "" {
			return strings.Join(parts, " ")
		}
	}
}

func (l *Library) txt(thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) < 2 {
		return nil, usageError(fmt.Sprintf("%d arguments", len(args)))
	}
	data, err := texts(args[1:])
	if err != nil {
		return nil, err
	}
	for i, d := range data {
		data[i] = QuoteText(d.(string))
	}
	return l.recordSet(thread, args[0], "TXT", data, kwargs)
}

func (l *Library) caa(thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) != 4 {
		return nil, usageError(fmt.Sprintf("%d arguments", len(args)))
	}
	flags, ok1 := args[1].(starlark.Int)
	tag, ok2 := starlark.AsString(args[2])
	value, ok3 := starlark.AsString(args[3])
	if !ok1 || !ok2 || !ok3 {
		return nil, usageError(fmt.Sprintf("found %s, %s, %s", args[1].Type(), args[2].Type(), args[3].Type()))
	}
	if tag == "" || strings.Trim(strings.ToLower(tag), "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return nil, fmt.Errorf("tag: expected letters and digits such as issue, found %s", args[2])
	}
	return l.recordSet(thread, args[0], "CAA", []idl.Value{flags.String() + " " + tag + " " + Quote(value)}, kwargs)
}

func (l *Library) soa(thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) > 2 {
		return nil, usageError(fmt.Sprintf("%d arguments without a name", len(args)))
	}
	for i, a := range args {
		kwargs = append(kwargs, append(str([]string{"primary", "mailbox"}[i]), a))
	}
	return unwrap(star.Make(thread, l.SOA, make([]idl.Value, len(l.SOA.Fields)), kwargs, checkSOA))
}

// container makes a Zone or Records: origin, then record sets and lists of them, then
// fields by name.
func (l *Library) container(thread *starlark.Thread, s *idl.Struct, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) < 1 {
		return nil, usageError("no origin")
	}
	fields := make([]idl.Value, len(s.Fields))
	origin, ok := starlark.AsString(args[0])
	if !ok {
		return nil, fmt.Errorf("origin: expected a string, found %s %s", args[0].Type(), args[0])
	}
	fields[s.Index("origin")] = origin
	var rest []starlark.Tuple
	var err error
	all := []idl.Value{}
	for _, kw := range kwargs {
		if kw[0].(starlark.String) == "records" {
			if all, err = l.flatten(s, fields, all, kw[1], 0); err != nil {
				return nil, err
			}
			continue
		}
		rest = append(rest, kw)
	}
	for _, a := range args[1:] {
		if all, err = l.flatten(s, fields, all, a, 0); err != nil {
			return nil, err
		}
	}
	fields[s.Index("records")] = all
	return unwrap(star.Make(thread, s, fields, rest, checkOrigin))
}

// maxNested bounds lists of record sets inside one another: a list may hold itself.
const maxNested = 32

// flatten appends the record sets of v, a RecordSet or lists of them; a SOA becomes the
// zone's.
func (l *Library) flatten(s *idl.Struct, fields, all []idl.Value, v starlark.Value, depth int) ([]idl.Value, error) {
	if depth > maxNested {
		return nil, fmt.Errorf("lists of records are more than %d deep inside one another", maxNested)
	}
	switch v := v.(type) {
	case *star.Instance:
		switch soa := s.Index("soa"); {
		case v.X.Struct == l.RecordSet:
			return append(all, v.X), nil
		case v.X.Struct == l.SOA && soa >= 0:
			if fields[soa] != nil {
				return nil, errors.New("a second soa")
			}
			fields[soa] = v.X
			return all, nil
		}
	case *starlark.List, starlark.Tuple:
		var err error
		for e := range starlark.Elements(v.(starlark.Iterable)) {
			if all, err = l.flatten(s, fields, all, e, depth+1); err != nil {
				return nil, err
			}
		}
		return all, nil
	case starlark.NoneType: // `x if condition else None` leaves records out
		return all, nil
	}
	return nil, fmt.Errorf("expected record sets or lists of them, found %s", v.Type())
}

func (l *Library) zone(thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	return l.container(thread, l.Zone, args, kwargs)
}

func (l *Library) records(thread *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	return l.container(thread, l.Records, args, kwargs)
}

func (l *Library) reverseName(_ *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) != 1 || len(kwargs) > 0 {
		return nil, usageError(fmt.Sprintf("%d arguments", len(args)+len(kwargs)))
	}
	s, _ := starlark.AsString(args[0])
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return nil, fmt.Errorf("expected an IPv4 or IPv6 address, found %s", args[0])
	}
	b := a.AsSlice()
	var sb strings.Builder
	for i := len(b) - 1; i >= 0; i-- {
		if a.Is4() {
			fmt.Fprintf(&sb, "%d.", b[i])
		} else {
			fmt.Fprintf(&sb, "%x.%x.", b[i]&15, b[i]>>4)
		}
	}
	if a.Is4() {
		return starlark.String(sb.String() + "in-addr.arpa."), nil
	}
	return starlark.String(sb.String() + "ip6.arpa."), nil
}
