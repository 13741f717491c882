package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Overrides that operators handed to hosts while there was no store are handed in when it is
// back: each becomes an ordinary one, or is dropped, and which of both is in the audit.

const directAgain = time.Second // between two tries

// followDirect takes in what hosts hand in. Several processes may: the first does.
func (c *Control) followDirect(ctx context.Context) error {
	t := time.NewTicker(directAgain)
	defer t.Stop()
	batches := c.deps.Store.Watch(ctx, tree.Directs, 0)
	waits := map[string]store.Node{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-batches:
			if !ok {
				return ctx.Err()
			}
			if b.Reset {
				clear(waits)
			}
			for _, path := range b.Deletes {
				delete(waits, path)
			}
			for _, n := range b.Puts {
				waits[n.Path] = n
			}
		case <-t.C:
		}
		for path, n := range waits {
			done, err := c.takeIn(ctx, n)
			if err != nil && ctx.Err() == nil {
				c.deps.Log.Warn("direct override not taken in, trying again", "path", path, "error", err)
			}
			if done {
				delete(waits, path)
			}
		}
	}
}

// takeIn decides about one; done is false when it is to be looked at again.
func (c *Control) takeIn(ctx context.Context, n store.Node) (done bool, err error) {
	var d tree.Direct
	if err := tree.Decode(n, &d); err != nil {
		c.deps.Log.Error("direct override cannot be read", "error", err)
		return true, nil
	}
	if ours, err := c.takesIn(d); !ours {
		return err == nil, err
	}
	now := c.deps.Now()
	if d.Outcome != "" {
		if now.Sub(time.UnixMilli(d.Until)) < direct.Memory {
			return false, nil
		}
		_, err := c.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{{Path: n.Path, Modified: n.Modified}}, Do: []store.Op{{Path: n.Path, Delete: true}}})
		return err == nil || errors.Is(err, store.ErrConflict), err
	}
	id := strings.TrimPrefix(n.Path, tree.Directs)
	settle := func(outcome, why string, txn store.Txn) (bool, error) {
		d.Outcome, d.Why = outcome, why
		what := map[string]string{tree.DirectTaken: "taken in", tree.DirectEnded: "ended", tree.DirectDropped: "dropped"}[outcome]
		text := fmt.Sprintf("%s %d %s %s, on hosts since %s until %s", d.Owner, d.TTL, d.Type, joined(d.Rdata), stamp(d.Set), stamp(d.Until))
		if why != "" {
			text += ": " + why
		}
		txn.If = append(txn.If, store.Cond{Path: n.Path, Modified: n.Modified})
		txn.Do = append(txn.Do, store.Op{Path: n.Path, Value: tree.Encode(d)})
		_, err := c.act(ctx, txn, tree.AuditEntry{Action: "direct override " + what, Subject: id, Text: text, Author: d.Operator, Reason: d.Reason, From: "hosts"}, once{id: id})
		switch {
		case api.Code(err) == api.Unavailable: // somebody was faster, or the store is away: look again
			return false, nil
		case err != nil:
			return false, err
		}
		return true, nil
	}
	if c.cfg.Operators == "" {
		return settle(tree.DirectDropped, "this process knows no operators (--control-operators)", store.Txn{})
	}
	all, err := c.who()
	if err != nil {
		return false, err
	}
	s, signedID, err := all.Verify(d.Signed, time.Time{})
	if err == nil && (s.Action != direct.ActionSet || s.Dataset != c.cfg.Dataset || signedID != id || !all.May(s.Operator, "override")) {
		err = fmt.Errorf("the statement is %q of %s for dataset %q, id %s", s.Action, s.Operator, s.Dataset, signedID)
	}
	if err == nil {
		cleared := d.Cleared
		d, err = direct.Of(s, id, d.Signed)
		d.Cleared = cleared
	}
	switch {
	case err != nil:
		return settle(tree.DirectDropped, err.Error(), store.Txn{})
	case d.Cleared != "":
		return settle(tree.DirectEnded, "cleared: "+d.Cleared, store.Txn{})
	case now.UnixMilli() >= d.Until:
		return settle(tree.DirectEnded, "its time was over", store.Txn{})
	}
	return c.takeOver(ctx, d, settle)
}

// takesIn tells whether an override is this control's to decide about, where several are in a
// process: of its dataset, or, for the first, of none that is here. An error means that it is not
// known yet.
func (c *Control) takesIn(d tree.Direct) (bool, error) {
	if len(c.beside) == 0 || c.cfg.Operators == "" {
		return c.first, nil
	}
	all, err := c.who()
	if err != nil {
		return false, err
	}
	s, _, err := all.Verify(d.Signed, time.Time{})
	switch {
	case err != nil:
		return c.first, nil
	case s.Dataset == c.cfg.Dataset:
		return true, nil
	}
	return c.first && !slices.Contains(c.beside, s.Dataset), nil
}

// takeOver makes an ordinary override of one that is in force on hosts.
func (c *Control) takeOver(ctx context.Context, d tree.Direct, settle func(outcome, why string, txn store.Txn) (bool, error)) (bool, error) {
	set, err := direct.RRset(d)
	if err != nil {
		return settle(tree.DirectDropped, err.Error(), store.Txn{})
	}
	c.people.Lock()
	defer c.people.Unlock()
	known, err := c.readOverrides(ctx)
	if err != nil {
		return false, err
	}
	o := tree.Override{
		ID: d.ID, Owner: d.Owner, Type: d.Type, TTL: d.TTL, Rdata: rdataTexts(set), Set: d.Set, Until: d.Until,
		Author: d.Operator, Reason: d.Reason, From: "hosts",
	}
	txn := store.Txn{If: []store.Cond{{Path: tree.OverridePath(o.ID)}}}
	var replaced *knownOverride
	if i := slices.IndexFunc(known, func(k knownOverride) bool { return k.Owner == o.Owner && k.Type == o.Type }); i >= 0 {
		replaced = &known[i]
		if replaced.Set > d.Set {
			return settle(tree.DirectDropped, fmt.Sprintf("override %s of %s is newer", replaced.ID, cmp.Or(replaced.Author, "nobody")), store.Txn{})
		}
		txn.If = append(txn.If, store.Cond{Path: tree.OverridePath(replaced.ID), Modified: replaced.modified})
		txn.Do = append(txn.Do, endOverride(replaced.ID)...)
	}
	cl := overrideClaim(o, set)
	if _, err := c.judge(cl, d.Whole || set.Type == record.TypeCNAME, replaced); err != nil {
		if api.Code(err) == api.Unavailable {
			return false, err
		}
		return settle(tree.DirectDropped, api.Message(err), store.Txn{})
	}
	txn.Do = append(txn.Do, store.Op{Path: tree.OverridePath(o.ID), Value: tree.Encode(o)},
		claimtree.Ops(tree.OverrideSource(o.ID), overrideShard, []record.Claim{cl}))
	return settle(tree.DirectTaken, "", txn)
}
