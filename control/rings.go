package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// maxLive is how many hosts of a ring are named.
const maxLive = 100

// readRings reads by what policy the presenter tries changes; without rings when it tries none.
func (c *Control) readRings(ctx context.Context) (p trial.Policy, err error) {
	path := tree.RingsPath(c.cfg.Dataset)
	n, err := c.deps.Store.Get(ctx, path)
	if errors.Is(err, store.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, unavailable(err)
	}
	return p, tree.Decode(n, &p)
}

// Rings implements controlapi.Control.
func (c *Control) Rings(ctx context.Context) (*controlapi.Rings, error) {
	defer c.observe("rings")()
	p, err := c.readRings(ctx)
	if err != nil {
		return nil, err
	}
	out := &controlapi.Rings{Rings: []*controlapi.Ring{}, Sources: p.Sources, Large: int64(p.Large), Queued: []string{}}
	c.marks.mu.Lock()
	t, j := c.marks.trial, c.marks.judged
	hosts := maps.Clone(c.marks.hosts)
	c.marks.mu.Unlock()
	names := slices.Sorted(maps.Keys(hosts))
	rings := p
	if t != nil {
		rings = t.Policy
	}
	for i, r := range rings.Rings {
		ring := &controlapi.Ring{Name: r.Name, SoakMs: r.Soak.Milliseconds(), Hosts: r.Hosts, Live: []string{}}
		for _, name := range names {
			if rings.RingOf(name, hosts[name].Labels) != i {
				continue
			}
			if ring.LiveCount++; len(ring.Live) < maxLive {
				ring.Live = append(ring.Live, name)
			}
		}
		out.Rings = append(out.Rings, ring)
	}
	if t == nil {
		return out, nil
	}
	x := &controlapi.Trial{
		ID: t.ID, Source: string(t.Source), SinceMs: t.Since, UntilMs: t.Until, Created: int64(t.Created), Replaced: int64(t.Replaced), Removed: int64(t.Removed),
		Author: t.Author, Reason: t.Reason, Why: t.Why, Text: t.At(trial.Judgement{}), Evidence: []string{}, Answered: []string{}, Refused: []string{},
	}
	if j.ID == t.ID && j.Begun == t.Since {
		x.Ring, x.State, x.StateSinceMs, x.Text, x.Evidence, x.Answered = t.RingName(j.Ring), string(j.State), j.Since, j.Text, j.Evidence, j.Hosts
	}
	for _, name := range names {
		if at := hosts[name].Datasets[c.cfg.Dataset].Trial; at != nil && at.ID == t.ID && at.Refused != "" && len(x.Refused) < maxLive {
			x.Refused = append(x.Refused, name+": "+at.Refused)
		}
	}
	out.Trial = x
	c.claims.mu.Lock()
	waiting := slices.Sorted(maps.Keys(c.claims.shards))
	c.claims.mu.Unlock()
	for _, s := range waiting {
		if s != t.Source && p.Tries(s, 1) != "" && len(out.Queued) < maxLive {
			out.Queued = append(out.Queued, string(s))
		}
	}
	return out, nil
}

// DecideTrial implements controlapi.Control.
func (c *Control) DecideTrial(ctx context.Context, id, decision string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("decide_trial")()
	signed, err := c.may(ctx, operator.DecideTrial(id, decision, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	if decision != trial.Pass && decision != trial.Withdraw {
		return nil, api.Refuse(api.Invalid, "", "decision is %q, expected %s or %s", clipped(decision), trial.Pass, trial.Withdraw)
	}
	gone := api.Refuse(api.NotFound, "`zonecast rings` shows what is tried; what was withdrawn is in `zonecast holds`", "nothing is tried as %q", clipped(id))
	path := tree.TrialPath(c.cfg.Dataset)
	n, err := c.deps.Store.Get(ctx, path)
	if errors.Is(err, store.ErrNotFound) {
		return nil, gone
	}
	if err != nil {
		return nil, unavailable(err)
	}
	var t trial.Trial
	if err := tree.Decode(n, &t); err != nil || t.ID != id {
		return nil, gone
	}
	c.marks.mu.Lock()
	at := t.At(c.marks.judged)
	c.marks.mu.Unlock()
	w := trial.Word{ID: t.ID, Begun: t.Since, Decision: decision, Time: c.deps.Now().UnixMilli(), Author: by.Author, Reason: by.Reason}
	text := fmt.Sprintf("%s of %s: %d RRsets created, %d replaced, %d removed", decision, t.Source, t.Created, t.Replaced, t.Removed)
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}}, Do: []store.Op{{Path: tree.WordPath(c.cfg.Dataset), Value: tree.Encode(w)}}},
		tree.AuditEntry{Action: "trial " + decision, Subject: id, Text: text + " (" + at + ")", Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, signed)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("trial %s: %s", id, text)}
	if decision == trial.Withdraw {
		lines = append(lines, fmt.Sprintf("its hosts go back to the published version; it is held as %s: `zonecast release %s` or `zonecast drop %s`", id, id, id))
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: id, Text: lines}, nil
}

// try notes that a source's change would go by rings.
func (g *guards) try(s record.Source, change reconcile.Change) {
	if why := g.rings.Tries(s, len(change.Put)+len(change.Remove)); why != "" && !trial.BringsZones(change, g.zone) {
		g.tried = append(g.tried, fmt.Sprintf("%s: it goes by rings before all hosts have it, and is withdrawn and held if they find something against it: %s", why, g.rings))
	}
}
