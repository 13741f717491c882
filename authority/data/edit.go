package data

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Apply gives the View after some RRsets were removed and others put in their
// place. Removing what is not there does nothing. Cost: O(names changed and their
// ancestors that come or go), taken over many changes of the newest View; of another
// one that has a successor, O(Changed()). Serial is asked for the zones touched only.
// The error is damage of the image where the change lies.
func (v *View) Apply(put []record.Set, remove []record.Key, serial Serials) (*View, error) {
	e := edit{View: *v, before: v, nodes: map[record.Name]*draft{}}
	for _, k := range remove {
		e.remove(k)
	}
	for i := range put {
		e.put(&put[i])
	}
	if e.guide != nil {
		e.follow(put, remove)
	}
	touched := slices.Collect(maps.Keys(e.nodes))
	e.families()
	e.stamp(touched, serial)
	if e.bad {
		return nil, v.im.Damaged()
	}
	return e.finish(), nil
}

// edit is a View in the making.
type edit struct {
	View
	before *View
	nodes  map[record.Name]*draft
	room   []byte // for a node
	bad    bool
}

// draft is a node in the making.
type draft struct {
	hash     uint64
	old      image.Node // nil: was not there
	sets     []image.Body
	children int
	wild     bool
	above    bool // a SOA, NS or DS changed: it concerns the zone above, too
	dirty    bool
}

// follow brings the Guide to what changed.
func (e *edit) follow(put []record.Set, remove []record.Key) {
	var own []record.RRset
	for i := range put {
		if put[i].Type.IsOwn() {
			own = append(own, put[i].RRset)
		}
	}
	e.guide, e.problem = e.guide.Apply(own, remove)
}

func (d *draft) exists() bool { return len(d.sets) > 0 || d.children > 0 }

// dressed tells whether records had terms before.
func (d *draft) dressed() bool {
	return d.old != nil && d.old.Traits()&image.Located != 0 && slices.ContainsFunc(d.sets, func(b image.Body) bool { return b.Set.Dressed() })
}

func (d *draft) isApex() bool { return d.traits()&image.Apex != 0 }

// traits are those that lookups need of the names above.
func (d *draft) traits() image.Traits {
	t, _ := image.Shape(d.sets)
	return t
}

// draft gives the draft of a name, begun from its node.
func (e *edit) draft(name record.Name) *draft {
	if d := e.nodes[name]; d != nil {
		return d
	}
	d := &draft{hash: e.hash.Name([]byte(name))}
	n, ok := e.before.get(d.hash, []byte(name))
	e.bad = e.bad || !ok
	if n != nil {
		d.old, d.children, d.wild = n, n.Children(), n.Traits()&image.HasWild != 0
		d.sets = n.Bodies(nil)
	}
	e.nodes[name] = d
	return d
}

func (e *edit) put(s *record.Set) {
	d := e.draft(s.Owner)
	b := image.Body{Type: s.Type, Set: image.AppendSet(nil, s.Owner, s)}
	i, found := slices.BinarySearchFunc(d.sets, s.Key, compareKey)
	if found {
		d.sets[i] = b
	} else {
		d.sets = slices.Insert(d.sets, i, b)
		e.sets++
	}
	d.mark(s.Key)
}

func (e *edit) remove(k record.Key) {
	d := e.draft(k.Owner)
	d.mark(k)
	if i, found := slices.BinarySearchFunc(d.sets, k, compareKey); found {
		d.sets = slices.Delete(d.sets, i, i+1)
		e.sets--
	}
}

func (d *draft) mark(k record.Key) {
	d.dirty = true
	d.above = d.above || k.Type == record.TypeSOA || k.Type == record.TypeNS || k.Type == record.TypeDS
}

func compareKey(b image.Body, k record.Key) int {
	if c := cmp.Compare(b.Type, k.Type); c != 0 {
		return c
	}
	return cmp.Compare(string(b.Set.View().Location), string(k.Location))
}

