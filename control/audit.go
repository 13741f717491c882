package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// audited is an entry with its place among all: the path of its node, or the one that a
// version would have.
type audited struct {
	at    string
	entry tree.AuditEntry
}

// Audit implements controlapi.Control. Entries come in the order in which they were
// committed, whatever the clocks said; with versions in that of their times. The cursor is
// the place of the last one.
func (c *Control) Audit(ctx context.Context, since int64, after string, limit int32, versions bool) (*controlapi.AuditPage, error) {
	defer c.observe("audit")()
	nodes, _, err := c.deps.Store.List(ctx, tree.Audit)
	if err != nil {
		return nil, unavailable(err)
	}
	slices.SortFunc(nodes, func(a, b store.Node) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Path, b.Path))
	})
	var all []audited
	for _, n := range nodes {
		var e tree.AuditEntry
		if err := tree.Decode(n, &e); err != nil {
			e = tree.AuditEntry{Time: since, Action: "unreadable", Subject: n.Path, Text: err.Error()}
		}
		all = append(all, audited{n.Path, e})
	}
	if versions {
		if all, err = c.versions(ctx, all); err != nil {
			return nil, unavailable(err)
		}
		slices.SortStableFunc(all, func(a, b audited) int { return cmp.Compare(a.entry.Time, b.entry.Time) })
	}
	if after != "" {
		i := slices.IndexFunc(all, func(a audited) bool { return a.at == after })
		if i < 0 {
			return nil, api.Refuse(api.Invalid, "pass next_after of the page before", "cursor is %q, which is no entry", clipped(after))
		}
		all = all[i+1:]
	}
	page := &controlapi.AuditPage{}
	for _, a := range all {
		if a.entry.Time < since {
			continue
		}
		if len(page.Entries) == pageSize(limit) {
			page.NextAfter = after
			break
		}
		after = a.at
		e := a.entry
		page.Entries = append(page.Entries, &controlapi.AuditEntry{
			TimeMs: e.Time, Action: e.Action, Subject: e.Subject, Text: e.Text, Author: e.Author, Reason: e.Reason, FromAddress: e.From,
		})
	}
	return page, nil
}

// versions adds every version that is still told of.
func (c *Control) versions(ctx context.Context, to []audited) ([]audited, error) {
	// What leaves the history meanwhile is in both.
	recent, err := history.List(ctx, c.deps.Store, c.cfg.Dataset)
	if err != nil {
		return nil, err
	}
	nodes, _, err := c.deps.Store.List(ctx, tree.VersionsPrefix(c.cfg.Dataset))
	if err != nil {
		return nil, err
	}
	seen := map[uint64]bool{}
	add := func(h tree.History) {
		if !seen[h.Version] {
			seen[h.Version] = true
			to = append(to, audited{tree.AuditPath(h.Time, fmt.Sprintf("v%020d", h.Version)), versionEntry(h)})
		}
	}
	for _, n := range nodes {
		var v tree.Versions
		if err := tree.Decode(n, &v); err != nil {
			to = append(to, audited{tree.Audit + n.Path, tree.AuditEntry{Action: "unreadable", Subject: n.Path, Text: err.Error()}})
			continue
		}
		for _, h := range v.Versions {
			add(h)
		}
	}
	for _, h := range recent {
		add(h)
	}
	return to, nil
}

// versionEntry tells how a version came about.
func versionEntry(h tree.History) tree.AuditEntry {
	e := tree.AuditEntry{Time: h.Time, Action: "version", Subject: fmt.Sprint(h.Version), From: "presenter"}
	text := fmt.Sprintf("%d RRsets created, %d replaced, %d removed", h.Created, h.Replaced, h.Removed)
	if len(h.Keys) > 0 {
		text += " (" + strings.Join(h.Keys, ", ")
		if len(h.Keys) < h.Created+h.Replaced+h.Removed {
			text += ", ..."
		}
		text += ")"
	}
	if h.Pinned > 0 {
		text += fmt.Sprintf(", pinned at the content of version %d", h.Pinned)
	}
	for i, s := range h.Causes {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		text += sep + causeText(s)
	}
	if h.Others > 0 {
		text += fmt.Sprintf(" and %d more", h.Others)
	}
	if len(h.Causes) == 1 {
		e.Author, e.Reason = h.Causes[0].Author, h.Causes[0].Reason
	}
	e.Text = text
	return e
}

// causeText is a source and what is known of who brought what it claims.
func causeText(c tree.Cause) string {
	var about []string
	if c.Author != "" {
		about = append(about, "by "+c.Author)
	}
	if c.Revision != "" {
		about = append(about, "revision "+c.Revision)
	}
	if c.Released != "" {
		about = append(about, "released as "+c.Released)
	}
	if len(about) == 0 {
		return string(c.Source)
	}
	return fmt.Sprintf("%s (%s)", c.Source, strings.Join(about, ", "))
}
