package zoneload

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// A zone's body is its nodes in canonical order, one behind the other (big endian):
//
//	owner      u8 length, wire form
//	sets       u16, RRsets
//	each set   u16 type, u32 TTL, u16 records, records × (u16 length, RDATA)
//
// Sets are in the order of their types, RDATA in canonical order. It is a string,
// so that views of it can be names and RDATA as they are.
const (
	nodeHead  = 1 + 2
	setHead   = 2 + 4 + 2
	rdataHead = 2
)

// writer makes a body.
type writer struct {
	g             *gatherer
	b             strings.Builder
	head          []byte
	sets, records int
}

// node writes all records of an owner, those of each run in the order of the file;
// they come back sorted. It tells whether they may be together.
func (w *writer) node(owner []byte, all []gathered) bool {
	g := w.g
	if len(all) > 1 {
		slices.SortStableFunc(all, func(a, b gathered) int {
			if a.t != b.t {
				return cmp.Compare(a.t, b.t)
			}
			return bytes.Compare(g.data(&a), g.data(&b))
		})
	}
	types, cname, alone := 0, false, true
	for i := range all {
		if t := all[i].t; i == 0 || t != all[i-1].t {
			types++
			cname = cname || t == record.TypeCNAME
			alone = alone && zonefile.WithCNAME(t)
		}
	}
	if cname && !alone {
		return false
	}
	w.head = append(append(w.head[:0], byte(len(owner))), owner...)
	w.head = binary.BigEndian.AppendUint16(w.head, uint16(types))
	w.b.Write(w.head)
	w.sets += types
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].t == all[from].t {
			to++
		}
		if !w.set(all[from:to]) {
			return false
		}
		from = to
	}
	return true
}

// set writes the records of one RRset, in order.
func (w *writer) set(all []gathered) bool {
	ttl := ttlOf(all)
	last, size := 0, len(w.g.data(&all[0]))+12
	for i := 1; i < len(all); i++ {
		if d := w.g.data(&all[i]); !bytes.Equal(d, w.g.data(&all[last])) {
			last++
			all[last] = all[i]
			size += len(d) + 12 // as RRset.Check counts
		}
	}
	all = all[:last+1]
	t := all[0].t
	if size > record.MaxRRsetSize || len(all) > 1 && zonefile.Single(t) {
		return false
	}
	w.head = binary.BigEndian.AppendUint16(w.head[:0], uint16(t))
	w.head = binary.BigEndian.AppendUint32(w.head, ttl)
	w.head = binary.BigEndian.AppendUint16(w.head, uint16(len(all)))
	for i := range all {
		w.head = binary.BigEndian.AppendUint16(w.head, all[i].length)
		w.head = append(w.head, w.g.data(&all[i])...)
	}
	w.b.Write(w.head)
	w.records += len(all)
	return true
}

// ttlOf is the RRset's TTL as zonefile has it: the first of the last run. RDATA is
// gathered in the order of the file, which its index tells.
func ttlOf(all []gathered) uint32 {
	first := &all[0]
	for i := range all {
		if r := &all[i]; r.run > first.run || r.run == first.run && r.rdata < first.rdata {
			first = r
		}
	}
	return first.ttl
}
