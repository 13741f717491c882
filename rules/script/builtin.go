package script

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// maxRecords bounds what one call returns: what is more fits no node of the store.
const maxRecords = 10_000

type builtin = func(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// universe is what every file has, beside what Starlark itself has.
func universe(params *starlark.Dict) starlark.StringDict {
	u := starlark.StringDict{"params": params}
	for name, f := range map[string]builtin{
		"record": makeRecord, "a": typed(record.TypeA), "aaaa": typed(record.TypeAAAA), "ptr": typed(record.TypePTR), "cname": typed(record.TypeCNAME),
		"ns": typed(record.TypeNS), "mx": typed(record.TypeMX), "srv": typed(record.TypeSRV), "txt": makeTXT, "address": makeAddress,
		"zone": makeZone, "reverse_name": reverseName, "reverse_zone": reverseZone, "inside": inside, "match": (&patterns{}).match,
	} {
		u[name] = starlark.NewBuiltin(name, f)
	}
	return u
}

// where is the line that calls the builtin.
func where(thread *starlark.Thread) syntax.Position { return thread.CallFrame(1).Pos }

// makeRecord is record(owner, type, *data, ttl=3600, fallback=False).
func makeRecord(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("record: got %d arguments, expected owner, type and data", len(args))
	}
	t, err := typeOf(args[1])
	if err != nil {
		return nil, fmt.Errorf("record: type: %w", err)
	}
	return build(thread, b.Name(), t, args[0], args[2:], kwargs)
}

func typeOf(v starlark.Value) (record.Type, error) {
	text, ok := starlark.AsString(v)
	if !ok {
		return 0, fmt.Errorf("got %s, expected a string such as \"A\"", v.Type())
	}
	return record.ParseType(text)
}

// typed is a(owner, *data, ttl=3600, …) and the like.
func typed(t record.Type) builtin {
	return func(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) < 1 {
			return nil, fmt.Errorf("%s: got no arguments, expected owner and data", b.Name())
		}
		return build(thread, b.Name(), t, args[0], args[1:], kwargs)
	}
}

// makeTXT is txt(owner, *strings, ttl=3600, …): each string a record of its own.
func makeTXT(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) < 1 {
		return nil, fmt.Errorf("%s: got no arguments, expected owner and strings", b.Name())
	}
	var data starlark.Tuple
	for _, v := range args[1:] {
		text, ok := starlark.AsString(v)
		if !ok {
			return nil, fmt.Errorf("%s: got %s, expected strings", b.Name(), v.Type())
		}
		data = append(data, starlark.String(quoted(text)))
	}
	return build(thread, b.Name(), record.TypeTXT, args[0], data, kwargs)
}

// quoted is a text as character-strings of 255 octets (RFC 1035 §3.3.14).
func quoted(text string) string {
	var parts []string
	for first := true; first || text != ""; first = false {
		n := min(255, len(text))
		var sb strings.Builder
		sb.WriteByte('"')
		for _, c := range []byte(text[:n]) {
			switch {
			case c == '"' || c == '\\':
				sb.WriteByte('\\')
				sb.WriteByte(c)
			case c < ' ' || c > '~':
				fmt.Fprintf(&sb, "\\%03d", c)
			default:
				sb.WriteByte(c)
			}
		}
		sb.WriteByte('"')
		parts, text = append(parts, sb.String()), text[n:]
	}
	return strings.Join(parts, " ")
}

// makeAddress is address(owner, *addresses, ttl=3600, …): A or AAAA, as the addresses are.
func makeAddress(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) < 1 {
		return nil, fmt.Errorf("%s: got no arguments, expected owner and addresses", b.Name())
	}
	var v4, v6 []record.Rdata
	for _, v := range spread(args[1:]) {
		a, err := addressOf(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Name(), err)
		}
		if a.Is4() {
			v4 = append(v4, record.Rdata(a.AsSlice()))
		} else {
			v6 = append(v6, record.Rdata(a.AsSlice()))
		}
	}
	made, err := begin(thread, b.Name(), args[0], kwargs)
	if err != nil {
		return nil, err
	}
	all := make([]starlark.Value, 0, 2)
	for _, f := range []struct {
		t    record.Type
		data []record.Rdata
	}{{record.TypeA, v4}, {record.TypeAAAA, v6}} {
		if len(f.data) > 0 {
			r, err := made.of(f.t, f.data)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
	}
	return starlark.NewList(all), nil
}

func addressOf(v starlark.Value) (netip.Addr, error) {
	text, ok := starlark.AsString(v)
	if !ok {
		return netip.Addr{}, fmt.Errorf("got %s, expected an address as a string", v.Type())
	}
	return fleet.ParseAddress(text)
}

// spread puts the elements of lists in the place of lists.
func spread(args starlark.Tuple) starlark.Tuple {
	var out starlark.Tuple
	for _, v := range args {
		l, is := v.(*starlark.List)
		if !is {
			out = append(out, v)
			continue
		}
		for i := range l.Len() {
			out = append(out, l.Index(i))
		}
	}
	return out
}

// build makes a record of data in presentation form, of which each is a string or a list
// of strings; names in it are absolute with or without their final dot.
func build(thread *starlark.Thread, call string, t record.Type, owner starlark.Value, data starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	m, err := begin(thread, call, owner, kwargs)
	if err != nil {
		return nil, err
	}
	var all []record.Rdata
	for _, v := range spread(data) {
		text, ok := starlark.AsString(v)
		if !ok {
			return nil, fmt.Errorf("%s: data: got %s, expected strings", call, v.Type())
		}
		d, err := rdataOf(t, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s data %q: %w", call, t, text, err)
		}
		all = append(all, d)
	}
	return m.of(t, all)
}

