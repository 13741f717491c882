package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

const (
	// maxTries bounds how often a change is tried again because somebody else
	// changed the same server or address meanwhile. Each failed try means that
	// another change came through; ten in a row on one server is a fight.
	maxTries = 10
	// maxReads is how many store reads run at once for one call: enough to hide a
	// round trip, few enough to leave the store to others.
	maxReads = 16
)

// result is what became of a wish: one of the two is set.
type result struct {
	change  *answer.Change
	refused *answer.Refused
	kept    bool // only the lease changed, or nothing
}

// committer does wishes: it reads, plans and commits until every wish is done or
// refused.
type committer struct {
	st store.Store
	// always are conditions of every transaction: the fence of a leader.
	always []store.Cond
}

// do does wishes that do not name a server twice; results[i] belongs to wishes[i].
func (c committer) do(ctx context.Context, wishes []wish) []result {
	results := make([]result, len(wishes))
	left := make([]int, len(wishes)) // indexes of wishes that are not decided
	for i := range left {
		left[i] = i
	}
	for try := 0; len(left) > 0; try++ {
		if try == maxTries {
			c.refuse(results, left, api.Refuse(api.Unavailable, "try again", "others changed the same servers or addresses %d times meanwhile", maxTries))
			break
		}
		if try > 0 {
			// 0 to 10 ms a try: enough for the other's commits to pass.
			pause(ctx, time.Duration(rand.Int64N(int64(try)*int64(10*time.Millisecond))))
		}
		now := make([]wish, len(left))
		for k, i := range left {
			now[k] = wishes[i]
		}
		f, err := c.read(ctx, now)
		if err != nil {
			c.refuse(results, left, refusal(err))
			break
		}
		items, units := plan(now, f)
		again := c.commit(ctx, pack(units, len(c.always), try > 0))
		var next []int
		for k, it := range items {
			i := left[k]
			switch {
			case it.refused != nil:
				results[i] = result{refused: it.refused}
			case again[it] && it.once && try > 0:
				results[i] = result{refused: api.Refuse(api.Unavailable, "", "server %s changed meanwhile", it.id)}
			case again[it]:
				next = append(next, i)
			default:
				results[i] = result{change: it.done, kept: it.kept}
			}
		}
		left = next
	}
	return results
}

func (c committer) refuse(results []result, left []int, r *answer.Refused) {
	for _, i := range left {
		results[i] = result{refused: r}
	}
}

// commit does the transactions in order and says which items must be tried again.
func (c committer) commit(ctx context.Context, groups [][]unit) map[*item]bool {
	again := make(map[*item]bool)
	var broken *answer.Refused
	for _, g := range groups {
		var rev store.Revision
		var err error
		if broken == nil {
			t := txn(g)
			t.If = append(t.If, c.always...)
			if rev, err = c.st.Commit(ctx, t); err != nil && !errors.Is(err, store.ErrConflict) {
				broken = refusal(err)
			}
		}
		for _, u := range g {
			for _, it := range u.items {
				switch {
				case broken != nil:
					it.refused = broken
				case err != nil:
					again[it] = true
				case it.kept:
					it.done = &answer.Change{Revision: int64(it.have.node)}
				default:
					it.done = &answer.Change{Revision: int64(rev), Changed: true}
				}
			}
		}
	}
	return again
}

