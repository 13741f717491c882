package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Bounds of an override. One that is to last is a change of the configuration.
const (
	minOverride   = time.Second
	maxOverride   = 30 * 24 * time.Hour
	maxOverrides  = 1000 // at once: they are for emergencies
	maxRecords    = 1000 // of one
	overrideShard = "0"
)

// maxSkew is how far the presenter's clock, which ends overrides, may be before this
// one until people are told.
const maxSkew = 2 * time.Second

// SetOverride implements controlapi.Control.
func (c *Control) SetOverride(ctx context.Context, r *controlapi.RecordSet, forMs int64, wholeName bool, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("set_override")()
	act := operator.Act{}
	if r != nil {
		act = operator.OverrideSet(r.Owner, r.Type, r.TTL, r.Rdata, forMs, wholeName, reasonOf(by))
	}
	signed, err := c.may(ctx, act, by)
	if err != nil {
		return nil, err
	}
	length := time.Duration(forMs) * time.Millisecond
	if forMs < minOverride.Milliseconds() || forMs > maxOverride.Milliseconds() {
		return nil, api.Refuse(api.Invalid, "what is to last longer belongs into the configuration or a zone file", "an override for %d ms, expected %v to %v", forMs, minOverride, maxOverride)
	}
	set, err := recordSetOf(r)
	if err != nil {
		return nil, err
	}
	c.people.Lock()
	defer c.people.Unlock()
	known, err := c.readOverrides(ctx)
	if err != nil {
		return nil, err
	}
	if len(known) >= maxOverrides {
		return nil, api.Refuse(api.TooMany, "clear some: `zonecast override list`", "there are %d overrides already, at most %d", len(known), maxOverrides)
	}
	now, notes := c.clock()
	o := tree.Override{
		ID: newID(), Owner: set.Owner.String(), Type: set.Type.String(), TTL: set.TTL, Rdata: rdataTexts(set),
		Set: now.UnixMilli(), Until: now.Add(length).UnixMilli(), Author: by.Author, Reason: by.Reason, From: api.Caller(ctx),
	}
	cl := overrideClaim(o, set)
	var replaced *knownOverride
	for i := range known {
		if k := &known[i]; k.Owner == o.Owner && k.Type == o.Type {
			replaced = k
		}
	}
	hides, err := c.judge(cl, wholeName, replaced)
	if err != nil {
		return nil, err
	}

	text := fmt.Sprintf("%s %d %s %s until %s", o.Owner, o.TTL, o.Type, joined(o.Rdata), stamp(o.Until))
	txn := store.Txn{
		If: []store.Cond{{Path: tree.OverridePath(o.ID)}},
		Do: []store.Op{
			{Path: tree.OverridePath(o.ID), Value: tree.Encode(o)},
			claimtree.Ops(tree.OverrideSource(o.ID), overrideShard, []record.Claim{cl}),
		},
	}
	if replaced != nil {
		text += fmt.Sprintf(", instead of override %s of %s (%s)", replaced.ID, cmp.Or(replaced.Author, "nobody"), joined(replaced.Rdata))
		txn.If = append(txn.If, store.Cond{Path: tree.OverridePath(replaced.ID), Modified: replaced.modified})
		txn.Do = append(txn.Do, endOverride(replaced.ID)...)
	}
	rev, err := c.act(ctx, txn, tree.AuditEntry{Action: "override set", Subject: o.ID, Text: text, Author: o.Author, Reason: o.Reason, From: o.From}, signed)
	if err != nil {
		return nil, err
	}
	lines := append([]string{fmt.Sprintf("override %s: %s", o.ID, text)}, notes...)
	for _, h := range hides {
		lines = append(lines, "hides "+h)
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: o.ID, Text: lines}, nil
}

