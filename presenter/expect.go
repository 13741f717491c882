package presenter

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// What guards remember goes on from one leader to the next: what counts of a version lies
// in its History, and what is left of an expectation in a node of its own, written with
// the version that uses it.

// expect is an expectation of people.
type expect struct {
	tree.Expect
	modified store.Revision
}

// expectation is what the judge is told, with what is left of it; false when it makes no
// sense, or is used up.
func (x expect) expectation(left tree.Left) (guard.Expectation, error) {
	e := guard.Expectation{
		ID: x.ID, Source: x.Source, Removals: left.Removals, Replacements: left.Replacements, Creations: left.Creations,
		Until: time.UnixMilli(x.Until),
	}
	if x.Zone != "" {
		zone, err := record.ParseName(x.Zone)
		if err != nil {
			return e, fmt.Errorf("expectation %s: zone: %w", x.ID, err)
		}
		e.Zone = zone
	}
	return e, e.Check()
}

// takeExpects takes over what people announce, or take back.
func (p *Presenter) takeExpects(b store.Batch) {
	g := &p.gate
	gone := func(id string) {
		delete(g.expects, id)
		if g.judge != nil {
			g.judge.Unexpect(id)
		}
		if _, there := g.left[id]; there {
			g.leftNews[id] = nil
		}
	}
	if b.Reset {
		there := map[string]bool{}
		for _, n := range b.Puts {
			there[strings.TrimPrefix(n.Path, tree.Expects)] = true
		}
		for id := range g.expects {
			if !there[id] {
				gone(id)
			}
		}
	}
	for _, path := range b.Deletes {
		gone(strings.TrimPrefix(path, tree.Expects))
	}
	for _, n := range b.Puts {
		x := expect{modified: n.Modified}
		if err := tree.Decode(n, &x.Expect); err != nil {
			p.log.Warn("expectation cannot be read: nothing is expected of it", "error", err)
			continue
		}
		x.ID = strings.TrimPrefix(n.Path, tree.Expects)
		if old, known := g.expects[x.ID]; x.Dataset != p.cfg.Dataset || known && old.modified == x.modified {
			continue
		}
		g.expects[x.ID] = x
		if g.judge != nil {
			p.expect(x, x.Left)
		}
		g.anew = true
	}
	p.wake()
}

func (p *Presenter) expect(x expect, left tree.Left) {
	if left == (tree.Left{}) {
		return // used up
	}
	e, err := x.expectation(left)
	if err == nil {
		err = p.gate.judge.Expect(e)
	}
	if err != nil {
		p.log.Warn("expectation makes no sense: nothing is expected of it", "error", err)
	}
}

// recall makes a new judge as strict as the last one was.
func (p *Presenter) recall(ctx context.Context) error {
	g := &p.gate
	past, err := history.List(ctx, p.deps.Store, p.cfg.Dataset)
	if err != nil {
		return err
	}
	since := p.deps.Now().Add(-p.cfg.Guard.Window).UnixMilli()
	for _, e := range past {
		if e.Time < since {
			continue
		}
		for _, c := range e.Counted {
			zone, err := record.ParseName(c.Zone)
			if c.Zone == "" {
				zone, err = "", nil
			}
			if err != nil {
				return fmt.Errorf("history of version %d: zone: %w", e.Version, err)
			}
			g.judge.Restore(guard.Count{
				Source: c.Source, Zone: zone, Removed: c.Removed, Replaced: c.Replaced, Repointed: c.Repointed, Created: c.Created, Lowered: c.Lowered,
				Map: c.Map, Moved: c.Moved,
			}, time.UnixMilli(e.Time))
		}
	}
	// What is left is read before who it is of: whose expectation is not there then is gone.
	nodes, _, err := p.deps.Store.List(ctx, tree.Expected)
	if err != nil {
		return fmt.Errorf("read what is left of expectations: %w", err)
	}
	there, _, err := p.deps.Store.List(ctx, tree.Expects)
	if err != nil {
		return fmt.Errorf("read expectations: %w", err)
	}
	p.takeExpects(store.Batch{Puts: there})
	clear(g.left)
	for _, n := range nodes {
		id := strings.TrimPrefix(n.Path, tree.Expected)
		if !slices.ContainsFunc(there, func(n store.Node) bool { return n.Path == tree.ExpectPath(id) }) {
			g.left[id], g.leftNews[id] = tree.Left{}, nil
			continue
		}
		var l tree.Left
		if err := tree.Decode(n, &l); err != nil {
			p.log.Warn("what is left of an expectation cannot be read: nothing is", "error", err)
		}
		g.left[id] = l
	}
	for id, x := range g.expects {
		left, used := g.left[id]
		if !used {
			left = x.Left
		}
		g.judge.Unexpect(id)
		p.expect(x, left)
	}
	return nil
}

// announcedSince tells whether something was announced after a time, unix milliseconds.
func (g *gate) announcedSince(ms int64) bool {
	for _, x := range g.expects {
		if x.Set >= ms {
			return true
		}
	}
	return false
}