// begun is a record of which the data is still to come.
type begun struct {
	call     string
	name     record.Name
	ttl      uint32
	fallback bool
	at       syntax.Position
}

func begin(thread *starlark.Thread, call string, owner starlark.Value, kwargs []starlark.Tuple) (m begun, err error) {
	ttl := fleet.DefaultTTL
	m.call = call
	if len(kwargs) > 0 {
		if err := starlark.UnpackArgs(call, nil, kwargs, "ttl?", &ttl, "fallback?", &m.fallback); err != nil {
			return m, err
		}
	}
	text, ok := starlark.AsString(owner)
	if !ok {
		return m, fmt.Errorf("%s: owner: got %s, expected a name as a string", call, owner.Type())
	}
	if m.name, err = record.ParseName(text); err != nil {
		return m, fmt.Errorf("%s: owner: %w", call, err)
	}
	if ttl < 0 || ttl > record.MaxTTL {
		return m, fmt.Errorf("%s: ttl is %d, expected 0 to %d", call, ttl, record.MaxTTL)
	}
	m.ttl, m.at = uint32(ttl), where(thread)
	return m, nil
}

func (m begun) of(t record.Type, all []record.Rdata) (starlark.Value, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %s %s has no data", m.call, m.name, t)
	}
	if n := len(all); n > 1 && (t == record.TypeCNAME || t == record.TypeDNAME || t == record.TypeSOA) {
		return nil, fmt.Errorf("%s: %s %s has %d records, expected one", m.call, m.name, t, n)
	}
	c := claimed{RRset: record.NewRRset(m.name, t, m.ttl, all...), fallback: m.fallback, at: m.at}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", m.call, err)
	}
	return c, nil
}

func rdataOf(t record.Type, text string) (record.Rdata, error) {
	switch t {
	case record.TypeA, record.TypeAAAA: // without going through a parser of zone files
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.Is4() != (t == record.TypeA) || a.Is4In6() {
			return "", fmt.Errorf("is no address of that kind")
		}
		return record.Rdata(a.AsSlice()), nil
	case record.TypePTR, record.TypeCNAME, record.TypeNS:
		n, err := record.ParseName(text)
		return record.Rdata(n), err
	}
	return dnswire.ParseRdata(t, text, record.Root)
}

// makeZone is zone(apex, ns, mailbox): SOA and NS that hold where nobody else has a zone.
func makeZone(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var apex, ns, mailbox string
	p := rules.DefaultParams()
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "apex", &apex, "ns?", &ns, "mailbox?", &mailbox); err != nil {
		return nil, err
	}
	name, err := record.ParseName(apex)
	if err != nil {
		return nil, fmt.Errorf("zone: apex: %w", err)
	}
	for _, n := range []struct {
		what, text string
		to         *record.Name
	}{{"ns", ns, &p.NS}, {"mailbox", mailbox, &p.Mailbox}} {
		if n.text != "" {
			if *n.to, err = record.ParseName(n.text); err != nil {
				return nil, fmt.Errorf("zone: %s: %w", n.what, err)
			}
		}
	}
	var all []starlark.Value
	for _, c := range p.Zone(name, "", "") {
		all = append(all, claimed{RRset: c.RRset, fallback: c.Fallback, at: where(thread)})
	}
	return starlark.NewList(all), nil
}

// reverseName is reverse_name(address): the owner of its PTR.
func reverseName(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "address", &v); err != nil {
		return nil, err
	}
	a, err := addressOf(v)
	if err != nil {
		return nil, fmt.Errorf("reverse_name: %w", err)
	}
	return starlark.String(fleet.ID(rules.ReverseName(a))), nil
}

// reverseZone is reverse_zone(address): the zone that its PTR lies in, as rules.ReverseZone
// has it.
func reverseZone(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "address", &v); err != nil {
		return nil, err
	}
	a, err := addressOf(v)
	if err != nil {
		return nil, fmt.Errorf("reverse_zone: %w", err)
	}
	return starlark.String(fleet.ID(rules.ReverseZone(a))), nil
}

// inside is inside(address, prefix).
func inside(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	var text string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "address", &v, "prefix", &text); err != nil {
		return nil, err
	}
	a, err := addressOf(v)
	if err != nil {
		return nil, fmt.Errorf("inside: %w", err)
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("inside: prefix: %w", err)
	}
	return starlark.Bool(p.Contains(a)), nil
}

const (
	// maxPattern bounds an expression; what it costs is in proportion to it and the text.
	maxPattern = 1000
	// maxPatterns is how many are kept compiled: rules name a handful.
	maxPatterns = 100
)

// patterns keeps regular expressions that were compiled.
type patterns struct {
	mu  sync.Mutex // guards below
	all map[string]*regexp.Regexp
}

func (p *patterns) compile(pattern string) (*regexp.Regexp, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if re := p.all[pattern]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	if p.all == nil || len(p.all) >= maxPatterns {
		p.all = map[string]*regexp.Regexp{}
	}
	p.all[pattern] = re
	return re, nil
}

// match is match(pattern, text): the whole match and the groups of a regular expression
// (RE2), or None.
func (p *patterns) match(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var pattern, text string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "pattern", &pattern, "text", &text); err != nil {
		return nil, err
	}
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("match: pattern has %d octets, at most %d", len(pattern), maxPattern)
	}
	re, err := p.compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	m := re.FindStringSubmatch(text)
	if m == nil {
		return starlark.None, nil
	}
	out := make([]starlark.Value, len(m))
	for i, s := range m {
		out[i] = starlark.String(s)
	}
	return starlark.NewList(out), nil
}
