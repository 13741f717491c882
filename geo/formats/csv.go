package formats

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// maxCSV bounds a CSV file, in octets: 8 million lines of 128.
const maxCSV = 1 << 30

// ReadCSV reads a map (RFC 4180). The first line names the columns, in any order: prefix;
// location, and, if there is one, pops: the PoPs of the location, in order, parted by
// spaces, which has to be said once, beside any prefix of its location. Or prefix and pop,
// and, if there are, second and third: the PoPs that take over, as `zonecast map compute`
// writes. file names the input in errors.
func ReadCSV(r io.Reader, file string) (*Import, error) {
	limited := &io.LimitedReader{R: r, N: maxCSV + 1}
	in := bufio.NewReaderSize(limited, 1<<16)
	if mark, err := in.Peek(3); err == nil && string(mark) == "\ufeff" {
		in.Discard(3)
	}
	c := csv.NewReader(in)
	c.ReuseRecord = true
	head, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: empty, expected a first line such as prefix,location", file)
	}
	if err != nil {
		return nil, csvError(file, err)
	}
	i := &Import{}
	prefix, location, pops, second, third := -1, -1, -1, -1, -1
	for k, name := range head {
		to := map[string]*int{"prefix": &prefix, "location": &location, "pop": &location, "pops": &pops, "second": &second, "third": &third}[strings.ToLower(strings.TrimSpace(name))]
		switch {
		case to == nil:
			i.note(file+":1", "column %q is not read", clip(name))
		case *to >= 0:
			return nil, fmt.Errorf("%s:1: columns %q and %q, expected one of both", file, clip(head[*to]), clip(name))
		default:
			*to = k
		}
	}
	if prefix < 0 || location < 0 {
		return nil, fmt.Errorf("%s:1: columns %s, expected prefix and location (or pop), and, if orders are said, pops", file, among(slices.Clone(head)))
	}
	if (second >= 0 || third >= 0) && (second < 0 || pops >= 0 || !strings.EqualFold(strings.TrimSpace(head[location]), "pop")) {
		return nil, fmt.Errorf("%s:1: columns %s, expected second and third beside pop alone", file, among(slices.Clone(head)))
	}
	b := csvMap{file: file, out: i, names: map[string]record.Location{}, first: map[string]int{}, orders: map[record.Location]said{}, takeover: second >= 0}
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if limited.N <= 0 {
			return nil, fmt.Errorf("%s has more than %d octets, expected a map", file, maxCSV)
		}
		if err != nil {
			return nil, csvError(file, err)
		}
		line, _ := c.FieldPos(0)
		order, place := "", row[location]
		switch {
		case pops >= 0:
			order = row[pops]
		case second >= 0:
			if place, order, err = b.takeovers(row, location, second, third); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, line, err)
			}
		}
		if err := b.add(row[prefix], place, order, line); err != nil {
			return nil, err
		}
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("%s has more than %d octets, expected a map", file, maxCSV)
	}
	return i, b.done()
}

func csvError(file string, err error) error {
	var p *csv.ParseError
	if errors.As(err, &p) {
		return fmt.Errorf("%s:%d:%d: %w", file, p.Line, p.Column, p.Err)
	}
	return fmt.Errorf("read %s: %w", file, err)
}

type csvMap struct {
	file   string
	out    *Import
	lines  []int32 // of the entries
	names  map[string]record.Location
	first  map[string]int // line of a location
	orders map[record.Location]said

	takeover bool // PoPs stand in pop, second and third
}

// said is an order and where it stands.
type said struct {
	text string
	line int
}

