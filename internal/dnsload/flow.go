package dnsload

import (
	"bytes"
	"encoding/binary"
	"time"
)

// flow is one socket and the queries outstanding on it.
type flow struct {
	fd int
	// slots has the queries by id: that of id is slots[id&mask].
	slots []slot
	mask  uint16
	next  uint16 // the id to try first for the next query
	out   int    // slots that are waiting
	most  int    // of out, in the closed loop

	stream stream // of a TCP connection
}

// slot is a query that was sent; 16 octets, four a cache line, used in turn.
type slot struct {
	due   int64  // when it was to leave, in ns of the run's clock
	query uint32 // index in Queries
	id    uint16
	state slotState
}

// slotState is what became of a query:
//
//	free ── sent ──► waiting ── an answer ──► answered (free for the next)
//	                    └── timeout ──► lost ── an answer ──► answered, counted as late
type slotState uint8

const (
	free slotState = iota
	waiting
	answered
	lost
)

// A lost query keeps its slot for lateFactor timeouts from when it was due, so that
// an answer that is late can be told from one that nobody asked for.
const lateFactor = 3

// maxSlots is the number of query ids (RFC 1035 §4.1.1: 16 bits).
const maxSlots = 1 << 16

// slotsFor is how many slots a flow has for n queries outstanding: a power of two,
// large enough that lost queries do not take up those of the living.
func slotsFor(n float64) int {
	k := 4096
	for k < maxSlots && float64(k) < 2*n {
		k *= 2
	}
	return k
}

func newFlow(slots int) *flow {
	return &flow{fd: -1, slots: make([]slot, slots), mask: uint16(slots - 1)}
}

// tries is how many slots in a row take looks at before it gives up.
const tries = 64

// take finds an id for a query and its slot; nil when there is none now.
func (f *flow) take(now int64, timeout int64) *slot {
	if f.out > int(f.mask) {
		return nil
	}
	var kept *slot // lost, and still there for a late answer
	var keptID uint16
	for range min(tries, len(f.slots)) {
		id := f.next
		f.next++
		s := &f.slots[id&f.mask]
		switch {
		case s.state == waiting:
			continue
		case s.state == lost && now-s.due < lateFactor*timeout:
			kept, keptID = s, id
			continue
		}
		s.id = id
		return s
	}
	if kept != nil {
		kept.id = keptID
	}
	return kept
}

// expire makes queries lost whose answer did not come in time, and counts them.
func (f *flow) expire(now int64, timeout int64) (n uint64) {
	for i := range f.slots {
		if s := &f.slots[i]; s.state == waiting && now-s.due > timeout {
			s.state = lost
			n++
		}
	}
	f.out -= int(n)
	return n
}

// abandon makes all queries lost that are outstanding; none of them can be
// answered late.
func (f *flow) abandon() (n uint64) {
	for i := range f.slots {
		if s := &f.slots[i]; s.state == waiting {
			s.state = free
			n++
		}
	}
	f.out = 0
	return n
}

// heard counts the response m, which came at now on f.
func (w *worker) heard(f *flow, m []byte, now int64) {
	c := &w.recent.Counts
	c.BytesReceived += uint64(len(m))
	if len(m) < headerSize || m[2]&0x80 == 0 {
		c.Malformed++
		return
	}
	id := binary.BigEndian.Uint16(m)
	s := &f.slots[id&f.mask]
	if s.id != id || s.state == free {
		c.Unexpected++
		return
	}
	rcode := m[3] & 0xf
	switch questions := binary.BigEndian.Uint16(m[4:]); {
	case questions == 0 && rcode != 0: // FORMERR and the like may come without it
	case questions != 1:
		c.Malformed++
		return
	default:
		q := w.queries.question(s.query)
		if len(m) < headerSize+len(q) {
			c.Malformed++
			return
		}
		if got := m[headerSize : headerSize+len(q)]; !bytes.Equal(got, q) && !sameQuestion(got, q) {
			c.Unexpected++
			return
		}
	}
	switch {
	case s.state == answered:
		c.Unexpected++
		return
	case s.state == lost:
		s.state = answered
		c.Late++
		return
	}
	s.state = answered
	f.out--
	w.out--
	took := now - s.due
	if took > int64(w.config.Timeout) {
		c.Lost++
		c.Late++
		return
	}
	c.Answered++
	c.Rcodes[rcode]++
	c.Records += uint64(binary.BigEndian.Uint16(m[6:]))
	c.Truncated += uint64(m[2] >> 1 & 1)
	w.recent.Latency.add(took)
}

// sameQuestion compares without regard to the case of letters in the name.
func sameQuestion(got, asked []byte) bool {
	n := len(asked) - 4 // type and class
	for i, c := range got[:n] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != asked[i] { // which is in lower case
			return false
		}
	}
	return bytes.Equal(got[n:], asked[n:])
}

// clock counts ns from the start of the run.
type clock struct{ start time.Time }

func (c clock) now() int64 { return int64(time.Since(c.start)) }
