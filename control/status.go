package control

import (
	"context"
	"errors"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/store"
)

// Status implements controlapi.Control: read from the store, now.
func (c *Control) Status(ctx context.Context) (*controlapi.Status, error) {
	defer c.observe("status")()
	st := &controlapi.Status{}
	hosts, err := list[tree.Host](ctx, c, tree.Hosts)
	if err != nil {
		return nil, err
	}
	ds, err := c.datasetState(ctx, hosts)
	if err != nil {
		return nil, err
	}
	st.Datasets = append(st.Datasets, ds)
	sources, err := list[tree.Source](ctx, c, tree.Sources)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		st.Sources = append(st.Sources, &controlapi.SourceState{
			Source: string(s.value.Source), Where: s.value.Where, Revision: s.value.Revision,
			Records: int64(s.value.Records), TimeMs: s.value.Time, Error: s.value.Error, StoreRevision: int64(s.revision),
			SinceMs: s.value.Since, Failing: int64(s.value.Failing),
		})
	}
	services, err := list[tree.Service](ctx, c, tree.Services)
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		id := s.path[strings.LastIndexByte(s.path, '/')+1:]
		st.Services = append(st.Services, &controlapi.ServiceState{Name: s.value.Name, ID: id, API: s.value.API, HTTP: s.value.HTTP})
	}
	c.claims.mu.Lock()
	for kind, n := range c.claims.state.ConflictCounts() {
		if kind != reconcile.Warning {
			st.Conflicts += int64(n)
		}
	}
	c.claims.mu.Unlock()
	return st, nil
}

func (c *Control) datasetState(ctx context.Context, hosts []entry[tree.Host]) (*controlapi.DatasetState, error) {
	name := c.cfg.Dataset
	ds := &controlapi.DatasetState{Name: name, Records: -1}
	var head tree.Head
	n, err := c.deps.Store.Get(ctx, tree.HeadPath(name))
	switch {
	case err == nil:
		if err := tree.Decode(n, &head); err != nil {
			return nil, unavailable(err)
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, unavailable(err)
	}
	ds.Version, ds.Digest, ds.Content, ds.TimeMs = int64(head.Version), head.Digest, int64(head.Content), head.Time
	if records, ok := c.published.len(); ok {
		ds.Records = int64(records)
	}
	now := c.deps.Now().UnixMilli()
	for _, h := range hosts {
		if !h.value.Carry(name) {
			continue
		}
		d, ok := h.value.Datasets[name]
		hs := &controlapi.HostState{Name: h.value.Name, DNS: h.value.DNS, Version: int64(d.Version), Digest: d.Digest, AgeMs: -1, Refused: h.value.Refused}
		if ok && d.Time != 0 {
			hs.AgeMs = max(now-d.Time, 0)
		}
		for _, x := range d.Direct {
			hs.Direct = append(hs.Direct, direct.Text(x))
		}
		ds.Hosts = append(ds.Hosts, hs)
	}
	return ds, nil
}

type entry[T any] struct {
	path     string
	revision store.Revision
	value    T
}

// list reads and decodes all nodes below prefix; one that does not decode is
// left out and logged.
func list[T any](ctx context.Context, c *Control, prefix string) ([]entry[T], error) {
	nodes, _, err := c.deps.Store.List(ctx, prefix)
	if err != nil {
		return nil, unavailable(err)
	}
	out := make([]entry[T], 0, len(nodes))
	for _, n := range nodes {
		e := entry[T]{path: n.Path, revision: n.Modified}
		if err := tree.Decode(n, &e.value); err != nil {
			c.deps.Log.Warn("node not read", "error", err)
			continue
		}
		out = append(out, e)
	}
	return out, nil
}

// unavailable is a store's error as the API says it.
func unavailable(err error) error {
	return api.Refuse(api.Unavailable, "hosts go on answering what they have; is the store running?", "%v", err)
}
