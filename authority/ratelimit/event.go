package ratelimit

import (
	"net/netip"
	"sync"
)

// Event tells that the limit of a bucket began, or ended.
type Event struct {
	Time int64 // as given to Account or Sweep
	// Client is the prefix. Zero when a limit ended without a query from it: the table
	// keeps hashes only.
	Client netip.Prefix
	Class  Class
	// Bucket is the same in both events of one limit.
	Bucket uint64
	Began  bool
	// Limited is how many responses were over the limit, when it ended.
	Limited uint32
}

// ring keeps the events until somebody takes them; of more than it holds, the newest
// are lost.
type ring struct {
	mu     sync.Mutex // guards below
	events [128]Event
	count  int
	lost   uint64
}

func (r *ring) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == len(r.events) {
		r.lost++
		return
	}
	r.events[r.count] = e
	r.count++
}

// Events takes the events since the last call, oldest first, and tells how many were
// lost in the meantime because there were too many.
func (l *Limiter) Events(dst []Event) (events []Event, lost uint64) {
	r := &l.events
	r.mu.Lock()
	defer r.mu.Unlock()
	dst = append(dst, r.events[:r.count]...)
	lost, r.count, r.lost = r.lost, 0, 0
	return dst, lost
}