func (m *csvMap) add(prefix, location, order string, line int) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s:%d: %w", m.file, line, fmt.Errorf(format, args...))
	}
	p, err := netip.ParsePrefix(prefix)
	switch {
	case err != nil:
		return wrong("prefix is %q, expected one such as 192.0.2.0/24", clip(prefix))
	case within(p, []netip.Prefix{mapped}):
		return wrong("prefix is %s, which is IPv4 in the form of IPv6, expected %s", p, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked())
	case p != p.Masked():
		return wrong("prefix is %s, which has bits behind its length, expected %s", p, p.Masked())
	case len(location) > record.MaxLocation:
		return wrong("location has %d octets, expected at most %d", len(location), record.MaxLocation)
	case len(m.lines) >= maxEntries:
		return wrong("more than %d prefixes", maxEntries)
	}
	l, ok := m.names[location]
	if !ok {
		l = record.Location(strings.Clone(location))
		m.names[string(l)] = l
		m.first[string(l)] = line
	}
	if order != "" {
		before, ok := m.orders[l]
		switch {
		case location == "":
			return wrong("pops without a location, expected a location")
		case ok && before.text != order:
			return wrong("the PoPs of location %q are %q, and %q in line %d, expected one order", clip(location), clip(order), clip(before.text), before.line)
		case !ok:
			m.orders[l] = said{strings.Clone(order), line}
		}
	}
	m.out.Map.Entries = append(m.out.Map.Entries, geo.Entry{Prefix: p, Location: l})
	m.lines = append(m.lines, int32(line))
	return nil
}

// takeovers gives the location and the order of a PoP and those that take over.
func (m *csvMap) takeovers(row []string, columns ...int) (location, order string, err error) {
	var pops []string
	for _, c := range columns {
		if c < 0 || row[c] == "" {
			continue
		}
		if strings.ContainsFunc(row[c], unicode.IsSpace) || slices.Contains(pops, row[c]) {
			return "", "", fmt.Errorf("PoPs are %s, expected each once and without spaces", among(append(pops, row[c])))
		}
		pops = append(pops, row[c])
	}
	return string((&Import{}).order(pops, "/")), strings.Join(pops, " "), nil
}

// maxEntries bounds the prefixes of a file, as geo bounds those of a map.
const maxEntries = 1 << 23

func (m *csvMap) done() error {
	entries := m.out.Map.Entries
	by := make([]int32, len(entries))
	for i := range by {
		by[i] = int32(i)
	}
	slices.SortFunc(by, func(a, b int32) int { return cmp.Or(entries[a].Prefix.Compare(entries[b].Prefix), cmp.Compare(a, b)) })
	for i := 1; i < len(by); i++ {
		if a, b := by[i-1], by[i]; entries[a].Prefix == entries[b].Prefix {
			return fmt.Errorf("%s:%d: %s is there twice, before in line %d, expected it once", m.file, m.lines[b], entries[b].Prefix, m.lines[a])
		}
	}
	for l, s := range m.orders {
		var pops []record.Location
		for p := range strings.FieldsSeq(s.text) {
			pops = append(pops, record.Location(p))
			if line, ok := m.first[p]; !ok || s.line < line {
				m.first[p] = s.line
			}
		}
		if m.takeover && len(pops) == 1 { // its location is the PoP itself
			continue
		}
		if m.out.Map.Orders == nil {
			m.out.Map.Orders = map[record.Location][]record.Location{}
		}
		m.out.Map.Orders[l] = pops
	}
	places := make(map[string]string, len(m.first))
	for p, line := range m.first {
		places[p] = fmt.Sprintf("%s:%d", m.file, line)
	}
	m.out.named(places)
	return nil
}

// WriteCSV writes a map as ReadCSV reads it, in the order of its prefixes. PoPs stand beside
// the first prefix of a location with an order.
func WriteCSV(w io.Writer, m *geo.Map) error {
	b := bufio.NewWriterSize(w, 1<<16)
	c := csv.NewWriter(b)
	row := []string{"prefix", "location", "pops"}
	if len(m.Orders) == 0 {
		row = row[:2]
	}
	if err := c.Write(row); err != nil {
		return err
	}
	entries := m.Entries
	compare := func(x, y geo.Entry) int { return x.Prefix.Compare(y.Prefix) }
	if !slices.IsSortedFunc(entries, compare) {
		entries = slices.Clone(entries)
		slices.SortFunc(entries, compare)
	}
	told := map[record.Location]bool{}
	for _, e := range entries {
		row[0], row[1] = e.Prefix.String(), string(e.Location)
		if len(row) == 3 {
			if row[2] = ""; !told[e.Location] {
				told[e.Location] = true
				row[2] = joinPoPs(m.Orders[e.Location])
			}
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return errors.Join(c.Error(), b.Flush())
}

func joinPoPs(pops []record.Location) string {
	var b strings.Builder
	for i, p := range pops {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(p))
	}
	return b.String()
}
