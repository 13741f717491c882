package control

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// TestVIP: what hosts say of VIPs is told, orders reach their nodes and the audit, and what makes
// no sense, or would do the same everywhere at once, is refused.
func TestVIP(t *testing.T) {
	w := newWorld(t)
	w.commit(
		store.Op{Path: tree.VIPHostPath("dns", "d1"), Value: tree.Encode(tree.VIPHost{Host: "d1", State: "up", Announced: true, Health: "good", Keep: 1, KeepPercent: 50})},
		store.Op{Path: tree.VIPHostPath("dns", "d2"), Value: tree.Encode(tree.VIPHost{Host: "d2", State: "down", Health: "bad", Why: "it hangs"})},
		store.Op{Path: tree.VIPHostPath("dns", "d3"), Value: []byte("{")},
		store.Op{Path: tree.VIPFloorPath("dns"), Value: tree.Encode(tree.VIPFloor{Leases: []tree.VIPLease{{Host: "d2"}}})},
	)
	by := &controlapi.Doer{Author: "alice", Reason: "a new kernel"}
	order := func(vip, host, order string) string {
		t.Helper()
		d, err := w.OrderVip(t.Context(), vip, host, order, by)
		if err != nil {
			return api.Message(err)
		}
		return d.Text[0]
	}
	for _, c := range []struct{ vip, host, order, says string }{
		{"dns", "d1", "drain", "VIP dns on d1 goes when its grace is over"},
		{"dns", "d1", "up", "is announced, whatever its checks say; before: drain by alice (a new kernel)"},
		{"dns", "", "hold", "VIP dns on all hosts stays as it is"},
		{"dns", "d1", "", "VIP dns on d1 is up to its checks again; before: up by alice"},
		{"dns", "d1", "", "VIP dns on d1 has no order"},
		{"dns", "d9", "", "VIP dns on d9 has no order"},
		{"dns", "", "down", "down of all hosts of a VIP is not taken"},
		{"dns", "", "drain", "drain of all hosts of a VIP is not taken"},
		{"dns", "d1", "sideways", `order is "sideways", expected drain, hold, up or down`},
		{"web", "d1", "drain", `no host has a VIP "web"`},
		{"dns", "d9", "drain", `VIP dns has no host "d9", it has d1, d2, d3`},
		{"dns", "@all", "drain", "is no name"},
		{"dns", "d1/x", "drain", "is no name"},
		{"", "d1", "drain", "is no name"},
	} {
		if got := order(c.vip, c.host, c.order); !strings.Contains(got, c.says) {
			t.Errorf("%s %s of %s: %s, want %s", c.order, c.host, c.vip, got, c.says)
		}
	}
	if _, err := w.OrderVip(t.Context(), "dns", "d1", "drain", &controlapi.Doer{Author: "alice"}); api.Code(err) != api.Invalid {
		t.Errorf("without a reason: %v", err)
	}
	vips, err := w.Vips(t.Context())
	if err != nil || len(vips) != 1 || len(vips[0].Hosts) != 3 || len(vips[0].Orders) != 1 {
		t.Fatalf("%+v, %v", vips, err)
	}
	v := vips[0]
	if h := v.Hosts[0]; h.Host != "d1" || h.State != "up" || h.Leased || h.KeepPercent != 50 {
		t.Errorf("%+v", h)
	}
	if h := v.Hosts[1]; h.Why != "it hangs" || !h.Leased {
		t.Errorf("%+v", h)
	}
	if h := v.Hosts[2]; h.State != "unreadable" {
		t.Errorf("%+v", h)
	}
	if o := v.Orders[0]; o.Host != "" || o.Order != "hold" || o.Author != "alice" {
		t.Errorf("%+v", o)
	}
	page, err := w.Audit(t.Context(), 0, "", 0, false)
	if err != nil || len(page.Entries) != 4 || page.Entries[0].Action != "vip drain" || page.Entries[3].Action != "vip release" || page.Entries[2].Subject != "dns/@all" {
		t.Errorf("%+v, %v", page, err)
	}
}
