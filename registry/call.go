package registry

import (
	"context"
	"errors"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Bounds of calls, as registry.thrift says them.
const (
	maxItems    = 10000 // of register_servers, and of a page
	defaultPage = 1000
	maxWait     = 60 * time.Second
	maxReset    = 50000 // servers in one answer of watch_servers
	// viewWait is how long a list waits for the view to have what this process
	// committed.
	viewWait = 2 * time.Second
)

// RegisterServer implements the service.
func (r *Registry) RegisterServer(ctx context.Context, in *registryapi.Registration) (*answer.Change, error) {
	w, refused := r.registration(in)
	if refused == nil {
		res := r.do(ctx, []wish{w})[0]
		if refused = res.refused; refused == nil {
			return res.change, nil
		}
	} else {
		r.metrics.changes.WithLabelValues("refused").Inc()
	}
	return nil, refused
}

// RegisterServers implements the service.
func (r *Registry) RegisterServers(ctx context.Context, in []*registryapi.Registration) ([]*registryapi.Outcome, error) {
	if len(in) > maxItems {
		return nil, api.Refuse(api.TooMany, "split the call", "%d registrations in one call, at most %d", len(in), maxItems)
	}
	out := make([]*registryapi.Outcome, len(in))
	first := make(map[string]int, len(in))
	var wishes []wish
	var index []int
	for i, reg := range in {
		out[i] = &registryapi.Outcome{}
		if reg != nil {
			out[i].Name = reg.Name
		}
		w, refused := r.registration(reg)
		if refused == nil {
			if at, twice := first[w.id]; twice {
				refused = api.Refuse(api.Invalid, "say each server once", "server %s stands twice in this call, first at index %d", w.id, at)
			}
		}
		if refused != nil {
			r.metrics.changes.WithLabelValues("refused").Inc()
			fill(out[i], refused)
			continue
		}
		first[w.id] = i
		wishes, index = append(wishes, w), append(index, i)
	}
	for k, res := range r.do(ctx, wishes) {
		if o := out[index[k]]; res.refused != nil {
			fill(o, res.refused)
		} else {
			o.Change = res.change
		}
	}
	return out, nil
}

func fill(o *registryapi.Outcome, r *answer.Refused) {
	o.Code, o.Message, o.Hint = r.Code, r.Message, r.Hint
}

// DeregisterServer implements the service. A server of a fleet file is refused:
// the file would only bring it back.
func (r *Registry) DeregisterServer(ctx context.Context, name, author, reason string) (*answer.Change, error) {
	n, err := fleet.ParseName(name)
	if err != nil {
		return nil, api.Refuse(api.Invalid, "", "%v", err)
	}
	res := r.do(ctx, []wish{{id: fleet.ID(n), only: func(have *fleet.Server) *answer.Refused {
		if have != nil && have.Origin != fleet.OriginCall {
			return api.Refuse(api.Exists, "take it out of that file, or register it by call first to take it over",
				"server %s comes from %s, which would register it again", have.ID(), have.Origin)
		}
		return nil
	}}})[0]
	if res.refused != nil && res.refused.Code == api.NotFound {
		// A call is repeated when its answer was lost: what is gone already is as
		// wished. What this process never saw is more likely a slip of the pen.
		if r.view.known() && r.ready(ctx) == nil {
			if rev, ok := r.view.removed(fleet.ID(n)); ok {
				return &answer.Change{Revision: int64(rev)}, nil
			}
		}
	}
	if res.refused != nil {
		return nil, res.refused
	}
	r.deps.Log.Info("server deregistered", "server", fleet.ID(n), "author", author, "reason", reason, "revision", res.change.Revision)
	return res.change, nil
}

// Renew implements the service: it writes the lease and nothing else.
func (r *Registry) Renew(ctx context.Context, name string) (*registryapi.Lease, error) {
	n, err := fleet.ParseName(name)
	if err != nil {
		return nil, api.Refuse(api.Invalid, "", "%v", err)
	}
	path := tree.LeasePath(fleet.ID(n))
	for range maxTries {
		node, err := r.deps.Store.Get(ctx, path)
		if errors.Is(err, store.ErrNotFound) {
			return nil, api.Refuse(api.NotFound, "register it with a lease first (register --lease, lease_ms)", "server %s has no lease: it is not registered, ran out, or was registered without one", fleet.ID(n))
		}
		if err != nil {
			return nil, refusal(err)
		}
		var l tree.Lease
		if err := tree.Decode(node, &l); err != nil {
			return nil, refusal(err)
		}
		l.Expires = time.Now().UnixMilli() + l.TTL
		_, err = r.deps.Store.Commit(ctx, store.Txn{
			If: []store.Cond{{Path: path, Modified: node.Modified}},
			Do: []store.Op{{Path: path, Value: tree.Encode(l)}},
		})
		if errors.Is(err, store.ErrConflict) {
			continue // renewed or gone meanwhile
		}
		if err != nil {
			return nil, refusal(err)
		}
		return &registryapi.Lease{ExpiresMs: l.Expires, TTLMs: l.TTL}, nil
	}
	return nil, api.Refuse(api.Unavailable, "try again", "the lease of %s changed %d times meanwhile", fleet.ID(n), maxTries)
}

// GetServer implements the service, from the store itself.
func (r *Registry) GetServer(ctx context.Context, name string) (*registryapi.Server, error) {
	n, err := fleet.ParseName(name)
	if err != nil {
		return nil, api.Refuse(api.Invalid, "", "%v", err)
	}
	h, err := r.commits.held(ctx, fleet.ID(n))
	if err != nil {
		return nil, refusal(err)
	}
	if h.server == nil {
		return nil, api.Refuse(api.NotFound, "zonecast servers lists what is registered", "server %s is not registered", fleet.ID(n))
	}
	out := wire(entry{*h.server, h.node})
	if h.lease != 0 {
		var l tree.Lease
		node, err := r.deps.Store.Get(ctx, tree.LeasePath(fleet.ID(n)))
		if err == nil {
			err = tree.Decode(node, &l)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, refusal(err)
		}
		out.LeaseExpiresMs = l.Expires
	}
	return out, nil
}

// ListServers implements the service. It shows at least what this process
// committed before.
func (r *Registry) ListServers(ctx context.Context, after string, limit int32, f *registryapi.Filter) (*registryapi.ServerPage, error) {
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 0 || limit > maxItems {
		return nil, api.Refuse(api.Invalid, "", "limit is %d, expected 1 to %d, or 0 for %d", limit, maxItems, defaultPage)
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	if f == nil {
		f = &registryapi.Filter{}
	}
	entries, next, rev := r.view.page(after, int(limit), func(s fleet.Server) bool {
		return (f.Role == "" || f.Role == s.Role) && (f.Site == "" || f.Site == s.Site) && (f.Cluster == "" || f.Cluster == s.Cluster)
	})
	return &registryapi.ServerPage{Servers: wires(entries), NextAfter: next, Revision: int64(rev)}, nil
}

// ready waits for the view; its error is a refusal.
func (r *Registry) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, viewWait)
	defer cancel()
	if err := r.view.after(ctx, store.Revision(r.last.Load())); err != nil {
		if r.view.known() {
			return nil // the store is late or away: what is known is better than nothing
		}
		return api.Refuse(api.Unavailable, "try again in a moment", "the servers have not been read from the store yet")
	}
	return nil
}

