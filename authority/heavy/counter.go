package heavy

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
)

// MaxKey is the longest key, in octets: a name in wire form (255, RFC 1035 §3.1) and
// a type (2).
const MaxKey = 255 + 2

// maxEntries bounds the memory of a Counter: about 300 octets each, 20 MiB.
const maxEntries = 1 << 16

// Counter counts the keys of one stream. Add is for one goroutine at a time, the
// others are for any.
type Counter struct {
	seed maphash.Seed // secret: who knew it could choose names that all probe the same places
	mask uint64
	k    int

	mu      sync.Mutex // guards below
	total   uint64
	entries []entry // in the order they came; reused, never removed
	heap    []node  // the least count first
	// places is a table of the entries by hash, with linear probing, at most a quarter
	// full.
	places []place
}

type entry struct {
	hash   uint64
	over   uint64 // by how much the count may be too large
	at     int32  // in heap
	length uint16
	key    [MaxKey]byte
}

// node has the count beside its neighbours', so that sifting stays in a few cache
// lines.
type node struct {
	count uint64
	entry int32
}

// place is empty when its entry is 0; else it is of entries[entry-1].
type place struct {
	tag   uint32 // of the hash: bits that did not choose the place
	entry int32
}

// New makes a Counter of k entries: 1 to 65536; what is less or more means these.
func New(k int) *Counter {
	k = min(max(k, 1), maxEntries)
	size := 4
	for size < 4*k {
		size *= 2
	}
	return &Counter{
		seed: maphash.MakeSeed(), mask: uint64(size - 1), k: k,
		entries: make([]entry, 0, k), heap: make([]node, 0, k), places: make([]place, size),
	}
}

// Add counts a key once, and keeps nothing of it. Equal keys are of equal octets: of
// names, the caller folds the case. A key longer than MaxKey is left out.
func (c *Counter) Add(key []byte) {
	if len(key) > MaxKey {
		return
	}
	h := maphash.Bytes(c.seed, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if e := c.find(h, key); e >= 0 {
		at := int(c.entries[e].at)
		c.heap[at].count++
		c.down(at)
		return
	}
	if e := len(c.entries); e < c.k {
		c.entries = c.entries[:e+1]
		c.heap = append(c.heap, node{1, int32(e)})
		c.put(e, h, key, 0)
		c.up(e)
		return
	}
	// The key takes the place of one that came least: it may have come as often itself
	// before, each time pushed out.
	least := &c.heap[0]
	e := int(least.entry)
	c.remove(e)
	c.put(e, h, key, least.count)
	c.entries[e].at = 0
	least.count++
	c.down(0)
}

// find gives the entry of a key, or -1.
func (c *Counter) find(h uint64, key []byte) int {
	for i := h & c.mask; ; i = (i + 1) & c.mask {
		p := c.places[i]
		if p.entry == 0 {
			return -1
		}
		if p.tag == uint32(h>>32) {
			if e := &c.entries[p.entry-1]; bytes.Equal(e.key[:e.length], key) {
				return int(p.entry - 1)
			}
		}
	}
}

// put makes entry e that of a key which is not there.
func (c *Counter) put(e int, h uint64, key []byte, over uint64) {
	t := &c.entries[e]
	t.hash, t.over, t.length = h, over, uint16(copy(t.key[:], key))
	i := h & c.mask
	for c.places[i].entry != 0 {
		i = (i + 1) & c.mask
	}
	c.places[i] = place{uint32(h >> 32), int32(e + 1)}
}

// remove takes entry e out of the table, and moves those behind it back that probed
// past its place.
func (c *Counter) remove(e int) {
	i := c.entries[e].hash & c.mask
	for c.places[i].entry != int32(e+1) {
		i = (i + 1) & c.mask
	}
	for j := (i + 1) & c.mask; c.places[j].entry != 0; j = (j + 1) & c.mask {
		home := c.entries[c.places[j].entry-1].hash & c.mask
		if (j-home)&c.mask >= (j-i)&c.mask { // home is not behind the gap
			c.places[i] = c.places[j]
			i = j
		}
	}
	c.places[i] = place{}
}

// down moves a node whose count grew.
func (c *Counter) down(i int) {
	n := c.heap[i]
	for {
		child := 2*i + 1
		if child >= len(c.heap) {
			break
		}
		if child+1 < len(c.heap) && c.heap[child+1].count < c.heap[child].count {
			child++
		}
		if c.heap[child].count >= n.count {
			break
		}
		c.set(i, c.heap[child])
		i = child
	}
	c.set(i, n)
}

// up moves a node that is new at the end.
func (c *Counter) up(i int) {
	n := c.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if c.heap[parent].count <= n.count {
			break
		}
		c.set(i, c.heap[parent])
		i = parent
	}
	c.set(i, n)
}

func (c *Counter) set(i int, n node) {
	c.heap[i] = n
	c.entries[n.entry].at = int32(i)
}

// Total is how many keys were added.
func (c *Counter) Total() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Entry is a key, and how often it came.
type Entry struct {
	Key []byte // the caller's
	// Count is how often it came at most, Count-Error at least.
	Count, Error uint64
}

// Top gives the n entries of the largest counts, the largest first; all of them when
// they are fewer.
func (c *Counter) Top(n int) []Entry {
	entries, _ := c.snapshot()
	sortEntries(entries)
	return entries[:min(max(n, 0), len(entries))]
}

// snapshot gives all entries, and how often a key came at most that is not there.
func (c *Counter) snapshot() (entries []Entry, absent uint64) {
	// All keys in one block, made before the lock is held.
	entries, keys := make([]Entry, 0, c.k), make([]byte, 0, 32*c.k)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.entries {
		e := &c.entries[i]
		from := len(keys)
		keys = append(keys, e.key[:e.length]...)
		entries = append(entries, Entry{keys[from:len(keys):len(keys)], c.heap[e.at].count, e.over})
	}
	if len(c.entries) == c.k {
		absent = c.heap[0].count
	}
	return entries, absent
}

// sortEntries has the largest count first; of equal ones, that of the least error.
func sortEntries(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int {
		switch {
		case a.Count != b.Count:
			return cmp.Compare(b.Count, a.Count)
		case a.Error != b.Error:
			return cmp.Compare(a.Error, b.Error)
		}
		return bytes.Compare(a.Key, b.Key)
	})
}
