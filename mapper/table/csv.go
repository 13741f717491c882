package table

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// chunkSize is how much is read at a time; a line longer than maxLine is refused.
	chunkSize = 1 << 20
	maxLine   = 4096
)

// chunk is whole lines of a file.
type chunk struct {
	text []byte
	line int // of the first
}

// lineError is an error at a line.
type lineError struct {
	line int
	err  error
}

// layout tells where the columns are that are read.
type layout struct {
	columns []int // field number of each wanted column; an optional one may be -1, or behind the end of a line
	fields  int   // how many a line has at least
}

// header finds the columns in the first line; false: it is no header, and the columns are
// in the order in which they are wanted.
func header(line []byte, want, optional []string) (layout, bool, error) {
	fields, err := split(line, nil)
	if err != nil {
		return layout{}, false, err
	}
	l := layout{}
	if len(fields) >= len(want) {
		if _, err := ParsePrefix(string(fields[0])); err == nil {
			for i := range len(want) + len(optional) {
				l.columns = append(l.columns, i)
			}
			l.fields = len(want)
			return l, false, nil
		}
	}
	for _, w := range want {
		at := slices.IndexFunc(fields, func(f []byte) bool { return strings.EqualFold(strings.TrimSpace(string(f)), w) })
		if at < 0 {
			return l, false, fmt.Errorf("columns are %.200q, expected %s", line, strings.Join(want, ","))
		}
		l.columns = append(l.columns, at)
		l.fields = max(l.fields, at+1)
	}
	for _, o := range optional {
		l.columns = append(l.columns, slices.IndexFunc(fields, func(f []byte) bool { return strings.EqualFold(strings.TrimSpace(string(f)), o) }))
	}
	return l, true, nil
}

// split gives the fields of a line, as RFC 4180 has them.
func split(line []byte, fields [][]byte) ([][]byte, error) {
	if bytes.IndexByte(line, '"') >= 0 {
		r := csv.NewReader(bytes.NewReader(line))
		r.FieldsPerRecord = -1
		texts, err := r.Read()
		if err != nil {
			return nil, fmt.Errorf("quotation marks: %w", errors.Unwrap(err))
		}
		for _, t := range texts {
			fields = append(fields, []byte(t))
		}
		return fields, nil
	}
	for {
		i := bytes.IndexByte(line, ',')
		if i < 0 {
			return append(fields, line), nil
		}
		fields, line = append(fields, line[:i]), line[i+1:]
	}
}

// readCSV reads lines on all processors: newWorker is called for each, and what it gives for
// each line, with the wanted columns, those that are optional behind the others. The error is that of the first line that has one.
func readCSV(r io.Reader, file string, want, optional []string, newWorker func() func(fields [][]byte, line int) error) error {
	chunks := make(chan chunk, 2)
	var mu sync.Mutex // guards below
	var first *lineError
	failed := atomic.Bool{}
	fail := func(line int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil || line < first.line {
			first = &lineError{line, err}
		}
		failed.Store(true)
	}
	var l layout
	var wg sync.WaitGroup
	start := func() {
		for range runtime.GOMAXPROCS(0) {
			do := newWorker()
			wg.Go(func() {
				var fields [][]byte
				wanted := make([][]byte, len(want)+len(optional))
				for c := range chunks {
					// Chunks before the one that failed are read to their end, so that
					// the error is that of the first line.
					line := c.line
					for len(c.text) > 0 {
						end := bytes.IndexByte(c.text, '\n')
						text := c.text[:end]
						c.text = c.text[end+1:]
						if n := len(text); n > 0 && text[n-1] == '\r' {
							text = text[:n-1]
						}
						if len(text) > 0 {
							var err error
							fields, err = split(text, fields[:0])
							switch {
							case err != nil:
							case len(text) > maxLine:
								err = fmt.Errorf("a line of more than %d octets, expected %s", maxLine, strings.Join(want, ","))
							case len(fields) < l.fields:
								err = fmt.Errorf("%d columns in %.80q, expected %s", len(fields), text, strings.Join(want, ","))
							default:
								for i, at := range l.columns {
									if wanted[i] = nil; at >= 0 && at < len(fields) {
										wanted[i] = fields[at]
									}
								}
								err = do(wanted, line)
							}
							if err != nil {
								fail(line, err)
								break
							}
						}
						line++
					}
				}
			})
		}
	}
	buf, line, started := make([]byte, 0, chunkSize), 1, false
	var readErr error
	for ended := false; !ended && !failed.Load(); {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			ended = true
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				readErr = err
				break
			}
			if n := len(buf); n > 0 && buf[n-1] != '\n' {
				buf = append(buf, '\n')
			}
		}
		if !started && len(buf) > 0 {
			buf = bytes.TrimPrefix(buf, []byte("\ufeff"))
			end := bytes.IndexByte(buf, '\n')
			if end < 0 || end > maxLine {
				fail(line, fmt.Errorf("the first line has more than %d octets, expected %s", maxLine, strings.Join(want, ",")))
				break
			}
			var named bool
			var err error
			if l, named, err = header(bytes.TrimRight(buf[:end], "\r"), want, optional); err != nil {
				fail(line, err)
				break
			}
			if named {
				buf, line = buf[end+1:], line+1
			}
			start()
			started = true
		}
		end := bytes.LastIndexByte(buf, '\n') + 1
		rest := buf[end:]
		if len(rest) > maxLine {
			fail(line+bytes.Count(buf[:end], []byte{'\n'}), fmt.Errorf("a line of more than %d octets, expected %s", maxLine, strings.Join(want, ",")))
			break
		}
		next := make([]byte, len(rest), chunkSize)
		copy(next, rest)
		if end > 0 {
			chunks <- chunk{buf[:end:end], line}
			line += bytes.Count(buf[:end], []byte{'\n'})
		}
		buf = next
	}
	close(chunks)
	wg.Wait()
	switch {
	case first != nil:
		return fmt.Errorf("%s:%d: %w", file, first.line, first.err)
	case readErr != nil:
		return fmt.Errorf("read %s: %w", file, readErr)
	case !started:
		return fmt.Errorf("%s is empty, expected columns %s", file, strings.Join(want, ","))
	}
	return nil
}

