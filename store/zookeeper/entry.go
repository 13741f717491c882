package zookeeper

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zonecast/zonecast/store"
)

// An entry of the log:
//
//	octet 0     formatEntry
//	octet 1     entryOps:  operations follow
//	            entryBulk: the name of a znode below bulk follows, which holds an
//	                       entry of entryOps
//	            entryNext: the number of the generation that goes on, a uvarint
//
// Operations are their count and then, for each, its kind, the revision at which the
// node was made (0: by this very commit, or deleted), the path and the value. Numbers
// and lengths are uvarints.
const (
	formatEntry = 1

	entryOps  = 0
	entryBulk = 1
	entryNext = 2

	opPut       = 1
	opEphemeral = 2
	opDelete    = 3
)

// maxEntry is the most octets of an entry: a whole transaction and, for each
// operation, less than 24 octets.
const maxEntry = store.MaxTxnBytes + 24*store.MaxTxnOps + 16

// inlineEntry is the largest entry that stands in the multi of its commit: see
// packetRoom.
const inlineEntry = 48 << 10

// change is what an entry says of one path.
type change struct {
	path      string
	value     []byte
	created   store.Revision // 0: by this commit
	ephemeral bool
	delete    bool
}

// record is a decoded entry.
type record struct {
	changes []change
	bulk    string // where the changes are, instead of here
	next    int64  // the generation that goes on; 0: this one
}

func encodeChanges(changes []change) []byte {
	b := []byte{formatEntry, entryOps}
	b = binary.AppendUvarint(b, uint64(len(changes)))
	for _, c := range changes {
		switch {
		case c.delete:
			b = append(b, opDelete)
		case c.ephemeral:
			b = append(b, opEphemeral)
		default:
			b = append(b, opPut)
		}
		b = binary.AppendUvarint(b, uint64(c.created))
		b = binary.AppendUvarint(b, uint64(len(c.path)))
		b = append(b, c.path...)
		b = binary.AppendUvarint(b, uint64(len(c.value)))
		b = append(b, c.value...)
	}
	return b
}

func encodeBulk(id string) []byte { return append([]byte{formatEntry, entryBulk}, id...) }

func encodeNext(gen int64) []byte {
	return binary.AppendUvarint([]byte{formatEntry, entryNext}, uint64(gen))
}

var errEntry = errors.New("entry of the log is damaged")

// decodeEntry refuses what encode does not make, but for numbers with needless
// octets.
func decodeEntry(b []byte) (record, error) {
	if len(b) < 2 || len(b) > maxEntry || b[0] != formatEntry {
		return record{}, fmt.Errorf("%w: %d octets that start with %.4q, expected 2 to %d and the first to be %d", errEntry, len(b), b, maxEntry, formatEntry)
	}
	kind, r := b[1], reader{b: b[2:]}
	var rec record
	switch kind {
	case entryBulk:
		rec.bulk = string(r.take(idLen))
		if !isID(rec.bulk) {
			return record{}, fmt.Errorf("%w: %.20q names no bulk, expected %d hexadecimal digits", errEntry, b[2:], idLen)
		}
	case entryNext:
		rec.next = int64(r.number(1 << 62))
		r.bad = r.bad || rec.next == 0
	case entryOps:
		n := r.number(store.MaxTxnOps)
		rec.changes = make([]change, n)
		for i := range rec.changes {
			c := &rec.changes[i]
			op := r.take(1)
			c.created = store.Revision(r.number(1<<63 - 1))
			c.path = string(r.take(int(r.number(1024))))
			c.value = r.take(int(r.number(store.MaxValue)))
			if r.bad {
				break
			}
			if err := store.CheckPath(c.path); err != nil {
				return record{}, fmt.Errorf("%w: %w", errEntry, err)
			}
			switch op[0] {
			case opPut:
			case opEphemeral:
				c.ephemeral = true
			case opDelete:
				c.delete = true
				r.bad = len(c.value) > 0 || c.created != 0
			default:
				r.bad = true
			}
		}
	default:
		r.bad = true
	}
	if r.bad || len(r.b) > 0 {
		return record{}, fmt.Errorf("%w: kind %d, %d octets left over of %d", errEntry, kind, len(r.b), len(b))
	}
	return rec, nil
}

// reader takes octets; once it could not, it is bad and takes nothing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	var out []byte
	out, r.b = r.b[:n:n], r.b[n:]
	return out
}

func (r *reader) number(most uint64) uint64 {
	n, k := binary.Uvarint(r.b)
	if r.bad || k <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.b = r.b[k:]
	return n
}

func isID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
