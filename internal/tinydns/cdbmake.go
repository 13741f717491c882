package tinydns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// WriteCDB writes the data.cdb that tinydns-data makes of WriteText's text, octet for
// octet, and reports what WriteText does. sets is ranged over twice and must give the
// same both times: a cdb begins with where its tables are, which only its records
// show. So it can be written to what cannot seek, such as atomicfile's writer.
func WriteCDB(w io.Writer, sets iter.Seq[record.Set], atlas *geo.Atlas) (Report, error) {
	var m cdbMaker
	r, err := statements(sets, atlas, m.measure)
	if err != nil {
		return r, fmt.Errorf("write data.cdb: %w", err)
	}
	m.w = bufio.NewWriterSize(w, 64<<10)
	m.w.Write(m.head())
	m.pos = cdbHeader
	if _, err := statements(sets, atlas, m.write); err != nil {
		return r, fmt.Errorf("write data.cdb: %w", err)
	}
	if m.pos != m.end || m.next != len(m.pairs) {
		return r, errors.New("write data.cdb: the second pass gave other records than the first")
	}
	m.tables()
	if err := m.w.Flush(); err != nil {
		return r, fmt.Errorf("write data.cdb: %w", err)
	}
	return r, nil
}

// cdbMaker is a cdb being written: measured first, then written.
type cdbMaker struct {
	key, data []byte
	pairs     []cdbPair // in the order of the records
	count     [cdbTables]uint32
	end       uint64 // where the records end

	w       *bufio.Writer
	lengths []byte
	pos     uint64
	next    int
}

type cdbPair struct{ hash, pos uint32 }

func (m *cdbMaker) measure(s *statement) error {
	if len(m.pairs) == 0 {
		m.end = cdbHeader
	}
	m.encode(s)
	h := cdbHash(m.key)
	m.pairs = append(m.pairs, cdbPair{h, uint32(m.end)})
	m.count[h%cdbTables]++
	m.end += 8 + uint64(len(m.key)+len(m.data))
	// Each record has two slots of eight octets.
	if m.end+16*uint64(len(m.pairs)) > math.MaxUint32 {
		return fmt.Errorf("%s: it would be larger than %d octets, which a cdb cannot be", s.owner, uint32(math.MaxUint32))
	}
	return nil
}

// encode makes key and data of a statement.
func (m *cdbMaker) encode(s *statement) {
	if s.prefix.IsValid() {
		a := s.prefix.Addr().As4()
		m.key = append(append(m.key[:0], 0, '%'), a[:s.prefix.Bits()/8]...)
		if m.data = append(m.data[:0], s.loc...); s.loc == "" {
			m.data = append(m.data, 0, 0)
		}
		return
	}
	owner, kind := s.owner, byte('=')
	if owner.IsWildcard() {
		owner, kind = owner.Parent(), '*'
	}
	m.key = append(m.key[:0], owner...)
	m.data = binary.BigEndian.AppendUint16(m.data[:0], uint16(s.typ))
	if s.loc == "" {
		m.data = append(m.data, kind)
	} else {
		m.data = append(append(m.data, kind+1), s.loc...)
	}
	m.data = binary.BigEndian.AppendUint32(m.data, s.ttl)
	m.data = binary.BigEndian.AppendUint64(m.data, s.ts)
	m.data = append(m.data, s.data...)
}

// head gives the first 2048 octets. A table has twice as many slots as records.
func (m *cdbMaker) head() []byte {
	if len(m.pairs) == 0 {
		m.end = cdbHeader
	}
	b := make([]byte, 0, cdbHeader)
	pos := uint32(m.end)
	for _, n := range m.count {
		b = binary.LittleEndian.AppendUint32(b, pos)
		b = binary.LittleEndian.AppendUint32(b, 2*n)
		pos += 16 * n
	}
	return b
}

// write writes a record. An error of the writer stays in it until Flush.
func (m *cdbMaker) write(s *statement) error {
	m.encode(s)
	if m.next >= len(m.pairs) || m.pairs[m.next] != (cdbPair{cdbHash(m.key), uint32(m.pos)}) {
		return fmt.Errorf("%s: the second pass gave other records than the first", s.owner)
	}
	m.next++
	m.lengths = binary.LittleEndian.AppendUint32(m.lengths[:0], uint32(len(m.key)))
	m.lengths = binary.LittleEndian.AppendUint32(m.lengths, uint32(len(m.data)))
	m.w.Write(m.lengths)
	m.w.Write(m.key)
	m.w.Write(m.data)
	m.pos += 8 + uint64(len(m.key)+len(m.data))
	return nil
}

// tables writes the hash tables: of each, records in their order, at the slot that
// the hash says or the next empty one behind.
func (m *cdbMaker) tables() {
	var from [cdbTables + 1]uint32
	for i, n := range m.count {
		from[i+1] = from[i] + n
	}
	sorted := make([]cdbPair, len(m.pairs))
	next := from
	for _, p := range m.pairs {
		i := p.hash % cdbTables
		sorted[next[i]] = p
		next[i]++
	}
	var table []cdbPair
	for i, n := range m.count {
		size := 2 * n
		table = append(table[:0], make([]cdbPair, size)...)
		for _, p := range sorted[from[i]:from[i+1]] {
			k := (p.hash >> 8) % size
			for table[k].pos != 0 {
				if k++; k == size {
					k = 0
				}
			}
			table[k] = p
		}
		var slot [8]byte
		for _, p := range table {
			binary.LittleEndian.PutUint32(slot[:], p.hash)
			binary.LittleEndian.PutUint32(slot[4:], p.pos)
			m.w.Write(slot[:])
		}
	}
}