// parseDecimal reads a number that is not negative. What is not plain digits and a point goes
// to the standard library.
func parseDecimal(text []byte) (float64, bool) {
	text = bytes.TrimSpace(text)
	whole, digits, point := uint64(0), 0, -1
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9' && digits < 15:
			whole, digits = whole*10+uint64(c-'0'), digits+1
		case c == '.' && point < 0:
			point = i
		default:
			v, err := strconv.ParseFloat(string(text), 64)
			return v, err == nil && v >= 0 && !math.IsInf(v, 0) && !math.Signbit(v)
		}
	}
	if digits == 0 {
		return 0, false
	}
	if point < 0 {
		return float64(whole), true
	}
	return float64(whole) / powers[len(text)-point-1], true
}

// powers of ten that are exact: the quotient of two exact numbers is the nearest one.
var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// Read reads a table. The names of the files are for errors.
func Read(pops []PoP, demand io.Reader, demandFile string, rtt io.Reader, rttFile string) (*Table, error) {
	if err := CheckPoPs(pops); err != nil {
		return nil, err
	}
	t := &Table{PoPs: pops}
	index, err := t.readDemand(demand, demandFile)
	if err != nil {
		return nil, err
	}
	if err := t.readRTT(rtt, rttFile, index); err != nil {
		return nil, err
	}
	return t, nil
}

// ReadDemand reads a table that has no PoPs.
func ReadDemand(r io.Reader, file string) (*Table, error) {
	t := &Table{}
	_, err := t.readDemand(r, file)
	return t, err
}

// wanted is one line of a demand file.
type wanted struct {
	prefix netip.Prefix
	weight float64
	line   int
}