// WatchServers implements the service.
func (r *Registry) WatchServers(ctx context.Context, since int64, timeoutMs int32) (*registryapi.ServerEvents, error) {
	if since < 0 || timeoutMs < 0 || time.Duration(timeoutMs)*time.Millisecond > maxWait {
		return nil, api.Refuse(api.Invalid, "", "since is %d and timeout_ms %d, expected since >= 0 and 0 to %d ms", since, timeoutMs, maxWait.Milliseconds())
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, time.Duration(timeoutMs)*time.Millisecond)
	defer cancel()
	for {
		changed := r.view.next()
		now, reset, put, removed := r.view.since(store.Revision(since))
		if reset && len(put) > maxReset {
			return nil, api.Refuse(api.TooMany, "page through list_servers and watch from its first page's revision",
				"the answer would have all %d servers, at most %d", len(put), maxReset)
		}
		if reset || len(put)+len(removed) > 0 || wait.Err() != nil {
			return &registryapi.ServerEvents{Revision: int64(now), Reset: reset, Put: wires(put), Removed: removed}, nil
		}
		select {
		case <-changed:
		case <-wait.Done():
		}
	}
}

// do does wishes and keeps the books.
func (r *Registry) do(ctx context.Context, wishes []wish) []result {
	results := r.commits.do(ctx, wishes)
	for i, res := range results {
		switch {
		case res.refused != nil:
			r.metrics.changes.WithLabelValues("refused").Inc()
		case !res.change.Changed:
			r.metrics.changes.WithLabelValues("same").Inc()
		default:
			r.metrics.changes.WithLabelValues("changed").Inc()
			r.saw(res.change.Revision)
			if w := wishes[i].want; w != nil {
				r.deps.Log.Debug("server registered", "server", w.ID(), "cluster", w.Cluster, "author", w.Author, "revision", res.change.Revision)
			}
		}
	}
	return results
}

