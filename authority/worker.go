package authority

import (
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/authority/packet"
	"github.com/zonecast/zonecast/authority/protocol"
)

// worker answers for one goroutine at a time and counts by itself, so that no two
// CPUs write the same cache line for a query.
type worker struct {
	protocol *protocol.Worker
	turn     int
	latency  latency
}

// sampleEvery is how many queries go by for one whose time is taken: reading the
// clock twice costs about as much as looking the name up.
const sampleEvery = 16

// latencyBounds are the upper bounds of the histogram's buckets.
var latencyBounds = [...]time.Duration{
	time.Microsecond, 2 * time.Microsecond, 5 * time.Microsecond, 10 * time.Microsecond, 20 * time.Microsecond,
	50 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond,
}

// latency is a histogram of the time from the query in memory to the response in
// memory.
type latency struct {
	buckets [len(latencyBounds) + 1]atomic.Uint64 // the last is for all above
	sum     atomic.Uint64                         // nanoseconds
}

func (l *latency) observe(d time.Duration) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.buckets[i].Add(1)
	l.sum.Add(uint64(max(d, 0)))
}

// workers has all that were ever made: counters must not go backwards when a
// connection ends, so its worker waits for the next one.
type workers struct {
	config protocol.Config

	mu   sync.Mutex // guards below
	all  []*worker
	free []*worker
}

func (w *workers) get() *worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.free); n > 0 {
		k := w.free[n-1]
		w.free = w.free[:n-1]
		return k
	}
	k := &worker{protocol: protocol.NewWorker(w.config)}
	w.all = append(w.all, k)
	return k
}

func (w *workers) put(k *worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free = append(w.free, k)
}

func (w *workers) each(fn func(*worker)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.all {
		fn(k)
	}
}

// newHandler joins packet and protocol: every query takes the newest state once.
func (s *Server) newHandler() (packet.Handler, func()) {
	k := s.workers.get()
	return s.guard(func(query []byte, m packet.Meta, dst []byte) []byte {
		transport := protocol.UDP
		if m.TCP {
			transport = protocol.TCP
		}
		view := s.current.Load().view
		if k.turn++; k.turn%sampleEvery != 1 {
			return k.protocol.Respond(view, query, transport, dst)
		}
		start := time.Now()
		dst = k.protocol.Respond(view, query, transport, dst)
		k.latency.observe(time.Since(start))
		return dst
	}), func() { s.workers.put(k) }
}

// guard turns a panic over one query into that query's loss: were it to end the
// process, one message could take every host of a fleet down at once. A worker
// starts each query from nothing, so that it can go on.
func (s *Server) guard(h packet.Handler) packet.Handler {
	return func(query []byte, m packet.Meta, dst []byte) (out []byte) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			out = dst
			// The 1st, 2nd, 4th, 8th...: whoever sends it in a flood fills no disk.
			if n := s.panics.Add(1); n&(n-1) == 0 {
				s.log.Error("query lost by a bug in the server", "panic", fmt.Sprint(p), "times", n, "client", m.Client.String(),
					"query", hex.EncodeToString(query[:min(len(query), 600)]), "stack", string(debug.Stack()))
			}
		}()
		return h(query, m, dst)
	}
}
