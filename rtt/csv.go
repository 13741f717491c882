package rtt

import (
	"encoding/csv"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clientHash hashes those who measured, of imports: one client has one hash within a process.
type clientHash struct{ seed maphash.Seed }

func newClientHash() clientHash { return clientHash{maphash.MakeSeed()} }

func (h clientHash) of(who string) uint64 { return maphash.String(h.seed, who) }

// ImportCSV adds measurements of comma-separated values (RFC 4180). The first line names the columns, in any
// order:
//
//	prefix         an address or a prefix; longer ones are cut to MaxBits4 or MaxBits6
//	pop            name of the PoP
//	milliseconds   above 0, at most 60000
//	kind           client or resolver; without the column, or empty: client
//	client         who measured, any text; without it each line is another client's
//	time           Unix seconds, or RFC 3339; without it: now
//
// Errors are *LineError. What was read before one was added.
func (t *Table) ImportCSV(r io.Reader, now time.Time) (Imported, error) {
	var done Imported
	from := &bounded{r: r}
	in := csv.NewReader(from)
	in.ReuseRecord = true
	var columns []string
	hash := newClientHash()
	last := 0 // line that was read
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var wrong *csv.ParseError
			if errors.As(err, &wrong) {
				return done, &LineError{wrong.Line, wrong.Err}
			}
			return done, &LineError{last + 1, err}
		}
		line, _ := in.FieldPos(0)
		from.used, last = in.InputOffset(), line
		if columns == nil {
			if columns, err = csvColumns(fields); err != nil {
				return done, &LineError{line, err}
			}
			continue
		}
		m, err := csvMeasurement(columns, fields, now)
		if err != nil {
			return done, &LineError{line, err}
		}
		who := strconv.Itoa(line)
		if i := slices.Index(columns, "client"); i >= 0 && fields[i] != "" {
			who = "\x00" + fields[i]
		}
		m.Client = hash.of(who)
		if err := t.Add(m); err != nil {
			return done, &LineError{line, err}
		}
		done.Measurements++
	}
	if columns == nil {
		return done, &LineError{1, errors.New("it is empty, expected a line with the names of the columns: prefix,pop,milliseconds")}
	}
	return done, nil
}

var allColumns = []string{"prefix", "pop", "milliseconds", "kind", "client", "time"}

func csvColumns(fields []string) ([]string, error) {
	columns := make([]string, len(fields))
	for i, f := range fields {
		name := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(f, "\ufeff")))
		switch {
		case !slices.Contains(allColumns, name):
			return nil, fmt.Errorf("column %.80q, expected some of %s", f, strings.Join(allColumns, ", "))
		case slices.Contains(columns[:i], name):
			return nil, fmt.Errorf("column %q is there twice", name)
		}
		columns[i] = name
	}
	for _, name := range allColumns[:3] {
		if !slices.Contains(columns, name) {
			return nil, fmt.Errorf("column %s is missing, expected prefix, pop and milliseconds", name)
		}
	}
	return columns, nil
}

func csvMeasurement(columns, fields []string, now time.Time) (m Measurement, err error) {
	m.At = now
	kind, prefix := Client, netip.Prefix{}
	for i, column := range columns {
		f := strings.TrimSpace(fields[i])
		switch column {
		case "prefix":
			if prefix, err = parsePrefix(f); err != nil {
				return m, err
			}
		case "pop":
			m.PoP = strings.Clone(f)
		case "milliseconds":
			ms, err := strconv.ParseFloat(f, 64)
			if err != nil || !(ms > 0 && ms <= milliseconds(Longest)) { // not for NaN either
				return m, fmt.Errorf("milliseconds %.80q, expected a number above 0 and up to %v", f, milliseconds(Longest))
			}
			m.RTT = max(time.Duration(ms*float64(time.Millisecond)), 1)
		case "kind":
			switch f {
			case "", "client":
			case "resolver":
				kind = Resolver
			default:
				return m, fmt.Errorf("kind %.80q, expected client or resolver", f)
			}
		case "time":
			if f == "" {
				break
			}
			if m.At, err = parseTime(f); err != nil {
				return m, err
			}
		}
	}
	var ok bool
	if m.Key, ok = Of(kind, prefix); !ok {
		return m, fmt.Errorf("prefix %v, expected for example 192.0.2.0/24", prefix)
	}
	return m, nil
}

// parsePrefix reads an address or a prefix, without bits behind its length.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("prefix %.80q, expected an address or a prefix, for example 192.0.2.0/24", s)
	case p != p.Masked():
		return p, fmt.Errorf("prefix %s has bits behind its length, expected %s", p, p.Masked())
	}
	return p, nil
}

func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n <= maxTime {
		return time.Unix(n, 0), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil && at.Unix() >= 0 {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("time %.80q, expected Unix seconds or for example 2026-11-27T12:00:00Z", s)
}
