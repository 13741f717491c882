package presenter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Overrides and expectations end by themselves. The leading presenter takes them away, because it is the
// one that makes the version in which they are gone: what ran out while nobody led goes
// as soon as somebody does.

// ends is the overrides and when each ends.
type ends struct {
	overrides map[string]override
	again     time.Time // not before: the store did not take it
}

type override struct {
	tree.Override
	modified store.Revision
}

func (p *Presenter) takeOverrides(b store.Batch) {
	if b.Reset || p.ends.overrides == nil {
		p.ends.overrides = map[string]override{}
	}
	for _, path := range b.Deletes {
		delete(p.ends.overrides, path)
	}
	for _, n := range b.Puts {
		o := override{modified: n.Modified}
		if err := tree.Decode(n, &o.Override); err != nil {
			p.log.Warn("override cannot be read: it does not end by itself", "error", err)
			continue
		}
		// One that is of another dataset ends with the version of that one.
		if owner, err := record.ParseName(o.Owner); err == nil && !p.deps.Division.Has(p.cfg.Dataset, owner) {
			delete(p.ends.overrides, n.Path)
			continue
		}
		p.ends.overrides[n.Path] = o
	}
}

// nextEnd is when the next override or expectation is to be taken away, unless there is
// none or somebody else leads.
func (p *Presenter) nextEnd() (end time.Time, ok bool) {
	if p.term == nil {
		return end, false
	}
	sooner := func(until int64) {
		if t := p.endOf(until); !ok || t.Before(end) {
			end, ok = t, true
		}
	}
	for _, o := range p.ends.overrides {
		sooner(o.Until)
	}
	if p.gate.open {
		for _, x := range p.gate.expects {
			sooner(x.Until)
		}
		if r := &p.gate.rings; r.trial != nil && !r.over {
			if ranOut(r.trial, p.deps.Now()) {
				sooner(0)
			}
			sooner(r.trial.Until)
		}
	}
	if end.Before(p.ends.again) {
		end = p.ends.again
	}
	return end, ok
}

// endOf is an end by the clock of timers.
func (p *Presenter) endOf(until int64) time.Time {
	return time.Now().Add(time.UnixMilli(until).Sub(p.deps.Now()))
}

// end takes away what is over.
func (p *Presenter) end(ctx context.Context) {
	now := p.deps.Now().UnixMilli()
	later := func(what, id string, err error) {
		p.ends.again = time.Now().Add(firstPause)
		if !errors.Is(err, store.ErrConflict) { // cleared meanwhile, or another leads: the watch says so
			p.log.Warn(what+" not ended, trying again", "id", id, "error", err)
		}
	}
	if r := &p.gate.rings; p.gate.open && r.trial != nil && !r.over && ranOut(r.trial, time.UnixMilli(now)) {
		r.over = true
		p.wake()
	}
	for path, o := range p.ends.overrides {
		if now < o.Until {
			continue
		}
		if err := p.endOverride(ctx, path, o); err != nil {
			later("override", o.ID, err)
			return
		}
		delete(p.ends.overrides, path)
	}
	for id, x := range p.gate.expects {
		if now < x.Until || !p.gate.open {
			continue
		}
		if err := p.endExpect(ctx, x); err != nil {
			later("expectation", id, err)
			return
		}
		delete(p.gate.expects, id)
	}
}

func (p *Presenter) endOverride(ctx context.Context, path string, o override) error {
	id := strings.TrimPrefix(path, tree.Overrides)
	cond, op := tree.AuditOps(tree.AuditEntry{
		Time: p.deps.Now().UnixMilli(), Action: "override ended", Subject: id, From: p.deps.Name,
		Text:   fmt.Sprintf("%s %s, set by %s: its time is over", o.Owner, o.Type, o.Author),
		Author: "presenter", Reason: o.Reason,
	})
	_, err := p.deps.Store.Commit(ctx, store.Txn{
		If: []store.Cond{p.term.fence, {Path: path, Modified: o.modified}, cond},
		Do: []store.Op{{Path: path, Delete: true}, claimtree.Ops(tree.OverrideSource(id), "0", nil), op},
	})
	if err == nil {
		p.log.Info("override ended", "id", id, "owner", o.Owner, "type", o.Type)
	}
	return err
}
