package registry

import (
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// wish is what somebody wants of one server.
type wish struct {
	id   string        // fleet.ID of its name
	want *fleet.Server // normal; nil: it shall be gone
	// lease is the new lease; nil: none.
	lease *tree.Lease
	// only, when set, looks at the present server (nil: none, or none that can be read)
	// and tells why the wish must not be done.
	only func(have *fleet.Server) *answer.Refused
	// conds are further conditions of the transaction.
	conds []store.Cond
	// once: do not try again when the wish alone met a conflict; the condition was
	// the point.
	once bool
}

// held is what the store has of one server.
type held struct {
	server *fleet.Server // nil: not registered
	broken bool          // the node cannot be read, server is what the indexes say
	path   string
	node   store.Revision
	lease  store.Revision // 0: none
}

// owner is what the store says of one address.
type owner struct {
	id string // "": nobody
}

// facts is what a plan is made from.
type facts struct {
	held   map[string]held
	owners map[netip.Addr]owner
	// guards are those of the names that are to be and are not (tree.NameGuardPath).
	guards map[string]store.Revision
}

// item is a wish on its way.
type item struct {
	wish
	have    held
	guard   store.Revision // of the name; for a server that is not there
	refused *answer.Refused
	// done is set without a transaction when all is as wished.
	done *answer.Change
	// after are the items that give up an address this one takes.
	after []*item
	// kept is true when the server's node and addresses stay and only its lease
	// changes.
	kept bool
}

// unit is items that must be in one transaction: one, or several that hand
// addresses round in a circle.
type unit struct{ items []*item }

// plan decides about wishes that do not name a server twice: refuses what cannot
// be, sees what is so already, and orders the rest so that an address is given up
// before, or together with, its being taken.
func plan(wishes []wish, f facts) ([]*item, []unit) {
	items := make([]*item, len(wishes))
	byID := make(map[string]*item, len(wishes))
	for i, w := range wishes {
		it := &item{wish: w, have: f.held[w.id], guard: f.guards[tree.NameGuardPath(w.id)]}
		items[i], byID[w.id] = it, it
		switch {
		case w.only == nil:
		case it.have.broken:
			it.refused = w.only(nil)
		default:
			it.refused = w.only(it.have.server)
		}
		if it.refused == nil {
			it.settle()
		}
	}
	takes := make(map[netip.Addr]*item) // first item that takes an address it does not own
	for _, it := range items {
		if !it.open() || it.want == nil {
			continue
		}
		for _, a := range it.want.Addresses {
			if it.owns(a) {
				continue
			}
			if first, ok := takes[a]; ok {
				it.refused = taken(it.id, a, first.id)
				break
			}
			takes[a] = it
		}
	}
	// A refusal can take away what another item waits for, so look until nothing
	// changes; each round refuses at least one.
	for again := true; again; {
		again = false
		for _, it := range items {
			if !it.open() || it.want == nil {
				continue
			}
			it.after = it.after[:0]
			for _, a := range it.want.Addresses {
				o := f.owners[a].id
				if o == "" || o == it.id {
					continue
				}
				other := byID[o]
				if other == nil || !other.gives(a) {
					it.refused, again = taken(it.id, a, o), true
					break
				}
				it.after = append(it.after, other)
			}
		}
	}
	var open []*item
	for _, it := range items {
		if it.open() {
			open = append(open, it)
		}
	}
	return items, order(open)
}

func taken(id string, a netip.Addr, by string) *answer.Refused {
	return api.Refuse(api.AddressTaken, "deregister "+by+" first, or register it without the address",
		"server %s: address %s belongs to server %s", id, a, by)
}

func (it *item) open() bool { return it.refused == nil && it.done == nil }

// gives tells whether the item gives address a up.
func (it *item) gives(a netip.Addr) bool {
	return it.open() && !it.kept && (it.want == nil || !slices.Contains(it.want.Addresses, a))
}

// settle finds what is so already.
func (it *item) settle() {
	switch {
	case it.want == nil && it.have.server == nil:
		it.refused = api.Refuse(api.NotFound, "zonecast servers lists what is registered", "server %s is not registered", it.id)
	case it.want != nil && it.have.server != nil && it.have.server.Same(*it.want):
		it.kept = true
		if it.lease == nil && it.have.lease == 0 {
			it.done = &answer.Change{Revision: int64(it.have.node)}
		}
	}
}

// order puts items into units, givers before takers (Tarjan's strongly connected
// components, which come out in just that order).
func order(items []*item) []unit {
	t := tarjan{index: make(map[*item]int), low: make(map[*item]int), on: make(map[*item]bool)}
	for _, it := range items {
		if _, seen := t.index[it]; !seen {
			t.visit(it)
		}
	}
	return t.units
}

type tarjan struct {
	index, low map[*item]int
	on         map[*item]bool
	stack      []*item
	units      []unit
}

// visit recurses as deep as addresses are handed on in one call: at most the
// 10,000 items of it.
func (t *tarjan) visit(it *item) {
	n := len(t.index)
	t.index[it], t.low[it], t.on[it] = n, n, true
	t.stack = append(t.stack, it)
	for _, w := range it.after {
		if _, seen := t.index[w]; !seen {
			t.visit(w)
			t.low[it] = min(t.low[it], t.low[w])
		} else if t.on[w] {
			t.low[it] = min(t.low[it], t.index[w])
		}
	}
	if t.low[it] != n {
		return
	}
	var u unit
	for {
		w := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		t.on[w] = false
		u.items = append(u.items, w)
		if w == it {
			break
		}
	}
	t.units = append(t.units, u)
}

// txn builds the transaction of some units. An address given up by one of its
// items and taken by another is written once, by the taker.
//
// That a server is not there may be true twice, before and after it was registered and taken away. So
// the guard of its name is a condition, too: else a registration whose transaction comes late, long
// after its caller gave up and another said that the server is gone, would bring it back.
func txn(units []unit) store.Txn {
	var t store.Txn
	comes, goes := map[string]bool{}, map[string]bool{} // guards that are in it
	put := make(map[netip.Addr]bool)
	given := make(map[netip.Addr]bool) // by an item of this transaction
	for _, u := range units {
		for _, it := range u.items {
			for _, a := range it.frees() {
				given[a] = true
			}
		}
	}
	for _, u := range units {
		for _, it := range u.items {
			if it.want == nil || it.kept {
				continue
			}
			for _, a := range it.want.Addresses {
				if it.owns(a) {
					continue
				}
				put[a] = true
				path := tree.AddressIndexPath(a.String())
				t.Do = append(t.Do, store.Op{Path: path, Value: []byte(it.id)})
				if !given[a] {
					t.If = append(t.If, store.Cond{Path: path})
				}
			}
		}
	}
	for _, u := range units {
		for _, it := range u.items {
			it.add(&t)
			guard := tree.NameGuardPath(it.id)
			if it.have.server == nil && !comes[guard] {
				comes[guard] = true
				t.If = append(t.If, store.Cond{Path: guard, Modified: it.guard})
			}
			if it.want == nil && !goes[guard] {
				goes[guard] = true
				t.Do = append(t.Do, store.Op{Path: guard, Value: []byte(it.id)})
			}
			for _, a := range it.frees() {
				if !put[a] {
					t.Do = append(t.Do, store.Op{Path: tree.AddressIndexPath(a.String()), Delete: true})
				}
			}
		}
	}
	return t
}

func (it *item) owns(a netip.Addr) bool {
	return it.have.server != nil && slices.Contains(it.have.server.Addresses, a)
}

// frees are the addresses the item gives up.
func (it *item) frees() []netip.Addr {
	if it.have.server == nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range it.have.server.Addresses {
		if it.gives(a) {
			out = append(out, a)
		}
	}
	return out
}

// add adds all but the addresses: node, name index, lease, and the condition that
// nobody else changed the server.
func (it *item) add(t *store.Txn) {
	name, lease := tree.NameIndexPath(it.id), tree.LeasePath(it.id)
	if it.have.server == nil {
		t.If = append(t.If, store.Cond{Path: name})
	} else {
		t.If = append(t.If, store.Cond{Path: it.have.path, Modified: it.have.node})
	}
	t.If = append(t.If, it.conds...)
	if it.lease != nil {
		t.Do = append(t.Do, store.Op{Path: lease, Value: tree.Encode(it.lease)})
	} else { // also when none was seen: it may have come since, beside the server
		t.Do = append(t.Do, store.Op{Path: lease, Delete: true})
	}
	if it.kept {
		return
	}
	path := ""
	if it.want != nil {
		path = tree.ServerPath(it.want.Cluster, it.id)
		t.Do = append(t.Do, store.Op{Path: path, Value: it.want.Encode()})
		if path != it.have.path {
			t.Do = append(t.Do, store.Op{Path: name, Value: []byte(path)})
		}
	} else {
		t.Do = append(t.Do, store.Op{Path: name, Delete: true})
	}
	if it.have.path != "" && it.have.path != path {
		t.Do = append(t.Do, store.Op{Path: it.have.path, Delete: true})
	}
}

// pack fills transactions with units in order, leaving room for some conditions
// more, or makes one of each unit. A unit that is too large alone is refused, which
// only a circle can be.
func pack(units []unit, room int, single bool) [][]unit {
	// maxBytes leaves the half of what a transaction may have for paths that
	// conditions name again.
	const maxBytes = store.MaxTxnBytes / 2
	var out [][]unit
	maxOps := store.MaxTxnOps - room
	ops, size := 0, 0
	for _, u := range units {
		t := txn([]unit{u})
		n, b := len(t.If)+len(t.Do), 0
		for _, o := range t.Do {
			b += len(o.Path) + len(o.Value)
		}
		if n > maxOps || b > maxBytes {
			for _, it := range u.items {
				it.refused = api.Refuse(api.TooMany, "change some of them first, so that the circle is broken",
					"server %s: %d servers hand addresses round in a circle, which is more than one transaction can hold (%d operations, at most %d)",
					it.id, len(u.items), n, maxOps)
			}
			continue
		}
		if single || len(out) == 0 || ops+n > maxOps || size+b > maxBytes {
			out = append(out, nil)
			ops, size = 0, 0
		}
		out[len(out)-1] = append(out[len(out)-1], u)
		ops, size = ops+n, size+b
	}
	return out
}
