package simstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
)

// Client is a store.Store: one process's connection to the cluster.
type Client struct {
	t      *Cluster
	name   string
	closed chan struct{} // by Close and Die
	wg     sync.WaitGroup

	// Guarded by t.mu.
	replica  int
	cut      bool // no message passes
	dead     bool
	shut     bool
	linked   bool // a connection stands
	linking  int
	lost     time.Time     // since when none does
	spread   time.Duration // see Spread
	sessions map[*session]bool
	watchers map[*watcher]bool
}

// Cut cuts the client off from the cluster, or puts an end to that.
func (c *Client) Cut(cut bool) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.cut = cut
	c.t.relink()
}

// Spread is how long the client, which is one of many, takes at most to find out that the cluster can
// be reached again: some time up to a half of that for which it could not, and up to most.
func (c *Client) Spread(most time.Duration) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.spread = most
}

// Die ends the client as the death of its process does: the cluster is told nothing.
func (c *Client) Die() {
	t := c.t
	t.mu.Lock()
	if !c.dead && !c.shut {
		c.dead = true
		for ss := range c.sessions {
			ss.lose()
			if !t.immortal {
				ss.expireIn(ss.ttl)
			}
		}
	}
	t.mu.Unlock()
	c.end()
}

// Close is store.Store.Close.
func (c *Client) Close() error {
	t := c.t
	t.mu.Lock()
	for ss := range c.sessions {
		if t.reachable(c) {
			ss.end()
		} else {
			ss.lose()
			ss.expireIn(ss.ttl)
		}
	}
	t.mu.Unlock()
	c.end()
	return nil
}

func (c *Client) end() {
	c.t.mu.Lock()
	if !c.shut {
		c.shut = true
		close(c.closed)
		delete(c.t.clients, c)
	}
	c.t.mu.Unlock()
	c.wg.Wait()
}

// pass lets a while pass.
func (c *Client) pass(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closed:
		return store.ErrClosed
	case <-timer.C:
		return nil
	}
}

// call brings a question to the cluster and its answer back. Do is run with mu held; again tells
// that it can be run when nobody waits for it any more.
func (c *Client) call(ctx context.Context, what string, again bool, do func() (store.Revision, error)) (store.Revision, error) {
	t := c.t
	fail := func(err error) (store.Revision, error) { return 0, fmt.Errorf("%s: %w", what, err) }
	unavailable := func(why string) (store.Revision, error) {
		if err := c.pass(ctx, t.cfg.Timeout); err != nil {
			return fail(err)
		}
		return fail(fmt.Errorf("%s: %w", why, store.ErrUnavailable))
	}
	t.mu.Lock()
	if c.shut {
		t.mu.Unlock()
		return fail(store.ErrClosed)
	}
	there, back := t.delay(), t.delay()
	t.mu.Unlock()
	if err := c.pass(ctx, there); err != nil {
		return fail(err)
	}
	t.mu.Lock()
	switch {
	case c.shut:
		t.mu.Unlock()
		return fail(store.ErrClosed)
	case !t.reachable(c) || t.electing:
		t.mu.Unlock()
		return unavailable("the cluster cannot be reached")
	case t.draws(t.faults.Lose):
		t.mu.Unlock()
		return unavailable("the request was lost")
	case again && t.draws(t.faults.Late):
		t.later(t.cfg.Timeout+t.upTo(3*t.cfg.Timeout), do)
		t.mu.Unlock()
		return unavailable("the request is late")
	}
	rev, err := do()
	if again && t.draws(t.faults.Twice) {
		t.later(t.upTo(3*t.cfg.Timeout), do)
	}
	unsaid := t.draws(t.faults.Unsaid)
	t.mu.Unlock()
	if unsaid {
		return unavailable("the answer was lost")
	}
	if passed := c.pass(ctx, back); passed != nil {
		return fail(passed)
	}
	t.mu.Lock()
	reached := !c.cut
	t.mu.Unlock()
	if !reached {
		return unavailable("the answer did not come")
	}
	if err != nil {
		return fail(err)
	}
	return rev, nil
}

// later does something when there is a quorum then. The caller holds mu.
func (t *Cluster) later(d time.Duration, do func() (store.Revision, error)) {
	time.AfterFunc(d, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.quorum() {
			_, _ = do() // nobody waits for it
		}
	})
}

// Get is store.Store.Get.
func (c *Client) Get(ctx context.Context, path string) (n store.Node, err error) {
	if err := store.CheckPath(path); err != nil {
		return n, fmt.Errorf("get: %w", err)
	}
	t := c.t
	_, err = c.call(ctx, "get "+path, false, func() (store.Revision, error) {
		e, ok := t.nodes[path]
		t.load.count(&t.load.now.Gets, 1)
		t.load.now.Octets += len(e.Value)
		if !ok {
			return 0, store.ErrNotFound
		}
		n = e.Node
		n.Value = slices.Clone(n.Value)
		return t.rev, nil
	})
	return n, err
}

// List is store.Store.List.
func (c *Client) List(ctx context.Context, prefix string) (nodes []store.Node, rev store.Revision, err error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("list: %w", err)
	}
	t := c.t
	rev, err = c.call(ctx, "list "+prefix, false, func() (store.Revision, error) {
		nodes = t.below(prefix, t.rev)
		t.load.count(&t.load.now.Lists, 1)
		t.load.now.Octets += octets(nodes)
		return t.rev, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return nodes, rev, nil
}

func octets(nodes []store.Node) (n int) {
	for _, node := range nodes {
		n += len(node.Value)
	}
	return n
}

// Commit is store.Store.Commit.
func (c *Client) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	txn = keep(txn)
	t := c.t
	return c.call(ctx, "commit", true, func() (store.Revision, error) {
		t.load.count(&t.load.now.Commits, 1)
		return t.commit(txn, nil)
	})
}

// keep copies what a late commit must not see changed.
func keep(txn store.Txn) store.Txn {
	txn.If, txn.Do = slices.Clone(txn.If), slices.Clone(txn.Do)
	for i := range txn.Do {
		txn.Do[i].Value = slices.Clone(txn.Do[i].Value)
	}
	return txn
}
