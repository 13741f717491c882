package site

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// Bounds of what is remembered.
const (
	maxRemembered = 4096
	maxMemory     = 64 << 20 // octets
)

// through reads from the store what many agents ask for, once for all of them: who comes while
// a read is under way gets the next one, so that nobody is told what was true before they asked.
type through struct {
	ctx context.Context // of all reads
	wg  *sync.WaitGroup // has those under way

	mu     sync.Mutex // guards below
	lines  map[string]*line
	known  map[string]result // what was read last, for when the store is away
	octets int
	reads  uint64
}

// line is those who wait for one path.
type line struct {
	next *read // begins when the one under way ends; nil: nobody waits for it
}

// read is one read of the store.
type read struct {
	done chan struct{} // closed when result is set
	result
}

// result is what the store said.
type result struct {
	nodes []store.Node
	rev   store.Revision
	err   error
	at    time.Time
	// message is the answer to a List, made when it is first asked for.
	message func() *wire.Message
}

// of makes a result to be given to all who ask.
func of(nodes []store.Node, rev store.Revision, err error, at time.Time) result {
	return result{nodes, rev, err, at, sync.OnceValue(func() *wire.Message { return wire.ListMessage(nodes, rev) })}
}

func newThrough(ctx context.Context, wg *sync.WaitGroup) *through {
	return &through{ctx: ctx, wg: wg, lines: map[string]*line{}, known: map[string]result{}}
}

// get does a read that begins after it was asked for.
func (t *through) get(ctx context.Context, key string, do func(context.Context) ([]store.Node, store.Revision, error)) (result, error) {
	t.mu.Lock()
	mine := &read{done: make(chan struct{})}
	if l := t.lines[key]; l != nil {
		if l.next == nil {
			l.next = mine
		}
		mine = l.next
	} else {
		t.lines[key] = &line{}
		t.wg.Go(func() { t.run(key, mine, do) })
	}
	t.mu.Unlock()
	select {
	case <-mine.done:
		return mine.result, mine.err
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
}

// run reads until nobody waits.
func (t *through) run(key string, r *read, do func(context.Context) ([]store.Node, store.Revision, error)) {
	for r != nil {
		at := time.Now()
		ctx, cancel := context.WithTimeout(t.ctx, readTime)
		nodes, rev, err := do(ctx)
		err = silent(ctx, err)
		cancel()
		r.result = of(nodes, rev, err, at)
		t.mu.Lock()
		t.reads++
		t.remember(key, r.result)
		close(r.done)
		l := t.lines[key]
		r, l.next = l.next, nil
		if r == nil {
			delete(t.lines, key)
		}
		t.mu.Unlock()
	}
}

func size(r result) (n int) {
	for _, node := range r.nodes {
		n += len(node.Path) + len(node.Value)
	}
	return n
}

// remember keeps what the store said. The caller holds mu.
func (t *through) remember(key string, r result) {
	if r.err != nil && !errors.Is(r.err, store.ErrNotFound) {
		return
	}
	r.message = nil // one that was made would count twice
	t.octets += size(r) - size(t.known[key])
	t.known[key] = r
	for old := range t.known { // any of them
		if len(t.known) <= maxRemembered && t.octets <= maxMemory {
			return
		}
		t.octets -= size(t.known[old])
		delete(t.known, old)
	}
}

// last is what the store said last; ok is false when nothing is known.
func (t *through) last(key string) (r result, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok = t.known[key]
	return r, ok
}
