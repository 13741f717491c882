package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Steer implements controlapi.Control. It goes by what is published.
func (c *Control) Steer(_ context.Context, client, resolver, name, typ string) (*controlapi.Steering, error) {
	defer c.observe("steer")()
	owner, t, err := nameAndType(name, typ)
	if err != nil {
		return nil, err
	}
	if t == 0 {
		t = record.TypeA
	}
	subnet, err := clientOf(client)
	if err != nil {
		return nil, err
	}
	var from netip.Addr
	if resolver != "" {
		if from, err = netip.ParseAddr(resolver); err != nil {
			return nil, api.Refuse(api.Invalid, "", "resolver is %.60q, expected an address such as 192.0.2.1", resolver)
		}
	}
	if !subnet.IsValid() && !from.IsValid() {
		return nil, api.Refuse(api.Invalid, "", "neither a client nor a resolver is given, expected an address or a prefix")
	}
	p := &c.published
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return nil, starting()
	}
	x := steered{published: p, out: &controlapi.Steering{Version: int64(p.dataset.Version()), Owner: owner.String()}}
	x.find(owner, t)
	for _, f := range p.guide.Explain(owner, from, subnet) {
		x.out.Maps = append(x.out.Maps, x.told(f))
	}
	x.answer(owner, from, subnet)
	return x.out, nil
}

// clientOf reads an address, or a prefix; "" is none.
func clientOf(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, api.Refuse(api.Invalid, "", "client is %.60q, expected an address or a prefix such as 192.0.2.0/24", text)
	}
	return p.Masked(), nil
}

// steered is one answer of Steer in the making; published is locked.
type steered struct {
	*published
	out  *controlapi.Steering
	keys []record.Key // of the type that is answered, of all locations
}

// find finds the RRsets that a name is answered from: its own, or a wildcard's; of an alias
// when there are none of the type.
func (x *steered) find(owner record.Name, t record.Type) {
	at := owner
	if len(x.published.keys[owner]) == 0 && x.below[owner] == 0 {
		for up := owner.Parent(); up != ""; up = up.Parent() {
			if wild, err := up.Child("*"); err == nil && len(x.published.keys[wild]) > 0 {
				at = wild
				x.note("%s is not there; it is made of %s", owner, wild)
				break
			}
			if len(x.published.keys[up]) > 0 || x.below[up] > 0 {
				break // the closest encloser (RFC 4592 §3.3.1)
			}
		}
	}
	for _, t := range []record.Type{t, record.TypeCNAME} {
		for _, k := range x.published.keys[at] {
			if k.Type == t {
				x.keys = append(x.keys, k)
			}
		}
		x.out.Type = t.String()
		if len(x.keys) > 0 {
			slices.SortFunc(x.keys, record.Key.Compare)
			return
		}
	}
	x.out.Type = t.String()
	x.note("there are no %s records of %s, and no alias", t, at)
}

func (x *steered) note(format string, args ...any) {
	x.out.Notes = append(x.out.Notes, fmt.Sprintf(format, args...))
}

// has gives the RRset of a PoP; false: there is none.
func (x *steered) has(pop string) (record.Key, bool) {
	i := slices.IndexFunc(x.keys, func(k record.Key) bool { return string(k.Location) == pop })
	if i < 0 {
		return record.Key{}, false
	}
	return x.keys[i], true
}

func (x *steered) told(f geo.Found) *controlapi.SteerMap {
	m := &controlapi.SteerMap{MapName: f.Map, Kind: f.Kind.String(), Location: string(f.Location), PrivateNetwork: f.Private, Order: []*controlapi.SteerPoP{}}
	if f.Prefix.IsValid() {
		m.Prefix = f.Prefix.String()
	}
	for _, p := range f.Order {
		_, records := x.has(p.Name)
		m.Order = append(m.Order, &controlapi.SteerPoP{Name: p.Name, State: p.State.String(), Records: records})
	}
	return m
}

// choose gives the PoP that answers for an order; "" is the RRset for everybody.
func (x *steered) choose(order []uint16) (pop string, last bool) {
	for _, n := range order {
		name, up := x.guide.PoP(n)
		if _, ok := x.has(name); !ok {
			continue
		}
		if up {
			return name, false
		}
		if pop == "" {
			pop = name
		}
	}
	return pop, pop != ""
}

// answer finds the records and the scope.
func (x *steered) answer(owner record.Name, from netip.Addr, subnet netip.Prefix) {
	client := x.guide.Locate([]byte(owner), owner.Labels(), from, subnet)
	x.out.Pop, x.out.LastResort = x.choose(client.Order())
	located := slices.ContainsFunc(x.keys, func(k record.Key) bool { return k.Location != "" })
	if subnet.IsValid() && located {
		scope := client.Scope(func(order []uint16) bool { pop, _ := x.choose(order); return pop == x.out.Pop })
		x.out.Scope = int32(scope)
		if scope > subnet.Bits() && client.Widen() {
			x.out.Pop, x.out.LastResort = x.choose(client.Order())
			x.note("%s is too coarse to tell where its clients are: its scope is %d", subnet, scope)
		}
	}
	switch {
	case len(x.keys) == 0:
	case !located:
		x.note("it is answered alike for everybody: none of its records are those of a PoP")
	case x.out.LastResort:
		x.note("no PoP of the order that has records is up: %s is the last resort", x.out.Pop)
	case x.out.Pop == "":
		x.note("no PoP of an order has records: the client is answered as everybody")
	}
	if k, ok := x.has(x.out.Pop); ok {
		r, _ := x.dataset.Get(k)
		x.out.TTL, x.out.Rdata = int64(r.TTL), rdataTexts(r)
		if terms, ok := x.dataset.Get(record.Key{Owner: k.Owner, Type: record.TypeTerms, Location: k.Location}); ok {
			if s := r.With(terms.Data); s.Choose > 0 {
				x.note("%d of the %d records are answered, by their weights", min(s.Choose, len(r.Data)), len(r.Data))
			}
		}
	} else if len(x.keys) > 0 {
		x.note("there are no records for everybody: the answer is empty")
	}
}