// use notes what is left of expectations after a change was accepted.
func (p *Presenter) use(now time.Time) {
	g := &p.gate
	if len(g.expects) == 0 {
		return
	}
	left := map[string]tree.Left{}
	for _, e := range g.judge.Expectations(now) {
		left[e.ID] = tree.Left{Removals: e.Removals, Replacements: e.Replacements, Creations: e.Creations}
	}
	for id, x := range g.expects {
		was, used := g.left[id]
		if !used {
			was = x.Left
		}
		if l := left[id]; l != was && x.Until > now.UnixMilli() {
			g.left[id], g.leftNews[id] = l, &l
		}
	}
}

// maxCounted bounds what of the counts a History has zone by zone.
const maxCounted = 48

// maxMoved bounds the maps whose moved prefixes a History has: those of more maps that one
// version changes are not known to the next leader.
const maxMoved = 256

// countedNodes is what guards count of what was admitted since the last version, for its
// History: of many zones the smaller shares are joined, by source, and of many sources
// all of it.
func (g *gate) countedNodes() []tree.Counted {
	type of struct{ source, zone string }
	join := func(counts []tree.Counted, by func(tree.Counted) of) (out []tree.Counted) {
		all := map[of]*tree.Counted{}
		for _, c := range counts {
			k := by(c)
			to := all[k]
			if to == nil {
				to = &tree.Counted{Source: record.Source(k.source), Zone: k.zone}
				all[k] = to
			}
			to.Removed, to.Replaced, to.Repointed = to.Removed+c.Removed, to.Replaced+c.Replaced, to.Repointed+c.Repointed
			to.Created, to.Lowered = to.Created+c.Created, to.Lowered+c.Lowered
		}
		size := func(c *tree.Counted) int { return c.Removed + c.Replaced + c.Repointed + c.Created + c.Lowered }
		for _, c := range slices.SortedFunc(maps.Values(all), func(a, b *tree.Counted) int {
			if n := size(b) - size(a); n != 0 {
				return n
			}
			return strings.Compare(string(a.Source)+" "+a.Zone, string(b.Source)+" "+b.Zone)
		}) {
			out = append(out, *c)
		}
		return out
	}
	var moved, rrsets []tree.Counted
	for _, c := range g.counted {
		if c.Map == "" {
			rrsets = append(rrsets, c)
		} else if i := slices.IndexFunc(moved, func(m tree.Counted) bool { return m.Map == c.Map }); i >= 0 {
			moved[i].Moved += c.Moved
		} else if len(moved) < maxMoved {
			moved = append(moved, c)
		}
	}
	out := join(rrsets, func(c tree.Counted) of { return of{string(c.Source), c.Zone} })
	if len(out) > maxCounted {
		out = append(out[:maxCounted:maxCounted], join(out[maxCounted:], func(c tree.Counted) of { return of{string(c.Source), ""} })...)
	}
	if len(out) > 2*maxCounted {
		out = append(out[:2*maxCounted:2*maxCounted], join(out[2*maxCounted:], func(tree.Counted) of { return of{} })...)
	}
	return append(out, moved...)
}

// count keeps what an accepted change counts as until a History has it.
func (g *gate) count(counts []guard.Count) {
	for _, c := range counts {
		zone := ""
		if c.Zone != "" {
			zone = c.Zone.String()
		}
		g.counted = append(g.counted, tree.Counted{
			Source: c.Source, Zone: zone, Removed: c.Removed, Replaced: c.Replaced, Repointed: c.Repointed, Created: c.Created, Lowered: c.Lowered,
			Map: c.Map, Moved: c.Moved,
		})
	}
}

// endExpect takes an expectation away whose time is over.
func (p *Presenter) endExpect(ctx context.Context, x expect) error {
	left, used := p.gate.left[x.ID]
	if !used {
		left = x.Left
	}
	cond, op := tree.AuditOps(tree.AuditEntry{
		Time: p.deps.Now().UnixMilli(), Action: "expectation ended", Subject: x.ID, From: p.deps.Name,
		Text: fmt.Sprintf("announced by %s, its time is over: of %d removals, %d replacements and %d creations %d, %d and %d did not come",
			x.Author, x.Removals, x.Replacements, x.Creations, left.Removals, left.Replacements, left.Creations),
		Author: "presenter", Reason: x.Reason,
	})
	_, err := p.deps.Store.Commit(ctx, store.Txn{
		If: []store.Cond{p.term.fence, {Path: tree.ExpectPath(x.ID), Modified: x.modified}, cond},
		Do: []store.Op{{Path: tree.ExpectPath(x.ID), Delete: true}, {Path: tree.ExpectedPath(x.ID), Delete: true}, op},
	})
	if err == nil {
		p.gate.judge.Unexpect(x.ID)
		delete(p.gate.left, x.ID)
		delete(p.gate.leftNews, x.ID)
		p.log.Info("expectation ended", "id", x.ID)
	}
	return err
}
