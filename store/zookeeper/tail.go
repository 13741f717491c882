package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

const (
	// tailPoll is how often head is read though nobody said that it changed: the
	// library may lose a watch when a connection breaks while it is renewed.
	tailPoll = 15 * time.Second
	// tailKept is how many octets of the newest entries are kept in memory for
	// watches that are about to read them.
	tailKept = 8 << 20
)

// entry is a commit as the log tells it.
type entry struct {
	pos     position
	rev     store.Revision
	next    position // of the entry after it
	changes []change
	size    int    // octets in the log
	bulk    string // where the changes were read; empty: in the entry itself
	bad     error  // it cannot be read: whoever needs it reads all anew
}

// errLost means that the history from a position is not to be had any more.
var errLost = errors.New("history lost")

// tail reads the log's end for all watches of a client.
//
//	head ──► run ──► kept ──► at (one call for each watch)
type tail struct {
	s *Store

	mu      sync.Mutex // guards below
	life    int        // how often the history was lost; a watch of an older life has lost it as well
	known   bool       // the fields below are true
	next    position   // of the entry that comes
	rev     store.Revision
	kept    []entry // consecutive, up to next
	size    int     // of kept
	changed chan struct{}
}

func newTail(s *Store) *tail { return &tail{s: s, changed: make(chan struct{})} }

// run follows the log until ctx ends.
func (t *tail) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			t.s.log.Debug("log of the store not read, trying again", "error", err)
			pause(ctx, retryPause)
		}
	}
}

// follow reads what there is and waits until there is more.
func (t *tail) follow(ctx context.Context) error {
	rctx, cancel, err := t.s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	type watched struct {
		stat   zk.Stat
		events <-chan zk.Event
	}
	head, err := read(rctx, func() (watched, error) {
		_, st, events, err := t.s.conn().GetW(t.s.root + headName)
		if err != nil {
			return watched{}, err
		}
		return watched{*st, events}, nil
	})
	if err != nil {
		return err
	}
	if err := t.catchUp(rctx, store.Revision(head.stat.Mzxid)); err != nil {
		return err
	}
	cancel()
	poll := time.NewTicker(tailPoll)
	defer poll.Stop()
	for {
		select {
		case <-head.events:
			return nil
		case <-ctx.Done():
			return nil
		case <-poll.C:
			// Not by another watch: those that have not fired are never freed.
			z, err := t.s.get(ctx, t.s.root+headName)
			if err != nil || z.stat.Mzxid != head.stat.Mzxid {
				return err
			}
		}
	}
}

// catchUp reads the entries up to the one of revision head.
func (t *tail) catchUp(ctx context.Context, head store.Revision) error {
	t.mu.Lock()
	known, next, rev := t.known, t.next, t.rev
	t.mu.Unlock()
	if known && rev > head {
		// A server that lags behind, or a store restored from an older copy.
		if err := t.s.sync(ctx); err != nil {
			return err
		}
		z, err := t.s.get(ctx, t.s.root+headName)
		if err != nil {
			return err
		}
		if head = store.Revision(z.stat.Mzxid); rev > head {
			t.s.log.Warn("store is older than what was seen of it, reading all again", "revision", rev, "store", head)
			known = false
		}
	}
	for !known || rev < head {
		var e entry
		var err error
		if known {
			e, err = t.s.readEntry(ctx, next)
		} else {
			e, err = t.s.newest(ctx)
		}
		if errors.Is(err, errLost) && known {
			t.s.log.Info("watches lost their history, reading all again", "revision", rev)
			known = false
			continue
		}
		if err != nil {
			return err
		}
		t.mu.Lock()
		if !known || !t.known {
			t.life++
			t.kept, t.size = nil, 0
		}
		known, next, rev = true, e.next, e.rev
		t.known, t.next, t.rev = known, next, rev
		t.kept = append(t.kept, e)
		for t.size += e.size; t.size > tailKept && len(t.kept) > 1; {
			t.size -= t.kept[0].size
			t.kept = t.kept[1:]
		}
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
	}
	return nil
}

// place is how far the tail has read.
type place struct {
	life int
	next position
	rev  store.Revision
}

// reach waits until the tail has read the entry of revision rev, and tells how far
// it is then.
func (t *tail) reach(ctx context.Context, rev store.Revision) (place, error) {
	for {
		t.mu.Lock()
		p, ok, changed := place{t.life, t.next, t.rev}, t.known && t.rev >= rev, t.changed
		t.mu.Unlock()
		if ok {
			return p, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return place{}, ctx.Err()
		}
	}
}