// read reads what plan needs.
func (c committer) read(ctx context.Context, wishes []wish) (facts, error) {
	f := facts{held: make(map[string]held, len(wishes)), owners: make(map[netip.Addr]owner), guards: make(map[string]store.Revision)}
	var mu sync.Mutex // guards f's maps
	each := func(wishes []wish, do func(ctx context.Context, w wish) error) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(maxReads)
		for _, w := range wishes {
			g.Go(func() error { return do(ctx, w) })
		}
		return g.Wait()
	}
	err := each(wishes, func(ctx context.Context, w wish) error {
		h, err := c.held(ctx, w.id)
		mu.Lock()
		defer mu.Unlock()
		f.held[w.id] = h
		return err
	})
	if err != nil {
		return f, err
	}
	// Whether the servers are there is asked again by the transaction; the guards are to be of some
	// time before that is on its way.
	news := slices.DeleteFunc(slices.Clone(wishes), func(w wish) bool { return w.want == nil || f.held[w.id].server != nil })
	if len(news) > maxReads {
		nodes, _, err := c.st.List(ctx, tree.NameGuards)
		if err != nil {
			return f, err
		}
		for _, n := range nodes {
			f.guards[n.Path] = n.Modified
		}
		news = nil
	}
	err = each(news, func(ctx context.Context, w wish) error {
		path := tree.NameGuardPath(w.id)
		n, err := c.st.Get(ctx, path)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		f.guards[path] = n.Modified
		return nil
	})
	if err != nil {
		return f, err
	}
	return f, each(wishes, func(ctx context.Context, w wish) error {
		if w.want == nil {
			return nil
		}
		if h := f.held[w.id]; h.server != nil && h.server.Same(*w.want) {
			return nil
		}
		for _, a := range w.want.Addresses {
			o, err := c.owner(ctx, a)
			if err != nil {
				return err
			}
			mu.Lock()
			f.owners[a] = o
			mu.Unlock()
		}
		return nil
	})
}

// held reads one server by the index of names.
func (c committer) held(ctx context.Context, id string) (held, error) {
	for range maxTries {
		index, err := c.st.Get(ctx, tree.NameIndexPath(id))
		if errors.Is(err, store.ErrNotFound) {
			return held{}, nil
		}
		if err != nil {
			return held{}, err
		}
		node, err := c.st.Get(ctx, string(index.Value))
		if errors.Is(err, store.ErrNotFound) {
			continue // moved or gone between the two reads
		}
		if err != nil {
			return held{}, err
		}
		s, err := fleet.Decode(node.Value)
		broken := err != nil
		if broken {
			if s, err = c.remains(ctx, id); err != nil {
				return held{}, err
			}
		}
		h := held{server: &s, broken: broken, path: node.Path, node: node.Modified}
		lease, err := c.st.Get(ctx, tree.LeasePath(id))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return held{}, err
		}
		h.lease = lease.Modified
		return h, nil
	}
	return held{}, fmt.Errorf("read server %s: its index names a node that is not there", id)
}

// remains is what the indexes know of a server whose node cannot be read: its name
// and addresses, enough to replace it or to take it away without leaving anything.
func (c committer) remains(ctx context.Context, id string) (fleet.Server, error) {
	name, err := fleet.ParseName(id)
	if err != nil {
		return fleet.Server{}, fmt.Errorf("read server %s: %w", id, err)
	}
	nodes, _, err := c.st.List(ctx, tree.AddressIndex)
	if err != nil {
		return fleet.Server{}, err
	}
	s := fleet.Server{Name: name}
	for _, n := range nodes {
		if a, err := netip.ParseAddr(strings.TrimPrefix(n.Path, tree.AddressIndex)); err == nil && string(n.Value) == id {
			s.Addresses = append(s.Addresses, a)
		}
	}
	return s, nil
}

func (c committer) owner(ctx context.Context, a netip.Addr) (owner, error) {
	n, err := c.st.Get(ctx, tree.AddressIndexPath(a.String()))
	if errors.Is(err, store.ErrNotFound) {
		return owner{}, nil
	}
	return owner{id: string(n.Value)}, err
}

// refusal says an error of the store as the API does.
func refusal(err error) *answer.Refused {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return api.Refuse(api.Timeout, "whether it happened is not known; repeating it is safe", "%v", err)
	default:
		return api.Refuse(api.Unavailable, "whether it happened is not known; repeating it is safe", "%v", err)
	}
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