// clock is the time by which an override is set: this process's, or the presenter's
// when that is ahead, because the presenter ends it. notes are for people.
func (c *Control) clock() (now time.Time, notes []string) {
	now = c.deps.Now()
	c.marks.mu.Lock()
	head := time.UnixMilli(c.marks.head.Time)
	c.marks.mu.Unlock()
	if head.After(now.Add(maxSkew)) {
		notes = append(notes, fmt.Sprintf("the clock of this process is %v behind the presenter's: the time is counted from the presenter's", head.Sub(now).Round(time.Millisecond)))
		now = head
	}
	return now, notes
}

// judge tells what an override would hide, or refuses it. It is reconciled for the time
// of the question, and not seen by anybody else.
func (c *Control) judge(cl record.Claim, wholeName bool, replaced *knownOverride) (hides []string, err error) {
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if !c.explains() {
		return nil, starting()
	}
	s := c.claims.state
	mine := func(source record.Source) bool {
		return source == cl.Source || replaced != nil && source == replaced.claim.Source
	}
	s.Replace(cl.Source, overrideShard, []record.Claim{cl})
	s.Reconcile()
	defer func() {
		s.Replace(cl.Source, overrideShard, nil)
		s.Reconcile()
	}()
	x := s.Explain(cl.Owner, 0)
	for _, f := range x.Findings {
		other := f.Claim
		switch {
		case other.Source == cl.Source:
			if f.Verdict == reconcile.Loses && (f.Against == nil || !mine(f.Against.Source)) {
				return nil, api.Refuse(api.Invalid, "`zonecast why "+cl.Owner.String()+"` shows who claims what there", "%s would not be answered: %s", cl.Key, f.Rule)
			}
		case f.Verdict == reconcile.Loses && !mine(other.Source) && f.Against != nil && mine(f.Against.Source):
			if other.Type != cl.Type && !wholeName {
				return nil, api.Refuse(api.Invalid, "--whole-name takes the name with all its types; or override the type that is there",
					"%s beside %s of %s at one name: a CNAME stands alone (RFC 2181 §10.1)", cl.Type, other.Type, other.Source)
			}
			hides = append(hides, fmt.Sprintf("%s %s %s of %s", other.Owner, other.Type, joined(rdataTexts(other.RRset)), other.Source))
		}
	}
	return hides, nil
}

// Overrides implements controlapi.Control.
func (c *Control) Overrides(ctx context.Context) ([]*controlapi.Override, error) {
	defer c.observe("overrides")()
	known, err := c.readOverrides(ctx)
	if err != nil {
		return nil, err
	}
	out := []*controlapi.Override{}
	for _, o := range known {
		v := &controlapi.Override{
			ID: o.ID, Record: recordSet(o.claim.RRset), SetMs: o.Set, UntilMs: o.Until, Author: o.Author, Reason: o.Reason, FromAddress: o.From,
		}
		c.claims.mu.Lock()
		for _, f := range c.claims.state.Explain(o.claim.Owner, 0).Findings {
			if f.Verdict == reconcile.Loses && f.Against != nil && f.Against.Source == o.claim.Source {
				v.Hides = append(v.Hides, fmt.Sprintf("%s %s of %s", f.Claim.Type, joined(rdataTexts(f.Claim.RRset)), f.Claim.Source))
			}
		}
		c.claims.mu.Unlock()
		out = append(out, v)
	}
	return out, nil
}

