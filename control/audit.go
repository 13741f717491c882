package control

import (
	"context"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/tree"
)

// Audit implements controlapi.Control. The cursor is the path of the last entry.
func (c *Control) Audit(ctx context.Context, since int64, after string, limit int32) (*controlapi.AuditPage, error) {
	defer c.observe("audit")()
	if after != "" && !strings.HasPrefix(after, tree.Audit) {
		return nil, api.Refuse(api.Invalid, "pass next_after of the page before", "cursor is %q", clipped(after))
	}
	nodes, _, err := c.deps.Store.List(ctx, tree.Audit)
	if err != nil {
		return nil, unavailable(err)
	}
	page := &controlapi.AuditPage{}
	for _, n := range nodes {
		if n.Path <= after {
			continue
		}
		var e tree.AuditEntry
		if err := tree.Decode(n, &e); err != nil {
			e = tree.AuditEntry{Action: "unreadable", Subject: n.Path, Text: err.Error()}
		} else if e.Time < since {
			continue
		}
		if len(page.Entries) == pageSize(limit) {
			page.NextAfter = after
			break
		}
		after = n.Path
		page.Entries = append(page.Entries, &controlapi.AuditEntry{
			TimeMs: e.Time, Action: e.Action, Subject: e.Subject, Text: e.Text, Author: e.Author, Reason: e.Reason, FromAddress: e.From,
		})
	}
	return page, nil
}
