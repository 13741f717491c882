package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/tree"
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
	failing, err := c.failing(ctx)
	if err != nil {
		return nil, err
	}
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if !c.explains() {
		return nil, starting()
	}
	x := c.claims.state.Explain(owner, t)
	out := &controlapi.Explanation{Owner: owner.String(), Version: int64(c.published.version()), Notes: x.Notes}
	pin, pinned := c.pinned()
	if pin != nil {
		out.Notes = slices.Insert(out.Notes, 0, "the dataset is "+pinned)
	}
	for _, f := range x.Findings {
		verdict, rule := f.Verdict, f.Rule
		if pin != nil && verdict != reconcile.Loses && verdict != reconcile.Yields && !c.published.has(f.Claim, verdict == reconcile.United) {
			verdict, rule = Waits, "the dataset is "+pinned
		}
		out.Claims = append(out.Claims, claimOf(&f.Claim, string(verdict), rule))
	}
	for _, s := range slices.Sorted(maps.Keys(c.claims.shards)) {
		come, leave := c.claims.changes(s, owner, t)
		if len(come)+len(leave) == 0 {
			continue
		}
		why := c.obstacle(s)
		for i := range come {
			out.Claims = append(out.Claims, claimOf(&come[i], string(Waits), why))
		}
		for _, cl := range leave {
			out.Notes = append(out.Notes, fmt.Sprintf("%s does not claim %s %s any more; that waits: %s", s, cl.Type, joined(rdataTexts(cl.RRset)), why))
		}
	}
	if slices.ContainsFunc(x.Findings, func(f reconcile.Finding) bool { return f.Claim.Location != "" }) {
		out.Notes = append(out.Notes, "it is answered by where the client is: `zonecast map explain ADDRESS NAME` tells how")
	}
	for _, w := range x.Warnings {
		out.Notes = append(out.Notes, w.String())
	}
	out.Notes = append(out.Notes, c.troubles(owner, failing, x.Findings)...)
	out.Notes = append(out.Notes, c.onHosts(owner)...)
	return out, nil
}

// troubles says which rules fail where it concerns a name: for a server of this name, or in
// a shard whose last good claims have it.
func (c *Control) troubles(owner record.Name, failing []failing, findings []reconcile.Finding) (notes []string) {
	id := strings.TrimSuffix(owner.String(), ".")
	for _, r := range failing {
		told, unsure := false, len(r.at) < r.source.Failing || len(r.at) == 0
		for _, f := range r.at {
			unsure = unsure || f.Shard == ""
			switch {
			case f.Server == id:
				notes = append(notes, fmt.Sprintf("%s fails for this server since %s, and what it claimed of it before stays: %s", r.source.Source, stamp(f.Since), f.Error))
				told = true
			case f.Shard != "" && slices.ContainsFunc(c.claims.state.Shard(r.source.Source, f.Shard), func(cl record.Claim) bool { return cl.Owner == owner }):
				notes = append(notes, fmt.Sprintf("%s fails since %s where it makes this name, and what it claimed before stays: %s", r.source.Source, stamp(f.Since), f.Error))
				told = true
			}
		}
		if !told && unsure && slices.ContainsFunc(findings, func(f reconcile.Finding) bool { return f.Claim.Source == r.source.Source }) {
			since := r.source.Since
			if since == 0 {
				since = r.source.Time
			}
			notes = append(notes, fmt.Sprintf("%s fails since %s; what it claimed before stays where it does: %s", r.source.Source, stamp(since), r.source.Error))
		}
	}
	return notes
}

// failing is a rule that fails, and where, as far as that is written one by one.
type failing struct {
	source tree.Source
	at     []tree.Failure
}

// failing are the rules that fail.
func (c *Control) failing(ctx context.Context) (all []failing, err error) {
	sources, err := list[tree.Source](ctx, c, tree.Sources+record.KindRule+"/")
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		if s.value.Error == "" {
			continue
		}
		f := failing{source: s.value}
		at, err := list[tree.Failure](ctx, c, tree.FailuresPrefix(s.value.Source))
		if err != nil {
			return nil, err
		}
		for _, e := range at {
			f.at = append(f.at, e.value)
		}
		all = append(all, f)
	}
	return all, nil
}

// onHosts tells which hosts answer a name otherwise, because operators said so.
func (c *Control) onHosts(owner record.Name) (notes []string) {
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	for _, host := range slices.Sorted(maps.Keys(c.marks.hosts)) {
		for _, d := range c.marks.hosts[host].Datasets[c.cfg.Dataset].Direct {
			if d.Owner == owner.String() {
				notes = append(notes, fmt.Sprintf("host %s has on top: %s", host, direct.Text(d)))
			}
		}
	}
	return notes
}

// Waits is the verdict of a claim that is not in force: held, frozen, or kept out by a pin.
const Waits reconcile.Verdict = "waits"

// changes gives the claims at a name that come, and those that go without another in their
// place, when what a source claims is in force.
func (c *claims) changes(s record.Source, owner record.Name, t record.Type) (come, leave []record.Claim) {
	at := func(all []record.Claim) (found []record.Claim) {
		for _, cl := range all {
			if cl.Owner == owner && (t == 0 || t == cl.Type) {
				found = append(found, cl)
			}
		}
		return found
	}
	in := func(cl record.Claim, all []record.Claim, same func(a, b record.Claim) bool) bool {
		return slices.ContainsFunc(all, func(d record.Claim) bool { return same(cl, d) })
	}
	var old, now []record.Claim
	for k, claims := range c.waiting {
		if k.source == s {
			old, now = append(old, at(c.state.Shard(s, k.name))...), append(now, at(claims)...)
		}
	}
	for _, cl := range now {
		if !in(cl, old, func(a, b record.Claim) bool { return claimtree.Same([]record.Claim{a}, []record.Claim{b}) }) {
			come = append(come, cl)
		}
	}
	for _, cl := range old {
		if !in(cl, now, func(a, b record.Claim) bool { return a.Key == b.Key }) {
			leave = append(leave, cl)
		}
	}
	slices.SortFunc(come, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(leave, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	return come, leave
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
	if !c.explains() {
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
