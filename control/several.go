package control

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/record"
)

// Several speaks of several datasets in one process, each by a Control of its own. A call about a
// name is that of the dataset which has the name; status, holds, plans and waits are of all; every
// other one is of the first. Of is the Control of one alone.
type Several struct {
	*Control // the first
	all      []*Control
}

// NewSeveral makes one of the dataset of cfg, and of each that the division has.
func NewSeveral(cfg Config, deps Deps) (*Several, error) {
	s := &Several{}
	names := []string{cfg.Dataset}
	for _, d := range deps.Division.Names() {
		if d != cfg.Dataset {
			names = append(names, d)
		}
	}
	reg := deps.Metrics
	for _, d := range names {
		cfg.Dataset, deps.Metrics = d, prometheus.WrapRegistererWith(prometheus.Labels{"dataset": d}, reg)
		c, err := New(cfg, deps)
		if err != nil {
			return nil, err
		}
		c.first = len(s.all) == 0
		c.beside = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == d })
		s.all = append(s.all, c)
	}
	s.Control = s.all[0]
	return s, nil
}

// Of are the controls by dataset.
func (s *Several) Of() map[string]*Control {
	of := map[string]*Control{}
	for _, c := range s.all {
		of[c.cfg.Dataset] = c
	}
	return of
}

// Run follows the store until ctx ends.
func (s *Several) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range s.all {
		g.Go(func() error { return c.Run(ctx) })
	}
	return g.Wait()
}

// by is the control of the dataset that has a name. What is no name is refused by whichever.
func (s *Several) by(name string) *Control {
	n, err := record.ParseName(name)
	if err != nil {
		return s.Control
	}
	for _, c := range s.all {
		if c.deps.Division.Has(c.cfg.Dataset, n) {
			return c
		}
	}
	return s.Control
}

// Status implements controlapi.Control.
func (s *Several) Status(ctx context.Context) (*controlapi.Status, error) {
	st, err := s.Control.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range s.all[1:] {
		more, err := c.Status(ctx)
		if err != nil {
			return nil, err
		}
		st.Datasets, st.Conflicts = append(st.Datasets, more.Datasets...), st.Conflicts+more.Conflicts
	}
	return st, nil
}

// GetRecords implements controlapi.Control.
func (s *Several) GetRecords(ctx context.Context, name, typ string) (*controlapi.Records, error) {
	return s.by(name).GetRecords(ctx, name, typ)
}

// Why implements controlapi.Control.
func (s *Several) Why(ctx context.Context, name, typ string) (*controlapi.Explanation, error) {
	return s.by(name).Why(ctx, name, typ)
}

// Steer implements controlapi.Control.
func (s *Several) Steer(ctx context.Context, client, resolver, name, typ string) (*controlapi.Steering, error) {
	return s.by(name).Steer(ctx, client, resolver, name, typ)
}

// SetOverride implements controlapi.Control.
func (s *Several) SetOverride(ctx context.Context, r *controlapi.RecordSet, forMs int64, wholeName bool, by *controlapi.Doer) (*controlapi.Done, error) {
	return s.by(r.GetOwner()).SetOverride(ctx, r, forMs, wholeName, by)
}

// Expect implements controlapi.Control.
func (s *Several) Expect(ctx context.Context, e *controlapi.Expectation, forMs int64, by *controlapi.Doer) (*controlapi.Done, error) {
	if e == nil || e.Zone == "" {
		return s.Control.Expect(ctx, e, forMs, by)
	}
	return s.by(e.Zone).Expect(ctx, e, forMs, by)
}

// ExportRecords implements controlapi.Control.
func (s *Several) ExportRecords(ctx context.Context, dataset, after string, limit int32) (*controlapi.ExportPage, error) {
	if c := s.Of()[dataset]; c != nil {
		return c.ExportRecords(ctx, dataset, after, limit)
	}
	return s.Control.ExportRecords(ctx, dataset, after, limit)
}

// Holds implements controlapi.Control.
func (s *Several) Holds(ctx context.Context) ([]*controlapi.Hold, error) {
	out := []*controlapi.Hold{}
	for _, c := range s.all {
		holds, err := c.Holds(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, holds...)
	}
	slices.SortStableFunc(out, func(a, b *controlapi.Hold) int { return int(a.SinceMs - b.SinceMs) })
	return out, nil
}

// decided does what the first control that knows of an id does.
func (s *Several) decided(do func(*Control) (*controlapi.Done, error)) (d *controlapi.Done, err error) {
	for _, c := range s.all {
		if d, err = do(c); err == nil || api.Code(err) != api.NotFound {
			break
		}
	}
	return d, err
}

// Decide implements controlapi.Control.
func (s *Several) Decide(ctx context.Context, id, decision string, by *controlapi.Doer) (*controlapi.Done, error) {
	return s.decided(func(c *Control) (*controlapi.Done, error) { return c.Decide(ctx, id, decision, by) })
}

// DecideTrial implements controlapi.Control.
func (s *Several) DecideTrial(ctx context.Context, id, decision string, by *controlapi.Doer) (*controlapi.Done, error) {
	return s.decided(func(c *Control) (*controlapi.Done, error) { return c.DecideTrial(ctx, id, decision, by) })
}

// Wait implements controlapi.Control. Without a dataset a change is waited for in each that a live
// host carries, as it may be of any; the answer is that of the last one. A version is of one
// dataset: of the first.
func (s *Several) Wait(ctx context.Context, revision int64, kind, dataset string, timeoutMs int32) (*controlapi.Arrival, error) {
	switch c := s.Of()[dataset]; {
	case c != nil:
		return c.Wait(ctx, revision, kind, dataset, timeoutMs)
	case dataset != "" || kind == kindVersion:
		return s.Control.Wait(ctx, revision, kind, dataset, timeoutMs)
	}
	some := slices.DeleteFunc(slices.Clone(s.all), func(c *Control) bool { return !c.carried() })
	if len(some) == 0 {
		return s.Control.Wait(ctx, revision, kind, "", timeoutMs)
	}
	var mu sync.Mutex // guards last
	var last *controlapi.Arrival
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range some {
		g.Go(func() error {
			a, err := c.Wait(ctx, revision, kind, "", timeoutMs)
			if err != nil {
				return err
			}
			if !a.Done {
				a.Stage = c.cfg.Dataset + ": " + a.Stage
			}
			mu.Lock()
			defer mu.Unlock()
			if last == nil || last.Done || !a.Done && len(a.Missing) > len(last.Missing) {
				last = a
			}
			return nil
		})
	}
	return last, g.Wait()
}

// carried tells whether a live host carries the dataset.
func (c *Control) carried() bool {
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	for _, h := range c.marks.hosts {
		if h.Carry(c.cfg.Dataset) {
			return true
		}
	}
	return false
}

// Consider says what it would do in all datasets if sources claimed something else.
func (s *Several) Consider(ctx context.Context, changes []plan.Change, configs []plan.Config, deep bool) (*plan.Plan, error) {
	var all []plan.Of
	for _, c := range s.all {
		p, err := c.Consider(ctx, slices.Clone(changes), configs, deep)
		if err != nil {
			return nil, err
		}
		all = append(all, plan.Of{Dataset: c.cfg.Dataset, Plan: p})
	}
	return plan.Join(all), nil
}
