package tap

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Message is a query and what became of it.
type Message struct {
	// Query and Response are as they were on the wire. A response alone is given to
	// the collector, as AUTH_RESPONSE; a query is only when it got none, as AUTH_QUERY.
	Query, Response []byte
	Client          netip.AddrPort
	Server          netip.AddrPort // the zero AddrPort when it is not known
	TCP             bool
	// Queried and Responded are when they came and went. Zero: left out.
	Queried, Responded time.Time
}

// Worker samples the messages of one goroutine.
type Worker struct {
	tap    *Tap
	left   uint64 // messages until the next that is taken
	every  uint64
	random *rand.Rand
	_      [32]byte // fills the cache line, so that no other Worker is in it
}

// NewWorker makes a Worker for one goroutine.
func (t *Tap) NewWorker() *Worker {
	w := &Worker{tap: t, every: uint64(t.every), random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
	w.left = w.gap()
	return w
}

// gap is from 1 to 2*every-1 with equal chance: every in the mean.
func (w *Worker) gap() uint64 { return 1 + w.random.Uint64N(2*w.every-1) }

// Take tells whether to record this message. It is called once for each.
func (w *Worker) Take() bool {
	if w.left--; w.left != 0 {
		return false
	}
	w.left = w.gap()
	return true
}

// Always tells whether a query asks for a name below one of which nothing is left out. It
// looks at what has come from outside: what is no query asks for nothing.
func (w *Worker) Always(query []byte) bool {
	if len(w.tap.config.Always) == 0 {
		return false
	}
	if len(query) < headerSize+1 || query[4]|query[5] == 0 { // QDCOUNT (RFC 1035 §4.1.1)
		return false
	}
	for i := headerSize; i < min(len(query), headerSize+maxName); i += 1 + int(query[i]) {
		if query[i] == 0 || query[i] > maxLabel {
			return false
		}
		for _, zone := range w.tap.config.Always {
			// Below it, not the name itself: so at least one label is before it.
			if i > headerSize && i+len(zone) <= len(query) && equalFold(query[i:i+len(zone)], zone) {
				return true
			}
		}
	}
	return false
}

// Within tells whether a query for a name of Always may still be recorded in this second. One that may
// not is counted as lost.
func (w *Worker) Within(now time.Time) bool {
	if w.tap.always.take(now) {
		return true
	}
	w.tap.lost.Add(1)
	return false
}

const (
	headerSize = 12 // RFC 1035 §4.1.1
	maxLabel   = 63 // longer ones are pointers, which the first name of a message cannot be
	maxName    = 255
)

// equalFold compares the rest of a name with one in lower case. That ends with the root,
// and so the rest does.
func equalFold(b []byte, name record.Name) bool {
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// Record copies a message for the collector, or counts it as lost when too many wait
// already. It keeps nothing of m.
func (w *Worker) Record(m Message) {
	message, answer := m.Response, true
	if len(message) == 0 {
		message, answer = m.Query, false
	}
	q := w.tap.queue
	if len(message) == 0 || len(message) > maxMessage {
		w.tap.lost.Add(1)
		return
	}
	s := q.take(len(message))
	if s == nil {
		w.tap.lost.Add(1)
		return
	}
	s.message = append(s.own, message...)
	s.answer, s.tcp, s.queried, s.responded = answer, m.TCP, m.Queried, m.Responded
	s.client, s.server = unmap(m.Client), unmap(m.Server)
	q.wait <- s
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
