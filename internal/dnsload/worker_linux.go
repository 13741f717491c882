package dnsload

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is the most messages that one system call moves.
	batch = 64
	// patience is how long a target may refuse before a run without an answer ends.
	patience = 250 * time.Millisecond
	// spin is how long before a query is due its thread stops sleeping: sleeps end
	// late by about this much on a virtual machine.
	spin = 100 * time.Microsecond
	// catchUp is how long after the end queries may leave that were due before it.
	catchUp = 100 * time.Millisecond
	// nap is the longest sleep, so that time-outs and the end are noticed.
	nap = time.Millisecond
)

// transport moves messages between a flow and its socket.
type transport interface {
	// open makes the flow's socket and connects it.
	open(f *flow) error
	// ready tells whether f can send, and works towards it.
	ready(w *worker, f *flow) (bool, error)
	// receive gives what has come to w.heard and tells whether there was any.
	receive(w *worker, f *flow) (some bool, err error)
	// send sends the first n queries of w.picked and says how many the kernel took.
	send(w *worker, f *flow, n int) (int, error)
	// wants are the events of poll(2) that f waits for.
	wants(f *flow) int16
}

// worker is one thread with its flows. Everything but published is its own.
type worker struct {
	config    Config
	queries   *Queries
	transport transport
	clock     clock
	stop      *atomic.Bool
	cpu       int // that it is pinned to; -1: none

	flows  []*flow
	turn   int     // the flow that sends next in the open loop
	out    int     // queries outstanding in all flows
	gap    float64 // open loop: ns between two queries; 0: closed loop
	offset float64 // open loop: when the first is due, in ns
	sent   uint64  // queries that have left
	quota  uint64  // queries that may leave
	next   uint32  // the query that is asked next
	picked [batch]*slot
	polls  []unix.PollFd

	recent       Interval // since the last flush
	lag          Histogram
	answers      bool          // there was one at all
	firstRefusal int64         // 0: none
	took         time.Duration // how long it sent
	used         time.Duration // CPU time
	dropped      uint64        // responses that found the sockets full

	mu        sync.Mutex // guards below
	published Interval
}

// run opens the flows, says so, waits for the start and works.
func (w *worker) run(opened chan<- error, begin <-chan clock) error {
	runtime.LockOSThread() // and never unlocked: the thread's settings end with it
	defer w.close()
	opened <- w.open()
	var started bool
	if w.clock, started = <-begin; !started {
		return nil
	}
	sharpTimer()
	before := threadCPU()
	err := w.loop()
	if err != nil {
		w.took = time.Duration(w.clock.now())
		w.settle()
	}
	w.used = threadCPU() - before
	w.flush()
	return err
}

