package tap

import (
	"net/netip"
	"sync"
	"time"
)

const (
	slotSize   = 4096      // octets of a message that need no allocation
	maxMessage = 1<<16 - 1 // octets: the length before a message over TCP is of 16 bits
)

// slot is a message that waits.
type slot struct {
	own     []byte // empty, with room for slotSize octets
	message []byte // in own, or allocated when it is longer
	answer  bool   // message is a response
	tcp     bool
	// client and server are unmapped.
	client, server     netip.AddrPort
	queried, responded time.Time
}

// size is how many octets of the queue a message of n octets takes.
func size(n int) int { return max(n, slotSize) }

// queue holds the slots: those that are free, and those that wait to be written.
type queue struct {
	// wait has room for all slots: to send to it never blocks.
	wait chan *slot

	mu     sync.Mutex // guards below; never held while something is copied or written
	free   []*slot
	room   int // octets that may still be taken
	closed bool
}

func newQueue(n int) *queue {
	q := &queue{wait: make(chan *slot, n), free: make([]*slot, n), room: n * slotSize}
	// One block, of which the system gives only those pages that were touched.
	memory, slots := make([]byte, n*slotSize), make([]slot, n)
	for i := range slots {
		slots[i].own = memory[i*slotSize : i*slotSize : (i+1)*slotSize]
		q.free[n-1-i] = &slots[i]
	}
	return q
}

// take gives a free slot for a message of n octets, or nil when there is no room.
func (q *queue) take(n int) *slot {
	n = size(n)
	q.mu.Lock()
	defer q.mu.Unlock()
	last := len(q.free) - 1
	if last < 0 || q.room < n || q.closed {
		return nil
	}
	s := q.free[last]
	q.free = q.free[:last]
	q.room -= n
	return s
}

// release makes a slot free again; its message is gone.
func (q *queue) release(s *slot) {
	n := size(len(s.message))
	s.message = nil
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free = append(q.free, s)
	q.room += n
}

// close makes take give nil from now on. Slots that were taken before may still come.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// taken is how many slots are not free.
func (q *queue) taken() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return cap(q.wait) - len(q.free)
}
