package control

import (
	"context"
	"strconv"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// Why implements controlapi.Control.
func (c *Control) Why(ctx context.Context, name, typ string) (*controlapi.Explanation, error) {
	defer c.observe("why")()
	owner, t, err := nameAndType(name, typ)
	if err != nil {
		return nil, err
	}
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if !c.claims.ready {
		return nil, starting()
	}
	x := c.claims.state.Explain(owner, t)
	out := &controlapi.Explanation{Owner: owner.String(), Version: int64(c.published.version()), Notes: x.Notes}
	for _, f := range x.Findings {
		out.Claims = append(out.Claims, claimOf(&f.Claim, string(f.Verdict), f.Rule))
	}
	for _, w := range x.Warnings {
		out.Notes = append(out.Notes, w.String())
	}
	return out, nil
}

func nameAndType(name, typ string) (record.Name, record.Type, error) {
	owner, err := record.ParseName(name)
	if err != nil {
		return "", 0, api.Refuse(api.Invalid, "", "%v", err)
	}
	if typ == "" {
		return owner, 0, nil
	}
	t, err := record.ParseType(typ)
	if err != nil {
		return "", 0, api.Refuse(api.Invalid, "", "%v", err)
	}
	return owner, t, nil
}

func starting() error {
	return api.Refuse(api.Unavailable, "try again in a moment", "the process is starting and has not read the store yet")
}

// claimOf is a claim for the wire. Generated code cannot send a nil struct: no
// claim is an empty one.
func claimOf(cl *record.Claim, verdict, rule string) *controlapi.Claim {
	if cl == nil {
		return &controlapi.Claim{}
	}
	out := &controlapi.Claim{
		Owner: cl.Owner.String(), Type: cl.Type.String(), TTL: int64(cl.TTL), Rdata: rdataTexts(cl.RRset), Location: string(cl.Location),
		Source: string(cl.Source), Author: cl.Author, Reason: cl.Reason, Revision: cl.Revision, Place: cl.Place,
		Verdict: verdict, Rule: rule,
	}
	if !cl.Time.IsZero() {
		out.TimeMs = cl.Time.UnixMilli()
	}
	return out
}

func rdataTexts(r record.RRset) []string {
	out := make([]string, len(r.Data))
	for i, d := range r.Data {
		out[i] = dnswire.FormatRdata(r.Type, d)
	}
	return out
}

// Bounds of a page.
const (
	defaultPage = 1000
	maxPage     = 10000
)

func pageSize(limit int32) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(int(limit), maxPage)
}

// Conflicts implements controlapi.Control. The cursor counts conflicts, so that a
// page may miss or repeat one when claims change between pages.
func (c *Control) Conflicts(ctx context.Context, after string, limit int32) (*controlapi.ConflictPage, error) {
	defer c.observe("conflicts")()
	skip := 0
	if after != "" {
		n, err := strconv.Atoi(after)
		if err != nil || n < 0 {
			return nil, api.Refuse(api.Invalid, "pass next_after of the page before", "cursor is %q", after)
		}
		skip = n
	}
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if !c.claims.ready {
		return nil, starting()
	}
	page := &controlapi.ConflictPage{}
	for _, n := range c.claims.state.ConflictCounts() {
		page.Total += int64(n)
	}
	i, size := 0, pageSize(limit)
	for x := range c.claims.state.Conflicts() {
		if i >= skip+size {
			page.NextAfter = strconv.Itoa(i)
			break
		}
		if i >= skip {
			page.Conflicts = append(page.Conflicts, conflictOf(x))
		}
		i++
	}
	return page, nil
}

func conflictOf(x reconcile.Conflict) *controlapi.Conflict {
	return &controlapi.Conflict{
		Owner: x.Key.Owner.String(), Type: x.Key.Type.String(), Location: string(x.Key.Location), Kind: string(x.Kind),
		Winner: claimOf(x.Winner, string(reconcile.Wins), ""), Loser: claimOf(x.Loser, string(reconcile.Loses), x.Rule),
		Rule: x.Rule, Text: x.String(),
	}
}