func (w *worker) open() error {
	if w.cpu >= 0 {
		if err := pin(0, w.cpu); err != nil {
			return err
		}
	}
	for _, f := range w.flows {
		if err := w.transport.open(f); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) close() {
	for _, f := range w.flows {
		if f.fd >= 0 {
			w.dropped += dropped(f.fd)
			_ = unix.Close(f.fd) // nothing is lost by it: all is counted
			f.fd = -1
		}
	}
}

// loop sends until the end and takes answers until there are none to come.
func (w *worker) loop() error {
	timeout := int64(w.config.Timeout)
	end := int64(w.config.Time)
	if w.gap > 0 {
		end += int64(catchUp)
	}
	sweepEvery := max(timeout/16, int64(nap))
	nextSweep := sweepEvery
	nextFlush := int64(math.MaxInt64)
	if w.config.Interval > 0 {
		nextFlush = int64(w.config.Interval)
	}
	sending := true
	for {
		now := w.clock.now()
		if sending && (now >= end || w.sent >= w.quota || w.stop.Load()) {
			sending = false
			w.took = time.Duration(max(now, w.scheduled()))
			end = now + timeout
		}
		if !sending && (w.out == 0 || now > end) {
			w.settle()
			return nil
		}
		worked := false
		for i, f := range w.flows {
			some, err := w.step(i, f, sending)
			if err != nil {
				return err
			}
			worked = worked || some
		}
		if now >= nextSweep {
			nextSweep = now + sweepEvery
			w.sweep(now)
		}
		if now >= nextFlush {
			nextFlush += int64(w.config.Interval)
			w.flush()
		}
		if !worked {
			w.idle(sending)
		}
	}
}

// step takes from flow i what has come and sends what it is to send.
func (w *worker) step(i int, f *flow, sending bool) (worked bool, err error) {
	// A TCP connection has an end that is to be noticed.
	if f.out > 0 || sending && w.config.TCP {
		if worked, err = w.transport.receive(w, f); err != nil {
			return false, err
		}
	}
	if !sending {
		return worked, nil
	}
	now := w.clock.now()
	n := w.budget(i, f, now)
	if n <= 0 {
		return worked, nil
	}
	if ok, err := w.transport.ready(w, f); !ok {
		return worked, err
	}
	filled := w.fill(f, n, now)
	left, err := w.transport.send(w, f, filled)
	w.account(f, filled, left, now)
	return worked || left > 0, err
}

// budget is how many queries flow i is to send now.
func (w *worker) budget(i int, f *flow, now int64) int {
	left := w.quota - w.sent
	if w.gap == 0 {
		return int(min(uint64(max(f.most-f.out, 0)), batch, left))
	}
	if i != w.turn {
		return 0
	}
	w.turn = (w.turn + 1) % len(w.flows)
	due := w.dueBy(now)
	if due <= w.sent {
		return 0
	}
	return int(min(due-w.sent, batch, left))
}

// dueAt is when query n of this worker, from 0, is due in the open loop.
func (w *worker) dueAt(n uint64) int64 { return int64(w.offset + float64(n)*w.gap) }

// dueBy is how many queries are due by now.
func (w *worker) dueBy(now int64) uint64 {
	if float64(now) < w.offset {
		return 0
	}
	return uint64((float64(now)-w.offset)/w.gap) + 1
}

// scheduled is how long the queries that were sent take by the schedule; 0 in the
// closed loop.
func (w *worker) scheduled() int64 {
	if w.gap == 0 || w.stop.Load() {
		return 0
	}
	return w.dueAt(w.sent)
}

// fill puts the next n queries into w.picked, fewer when there are not as many ids.
func (w *worker) fill(f *flow, n int, now int64) int {
	for k := range n {
		s := f.take(now, int64(w.config.Timeout))
		if s == nil {
			w.recent.Held++
			return k
		}
		s.state, s.query, s.due = waiting, w.next, now
		if w.gap > 0 {
			s.due = w.dueAt(w.sent + uint64(k))
		}
		w.picked[k] = s
		if w.next++; int(w.next) == w.queries.Len() {
			w.next = 0
		}
	}
	return n
}

// account counts the first sent of the queries in w.picked as sent, takes the
// others back, and counts the octets.
func (w *worker) account(f *flow, filled, sent int, now int64) {
	for _, s := range w.picked[:sent] {
		w.recent.BytesSent += uint64(len(w.queries.message(s.query)))
		if w.gap > 0 {
			w.lag.add(now - s.due)
		}
	}
	for k := filled - 1; k >= sent; k-- {
		w.picked[k].state = free
		w.next = w.picked[k].query
	}
	if sent < filled {
		w.recent.Held++
	}
	f.out += sent
	w.out += sent
	w.sent += uint64(sent)
	w.recent.Sent += uint64(sent)
}

func (w *worker) sweep(now int64) {
	for _, f := range w.flows {
		if f.out > 0 {
			n := f.expire(now, int64(w.config.Timeout))
			w.recent.Lost += n
			w.out -= int(n)
		}
	}
}

// settle counts what was never answered.
func (w *worker) settle() {
	for _, f := range w.flows {
		w.lose(f)
	}
}

// lose counts all queries outstanding on f as lost.
func (w *worker) lose(f *flow) {
	n := f.abandon()
	w.recent.Lost += n
	w.out -= int(n)
}

// flush publishes what was counted since the last time.
func (w *worker) flush() {
	w.answers = w.answers || w.recent.Answered > 0
	w.mu.Lock()
	w.published.merge(&w.recent)
	w.mu.Unlock()
	w.recent = Interval{}
}

// collect adds to v what was published since the last time.
func (w *worker) collect(v *Interval) {
	w.mu.Lock()
	v.merge(&w.published)
	w.published = Interval{}
	w.mu.Unlock()
}

// refused counts that the target's machine said that nobody listens, and gives an
// error when that is all that ever came.
func (w *worker) refused() error {
	w.recent.Refused++
	now := w.clock.now()
	if w.firstRefusal == 0 {
		w.firstRefusal = max(now, 1)
	}
	w.answers = w.answers || w.recent.Answered > 0
	if !w.answers && now-w.firstRefusal > int64(patience) {
		return fmt.Errorf("target %s refuses: %w, nobody listens there", w.config.Target, unix.ECONNREFUSED)
	}
	return nil
}

// idle waits for answers, or until the next query is nearly due.
func (w *worker) idle(sending bool) {
	wait := nap
	if sending && w.gap > 0 {
		wait = min(wait, time.Duration(w.dueAt(w.sent)-w.clock.now())-spin)
		if wait <= 0 {
			return
		}
	}
	for i, f := range w.flows {
		w.polls[i] = unix.PollFd{Fd: int32(f.fd), Events: w.transport.wants(f)}
	}
	rawPoll(w.polls, wait)
}

// put writes the query of s to b, with its id, and gives its size.
func (w *worker) put(b []byte, s *slot) int {
	n := copy(b, w.queries.message(s.query))
	binary.BigEndian.PutUint16(b, s.id)
	return n
}