// families lets the names above know which names came or went, deepest first, so
// that each is judged when all below it have been.
func (e *edit) families() {
	var depths [128][]record.Name
	for name := range e.nodes {
		k := name.Labels()
		depths[k] = append(depths[k], name)
	}
	for k := len(depths) - 1; k > 0; k-- {
		for _, name := range depths[k] {
			d := e.nodes[name]
			now := d.exists()
			if (d.old != nil) == now {
				continue
			}
			parent := name.Parent()
			if e.nodes[parent] == nil {
				depths[k-1] = append(depths[k-1], parent)
			}
			p := e.draft(parent)
			if now {
				p.children++
			} else {
				p.children--
			}
			if name.IsWildcard() {
				p.wild = now
			}
			p.dirty = true
		}
	}
}

// stamp writes the serials of the zones that touched names are or were in. What lies
// at a zone cut (SOA, NS, DS) touches the zone above it, too.
func (e *edit) stamp(touched []record.Name, serial Serials) {
	zones := map[record.Name]struct{}{}
	for _, name := range touched {
		d := e.nodes[name]
		if !d.dirty {
			continue
		}
		for _, after := range []bool{false, true} {
			e.apexAbove(name, after, zones)
			if d.above && name != record.Root {
				e.apexAbove(name.Parent(), after, zones)
			}
		}
	}
	for apex := range zones {
		s, ok := serial(apex)
		d := e.draft(apex)
		if !ok || !d.isApex() {
			continue
		}
		for i, b := range d.sets {
			if b.Type == record.TypeSOA {
				d.sets[i].Set = bytes.Clone(b.Set) // it may be one of the View before
				image.StampSerial(d.sets[i].Set, s)
				d.dirty = true
			}
		}
	}
}

// apexAbove enters the closest apex at or above name, as it was or as it is now.
func (e *edit) apexAbove(name record.Name, after bool, zones map[record.Name]struct{}) {
	for ; name != ""; name = name.Parent() {
		if d := e.nodes[name]; after && d != nil {
			if d.isApex() {
				zones[name] = struct{}{}
				return
			}
			continue
		}
		labels := name.Labels()
		if !e.before.apexes.Has(labels) {
			continue
		}
		n, ok := e.before.get(e.hash.Name([]byte(name)), []byte(name))
		e.bad = e.bad || !ok
		if n != nil && n.Traits()&image.Apex != 0 {
			zones[name] = struct{}{}
			return
		}
	}
}

// shape are the traits on which other names depend.
const shape = image.Apex | image.Cut | image.DName

// finish makes the View.
func (e *edit) finish() *View {
	v := e.View
	v.last = nil
	if v.touched == nil {
		v.touched = new(filter)
	}
	v.over = v.over.edit(func(over *layer) {
		for name, d := range e.nodes {
			if !d.dirty || d.old == nil && !d.exists() {
				continue
			}
			var was, is image.Traits
			if d.old != nil {
				was = d.old.Traits() & shape
			}
			if e.guide != nil {
				image.Dress(name, d.sets, d.dressed())
			}
			e.room = image.AppendNode(e.room[:0], []byte(name), d.sets, image.Family{Children: d.children, HasWild: d.wild})
			node := image.Node(e.room)
			is = node.Traits() & shape
			if was != is {
				v.reshaped = true
			}
			v.addDepths(name, is)
			if was&image.Apex != 0 {
				v.zones--
			}
			if is&image.Apex != 0 {
				v.zones++
			}
			v.touched.add(d.hash)
			v.last = append(v.last, name)
			over.put(d.hash, node, !d.exists())
		}
	})
	return &v
}

func (v *View) addDepths(name record.Name, t image.Traits) {
	if t&image.Apex != 0 {
		v.apexes.Add(name.Labels())
	}
	if t&(image.Cut|image.DName) != 0 {
		v.cuts.Add(name.Labels())
	}
}

// Nodes gives every node that exists, in no particular order.
func (v *View) Nodes(yield func(image.Node) bool) {
	for n := range v.im.Nodes() {
		if v.over.get(v.hash.Name(n.Name()), n.Name()) != nil {
			continue
		}
		if !yield(n) {
			return
		}
	}
	for _, e := range v.over.all {
		if !e.gone() && !yield(e.node()) {
			return
		}
	}
}
