package rtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"net/netip"
	"time"

	"github.com/zeebo/xxh3"
)

// A table as octets. Integers of fixed size are little endian, uv is a varint as of protocol
// buffers (binary.Uvarint), in its shortest form.
//
//	0    8   magic "zcrtt" 00 00, version 01
//	8    8   accuracy, IEEE 754: 0.02
//	16   8   begin: Unix seconds of the first measurement, i64
//	24   8   end, i64
//	32   4   PoPs, u32: at most 4096
//	36   4   rows, u32
//	40       for each PoP, ascending: u8 length (1 to 63) and the name
//	         for each row, ascending by kind, family, address, length:
//	             u8        kind (1 client, 2 resolver); bit 7: IPv6
//	             u8        length of the prefix, in bits
//	             octets    of the address: as many as have bits of the prefix
//	             uv, uv    demand, queries
//	             uv        cells
//	             for each cell, ascending by PoP:
//	                 uv    number of the PoP
//	                 u64   clients: bits that are set by their hashes
//	                 uv    seconds from begin to the newest measurement
//	                 uv    bins: at least 1
//	                 for each bin, ascending:
//	                     uv  its index less that of the one before; for the first: less that of 0.1 ms
//	                     uv  measurements: 1 to 4,294,967,295
//	     8   XXH3 of all before
const (
	magic      = "zcrtt\x00\x00\x01"
	headerSize = 40
	ipv6Flag   = 0x80
)

// maxEncodedRows bounds what a header can say; a row takes at least five octets.
const maxEncodedRows = 1 << 28

// WriteTo writes the table: equal tables give equal octets, whatever their history. What was
// evicted is not told.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	h := xxh3.New()
	out := &counting{w: w, h: h}
	b := bufio.NewWriterSize(out, 64<<10)
	var buf []byte
	buf = append(buf, magic...)
	buf = binary.LittleEndian.AppendUint64(buf, math.Float64bits(Accuracy))
	begin, end := t.Begin.Unix(), t.End.Unix()
	if t.Begin.IsZero() {
		begin, end = 0, 0
	}
	buf = binary.LittleEndian.AppendUint64(buf, uint64(begin))
	buf = binary.LittleEndian.AppendUint64(buf, uint64(end))
	names := t.used()
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(names)))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(t.Len()))
	number := make(map[string]uint64, len(names))
	for i, name := range names {
		number[name] = uint64(i)
		buf = append(append(buf, byte(len(name))), name...)
	}
	if _, err := b.Write(buf); err != nil {
		return out.n, err
	}
	for r := range t.All() {
		buf = appendRow(buf[:0], r, number, begin)
		if _, err := b.Write(buf); err != nil {
			return out.n, err
		}
	}
	if err := b.Flush(); err != nil {
		return out.n, err
	}
	_, err := out.Write(binary.LittleEndian.AppendUint64(nil, h.Sum64()))
	return out.n, err
}

// used are the PoPs that have cells, sorted.
func (t *Table) used() []string {
	has := make([]bool, len(t.pops))
	for _, i := range t.index {
		for _, c := range t.rows[i].cells {
			has[c.pop] = true
		}
	}
	var names []string
	for _, name := range t.PoPs() {
		if has[t.number[name]] {
			names = append(names, name)
		}
	}
	return names
}

type counting struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.h.Write(p[:n])
	return n, err
}

func appendRow(buf []byte, r Row, number map[string]uint64, begin int64) []byte {
	a, bits := r.Prefix.Addr(), r.Prefix.Bits()
	kind := byte(r.Kind)
	if a.Is6() {
		kind |= ipv6Flag
	}
	buf = append(buf, kind, byte(bits))
	buf = append(buf, a.AsSlice()[:(bits+7)/8]...)
	buf = binary.AppendUvarint(buf, r.Demand)
	buf = binary.AppendUvarint(buf, r.Queries)
	buf = binary.AppendUvarint(buf, uint64(len(r.Cells)))
	for _, c := range r.Cells {
		buf = binary.AppendUvarint(buf, number[c.PoP])
		buf = binary.LittleEndian.AppendUint64(buf, uint64(c.Clients))
		buf = binary.AppendUvarint(buf, uint64(c.Last.Unix()-begin))
		buf = binary.AppendUvarint(buf, uint64(len(c.Times.bins)))
		before := int16(firstBin)
		for _, b := range c.Times.bins {
			buf = binary.AppendUvarint(buf, uint64(b.index-before))
			buf = binary.AppendUvarint(buf, uint64(b.count))
			before = b.index
		}
	}
	return buf
}

