package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

const (
	defaultVersions = 20
	// madeWithin is how long a call waits for a presenter to make what was asked for.
	madeWithin = 5 * time.Second
)

// History implements controlapi.Control.
func (c *Control) History(ctx context.Context, limit int32) (*controlapi.History, error) {
	defer c.observe("history")()
	if limit == 0 {
		limit = defaultVersions
	}
	all, err := history.List(ctx, c.deps.Store, c.cfg.Dataset)
	if err != nil {
		return nil, unavailable(err)
	}
	out := &controlapi.History{Kept: int64(len(all))}
	if len(all) > 0 {
		out.Oldest = int64(all[0].Version)
	}
	for _, e := range slices.Backward(all) {
		if len(out.Versions) == pageSize(limit) {
			break
		}
		v := &controlapi.VersionInfo{
			Version: int64(e.Version), TimeMs: e.Time, Created: int64(e.Created), Replaced: int64(e.Replaced), Removed: int64(e.Removed),
			OtherCauses: int64(e.Others), Pinned: int64(e.Pinned), Keys: e.Keys,
		}
		for _, s := range e.Causes {
			v.Causes = append(v.Causes, &controlapi.Cause{Source: string(s.Source), Author: s.Author, Reason: s.Reason, Revision: s.Revision, Released: s.Released})
		}
		out.Versions = append(out.Versions, v)
	}
	return out, nil
}

// back gives what a version has otherwise than another; 0 is nothing. With
// below it is what lay below overrides.
func (c *Control) back(ctx context.Context, now history.At, version uint64, below bool) (history.Past, error) {
	if version == 0 {
		return history.Past{}, nil
	}
	past, _, err := history.Back(ctx, c.deps.Store, c.cfg.Dataset, now, version, below)
	switch {
	case errors.Is(err, history.ErrGone):
		return nil, api.Refuse(api.NotFound, "`zonecast history` shows the versions that are kept; --presenter-history says how many", "%v", err)
	case err != nil:
		return nil, unavailable(err)
	}
	return past, nil
}

// compare gives the differences of two versions, with below of what lay below overrides; 0
// is what is published now. With traffic, they are tried on it.
func (c *Control) compare(ctx context.Context, before, after uint64, below bool, limit int, traffic *replay.Traffic) (*controlapi.Diff, error) {
	p := &c.published
	for {
		p.mu.Lock()
		d := p.dataset
		if d == nil {
			p.mu.Unlock()
			return nil, starting()
		}
		newest, digest := d.Version(), d.Digest()
		now := history.At{Version: newest, Digest: digest}
		p.mu.Unlock()
		if v := max(before, after); v > newest {
			return nil, api.Refuse(api.NotFound, "`zonecast history` shows the versions", "there is no version %d yet, the newest is %d", v, newest)
		}
		was, is := before, after
		if below { // of what is published now, too, it lies with its version
			was, is = cmp.Or(before, newest), cmp.Or(after, newest)
		}
		a, err := c.back(ctx, now, was, below)
		if err != nil {
			return nil, err
		}
		b, err := c.back(ctx, now, is, below)
		if err != nil {
			return nil, err
		}
		c.claims.mu.Lock()
		p.mu.Lock()
		if p.dataset.Digest() == digest {
			defer c.claims.mu.Unlock()
			defer p.mu.Unlock()
			out := c.difference(a, b, limit)
			if traffic != nil {
				out.Effect = c.between(a, b, *traffic)
			}
			return out, nil
		}
		p.mu.Unlock() // it went on meanwhile
		c.claims.mu.Unlock()
	}
}

// Diff implements controlapi.Control.
func (c *Control) Diff(ctx context.Context, before, after int64, limit int32) (*controlapi.Diff, error) {
	defer c.observe("diff")()
	if before < 0 || after < 0 {
		return nil, api.Refuse(api.Invalid, "", "versions are %d and %d, expected 0 (now) or more", before, after)
	}
	t, err := c.live(ctx)
	if err != nil {
		return nil, err
	}
	return c.compare(ctx, uint64(before), uint64(after), false, pageSize(limit), &t)
}

// difference compares two pasts of what is published now. The caller holds
// c.published.mu.
func (c *Control) difference(a, b history.Past, limit int) *controlapi.Diff {
	at := func(p history.Past, k record.Key) *record.RRset {
		if r, other := p[k]; other {
			return r
		}
		if r, ok := c.published.dataset.Get(k); ok {
			return &r
		}
		return nil
	}
	keys := map[record.Key]bool{}
	for _, p := range []history.Past{a, b} {
		for k := range p {
			keys[k] = true
		}
	}
	out := &controlapi.Diff{}
	for _, k := range slices.SortedFunc(maps.Keys(keys), record.Key.Compare) {
		was, is := at(a, k), at(b, k)
		d := &controlapi.Difference{}
		switch {
		case was == nil && is == nil, was != nil && is != nil && was.Equal(*is):
			continue
		case was == nil:
			out.Created++
		case is == nil:
			out.Removed++
		default:
			out.Replaced++
		}
		if was != nil {
			d.Before = append(d.Before, recordSet(*was))
		}
		if is != nil {
			d.After = append(d.After, recordSet(*is))
		}
		if len(out.Differences) < limit {
			out.Differences = append(out.Differences, d)
		}
	}
	return out
}

