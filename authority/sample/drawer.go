package sample

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/zonecast/zonecast/authority/heavy"
)

// MaxKept bounds what a Drawer keeps: a question takes 280 octets.
const MaxKept = 10_000

// Drawer draws from one stream. Add is for one goroutine at a time, Take for any.
type Drawer struct {
	mu    sync.Mutex // guards below
	seen  uint64
	heap  []node // the largest ticket first
	rooms []room // in the order they came; reused, never removed
}

// node has the ticket beside its neighbours', so that sifting stays in a few cache lines.
type node struct {
	ticket uint64
	room   int32
}

type room struct {
	outcome uint8
	length  uint16
	key     [heavy.MaxKey]byte
}

// New makes a Drawer that keeps k questions: 1 to MaxKept; what is less or more means these.
func New(k int) *Drawer {
	k = min(max(k, 1), MaxKept)
	return &Drawer{heap: make([]node, 0, k), rooms: make([]room, 0, k)}
}

// Add shows a question, as a key of at most heavy.MaxKey octets, and what came of it.
// Nothing of key is kept. A longer one is left out.
func (d *Drawer) Add(key []byte, outcome uint8) {
	if len(key) > heavy.MaxKey {
		return
	}
	ticket := rand.Uint64()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen++
	switch n := len(d.heap); {
	case n < cap(d.heap):
		d.rooms = d.rooms[:n+1]
		d.heap = append(d.heap, node{ticket, int32(n)})
		d.up(n)
		d.rooms[n].put(key, outcome)
	case ticket < d.heap[0].ticket:
		d.heap[0].ticket = ticket
		r := d.heap[0].room
		d.down()
		d.rooms[r].put(key, outcome)
	}
}

func (r *room) put(key []byte, outcome uint8) {
	r.outcome, r.length = outcome, uint16(copy(r.key[:], key))
}

// up moves the node that is new at the end.
func (d *Drawer) up(i int) {
	n := d.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if d.heap[parent].ticket >= n.ticket {
			break
		}
		d.heap[i] = d.heap[parent]
		i = parent
	}
	d.heap[i] = n
}

// down moves the first node, whose ticket became less.
func (d *Drawer) down() {
	n, i := d.heap[0], 0
	for {
		child := 2*i + 1
		if child >= len(d.heap) {
			break
		}
		if child+1 < len(d.heap) && d.heap[child+1].ticket > d.heap[child].ticket {
			child++
		}
		if d.heap[child].ticket <= n.ticket {
			break
		}
		d.heap[i] = d.heap[child]
		i = child
	}
	d.heap[i] = n
}

// Draw is what was kept, and of how many.
type Draw struct {
	Seen uint64
	Kept []Ticket // the least first: any first part of it is a draw, too
}

// Ticket is a question that was kept.
type Ticket struct {
	Number  uint64
	Key     string
	Outcome uint8
}

// Take gives what was kept, and begins anew.
func (d *Drawer) Take() Draw {
	d.mu.Lock()
	out := Draw{Seen: d.seen, Kept: make([]Ticket, len(d.heap))}
	for i, n := range d.heap {
		r := &d.rooms[n.room]
		out.Kept[i] = Ticket{n.ticket, string(r.key[:r.length]), r.outcome}
	}
	d.seen, d.heap, d.rooms = 0, d.heap[:0], d.rooms[:0]
	d.mu.Unlock()
	out.sort()
	return out
}

func (d *Draw) sort() {
	slices.SortFunc(d.Kept, func(a, b Ticket) int { return cmp.Compare(a.Number, b.Number) })
}

// Join makes one draw, of at most k, of those of parts: it is what a Drawer of k that was
// shown all the parts would have kept, as long as each of theirs kept at least k.
func Join(k int, parts ...Draw) Draw {
	var out Draw
	for _, p := range parts {
		out.Seen += p.Seen
		out.Kept = append(out.Kept, p.Kept[:min(k, len(p.Kept))]...)
	}
	out.sort()
	out.Kept = slices.Clip(out.Kept[:min(k, len(out.Kept))])
	return out
}