// at gives the entry at p, when there is one. errLost tells that there will not be.
func (t *tail) at(ctx context.Context, life int, p position) (entry, error) {
	for {
		t.mu.Lock()
		changed := t.changed
		switch {
		case life != t.life:
			t.mu.Unlock()
			return entry{}, errLost
		case p != t.next:
			for _, e := range t.kept {
				if e.pos == p {
					t.mu.Unlock()
					return e, nil
				}
			}
			t.mu.Unlock()
			return t.fetch(ctx, p)
		}
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return entry{}, ctx.Err()
		}
	}
}

// fetch reads an entry that is not kept any more.
func (t *tail) fetch(ctx context.Context, p position) (entry, error) {
	rctx, cancel, err := t.s.request(ctx)
	if err != nil {
		return entry{}, err
	}
	defer cancel()
	e, err := t.s.readEntry(rctx, p)
	if err != nil && !errors.Is(err, errLost) {
		err = t.s.failure(ctx, err)
	}
	return e, err
}

// readEntry reads an entry that must be there, or have been.
func (s *Store) readEntry(ctx context.Context, p position) (entry, error) {
	z, err := s.get(ctx, s.entry(p))
	if errors.Is(err, zk.ErrNoNode) {
		return entry{}, errLost
	}
	if err != nil {
		return entry{}, err
	}
	e := entry{pos: p, rev: store.Revision(z.stat.Czxid), next: position{p.gen, p.seq + 1}, size: len(z.data) + len(s.root)}
	r, err := decodeEntry(z.data)
	if err == nil && r.bulk != "" {
		e.bulk = r.bulk
		b, gerr := s.get(ctx, s.bulk(r.bulk))
		if errors.Is(gerr, zk.ErrNoNode) {
			return entry{}, errLost // trimmed in between
		}
		if gerr != nil {
			return entry{}, gerr
		}
		e.size += len(b.data)
		if r, err = decodeEntry(b.data); err == nil && (r.bulk != "" || r.next != 0) {
			err = fmt.Errorf("%w: a bulk that holds no operations", errEntry)
		}
	}
	if err != nil {
		e.bad = fmt.Errorf("%s: %w", s.entry(p), err)
		s.log.Error("entry of the store's log cannot be read, watches read all again", "error", e.bad)
		return e, nil
	}
	if r.next != 0 {
		e.next = position{r.next, 0}
	}
	e.changes = r.changes
	return e, nil
}

// entries lists the numbers of the entries of a generation, in order.
func (s *Store) entries(ctx context.Context, gen int64) ([]int64, error) {
	names, err := s.children(ctx, s.generation(gen))
	if err != nil {
		return nil, err
	}
	return sequences(names), nil
}

// newest reads the newest entry of the log. There always is one.
func (s *Store) newest(ctx context.Context) (entry, error) {
	f, err := s.readFormat(ctx)
	if err != nil {
		return entry{}, err
	}
	seqs, err := s.entries(ctx, f.gen)
	if err != nil {
		return entry{}, err
	}
	if len(seqs) == 0 {
		return entry{}, fmt.Errorf("%s has no entry, expected one at least", s.generation(f.gen))
	}
	return s.readEntry(ctx, position{f.gen, seqs[len(seqs)-1]})
}

// locate gives the position after everything that revision rev is up to; errLost
// when what comes after rev is not known, or rev is from another life of the store.
func (s *Store) locate(ctx context.Context, rev store.Revision) (place, error) {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return place{}, err
	}
	defer cancel()
	if err := s.sync(rctx); err != nil {
		return place{}, s.failure(ctx, err)
	}
	z, err := s.get(rctx, s.root+headName)
	if err != nil {
		return place{}, s.failure(ctx, err)
	}
	if rev > store.Revision(z.stat.Mzxid) {
		return place{}, errLost
	}
	p, err := s.tail.reach(rctx, store.Revision(z.stat.Mzxid))
	if err != nil {
		return place{}, s.failure(ctx, err)
	}
	if p.rev == rev {
		return p, nil
	}
	seqs, err := s.entries(rctx, p.next.gen)
	if err != nil {
		return place{}, s.failure(ctx, err)
	}
	// The first of seqs[low:] that is after rev; those before high are not.
	low, high, kept := 0, len(seqs), false
	for low < high {
		mid := (low + high) / 2
		st, err := s.stat(rctx, s.entry(position{p.next.gen, seqs[mid]}))
		if err != nil {
			return place{}, s.failure(ctx, err)
		}
		if st == nil || store.Revision(st.Czxid) <= rev {
			low, kept = mid+1, st != nil
		} else {
			high = mid
		}
	}
	// When no entry that is still there is up to rev, it is not known what stood
	// after rev and before the first of them.
	if !kept || low == len(seqs) {
		return place{}, errLost
	}
	return place{life: p.life, next: position{p.next.gen, seqs[low]}, rev: rev}, nil
}
