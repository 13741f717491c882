package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Holds implements controlapi.Control.
func (c *Control) Holds(ctx context.Context) ([]*controlapi.Hold, error) {
	defer c.observe("holds")()
	nodes, _, err := c.deps.Store.List(ctx, tree.Holds)
	if err != nil {
		return nil, unavailable(err)
	}
	out := []*controlapi.Hold{}
	for _, n := range nodes {
		var h tree.Hold
		if err := tree.Decode(n, &h); err != nil {
			c.deps.Log.Warn("hold cannot be read", "error", err)
			continue
		}
		if h.Dataset == c.cfg.Dataset {
			out = append(out, &controlapi.Hold{
				ID: h.ID, Source: string(h.Source), SinceMs: h.Since, Why: h.Why,
				Created: int64(h.Created), Replaced: int64(h.Replaced), Removed: int64(h.Removed), Decision: h.Decision,
			})
		}
	}
	slices.SortStableFunc(out, func(a, b *controlapi.Hold) int { return cmp.Compare(a.SinceMs, b.SinceMs) })
	c.held(ctx, out)
	return out, nil
}

// Decide implements controlapi.Control.
func (c *Control) Decide(ctx context.Context, id, decision string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("decide")()
	signed, err := c.may(ctx, operator.Decide(id, decision, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	if decision != "release" && decision != "drop" {
		return nil, api.Refuse(api.Invalid, "", "decision is %q, expected release or drop", clipped(decision))
	}
	gone := api.Refuse(api.NotFound, "`zonecast holds` shows those that wait: when a source's change becomes another one, it is another hold", "no change is held as %q", clipped(id))
	path := tree.HoldPath(id)
	n, err := c.named(ctx, path, gone)
	if err != nil {
		return nil, err
	}
	var h tree.Hold
	if err := tree.Decode(n, &h); err != nil || h.Dataset != c.cfg.Dataset {
		return nil, gone
	}
	h.Decision, h.Author = decision, by.Author
	text := fmt.Sprintf("%s of %s: %d RRsets created, %d replaced, %d removed", decision, h.Source, h.Created, h.Replaced, h.Removed)
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}}, Do: []store.Op{{Path: path, Value: tree.Encode(h)}}},
		tree.AuditEntry{Action: "hold " + decision, Subject: id, Text: text + " (" + strings.Join(h.Why, "; ") + ")", Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, signed)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("hold %s: %s", id, text)}
	if decision == "drop" {
		lines = append(lines, string(h.Source)+" stays as it was until it claims something else; then that is judged")
	} else if f, frozen := c.frozen(h.Source); frozen {
		lines = append(lines, fmt.Sprintf("%s is frozen by %s (%s): it comes with `zonecast thaw %s`", h.Source, f.Author, f.Reason, f.ID))
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: id, Text: lines}, nil
}

// Freeze implements controlapi.Control.
func (c *Control) Freeze(ctx context.Context, source string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("freeze")()
	signed, err := c.may(ctx, operator.Freeze(source, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	if err := checkFrozen(source); err != nil {
		return nil, api.Refuse(api.Invalid, "`zonecast status` shows the sources; `rule/*` means all of a kind", "%v", err)
	}
	f := tree.Freeze{ID: newID(), Source: source, Since: c.deps.Now().UnixMilli(), Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}
	path := tree.FreezePath(f.ID)
	what := cmp.Or(source, "everything but overrides")
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: tree.Encode(f)}}},
		tree.AuditEntry{Action: "freeze", Subject: f.ID, Text: what, Author: by.Author, Reason: by.Reason, From: f.From}, signed)
	if err != nil {
		return nil, err
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: f.ID, Text: []string{
		fmt.Sprintf("freeze %s: %s stays as it is until `zonecast thaw %s`", f.ID, what, f.ID), "what it claims meanwhile waits and is judged then; overrides pass",
	}}, nil
}

// checkFrozen tells why source cannot be frozen, or nil.
func checkFrozen(source string) error {
	if source == "" {
		return nil
	}
	s := record.Source(source)
	if kind, whole := strings.CutSuffix(source, "/*"); whole {
		s = record.Source(kind + "/x")
	}
	if err := s.Check(); err != nil {
		return err
	}
	if s.Kind() == record.KindOverride {
		return fmt.Errorf("source %q: overrides are people's and are not frozen; clear them", source)
	}
	if !slices.Contains(reconcile.DefaultPrecedence(), s.Kind()) {
		return fmt.Errorf("source %q has an unknown kind", source)
	}
	return nil
}

// Freezes implements controlapi.Control.
func (c *Control) Freezes(ctx context.Context) ([]*controlapi.Freeze, error) {
	defer c.observe("freezes")()
	nodes, _, err := c.deps.Store.List(ctx, tree.Freezes)
	if err != nil {
		return nil, unavailable(err)
	}
	out := []*controlapi.Freeze{}
	for _, n := range nodes {
		f := tree.Freeze{ID: strings.TrimPrefix(n.Path, tree.Freezes)}
		if err := tree.Decode(n, &f); err != nil {
			f.Author, f.Reason = "somebody", "it cannot be read, so that everything is frozen: "+err.Error()
		}
		out = append(out, &controlapi.Freeze{ID: f.ID, Source: f.Source, SinceMs: f.Since, Author: f.Author, Reason: f.Reason, FromAddress: f.From})
	}
	return out, nil
}

// named reads the node that somebody names by its path; gone is what they are told when there is
// none.
func (c *Control) named(ctx context.Context, path string, gone error) (store.Node, error) {
	if store.CheckPath(path) != nil {
		return store.Node{}, gone
	}
	n, err := c.deps.Store.Get(ctx, path)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return n, gone
	case err != nil:
		return n, unavailable(err)
	}
	return n, nil
}

// Thaw implements controlapi.Control.
func (c *Control) Thaw(ctx context.Context, id string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("thaw")()
	signed, err := c.may(ctx, operator.Thaw(id, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	path := tree.FreezePath(id)
	gone := api.Refuse(api.NotFound, "`zonecast status` shows what is frozen", "nothing is frozen as %q", clipped(id))
	n, err := c.named(ctx, path, gone)
	if err != nil {
		return nil, err
	}
	var f tree.Freeze
	_ = tree.Decode(n, &f) // what cannot be read can be thawed
	what := cmp.Or(f.Source, "everything but overrides")
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}}, Do: []store.Op{{Path: path, Delete: true}}},
		tree.AuditEntry{Action: "thaw", Subject: id, Text: what + ", frozen by " + cmp.Or(f.Author, "somebody"), Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, signed)
	if err != nil {
		return nil, err
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: id, Text: []string{fmt.Sprintf("thaw %s: %s goes on; what gathered is judged now", id, what)}}, nil
}
