package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

const (
	// leaseTick is how often leases are looked at: a server is gone at most that
	// much after its lease ran out.
	leaseTick = time.Second
	// leaseGap is how long a tick may be late before it counts as an outage.
	leaseGap = 5 * leaseTick
	// maxExpired bounds how many leases run out in one tick, so that renewals are
	// looked at in between; some 20 servers fit a transaction.
	maxExpired = 1000
)

// clock decides which leases have run out. It never looks at a wall clock, neither
// its own nor that of a lease (Lease.Expires is for people): a lease runs out when
// its ttl has passed, in this process's own monotonic time, since this process saw
// it written. So a clock that is set, here or elsewhere, expires nothing; a new
// leader gives every lease its whole ttl first; and after an outage, in which
// nobody could renew, every lease begins anew.
type clock struct {
	leases map[string]seen // by path
}

type seen struct {
	at       time.Time // monotonic
	ttl      time.Duration
	modified store.Revision
}

func newClock() *clock { return &clock{leases: make(map[string]seen)} }

// apply takes in what changed. Broken nodes are returned; they never run out.
func (c *clock) apply(b store.Batch, now time.Time) (broken []string) {
	old := c.leases
	if b.Reset {
		c.leases = make(map[string]seen, len(b.Puts))
	}
	for _, p := range b.Deletes {
		delete(c.leases, p)
	}
	for _, n := range b.Puts {
		var l tree.Lease
		if err := tree.Decode(n, &l); err != nil || l.TTL <= 0 {
			delete(c.leases, n.Path)
			broken = append(broken, n.Path)
			continue
		}
		s := seen{now, time.Duration(l.TTL) * time.Millisecond, n.Modified}
		if o, ok := old[n.Path]; ok && o.modified == n.Modified {
			s.at = o.at // a Reset is no renewal
		}
		c.leases[n.Path] = s
	}
	return broken
}

// restart gives every lease its whole ttl from now on.
func (c *clock) restart(now time.Time) {
	for p, s := range c.leases {
		s.at = now
		c.leases[p] = s
	}
}

// expired gives the paths of leases that have run out, at most most of them.
func (c *clock) expired(now time.Time, most int) []string {
	var out []string
	for _, p := range slices.Sorted(maps.Keys(c.leases)) {
		if s := c.leases[p]; now.Sub(s.at) > s.ttl && len(out) < most {
			out = append(out, p)
		}
	}
	return out
}

// expireLeases lets leases run out whenever this process leads.
func (r *Registry) expireLeases(ctx context.Context) {
	lead.Run(ctx, lead.Election{Store: r.deps.Store, Path: tree.ElectRegistry, TTL: r.cfg.SessionTTL, Log: r.deps.Log}, r.expire)
}

func (r *Registry) expire(ctx context.Context, fence store.Cond) error {
	c := newClock()
	batches := r.deps.Store.Watch(ctx, tree.Leases, 0)
	tick := time.NewTicker(leaseTick)
	defer tick.Stop()
	last, outage := time.Now(), false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-batches:
			if !ok {
				return ctx.Err()
			}
			for _, p := range c.apply(b, time.Now()) {
				r.deps.Log.Error("lease is broken and will not run out", "path", p)
			}
		case <-tick.C:
			// A process that was stopped, or a store that was away, let nobody renew.
			if time.Since(last) > leaseGap {
				outage = true
			}
			if err := lead.Check(ctx, r.deps.Store, fence); errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("let leases run out: %w", err)
			} else if err != nil {
				outage, last = true, time.Now()
				continue
			}
			now := time.Now()
			if outage {
				r.deps.Log.Warn("leases begin anew after an outage", "leases", len(c.leases))
				c.restart(now)
				outage = false
			}
			r.runOut(ctx, c.expired(now, maxExpired), c, fence)
			last = time.Now() // what that took is no outage
		}
	}
}

// runOut deregisters servers whose lease is still the one that was seen. A refusal
// is met again in the next tick.
func (r *Registry) runOut(ctx context.Context, paths []string, c *clock, fence store.Cond) {
	commits := r.commits
	commits.always = []store.Cond{fence}
	wishes := make([]wish, len(paths))
	for i, p := range paths {
		wishes[i] = wish{id: strings.TrimPrefix(p, tree.Leases), conds: []store.Cond{{Path: p, Modified: c.leases[p].modified}}, once: true}
	}
	for i, res := range commits.do(ctx, wishes) {
		p, id := paths[i], wishes[i].id
		switch {
		case res.refused != nil && res.refused.Code == api.NotFound:
			r.dropOrphan(ctx, p, wishes[i], fence)
		case res.refused != nil:
			r.deps.Log.Info("lease ran out, but the server stays", "server", id, "why", res.refused.Message)
		default:
			delete(c.leases, p)
			r.saw(res.change.Revision)
			r.metrics.changes.WithLabelValues("expired").Inc()
			r.deps.Log.Info("lease ran out, server deregistered", "server", id, "revision", res.change.Revision)
		}
	}
}

// dropOrphan deletes a lease that has no server.
func (r *Registry) dropOrphan(ctx context.Context, path string, w wish, fence store.Cond) {
	_, err := r.deps.Store.Commit(ctx, store.Txn{
		If: append([]store.Cond{fence, {Path: tree.NameIndexPath(w.id)}}, w.conds...),
		Do: []store.Op{{Path: path, Delete: true}},
	})
	r.deps.Log.Warn("lease ran out that has no server, it is deleted", "server", w.id, "error", err)
}