// saw remembers the newest revision this process committed.
func (r *Registry) saw(rev int64) {
	for {
		old := r.last.Load()
		if old >= rev || r.last.CompareAndSwap(old, rev) {
			return
		}
	}
}

// registration makes a wish of what came over the network.
func (r *Registry) registration(in *registryapi.Registration) (wish, *answer.Refused) {
	if in == nil {
		return wish{}, api.Refuse(api.Invalid, "", "the registration is missing")
	}
	invalid := func(err error) (wish, *answer.Refused) {
		return wish{}, api.Refuse(api.Invalid, "", "%v", err)
	}
	n, err := fleet.ParseName(in.Name)
	if err != nil {
		return invalid(err)
	}
	now := time.Now().UnixMilli()
	s := fleet.Server{
		Name: n, Role: in.Role, Site: in.Site, Cluster: in.Cluster, Options: in.Options,
		Origin: fleet.OriginCall, Author: in.Author, Reason: in.Reason, Time: now,
	}
	if in.TTL < 0 {
		return wish{}, api.Refuse(api.Invalid, "", "server %s: ttl is %d seconds, expected 0 to %d (RFC 2181 §8)", fleet.ID(n), in.TTL, record.MaxTTL)
	}
	s.TTL = uint32(in.TTL)
	for _, text := range in.Addresses {
		a, err := fleet.ParseAddress(text)
		if err != nil {
			return wish{}, api.Refuse(api.Invalid, "", "server %s: %v", fleet.ID(n), err)
		}
		s.Addresses = append(s.Addresses, a)
	}
	if err := s.Check(); err != nil {
		return invalid(err)
	}
	s = s.Normal()
	w := wish{id: s.ID(), want: &s}
	if in.LeaseMs != 0 {
		ttl := time.Duration(in.LeaseMs) * time.Millisecond
		if in.LeaseMs < 0 || in.LeaseMs > r.cfg.MaxLease.Milliseconds() || ttl < r.cfg.MinLease {
			return wish{}, api.Refuse(api.Invalid, "lease_ms 0 registers for ever", "server %s: lease is %d ms, expected %d to %d", s.ID(), in.LeaseMs, r.cfg.MinLease.Milliseconds(), r.cfg.MaxLease.Milliseconds())
		}
		w.lease = &tree.Lease{Expires: now + in.LeaseMs, TTL: in.LeaseMs}
	}
	return w, nil
}

// wire gives a server as the API has it.
func wire(e entry) *registryapi.Server {
	s := e.server
	out := &registryapi.Server{
		Name: s.ID(), Role: s.Role, Site: s.Site, Cluster: s.Cluster, TTL: int32(s.TTL),
		Options: s.Options, Origin: s.Origin, Author: s.Author, Reason: s.Reason, TimeMs: s.Time, Revision: int64(e.revision),
	}
	for _, a := range s.Addresses {
		out.Addresses = append(out.Addresses, a.String())
	}
	return out
}

func wires(es []entry) []*registryapi.Server {
	out := make([]*registryapi.Server, len(es))
	for i, e := range es {
		out[i] = wire(e)
	}
	return out
}