// Read reads one table, and nothing behind it when r is an io.ByteScanner such as
// *bufio.Reader or *bytes.Reader. What is over the limit is an error, so that memory is
// bounded by it. io.EOF means that there is no table; errors say at which octet.
func Read(r io.Reader, limit Limit) (*Table, error) {
	in, ok := r.(source)
	if !ok {
		in = bufio.NewReaderSize(r, 64<<10)
	}
	d := &decoder{in: in, sum: xxh3.New()}
	t, err := d.table(limit)
	switch {
	case err == nil:
		return t, nil
	case d.at == 0 && errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read table of round-trip times: octet %d: %w", d.at, err)
}

// ReadAll reads tables one behind the other to the end of r, at most most of them, the oldest first. When all
// together are over limit.Octets the first ones go, and an error beside the others says so.
// limit.Rows is of each table.
func ReadAll(r io.Reader, limit Limit, most int) ([]*Table, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var tables []*Table
	gone, octets := 0, 0
	for {
		t, err := Read(b, limit)
		if errors.Is(err, io.EOF) {
			if gone > 0 {
				err = fmt.Errorf("read tables of round-trip times: more than %d octets of memory, the first %d of %d are left out", limit.Octets, gone, gone+len(tables))
				return tables, err
			}
			return tables, nil
		}
		if err != nil {
			return nil, fmt.Errorf("table %d: %w", gone+len(tables)+1, err)
		}
		if gone+len(tables) == most {
			return nil, fmt.Errorf("read tables of round-trip times: more than %d", most)
		}
		tables = append(tables, t)
		for octets += t.Octets(); limit.Octets > 0 && octets > limit.Octets && len(tables) > 1; gone++ {
			octets -= tables[0].Octets()
			tables[0] = nil
			tables = tables[1:]
		}
	}
}

type source interface {
	io.Reader
	io.ByteScanner
}

type decoder struct {
	in  source
	sum *xxh3.Hasher
	at  int64 // octets that were read
	buf [256]byte
}

// take reads n octets, at most len(d.buf), which are good until the next call.
func (d *decoder) take(n int) ([]byte, error) {
	b := d.buf[:n]
	m, err := io.ReadFull(d.in, b)
	d.at += int64(m)
	if err != nil {
		return nil, err
	}
	d.sum.Write(b)
	return b, nil
}

func (d *decoder) octet() (byte, error) {
	b, err := d.in.ReadByte()
	if err != nil {
		return 0, err
	}
	d.at++
	d.buf[0] = b
	d.sum.Write(d.buf[:1])
	return b, nil
}

// uvarint reads a number of least to most.
func (d *decoder) uvarint(what string, least, most uint64) (uint64, error) {
	var v uint64
	for i := 0; ; i++ {
		b, err := d.octet()
		if err != nil {
			return 0, err
		}
		if i == 9 && b > 1 {
			return 0, fmt.Errorf("%s: a number of more than 64 bits", what)
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if i > 0 && b == 0 {
				return 0, fmt.Errorf("%s: a number that is longer than it has to be", what)
			}
			break
		}
	}
	if v < least || v > most {
		return 0, fmt.Errorf("%s is %d, expected %d to %d", what, v, least, most)
	}
	return v, nil
}

func (d *decoder) table(limit Limit) (*Table, error) {
	b, err := d.take(headerSize)
	if err != nil {
		return nil, err
	}
	if string(b[:8]) != magic {
		return nil, fmt.Errorf("it begins with %q, expected %q (format 1)", b[:8], magic)
	}
	if a := math.Float64frombits(binary.LittleEndian.Uint64(b[8:])); a != Accuracy {
		return nil, fmt.Errorf("accuracy is %v, expected %v: it was written by another release, and cannot be merged", a, Accuracy)
	}
	begin, end := int64(binary.LittleEndian.Uint64(b[16:])), int64(binary.LittleEndian.Uint64(b[24:]))
	pops, rows := binary.LittleEndian.Uint32(b[32:]), binary.LittleEndian.Uint32(b[36:])
	switch {
	case begin < 0 || end < begin || end > maxTime:
		return nil, fmt.Errorf("it is from %d to %d, expected Unix seconds in order", begin, end)
	case pops > MaxPoPs:
		return nil, fmt.Errorf("%d PoPs, expected at most %d", pops, MaxPoPs)
	case rows > maxEncodedRows || limit.Rows > 0 && rows > uint32(min(limit.Rows, maxEncodedRows)):
		return nil, fmt.Errorf("%d rows, expected at most %d", rows, cmpOr(limit.Rows, maxEncodedRows))
	case rows == 0 && (pops > 0 || begin != 0 || end != 0):
		return nil, fmt.Errorf("no rows, and %d PoPs from %d to %d, expected none", pops, begin, end)
	}
	t := New(limit)
	for range pops {
		if err := d.popName(t); err != nil {
			return nil, err
		}
	}
	used := make([]bool, pops)
	var before Key
	for i := range rows {
		if before, err = d.row(t, before, i == 0, begin, end, used); err != nil {
			return nil, fmt.Errorf("row %d: %w", i+1, err)
		}
		if limit.Octets > 0 && t.octets > limit.Octets && len(t.index) > 1 {
			return nil, fmt.Errorf("row %d: more than %d octets of memory", i+1, limit.Octets)
		}
	}
	for i, ok := range used {
		if !ok {
			return nil, fmt.Errorf("PoP %q is nowhere measured", t.pops[i])
		}
	}
	if rows > 0 {
		t.Begin, t.End = time.Unix(begin, 0), time.Unix(end, 0)
	}
	want := d.sum.Sum64()
	if b, err = d.take(8); err != nil {
		return nil, err
	}
	if got := binary.LittleEndian.Uint64(b); got != want {
		return nil, fmt.Errorf("checksum is %016x, expected %016x: it is damaged", got, want)
	}
	return t, nil
}

// maxTime is the year 9999.
const maxTime = 253402300799

func cmpOr(v, zero int) int {
	if v == 0 {
		return zero
	}
	return v
}

func (d *decoder) popName(t *Table) error {
	n, err := d.octet()
	if err != nil {
		return err
	}
	b, err := d.take(int(n))
	if err != nil {
		return err
	}
	name := string(b)
	if err := CheckPoP(name); err != nil {
		return err
	}
	if n := len(t.pops); n > 0 && t.pops[n-1] >= name {
		return fmt.Errorf("PoP %q is behind %q, expected them ascending", name, t.pops[n-1])
	}
	_, err = t.pop(name)
	return err
}

func (d *decoder) row(t *Table, before Key, first bool, begin, end int64, used []bool) (Key, error) {
	k, err := d.key()
	if err != nil {
		return k, err
	}
	if !first && before.compare(k) >= 0 {
		return k, fmt.Errorf("%v %v is behind %v %v, expected them ascending", k.Kind, k.Prefix, before.Kind, before.Prefix)
	}
	r := t.touch(k)
	if r.demand, err = d.uvarint("demand", 0, math.MaxUint64); err != nil {
		return k, err
	}
	if r.queries, err = d.uvarint("queries", 0, math.MaxUint64); err != nil {
		return k, err
	}
	cells, err := d.uvarint("cells", 0, uint64(len(used)))
	if err != nil {
		return k, err
	}
	next := uint64(0) // lowest number that a PoP can have
	for range cells {
		if next == uint64(len(used)) {
			return k, fmt.Errorf("a cell behind that of the last PoP")
		}
		pop, err := d.uvarint("number of the PoP", next, uint64(len(used))-1)
		if err != nil {
			return k, err
		}
		next, used[pop] = pop+1, true
		if err := d.cell(t, r, uint16(pop), begin, end); err != nil {
			return k, fmt.Errorf("%s: %w", t.pops[pop], err)
		}
	}
	return k, nil
}

func (d *decoder) key() (k Key, err error) {
	b, err := d.take(2)
	if err != nil {
		return k, err
	}
	k.Kind = Kind(b[0] &^ ipv6Flag)
	bits, size := int(b[1]), 4
	if b[0]&ipv6Flag != 0 {
		size = 16
	}
	if bits > 8*size {
		return k, fmt.Errorf("a prefix of %d bits, expected at most %d", bits, 8*size)
	}
	if b, err = d.take((bits + 7) / 8); err != nil {
		return k, err
	}
	var octets [16]byte
	copy(octets[:], b)
	a, _ := netip.AddrFromSlice(octets[:size])
	k.Prefix = netip.PrefixFrom(a, bits)
	return k, k.Check()
}

func (d *decoder) cell(t *Table, r *row, pop uint16, begin, end int64) error {
	b, err := d.take(8)
	if err != nil {
		return err
	}
	clients := Clients(binary.LittleEndian.Uint64(b))
	if clients == 0 {
		return errors.New("measured by no client, expected at least one bit")
	}
	last, err := d.uvarint("age", 0, uint64(end-begin))
	if err != nil {
		return err
	}
	n, err := d.uvarint("bins", 1, uint64(lastBin-firstBin+1))
	if err != nil {
		return err
	}
	c := t.cell(r, pop)
	c.clients, c.last = clients, begin+int64(last)
	// Not n at once: what is said to come has to come.
	c.times.bins = make([]bin, 0, min(n, 16))
	index, least := firstBin, uint64(0)
	for range n {
		if index == lastBin && least == 1 {
			return fmt.Errorf("a bin behind the last one")
		}
		step, err := d.uvarint("bin", least, uint64(lastBin-index))
		if err != nil {
			return err
		}
		count, err := d.uvarint("measurements", 1, math.MaxUint32)
		if err != nil {
			return err
		}
		index, least = index+int(step), 1
		c.times.bins = append(c.times.bins, bin{int16(index), uint32(count)})
		t.octets += binSize
	}
	return nil
}
