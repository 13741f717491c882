package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Bounds of an expectation.
const (
	minExpect    = time.Second
	maxExpect    = 7 * 24 * time.Hour
	maxExpects   = 100        // at once
	maxAnnounced = 10_000_000 // RRsets of a kind
)

// Expect implements controlapi.Control.
func (c *Control) Expect(ctx context.Context, e *controlapi.Expectation, forMs int64, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("expect")()
	if e == nil {
		return nil, api.Refuse(api.Invalid, "", "no expectation is given")
	}
	signed, err := c.may(ctx, operator.Expect(e.GetZone(), e.GetSource(), e.GetRemovals(), e.GetReplacements(), e.GetCreations(), forMs, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	if forMs < minExpect.Milliseconds() || forMs > maxExpect.Milliseconds() {
		return nil, api.Refuse(api.Invalid, "", "an expectation for %d ms, expected %v to %v", forMs, minExpect, maxExpect)
	}
	x := tree.Expect{ID: newID(), Dataset: c.cfg.Dataset, Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}
	for _, n := range []struct {
		what string
		from int64
		to   *int
	}{{"removals", e.Removals, &x.Removals}, {"replacements", e.Replacements, &x.Replacements}, {"creations", e.Creations, &x.Creations}} {
		if n.from < 0 || n.from > maxAnnounced {
			return nil, api.Refuse(api.Invalid, "", "%s is %d, expected 0 to %d", n.what, n.from, maxAnnounced)
		}
		*n.to = int(n.from)
	}
	if x.Left == (tree.Left{}) {
		return nil, api.Refuse(api.Invalid, "--removals, --replacements and --creations count RRsets", "nothing is announced")
	}
	if e.Zone == "" && e.Source == "" {
		return nil, api.Refuse(api.Invalid, "", "neither a zone nor a source is given: everything would be let through")
	}
	if e.Source != "" {
		x.Source = record.Source(e.Source)
		if err := x.Source.Check(); err != nil {
			return nil, api.Refuse(api.Invalid, "`zonecast status` shows the sources", "%v", err)
		}
	}
	if e.Zone != "" {
		zone, err := record.ParseName(e.Zone)
		if err != nil {
			return nil, api.Refuse(api.Invalid, "", "zone: %v", err)
		}
		switch apex, known := c.published.apex(zone); {
		case !known:
			return nil, starting()
		case apex != zone && apex == "":
			return nil, api.Refuse(api.Invalid, "", "%s is in no zone of dataset %s", zone, c.cfg.Dataset)
		case apex != zone:
			return nil, api.Refuse(api.Invalid, "name the zone as it is counted", "%s is no zone, it is a name in the zone %s", zone, apex)
		}
		x.Zone = zone.String()
	}
	known, err := c.readExpects(ctx)
	if err != nil {
		return nil, err
	}
	if len(known) >= maxExpects {
		return nil, api.Refuse(api.TooMany, "clear some: `zonecast expect list`", "there are %d expectations already, at most %d", len(known), maxExpects)
	}
	now, notes := c.clock()
	x.Set, x.Until = now.UnixMilli(), now.UnixMilli()+forMs
	path := tree.ExpectPath(x.ID)
	text := announced(x) + " until " + stamp(x.Until)
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: tree.Encode(x)}}},
		tree.AuditEntry{Action: "expect", Subject: x.ID, Text: text, Author: by.Author, Reason: by.Reason, From: x.From}, signed)
	if err != nil {
		return nil, err
	}
	lines := append([]string{fmt.Sprintf("expectation %s: %s", x.ID, text)}, notes...)
	lines = append(lines, "an emptied zone, a protected name and all addresses of a service are held nevertheless")
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: x.ID, Text: lines}, nil
}

// announced is an expectation in words.
func announced(x tree.Expect) string {
	var parts []string
	for _, n := range []struct {
		n    int
		what string
	}{{x.Removals, "removed"}, {x.Replacements, "replaced"}, {x.Creations, "created"}} {
		if n.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	text := "RRsets " + strings.Join(parts, ", ")
	if x.Zone != "" {
		text += " in " + x.Zone
	}
	if x.Source != "" {
		text += " by " + string(x.Source)
	}
	return text
}

// Expectations implements controlapi.Control.
func (c *Control) Expectations(ctx context.Context) ([]*controlapi.Expectation, error) {
	defer c.observe("expectations")()
	known, err := c.readExpects(ctx)
	if err != nil {
		return nil, err
	}
	left := map[string]tree.Left{}
	nodes, _, err := c.deps.Store.List(ctx, tree.Expected)
	if err != nil {
		return nil, unavailable(err)
	}
	for _, n := range nodes {
		var l tree.Left
		if err := tree.Decode(n, &l); err != nil {
			c.deps.Log.Warn("what is left of an expectation cannot be read", "error", err)
			continue
		}
		left[strings.TrimPrefix(n.Path, tree.Expected)] = l
	}
	out := []*controlapi.Expectation{}
	for _, x := range known {
		l, used := left[x.ID]
		if !used {
			l = x.Left
		}
		out = append(out, &controlapi.Expectation{
			ID: x.ID, Zone: x.Zone, Source: string(x.Source),
			Removals: int64(x.Removals), Replacements: int64(x.Replacements), Creations: int64(x.Creations),
			LeftRemovals: int64(l.Removals), LeftReplacements: int64(l.Replacements), LeftCreations: int64(l.Creations),
			SetMs: x.Set, UntilMs: x.Until, Author: x.Author, Reason: x.Reason, FromAddress: x.From,
		})
	}
	return out, nil
}

// readExpects gives the expectations of the dataset, the first to end first.
func (c *Control) readExpects(ctx context.Context) ([]tree.Expect, error) {
	nodes, _, err := c.deps.Store.List(ctx, tree.Expects)
	if err != nil {
		return nil, unavailable(err)
	}
	var out []tree.Expect
	for _, n := range nodes {
		var x tree.Expect
		if err := tree.Decode(n, &x); err != nil {
			c.deps.Log.Warn("expectation cannot be read", "error", err)
			continue
		}
		if x.Dataset == c.cfg.Dataset {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b tree.Expect) int { return cmp.Compare(a.Until, b.Until) })
	return out, nil
}

// Unexpect implements controlapi.Control.
func (c *Control) Unexpect(ctx context.Context, id string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("unexpect")()
	signed, err := c.may(ctx, operator.Unexpect(id, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	path := tree.ExpectPath(id)
	gone := api.Refuse(api.NotFound, "`zonecast expect list` shows them", "there is no expectation %q; it may have ended by itself", clipped(id))
	n, err := c.named(ctx, path, gone)
	if err != nil {
		return nil, err
	}
	var x tree.Expect
	text := "it could not be read"
	if err := tree.Decode(n, &x); err == nil {
		text = announced(x) + ", announced by " + x.Author
	}
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}}, Do: []store.Op{{Path: path, Delete: true}}},
		tree.AuditEntry{Action: "expect cleared", Subject: id, Text: text, Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, signed)
	if err != nil {
		return nil, err
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: id, Text: []string{fmt.Sprintf("expectation %s cleared: %s", id, text)}}, nil
}