// readDemand gives the numbers of the prefixes.
func (t *Table) readDemand(r io.Reader, file string) (map[netip.Prefix]int32, error) {
	var parts []*[]wanted
	err := readCSV(r, file, []string{"prefix", "weight"}, nil, func() func([][]byte, int) error {
		part := new([]wanted)
		parts = append(parts, part)
		return func(fields [][]byte, line int) error {
			p, err := ParsePrefix(string(bytes.TrimSpace(fields[0])))
			if err != nil {
				return err
			}
			w, err := parseAmount(fields[1])
			if err != nil {
				return err
			}
			if len(*part) == MaxPrefixes {
				return fmt.Errorf("more than %d prefixes", MaxPrefixes)
			}
			*part = append(*part, wanted{p, w, line})
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	var all []wanted
	for _, p := range parts {
		all = append(all, *p...)
	}
	slices.SortFunc(all, func(a, b wanted) int { return a.line - b.line })
	if err := t.size(len(all)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	index := make(map[netip.Prefix]int32, len(all))
	t.Prefixes, t.Demand = make([]netip.Prefix, len(all)), make([]float64, len(all))
	for i, w := range all {
		if first, ok := index[w.prefix]; ok {
			return nil, fmt.Errorf("%s:%d: %s is on line %d already, expected each prefix once", file, w.line, w.prefix, all[first].line)
		}
		index[w.prefix] = int32(i)
		t.Prefixes[i], t.Demand[i] = w.prefix, w.weight
	}
	return index, nil
}

func (t *Table) size(prefixes int) error {
	if prefixes > MaxPrefixes || prefixes*len(t.PoPs) > MaxCells {
		return fmt.Errorf("%d prefixes to %d PoPs, expected at most %d prefixes, and %d of both multiplied", prefixes, len(t.PoPs), MaxPrefixes, MaxCells)
	}
	return nil
}

// measured is a line about a prefix that has no demand.
type measured struct {
	prefix netip.Prefix
	pop    int16
	rtt    int32
	line   int
}

func (t *Table) readRTT(r io.Reader, file string, index map[netip.Prefix]int32) error {
	m := len(t.PoPs)
	t.RTT = slices.Repeat([]int32{Missing}, len(t.Prefixes)*m)
	pops := make(map[string]int, m)
	names := make([]string, m)
	for j, p := range t.PoPs {
		pops[p.Name], names[j] = j, p.Name
	}
	var parts []*[]measured
	total := atomic.Int64{} // of parts
	err := readCSV(r, file, []string{"prefix", "pop", "milliseconds"}, nil, func() func([][]byte, int) error {
		part := new([]measured)
		parts = append(parts, part)
		// Lines of one prefix mostly follow one another, and name the PoPs in the same order.
		var text []byte
		var prefix netip.Prefix
		row, known, pop := int32(0), false, 0
		return func(fields [][]byte, line int) error {
			if f := fields[0]; len(text) == 0 || !bytes.Equal(f, text) {
				p, err := ParsePrefix(string(bytes.TrimSpace(f)))
				if err != nil {
					return err
				}
				text, prefix = append(text[:0], f...), p
				row, known = index[p]
			}
			if pop++; pop == m {
				pop = 0
			}
			if name := bytes.TrimSpace(fields[1]); string(name) != names[pop] {
				j, ok := pops[string(name)]
				if !ok {
					return fmt.Errorf("PoP %.80q is not known, expected one of %s", name, some(names))
				}
				pop = j
			}
			rtt, err := parseRTT(fields[2])
			if err != nil {
				return err
			}
			if known {
				if !atomic.CompareAndSwapInt32(&t.RTT[int(row)*m+pop], Missing, rtt) {
					return twice(prefix, names[pop])
				}
				return nil
			}
			if total.Add(1) > MaxCells/8 { // of 48 octets each
				return fmt.Errorf("more than %d measurements of prefixes that have no demand", MaxCells/8)
			}
			*part = append(*part, measured{prefix, int16(pop), rtt, line})
			return nil
		}
	})
	if err != nil {
		return err
	}
	return t.add(parts, file, names)
}

func twice(p netip.Prefix, pop string) error {
	return fmt.Errorf("%s to %s is there twice, expected one round-trip time for both", p, pop)
}

// add takes in what was measured from prefixes without demand.
func (t *Table) add(parts []*[]measured, file string, names []string) error {
	var all []measured
	for _, p := range parts {
		all = append(all, *p...)
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b measured) int {
		if c := a.prefix.Compare(b.prefix); c != 0 {
			return c
		}
		return a.line - b.line
	})
	m := len(names)
	for i, x := range all {
		if i == 0 || x.prefix != all[i-1].prefix {
			if err := t.size(len(t.Prefixes) + 1); err != nil {
				return fmt.Errorf("%s:%d: %w", file, x.line, err)
			}
			t.Prefixes, t.Demand = append(t.Prefixes, x.prefix), append(t.Demand, 0)
			t.RTT = append(t.RTT, slices.Repeat([]int32{Missing}, m)...)
		}
		cell := &t.RTT[len(t.RTT)-m+int(x.pop)]
		if *cell != Missing {
			return fmt.Errorf("%s:%d: %w", file, x.line, twice(x.prefix, names[x.pop]))
		}
		*cell = x.rtt
	}
	return nil
}

// some is names for a message.
func some(names []string) string {
	if len(names) > 20 {
		return strings.Join(names[:20], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