func counts(d *controlapi.Diff) string {
	return fmt.Sprintf("%d RRsets created, %d replaced, %d removed", d.Created, d.Replaced, d.Removed)
}

// Rollback implements controlapi.Control.
func (c *Control) Rollback(ctx context.Context, version int64, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("rollback")()
	signed, err := c.may(ctx, operator.Rollback(version, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	if version <= 0 {
		return nil, api.Refuse(api.Invalid, "`zonecast history` shows the versions", "version is %d, expected 1 or more", version)
	}
	effect, err := c.compare(ctx, 0, uint64(version), true, 0, nil)
	if err != nil {
		return nil, err
	}
	was, modified, err := c.readPin(ctx)
	if err != nil {
		return nil, err
	}
	pin := tree.Pin{Version: uint64(version), Set: c.deps.Now().UnixMilli(), Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}
	text := fmt.Sprintf("the content of version %d again, pinned: %s", version, counts(effect))
	if was != nil {
		text += fmt.Sprintf("; it was pinned at version %d by %s", was.Version, was.Author)
	}
	path := tree.PinPath(c.cfg.Dataset)
	_, err = c.act(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: modified}}, Do: []store.Op{{Path: path, Value: tree.Encode(pin)}}},
		tree.AuditEntry{Action: "rollback", Subject: fmt.Sprint(version), Text: text, Author: by.Author, Reason: by.Reason, From: pin.From}, signed)
	if err != nil {
		return nil, err
	}
	return c.made(ctx, pin.Version, fmt.Sprintf("rollback to version %d", version), text+".", "changes of robots and files wait for `zonecast release`", "overrides of now stay above; what overrides of then had put there does not come back")
}

// ReleasePin implements controlapi.Control.
func (c *Control) ReleasePin(ctx context.Context, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("release_pin")()
	signed, err := c.may(ctx, operator.Release(reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	was, modified, err := c.readPin(ctx)
	if err != nil {
		return nil, err
	}
	if was == nil {
		return nil, api.Refuse(api.NotFound, "", "%s is not pinned", c.cfg.Dataset)
	}
	text := fmt.Sprintf("what is claimed by now; it was pinned at version %d by %s (%s)", was.Version, cmp.Or(was.Author, "nobody"), was.Reason)
	path := tree.PinPath(c.cfg.Dataset)
	_, err = c.act(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: modified}}, Do: []store.Op{{Path: path, Delete: true}}},
		tree.AuditEntry{Action: "release", Subject: c.cfg.Dataset, Text: text, Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, signed)
	if err != nil {
		return nil, err
	}
	return c.made(ctx, 0, "release", text)
}

// made waits for the version that a pin, or its end, leads to.
func (c *Control) made(ctx context.Context, pinned uint64, id string, text ...string) (*controlapi.Done, error) {
	ctx, cancel := context.WithTimeout(ctx, madeWithin)
	defer cancel()
	for {
		c.marks.mu.Lock()
		head, changed := c.marks.head, c.marks.changed
		c.marks.mu.Unlock()
		if head.Pinned == pinned {
			return &controlapi.Done{Change: &answer.Change{Revision: int64(max(head.Content, 1)), Changed: true}, ID: id, Text: text}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &controlapi.Done{Change: &answer.Change{}, ID: id, Text: append(text, "no presenter has made the version yet: it is noted, and the next one makes it; `zonecast status` shows why")}, nil
		}
	}
}

// Pinned implements controlapi.Control.
func (c *Control) Pinned(ctx context.Context) (*controlapi.Pinned, error) {
	defer c.observe("pinned")()
	pin, _, err := c.readPin(ctx)
	if err != nil || pin == nil {
		return &controlapi.Pinned{}, err
	}
	return &controlapi.Pinned{Version: int64(pin.Version), SetMs: pin.Set, Author: pin.Author, Reason: pin.Reason, FromAddress: pin.From}, nil
}

// readPin gives the pin, nil when there is none, and the revision of its node.
func (c *Control) readPin(ctx context.Context) (*tree.Pin, store.Revision, error) {
	n, err := c.deps.Store.Get(ctx, tree.PinPath(c.cfg.Dataset))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, unavailable(err)
	}
	pin := new(tree.Pin)
	if err := tree.Decode(n, pin); err != nil { // it can be released or replaced all the same
		c.deps.Log.Warn("pin cannot be read", "error", err)
		pin.Author = "somebody"
	}
	return pin, n.Modified, nil
}
