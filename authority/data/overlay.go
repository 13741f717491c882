package data

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/zonecast/zonecast/authority/image"
)

// overlay is a log of names and the nodes that they got, one entry behind the other, and
// a table of the newest entry of each name. Views of one image share it: each sees what
// was written up to its own number. It has next to no pointers, so that the collector
// has nothing to do in it however many names it has, and it goes as a whole, when no
// View needs it any more.
//
// A reader takes no lock. It finds the newest entry of a name, which nearly always is
// the one that its View sees, and goes back to older ones from there. One writer at a
// time appends, and enters what it wrote into the table when it is complete. A table
// that becomes full is replaced by a larger one for later Views; earlier ones go on with
// theirs, which has all that they see.
type overlay struct {
	chunks atomic.Pointer[[][]byte] // of entries, none of which is in two

	mu   sync.Mutex // guards below
	last uint64     // number of the newest View
	tail int        // number of the chunk that is filled; 0: none
	used int        // octets of it
	live int        // octets of entries that are the newest of their name
	dead int        // octets of all others
}

const (
	// A place is the number of a chunk, from 1 on, and an offset in it.
	offsetBits = 20
	// Chunks grow from the first to the largest size, so that a few changes need little
	// memory. An entry of more than ownChunk octets has a chunk of its own.
	firstChunk   = 16 << 10
	largestChunk = 1 << offsetBits
	ownChunk     = largestChunk / 4
	// spareDead is how many octets of entries that no new View sees are left alone. With
	// more, and more than those that are seen, the overlay is written anew: a name that
	// changes all the time costs no memory, and no View looks back for long.
	spareDead = 1 << 20
)

// entry is a name's node from some View on. Its octets (integers little endian), from
// a multiple of 8 on:
//
//	0   u64  number of the View that it was written for
//	8   u64  place of the name's entry before; 0: none
//	16  u32  octets of the node
//	20  u32  1: the name is gone, and the node has only the name
//	24       the node
type entry []byte

const entryHead = 24

func (e entry) number() uint64 { return binary.LittleEndian.Uint64(e) }
func (e entry) before() uint64 { return binary.LittleEndian.Uint64(e[8:]) }
func (e entry) gone() bool     { return e[20] != 0 }

func (e entry) node() image.Node {
	end := entryHead + binary.LittleEndian.Uint32(e[16:])
	return image.Node(e[entryHead:end:end])
}

// name is node().Name().
func (e entry) name() []byte { return image.Node(e[entryHead:]).Name() }

// size is how many octets an entry with a node of n octets takes.
func size(n int) int { return (entryHead + n + 7) &^ 7 }

func (e entry) size() int { return size(len(e.node())) }

// table is open addressing with linear probing. A slot that has a hash keeps it, its
// place changes with each entry of the name.
type table struct {
	shift uint // of a hash, to its first slot
	slots []slot
}

type slot struct{ hash, place atomic.Uint64 } // place 0: empty; the hash is written before

const smallestTable = 6 // log2 of its slots

// newTable gives a table that has room for names, and for as many again.
func newTable(names int) *table {
	n := max(smallestTable, bits.Len(uint(names))+1)
	return &table{shift: uint(64 - n), slots: make([]slot, 1<<n)}
}

// full tells whether a table should have no more names.
func (t *table) full(names int) bool { return names >= len(t.slots)/4*3 }

// grown is a table with the same entries and more room.
func (t *table) grown(names int) *table {
	to := newTable(names)
	for i := range t.slots {
		if place := t.slots[i].place.Load(); place != 0 {
			h := t.slots[i].hash.Load()
			k := h >> to.shift
			for to.slots[k].place.Load() != 0 {
				k = to.next(k)
			}
			to.slots[k].hash.Store(h)
			to.slots[k].place.Store(place)
		}
	}
	return to
}

func (t *table) next(k uint64) uint64 { return (k + 1) & uint64(len(t.slots)-1) }

// layer is what one View sees of an overlay. The zero value has no names.
type layer struct {
	log    *overlay // nil: no names
	table  *table
	number uint64 // of the View
	len    int    // names
}

func place(chunk, offset int) uint64 { return uint64(chunk)<<offsetBits | uint64(offset) }

