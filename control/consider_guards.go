package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// guards judge a plan as the presenter's would: by the same bounds, with what was counted
// lately and what was announced.
type guards struct {
	bounds   guard.Bounds
	now      time.Time
	judge    *guard.Judge // nil: there are none
	counted  []counted
	expected []guard.Expectation

	held  []plan.Held
	notes []string

	rings trial.Policy // by which changes are tried
	tried []string     // which would be, in words
	zone  func(record.Name) record.Name
}

type counted struct {
	guard.Count
	at time.Time
}

// readGuards reads what the presenter's guards know from the store.
func (c *Control) readGuards(ctx context.Context) (*guards, error) {
	g := &guards{now: c.deps.Now()}
	var err error
	if g.bounds, err = c.readBounds(ctx); err != nil {
		return nil, err
	}
	if g.rings, err = c.readRings(ctx); err != nil {
		return nil, err
	}
	if g.bounds.Window == 0 {
		g.notes = append(g.notes, "guards are off: nothing would be held")
		return g, nil
	}
	past, err := history.List(ctx, c.deps.Store, c.cfg.Dataset)
	if err != nil {
		return nil, unavailable(err)
	}
	since := g.now.Add(-g.bounds.Window).UnixMilli()
	for _, e := range past {
		if e.Time < since {
			continue
		}
		for _, n := range e.Counted {
			zone, err := zoneOf(n.Zone)
			if err != nil {
				c.deps.Log.Warn("what guards counted cannot be read", "version", e.Version, "error", err)
				continue
			}
			g.counted = append(g.counted, counted{guard.Count{
				Source: n.Source, Zone: zone, Removed: n.Removed, Replaced: n.Replaced, Repointed: n.Repointed, Created: n.Created, Lowered: n.Lowered,
				Map: n.Map, Moved: n.Moved,
			}, time.UnixMilli(e.Time)})
		}
	}
	// What is left is read before who it is of: whose expectation is not there then is gone.
	nodes, _, err := c.deps.Store.List(ctx, tree.Expected)
	if err != nil {
		return nil, unavailable(err)
	}
	left := map[string]tree.Left{}
	for _, n := range nodes {
		var l tree.Left
		if err := tree.Decode(n, &l); err != nil { // then nothing is, as for the presenter
			c.deps.Log.Warn("what is left of an expectation cannot be read", "error", err)
		}
		left[strings.TrimPrefix(n.Path, tree.Expected)] = l
	}
	announced, err := c.readExpects(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range announced {
		l, used := left[x.ID]
		if !used {
			l = x.Left
		}
		zone, err := zoneOf(x.Zone)
		if err != nil || l == (tree.Left{}) {
			continue
		}
		g.expected = append(g.expected, guard.Expectation{
			ID: x.ID, Zone: zone, Source: x.Source, Removals: l.Removals, Replacements: l.Replacements, Creations: l.Creations, Until: time.UnixMilli(x.Until),
		})
	}
	return g, nil
}

// readBounds reads by what bounds the presenter judges. What cannot be read is an error: a plan
// that judges by others would promise what is held then.
func (c *Control) readBounds(ctx context.Context) (guard.Bounds, error) {
	path := tree.GuardsPath(c.cfg.Dataset)
	n, err := c.deps.Store.Get(ctx, path)
	if errors.Is(err, store.ErrNotFound) { // nothing was published yet
		return guard.DefaultBounds(), nil
	}
	if err != nil {
		return guard.Bounds{}, unavailable(err)
	}
	b, err := guard.Decode(n.Value)
	if err != nil {
		return b, fmt.Errorf("node %s: %w", path, err)
	}
	return b, nil
}

func zoneOf(text string) (record.Name, error) {
	if text == "" {
		return "", nil
	}
	return record.ParseName(text)
}

// begin makes the judge of what is in force. The caller holds the mutex of the claims.
func (g *guards) begin(t *attempt) (err error) {
	g.zone = t.claims.state.Zone
	if g.bounds.Window == 0 {
		return nil
	}
	c := &t.claims
	if c.judge == nil {
		if c.judge, err = guard.New(guard.DefaultBounds(), c.state.All, nil); err != nil {
			return fmt.Errorf("plan: guards: %w", err)
		}
	}
	if g.judge, err = c.judge.Fork(g.bounds); err != nil {
		return fmt.Errorf("plan: guards: %w", err)
	}
	made := make(map[record.Source]int, len(t.changes))
	for _, ch := range t.changes {
		made[ch.Source] = 0
	}
	c.state.MadeBy(made)
	for s, n := range made {
		g.judge.Attribute(s, n)
	}
	for _, n := range g.counted {
		g.judge.Restore(n.Count, n.at)
	}
	for _, x := range g.expected {
		if err := g.judge.Expect(x); err != nil {
			t.deps.Log.Warn("expectation makes no sense: nothing is expected of it", "error", err)
		}
	}
	return nil
}

// judges tells whether anything may be held, or tried.
func (g *guards) judges() bool { return g != nil && (g.judge != nil || len(g.rings.Rings) > 0) }

// hold judges a source's change, and notes what holds it.
func (g *guards) hold(p *part, change reconcile.Change) bool {
	s := p.source
	if g.judge == nil {
		g.try(s, change)
		return false
	}
	v := g.judge.Judge(s, change, g.now)
	var old, now []record.Claim
	for _, t := range p.shards {
		old, now = append(old, t.old...), append(now, t.now...)
	}
	v.Malformed(old, now)
	if !v.Held() {
		g.judge.Accept(s, change, g.now)
		g.try(s, change)
		return false
	}
	g.held = append(g.held, plan.Held{Source: string(s), Why: v.Why()})
	return true
}
