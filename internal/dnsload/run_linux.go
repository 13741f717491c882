package dnsload

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// run is one measurement on its way.
type run struct {
	config  Config
	workers []*worker
	stop    atomic.Bool
	clock   clock
	total   Interval // what was collected
}

// Run asks c.Target the queries q. With an error after the start the Result has what
// was measured until then; a context that ends stops the sending and is an error.
func Run(ctx context.Context, c Config, q *Queries) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.WithDefaults()
	before, err := serverTimes(c.ServerPIDs)
	if err != nil {
		return nil, err
	}
	if len(c.CPUs) > 0 {
		if err := pinProcess(c.CPUs); err != nil {
			return nil, err
		}
	}
	r := &run{config: c}
	for i := range c.Threads {
		r.workers = append(r.workers, r.worker(i, q))
	}
	// A thread that sends must never wait for the scheduler's turn: one processor
	// each, and one for the rest of the process.
	if want := c.Threads + 2; runtime.GOMAXPROCS(0) < want {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(want))
	}
	err = r.measure(ctx)
	result := r.result()
	if r.clock.start.IsZero() {
		return nil, err
	}
	if len(c.ServerPIDs) > 0 {
		after, failed := serverTimes(c.ServerPIDs)
		err = errors.Join(err, failed)
		result.ServerCPU, result.ThreadsEnded = after.since(before)
		result.ServerKnown = failed == nil
	}
	return result, err
}

// worker makes the i-th of the workers, with its share of everything.
func (r *run) worker(i int, q *Queries) *worker {
	c := r.config
	w := &worker{config: c, queries: q, stop: &r.stop, cpu: -1, quota: math.MaxUint64}
	if c.TCP {
		w.transport = &streams{target: c.Target, timeout: c.Timeout}
	} else {
		w.transport = newDatagrams(c.Target)
	}
	if len(c.CPUs) > 0 {
		w.cpu = c.CPUs[i%len(c.CPUs)]
	}
	if c.Queries > 0 {
		w.quota = c.Queries*uint64(i+1)/uint64(c.Threads) - c.Queries*uint64(i)/uint64(c.Threads)
	}
	sockets := share(c.Sockets, i, c.Threads)
	outstanding := float64(c.Window) / float64(c.Sockets)
	if c.Rate > 0 {
		w.gap = 1e9 / c.Rate * float64(c.Threads)
		w.offset = w.gap * float64(i) / float64(c.Threads)
		// What is due at the end or later is not asked.
		w.quota = min(w.quota, uint64(max(math.Ceil((float64(c.Time)-w.offset)/w.gap), 0)))
		outstanding = c.Rate * c.Timeout.Seconds() / float64(c.Sockets)
	}
	for j := range sockets {
		f := newFlow(slotsFor(outstanding))
		f.most = share(share(c.Window, i, c.Threads), j, sockets)
		w.flows = append(w.flows, f)
	}
	w.polls = make([]unix.PollFd, sockets)
	w.next = uint32((c.First + q.Len()*i/c.Threads) % q.Len())
	return w
}

// measure starts the workers together and waits for all of them.
func (r *run) measure(ctx context.Context) error {
	n := len(r.workers)
	opened, failed := make(chan error, n), make(chan error, n)
	begin, ended := make(chan clock, n), make(chan struct{})
	var workers, shows sync.WaitGroup
	for _, w := range r.workers {
		workers.Go(func() {
			if err := w.run(opened, begin); err != nil {
				r.stop.Store(true)
				failed <- err
			}
		})
	}
	var err error
	for range n {
		err = cmp.Or(err, <-opened) // the first says it: the others have the same reason
	}
	if err == nil && ctx.Err() == nil {
		r.clock = clock{time.Now()}
		for range n {
			begin <- r.clock
		}
		if r.config.Interval > 0 && r.config.Each != nil {
			shows.Go(func() { r.show(ended) })
		}
	}
	close(begin)
	defer context.AfterFunc(ctx, func() { r.stop.Store(true) })()
	workers.Wait()
	close(ended)
	shows.Wait()
	close(failed)
	for e := range failed {
		err = cmp.Or(err, e)
	}
	return errors.Join(err, context.Cause(ctx))
}

// show gives each interval when it is over.
func (r *run) show(ended <-chan struct{}) {
	// How long workers may take to publish: they look at the clock at least this
	// often. What comes later is in the next interval.
	const grace = 2 * nap
	for k := 1; ; k++ {
		at := time.Duration(k) * r.config.Interval
		if at > r.config.Time {
			return
		}
		t := time.NewTimer(time.Until(r.clock.start.Add(at + grace)))
		select {
		case <-ended:
			t.Stop()
			return
		case <-t.C:
		}
		v := Interval{From: at - r.config.Interval, To: at}
		for _, w := range r.workers {
			w.collect(&v)
		}
		r.config.Each(v)
		r.total.merge(&v)
	}
}

// result is what the workers counted.
func (r *run) result() *Result {
	all := &r.total
	x := &Result{}
	for _, w := range r.workers {
		w.collect(all)
		x.Lag.merge(&w.lag)
		x.ClientCPU += w.used
		x.Took = max(x.Took, w.took)
		x.DroppedHere += w.dropped
		if w.gap > 0 {
			x.Due += min(w.dueBy(int64(w.took)), w.quota)
		}
	}
	x.Counts, x.Latency = all.Counts, all.Latency
	return x
}
