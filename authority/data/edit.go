package data

import (
	"cmp"
	"slices"

	"github.com/zonecast/zonecast/internal/hamt"
	"github.com/zonecast/zonecast/record"
)

// Apply gives the View after some RRsets were removed and others put in their
// place. Removing what is not there does nothing. Cost: O(names changed and their
// ancestors that come or go); serial is asked for the zones touched only.
func (v *View) Apply(put []record.RRset, remove []record.Key, serial Serials) *View {
	e := v.edit()
	e.touched = map[record.Name]bool{}
	for _, k := range remove {
		e.remove(k)
	}
	for _, r := range put {
		e.put(r)
	}
	// Zones to renew: those that the touched names were in and those they are in now.
	// What lies at a zone cut (SOA, NS, DS) touches the zone above it, too.
	zones := map[record.Name]struct{}{}
	for name := range e.touched {
		if _, ok := e.apexes[name]; ok {
			e.renew(name, serial) // so that the walks below see the apex
		}
	}
	sides := [2]hamt.Map[Node]{v.names, e.names.Map()}
	for name, above := range e.touched {
		for _, names := range sides {
			if apex := e.apexAbove(names, name, 0); apex != "" {
				zones[apex] = struct{}{}
			}
			if above {
				if apex := e.apexAbove(names, name, 1); apex != "" {
					zones[apex] = struct{}{}
				}
			}
		}
	}
	return e.finish(zones, serial)
}

// edit is a View in the making.
type edit struct {
	View
	names *hamt.Editor[Node]
	// touched has the owners of RRsets put or removed, and whether one of them
	// concerns the zone above the owner, too; nil: not wanted.
	touched map[record.Name]bool
	apexes  map[record.Name]struct{} // owners of SOAs put or removed
	q       Query                    // scratch
}

func (v *View) edit() *edit {
	return &edit{View: *v, names: v.names.Edit(), apexes: map[record.Name]struct{}{}}
}

func (e *edit) put(r record.RRset) {
	n := e.node(r.Owner)
	e.touch(r.Key)
	i, found := slices.BinarySearchFunc(n.sets, r.Key, compareKey)
	if found {
		n.sets = slices.Clone(n.sets)
		n.sets[i] = r
	} else {
		// Exactly as long as needed: most names own one RRset, for ever.
		sets := make([]record.RRset, 0, len(n.sets)+1)
		n.sets = append(append(append(sets, n.sets[:i]...), r), n.sets[i:]...)
		e.sets++
		if isSOAKey(r.Key) {
			e.zones++
		}
	}
	n.settle()
}

func (e *edit) remove(k record.Key) {
	e.touch(k)
	e.q.set(&e.View, []byte(k.Owner))
	old := e.names.Get(e.q.hash[0], e.q.suffix(0))
	if old == nil {
		return
	}
	i, found := slices.BinarySearchFunc(old.sets, k, compareKey)
	if !found {
		return
	}
	n := e.names.Edit(e.q.hash[0], string(k.Owner))
	n.sets = slices.Delete(slices.Clone(n.sets), i, i+1)
	e.sets--
	if isSOAKey(k) {
		e.zones--
	}
	n.settle()
	if len(n.sets) == 0 && n.children == 0 {
		e.drop()
	}
}

// node gives the node of a name to change, making it and the empty non-terminals
// above it when they are missing.
func (e *edit) node(name record.Name) *Node {
	e.q.set(&e.View, []byte(name))
	isNew := e.names.Get(e.q.hash[0], e.q.suffix(0)) == nil
	n := e.names.Edit(e.q.hash[0], string(name))
	n.Name = name
	for i := 1; isNew && i <= e.q.labels; i++ {
		isNew = e.names.Get(e.q.hash[i], e.q.suffix(i)) == nil
		above := name[e.q.off[i]:]
		p := e.names.Edit(e.q.hash[i], string(above))
		p.Name = above
		p.children++
	}
	return n
}

// drop removes the name in e.q, which neither owns nor has anything, and the
// empty non-terminals above it that were there for its sake.
func (e *edit) drop() {
	for i := 0; ; i++ {
		e.names.Delete(e.q.hash[i], string(e.q.suffix(i)))
		if i == e.q.labels {
			return
		}
		p := e.names.Edit(e.q.hash[i+1], string(e.q.suffix(i+1)))
		p.children--
		if p.children > 0 || len(p.sets) > 0 {
			return
		}
	}
}

// settle works out again what depends on the node's RRsets; finish makes the zone.
func (n *Node) settle() {
	n.traits = 0
	apex := false
	for _, s := range n.sets {
		switch {
		case s.Location != "":
		case s.Type == record.TypeSOA:
			apex = true
		case s.Type == record.TypeNS:
			n.traits |= isCut
		case s.Type == record.TypeDNAME:
			n.traits |= hasDNAME
		}
	}
	if apex {
		n.traits &^= isCut
	} else {
		n.zone = nil
	}
}

// finish makes the View, after the zones with the given apexes got their serials.
func (e *edit) finish(apexes map[record.Name]struct{}, serial Serials) *View {
	for apex := range apexes {
		e.renew(apex, serial)
	}
	return &View{names: e.names.Map(), seed: e.seed, zones: e.View.zones, sets: e.View.sets}
}

// renew makes the zone of an apex anew.
func (e *edit) renew(apex record.Name, serial Serials) {
	e.q.set(&e.View, []byte(apex))
	old := e.names.Get(e.q.hash[0], e.q.suffix(0))
	if old == nil || old.Set(record.TypeSOA) == nil {
		return
	}
	n := e.names.Edit(e.q.hash[0], string(apex))
	n.zone = newZone(n, serial)
}

// apexAbove is the closest apex at or above name without its first i labels, ""
// when there is none.
func (e *edit) apexAbove(names hamt.Map[Node], name record.Name, i int) record.Name {
	e.q.set(&e.View, []byte(name))
	for ; i <= e.q.labels; i++ {
		if n := names.Get(e.q.hash[i], e.q.suffix(i)); n != nil && n.zone != nil {
			return n.Name
		}
	}
	return ""
}

func (e *edit) touch(k record.Key) {
	if e.touched != nil {
		above := k.Type == record.TypeSOA || k.Type == record.TypeNS || k.Type == record.TypeDS
		e.touched[k.Owner] = e.touched[k.Owner] || above
	}
	if isSOAKey(k) {
		e.apexes[k.Owner] = struct{}{}
	}
}

func isSOAKey(k record.Key) bool { return k.Type == record.TypeSOA && k.Location == "" }

func compareKey(r record.RRset, k record.Key) int {
	return cmp.Or(cmp.Compare(r.Type, k.Type), cmp.Compare(r.Location, k.Location))
}
