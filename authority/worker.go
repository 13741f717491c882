package authority

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/heavy"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/authority/sample"
	"github.com/zonecast/zonecast/authority/tap"
	"github.com/zonecast/zonecast/authority/wire"
)

// worker answers for one goroutine at a time and counts by itself, so that no two
// CPUs write the same cache line for a query.
type worker struct {
	server   *Server
	protocol *protocol.Worker
	answer   func(*data.View, []wire.Message, protocol.Transport, time.Time) // protocol.Answer
	limiter  *ratelimit.Limiter                                              // nil: nothing is limited
	tap      *tap.Worker                                                     // nil: no dnstap
	names    atomic.Pointer[heavy.Counter]
	sample   *sample.Drawer     // nil: none is kept
	key      [heavy.MaxKey]byte // of the query that is counted
	look     data.Query         // where several datasets are carried
	latency  [protocol.Outcomes]latency
}

// latencyBounds are the upper bounds of the histogram's buckets.
var latencyBounds = [...]time.Duration{
	200 * time.Nanosecond, 500 * time.Nanosecond, time.Microsecond, 2 * time.Microsecond, 5 * time.Microsecond, 10 * time.Microsecond, 20 * time.Microsecond,
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

// workers has all that were ever made: counters must not go backwards when one is
// given back, so it waits for the next use.
type workers struct {
	config protocol.Config

	mu   sync.Mutex // guards below
	all  []*worker
	free []*worker
}

func (w *workers) get(s *Server) *worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.free); n > 0 {
		k := w.free[n-1]
		w.free = w.free[:n-1]
		return k
	}
	c := w.config
	c.Seed = uint64(time.Now().UnixNano())
	k := &worker{server: s, limiter: s.guard.limiter()}
	c.Limiter = k.limiter
	k.protocol = protocol.NewWorker(c)
	k.answer = k.protocol.Answer
	k.protocol.Sample = k.observe
	k.names.Store(heavy.New(topEntries))
	if s.config.samples() {
		k.sample = sample.New(s.config.Sample)
	}
	if s.tap != nil {
		k.tap = s.tap.NewWorker()
	}
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

// newHandler joins wire and protocol.
func (s *Server) newHandler() (wire.Handler, func()) {
	k := s.workers.get(s)
	return k, func() { s.workers.put(k) }
}

// Answer implements wire.Handler: every protocol.MaxBatch messages take the newest state
// once.
func (k *worker) Answer(batch []wire.Message, t protocol.Transport) {
	began := time.Now()
	all := k.server.carried.Load()
	for some := range slices.Chunk(batch, protocol.MaxBatch) {
		if all == nil && k.try(nil, some, t, began) {
			continue
		}
		if all == nil && len(some) == 1 {
			continue
		}
		// Each may be of another dataset; or one of them has found a bug, and nothing was
		// counted. The others are to be answered all the same.
		for i := range some {
			some[i].Response = some[i].Response[:0]
			k.try(all, some[i:i+1], t, began)
		}
	}
	if k.tap != nil {
		k.record(batch, t, began)
	}
}

// record gives some of the messages to dnstap, and the queries of which nothing is left out.
func (k *worker) record(batch []wire.Message, t protocol.Transport, began time.Time) {
	for i := range batch {
		m := &batch[i]
		response := m.Response
		if k.tap.Always(m.Query) {
			if !k.tap.Within(began) {
				continue
			}
			response = nil // what the resolver says is wanted, and a response may leave it out
		} else if !k.tap.Take() {
			continue
		}
		k.tap.Record(tap.Message{
			Query: m.Query, Response: response, Client: m.Client, Server: k.server.asked(m.Local), TCP: t == protocol.TCP,
			Queried: began, Responded: time.Now(),
		})
	}
}

// asked is the address that a query was sent to, as far as it is known.
func (s *Server) asked(local netip.Addr) netip.AddrPort {
	addrs := s.Addrs()
	switch {
	case local.IsValid():
		return netip.AddrPortFrom(local, addrs[0].Port())
	case len(addrs) == 1:
		return addrs[0]
	}
	return netip.AddrPort{}
}

// try turns a panic over queries into their loss: were it to end the process, one
// message could take every host of a fleet down at once. A worker starts each query
// from nothing, so that it can go on. Unless all is nil, batch is one query, of any of these
// datasets.
func (k *worker) try(all *[]*Server, batch []wire.Message, t protocol.Transport, now time.Time) (ok bool) {
	s := k.server
	view := s.current.Load().view
	defer func() {
		if p := recover(); p != nil {
			for i := range batch {
				batch[i].Response = batch[i].Response[:0]
			}
			if len(batch) == 1 {
				k.protocol.Counters.Queries[t].Add(1) // it came, and is not among the answered
				s.lost(p, &batch[0])
			}
			// A file that was cut off under its mapping comes as a fault.
			if fault, is := p.(interface{ Addr() uintptr }); is && view != nil {
				view.Image().Fault(fault.Addr())
			}
		}
	}()
	debug.SetPanicOnFault(true)
	if all != nil {
		view = k.viewOf(*all, batch[0].Query)
	}
	k.answer(view, batch, t, now)
	return true
}

// lost notes a query that a panic took.
func (s *Server) lost(p any, m *wire.Message) {
	// The 1st, 2nd, 4th, 8th...: whoever sends it in a flood fills no disk.
	if n := s.panics.Add(1); n&(n-1) == 0 {
		s.log.Error("query lost by a bug in the server", "panic", fmt.Sprint(p), "times", n, "client", m.Client.String(),
			"query", hex.EncodeToString(m.Query[:min(len(m.Query), 600)]), "stack", string(debug.Stack()))
	}
}