// at is the entry at a place, and what lies behind it.
func (o *overlay) at(place uint64) entry {
	return (*o.chunks.Load())[place>>offsetBits-1][place&(1<<offsetBits-1):]
}

// find gives the slot of a name, or the empty one where it would be, and the place of
// its newest entry, 0 for none.
func (l *layer) find(h uint64, name []byte) (*slot, uint64) {
	for k := h >> l.table.shift; ; k = l.table.next(k) {
		s := &l.table.slots[k]
		place := s.place.Load()
		if place == 0 || s.hash.Load() == h && string(l.log.at(place).name()) == string(name) {
			return s, place
		}
	}
}

// seen gives the entry that the View sees: the one at place or one before it; nil: none.
func (l *layer) seen(place uint64) entry {
	for place != 0 {
		e := l.log.at(place)
		if e.number() <= l.number {
			return e
		}
		place = e.before()
	}
	return nil
}

// get gives the entry of a name; nil: it did not change.
func (l *layer) get(h uint64, name []byte) entry {
	if l.log == nil {
		return nil
	}
	_, place := l.find(h, name)
	return l.seen(place)
}

// all gives the hashes and the entries of all names, in no particular order.
func (l *layer) all(yield func(uint64, entry) bool) {
	if l.log == nil {
		return
	}
	for i := range l.table.slots {
		s := &l.table.slots[i]
		if e := l.seen(s.place.Load()); e != nil && !yield(s.hash.Load(), e) {
			return
		}
	}
}

// edit gives the layer with what fn puts into it. It is in the overlay of l when l is the
// newest one there, otherwise in one of its own.
func (l layer) edit(fn func(*layer)) layer {
	if l.log != nil {
		l.log.mu.Lock()
		if l.number == l.log.last && l.log.dead <= max(l.log.live, spareDead) {
			defer l.log.mu.Unlock()
			return l.next(fn)
		}
		l.log.mu.Unlock()
	}
	own := layer{log: new(overlay), table: newTable(l.len)}
	own.log.chunks.Store(new([][]byte))
	own.log.mu.Lock()
	defer own.log.mu.Unlock()
	return own.next(func(to *layer) {
		for h, e := range l.all {
			to.put(h, e.node(), e.gone())
		}
		fn(to)
	})
}

// next is edit in the overlay of l, which is locked.
func (l layer) next(fn func(*layer)) layer {
	l.log.last++ // also when fn panics: nobody will see what it wrote
	l.number = l.log.last
	fn(&l)
	return l
}

// put writes the node of a name of hash h, for the fn of edit.
func (l *layer) put(h uint64, n image.Node, gone bool) {
	o := l.log
	s, before := l.find(h, n.Name())
	if before != 0 {
		dead := o.at(before).size()
		o.live -= dead
		o.dead += dead
	} else {
		if l.table.full(l.len) {
			l.table = l.table.grown(l.len)
			s, _ = l.find(h, n.Name())
		}
		l.len++
		s.hash.Store(h)
	}
	e, place := o.take(size(len(n)))
	binary.LittleEndian.PutUint64(e, l.number)
	binary.LittleEndian.PutUint64(e[8:], before)
	binary.LittleEndian.PutUint32(e[16:], uint32(len(n)))
	if gone {
		e[20] = 1
	}
	copy(e[entryHead:], n)
	s.place.Store(place)
}

// take gives room for an entry, empty, and its place.
func (o *overlay) take(n int) (entry, uint64) {
	o.live += n
	if n > ownChunk {
		number := o.add(n)
		return o.at(place(number, 0)), place(number, 0)
	}
	room := 0
	if o.tail > 0 {
		room = len((*o.chunks.Load())[o.tail-1])
	}
	if o.used+n > room {
		o.tail, o.used = o.add(max(n, firstChunk, min(2*room, largestChunk))), 0
	}
	at := place(o.tail, o.used)
	o.used += n
	return o.at(at)[:n], at
}

// add makes a chunk of n octets and gives its number. Who has the list of chunks as it
// was does not look behind its end.
func (o *overlay) add(n int) int {
	chunks := append(*o.chunks.Load(), make([]byte, n))
	o.chunks.Store(&chunks)
	return len(chunks)
}