// ClearOverride implements controlapi.Control.
func (c *Control) ClearOverride(ctx context.Context, id string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("clear_override")()
	signed, err := c.may(ctx, operator.OverrideClear(id, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	known, err := c.readOverrides(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(known, func(o knownOverride) bool { return o.ID == id })
	if i < 0 {
		return nil, api.Refuse(api.NotFound, "`zonecast override list` shows those that are in force", "there is no override %q; it may have ended by itself", clipped(id))
	}
	o := known[i]
	text := fmt.Sprintf("%s %s %s, set by %s", o.Owner, o.Type, joined(o.Rdata), cmp.Or(o.Author, "nobody"))
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{{Path: tree.OverridePath(id), Modified: o.modified}}, Do: endOverride(id)},
		tree.AuditEntry{Action: "override cleared", Subject: id, Text: text, Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, signed)
	if err != nil {
		return nil, err
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: id, Text: []string{fmt.Sprintf("override %s cleared: %s", id, text)}}, nil
}

// endOverride takes an override and its claim away.
func endOverride(id string) []store.Op {
	return []store.Op{{Path: tree.OverridePath(id), Delete: true}, claimtree.Ops(tree.OverrideSource(id), overrideShard, nil)}
}

// knownOverride is one as it lies in the store.
type knownOverride struct {
	tree.Override
	claim    record.Claim
	modified store.Revision
}

// readOverrides gives what is in force by this clock, the newest last. One that cannot
// be read is left out, and said.
func (c *Control) readOverrides(ctx context.Context) ([]knownOverride, error) {
	nodes, _, err := c.deps.Store.List(ctx, tree.Overrides)
	if err != nil {
		return nil, unavailable(err)
	}
	var out []knownOverride
	for _, n := range nodes {
		k := knownOverride{modified: n.Modified}
		set, err := record.RRset{}, tree.Decode(n, &k.Override)
		if err == nil {
			set, err = rrsetOf(k.Owner, k.Type, int64(k.TTL), "", k.Rdata)
		}
		if err != nil {
			c.deps.Log.Warn("override cannot be read", "path", n.Path, "error", err)
			continue
		}
		k.claim = overrideClaim(k.Override, set)
		out = append(out, k)
	}
	slices.SortStableFunc(out, func(a, b knownOverride) int { return cmp.Compare(a.Set, b.Set) })
	return out, nil
}

// overrideClaim is what an override claims.
func overrideClaim(o tree.Override, set record.RRset) record.Claim {
	return record.Claim{
		RRset: set, Source: tree.OverrideSource(o.ID), Place: "the API until " + stamp(o.Until),
		Provenance: record.Provenance{Author: o.Author, Reason: o.Reason, Time: time.UnixMilli(o.Set).UTC()},
	}
}

// recordSetOf reads an RRset that a person typed.
func recordSetOf(r *controlapi.RecordSet) (record.RRset, error) {
	if r == nil {
		return record.RRset{}, api.Refuse(api.Invalid, "", "no record is given")
	}
	set, err := rrsetOf(r.Owner, r.Type, r.TTL, r.Location, r.Rdata)
	if err != nil {
		return set, api.Refuse(api.Invalid, "", "%v", err)
	}
	return set, nil
}

func rrsetOf(owner, typ string, ttl int64, location string, rdata []string) (r record.RRset, err error) {
	name, err := record.ParseName(owner)
	if err != nil {
		return r, err
	}
	t, err := record.ParseType(typ)
	switch {
	case err != nil:
		return r, err
	case location != "":
		return r, fmt.Errorf("location is %q: an override is for everybody", clipped(location))
	case len(rdata) == 0 || len(rdata) > maxRecords:
		return r, fmt.Errorf("%d records, expected 1 to %d", len(rdata), maxRecords)
	case ttl < 0 || ttl > record.MaxTTL:
		return r, fmt.Errorf("TTL is %d, expected 0 to %d", ttl, record.MaxTTL)
	}
	var data []record.Rdata
	for i, text := range rdata {
		d, err := dnswire.ParseRdata(t, text, record.Root)
		if err != nil {
			return r, fmt.Errorf("record %d, %q: %w", i+1, clipped(text), err)
		}
		data = append(data, d)
	}
	r = record.NewRRset(name, t, uint32(ttl), data...)
	return r, r.Check()
}

// newID is short enough to be typed.
func newID() string {
	var b [4]byte
	rand.Read(b[:]) // does not fail
	return hex.EncodeToString(b[:])
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z") }

// joined is RDATA in one line, cut off where it is long.
func joined(rdata []string) string {
	const most = 4
	text := ""
	for i, d := range rdata {
		if i == most {
			return fmt.Sprintf("%s and %d more", text, len(rdata)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += clipped(d)
	}
	return text
}

// clipped shortens text from outside.
func clipped(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
