package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Vips implements controlapi.Control.
func (c *Control) Vips(ctx context.Context) ([]*controlapi.VipState, error) {
	defer c.observe("vips")()
	hosts, _, err := c.deps.Store.List(ctx, tree.VIPs)
	if err != nil {
		return nil, unavailable(err)
	}
	orders, _, err := c.deps.Store.List(ctx, tree.VIPOrders)
	if err != nil {
		return nil, unavailable(err)
	}
	all := map[string]*controlapi.VipState{}
	of := func(vip string) *controlapi.VipState {
		if all[vip] == nil {
			all[vip] = &controlapi.VipState{Vip: vip, Hosts: []*controlapi.VipHost{}, Orders: []*controlapi.VipOrder{}}
		}
		return all[vip]
	}
	leases := map[string]bool{} // by path of the host
	for _, n := range hosts {
		vip, name, _ := strings.Cut(strings.TrimPrefix(n.Path, tree.VIPs), "/")
		if n.Path == tree.VIPFloorPath(vip) {
			var f tree.VIPFloor
			if err := tree.Decode(n, &f); err != nil {
				c.deps.Log.Warn("leases cannot be read", "vip", vip, "error", err)
			}
			for _, l := range f.Leases {
				leases[tree.VIPHostPath(vip, l.Host)] = true
			}
			continue
		}
		var h tree.VIPHost
		if err := tree.Decode(n, &h); err != nil {
			h = tree.VIPHost{State: "unreadable", Why: err.Error()}
		}
		v := of(vip)
		v.Hosts = append(v.Hosts, &controlapi.VipHost{
			Host: name, Addresses: h.Addresses, State: h.State, Announced: h.Announced, SinceMs: h.Since, Health: h.Health, Why: h.Why, Order: h.Order,
			Sessions: h.Sessions, Keep: int32(h.Keep), KeepPercent: int32(h.KeepPercent),
		})
	}
	for vip, v := range all {
		for _, h := range v.Hosts {
			h.Leased = leases[tree.VIPHostPath(vip, h.Host)]
		}
	}
	for _, n := range orders {
		vip, host, _ := strings.Cut(strings.TrimPrefix(n.Path, tree.VIPOrders), "/")
		var o tree.VIPOrder
		if err := tree.Decode(n, &o); err != nil {
			o = tree.VIPOrder{Order: "unreadable", Reason: err.Error()}
		}
		if host == tree.AllHosts {
			host = ""
		}
		v := of(vip)
		v.Orders = append(v.Orders, &controlapi.VipOrder{Host: host, Order: o.Order, SinceMs: o.Since, Author: o.Author, Reason: o.Reason, FromAddress: o.From})
	}
	out := []*controlapi.VipState{}
	for _, vip := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[vip])
	}
	return out, nil
}

// vipOrders are what may be said, and what it means for people.
var vipOrders = map[string]string{
	"drain": "goes when its grace is over and the floor lets it, and stays away",
	"hold":  "stays as it is, whatever its checks say; only where nobody listens it goes",
	"up":    "is announced, whatever its checks say",
	"down":  "is not announced, whatever the floor says",
	"":      "is up to its checks again",
}

// OrderVip implements controlapi.Control.
func (c *Control) OrderVip(ctx context.Context, vip, host, order string, by *controlapi.Doer) (*controlapi.Done, error) {
	defer c.observe("order_vip")()
	signed, err := c.may(ctx, operator.VIP(vip, host, order, reasonOf(by)), by)
	if err != nil {
		return nil, err
	}
	means, known := vipOrders[order]
	if !known {
		return nil, api.Refuse(api.Invalid, "", "order is %q, expected drain, hold, up or down, or nothing to take it back", clipped(order))
	}
	if host == "" && order != "hold" && order != "" {
		return nil, api.Refuse(api.Invalid, "say it of one host after the other", "%s of all hosts of a VIP is not taken: it would do away with the choice of checks and floor everywhere at once", order)
	}
	path := tree.VIPOrderPath(vip, cmp.Or(host, tree.AllHosts))
	if store.CheckPath(path) != nil || strings.Contains(vip, "/") || strings.Contains(host, "/") || strings.HasPrefix(host, "@") {
		return nil, api.Refuse(api.Invalid, "`zonecast vip status` shows them", "VIP %q or host %q is no name", clipped(vip), clipped(host))
	}
	if err := c.knowsVIP(ctx, vip, host, order); err != nil {
		return nil, err
	}
	n, err := c.deps.Store.Get(ctx, path)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, unavailable(err)
	}
	there := err == nil
	what := fmt.Sprintf("VIP %s on %s", vip, cmp.Or(host, "all hosts"))
	if order == "" && !there {
		return nil, api.Refuse(api.NotFound, "`zonecast vip status` shows the orders", "%s has no order", what)
	}
	e := tree.AuditEntry{Action: operator.VIP(vip, host, order, "").Action, Subject: vip + "/" + cmp.Or(host, tree.AllHosts), Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}
	e.Text = what + " " + means
	op := store.Op{Path: path, Delete: true}
	if order != "" {
		op = store.Op{Path: path, Value: tree.Encode(tree.VIPOrder{Order: order, Since: c.deps.Now().UnixMilli(), Author: by.Author, Reason: by.Reason, From: e.From})}
	}
	cond := store.Cond{Path: path}
	if there {
		cond.Modified = n.Modified
		var old tree.VIPOrder
		if tree.Decode(n, &old) == nil {
			e.Text += fmt.Sprintf("; before: %s by %s (%s)", old.Order, old.Author, old.Reason)
		}
	}
	rev, err := c.act(ctx, store.Txn{If: []store.Cond{cond}, Do: []store.Op{op}}, e, signed)
	if err != nil {
		return nil, err
	}
	return &controlapi.Done{Change: &answer.Change{Revision: int64(rev), Changed: true}, ID: e.Subject, Text: []string{e.Text, "hosts that the store does not reach hear it when they are back; `zonecast vip status` shows what they do"}}, nil
}

// knowsVIP refuses an order that would reach nobody by a mistake in a name. Taking one back is
// taken for hosts that are gone.
func (c *Control) knowsVIP(ctx context.Context, vip, host, order string) error {
	if order == "" {
		return nil
	}
	nodes, _, err := c.deps.Store.List(ctx, tree.VIPPrefix(vip))
	if err != nil {
		return unavailable(err)
	}
	var hosts []string
	for _, n := range nodes {
		if name := strings.TrimPrefix(n.Path, tree.VIPPrefix(vip)); !strings.HasPrefix(name, "@") {
			hosts = append(hosts, name)
		}
	}
	switch {
	case len(hosts) == 0:
		return api.Refuse(api.NotFound, "`zonecast vip status` shows them", "no host has a VIP %q", clipped(vip))
	case host != "" && !slices.Contains(hosts, host):
		return api.Refuse(api.NotFound, "`zonecast vip status` shows them", "VIP %s has no host %q, it has %s", vip, clipped(host), clipped(strings.Join(hosts, ", ")))
	}
	return nil
}
