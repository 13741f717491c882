package data

import (
	"runtime"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Result is where a name stands. At most one of Cut and DName is set, and then
// Node is nil.
type Result struct {
	// Zone is the apex of the closest zone at or above the name; nil: no zone is here,
	// and nothing else is set.
	Zone image.Node
	// Node is the name, or the wildcard it is synthesised from; nil: the name does
	// not exist.
	Node image.Node
	// Wildcard tells that Node is a source of synthesis (RFC 4592 §3.3.1).
	Wildcard bool
	// Cut is the topmost delegation at or above the name, below the apex.
	Cut image.Node
	// DName is the topmost owner of a DNAME above the name, the apex included.
	DName image.Node
	// Damaged: the image is damaged where the answer lies. Nothing else is set.
	Damaged bool
}

// finder is one look-up.
type finder struct {
	v     *View
	q     *Query
	bad   bool
	asked int // names looked up
}

// at is the node of the name without its first i labels.
func (f *finder) at(i int) image.Node {
	f.asked++
	n, ok := f.v.get(f.q.hash[i], f.q.suffix(i))
	f.bad = f.bad || !ok
	return n
}

// Find looks up the name in q. atParent asks for data that belongs to the upper
// side of a zone cut (DS, RFC 4035 §3.1.4.1): then the cut at the name itself does
// not count, and an apex is looked up in the zone above it when that is here.
func (v *View) Find(q *Query, atParent bool) Result {
	f := finder{v: v, q: q}
	r := f.find(atParent)
	if f.bad {
		return Result{Damaged: true}
	}
	return r
}

func (f *finder) find(atParent bool) (r Result) {
	v, q := f.v, f.q
	f.asked++
	exact, ok := v.exact(q)
	f.bad = !ok
	i, encloser := 0, exact // encloser: the name without its first i labels
	if exact == nil {
		if i, encloser = f.encloser(); encloser == nil {
			return r
		}
	}
	depth := q.labels - i
	zone, zoneDepth := f.zone(encloser, depth)
	if atParent && exact != nil && zoneDepth == depth {
		if up, upDepth := f.zone(nil, depth-1); up != nil {
			zone, zoneDepth = up, upDepth
		}
	}
	if zone == nil {
		return r
	}
	r.Zone = zone
	if q.shape(zone)&image.DName != 0 && zoneDepth < q.labels {
		r.DName = zone
		return r
	}
	for d := v.cuts.Up(zoneDepth + 1); d <= depth; d = v.cuts.Up(d + 1) {
		n := encloser
		if d < depth {
			n = f.at(q.labels - d)
		}
		if n == nil {
			continue // damaged
		}
		t := q.shape(n)
		switch {
		case d == q.labels && atParent:
		case t&image.Cut != 0:
			r.Cut = n
			return r
		case t&image.DName != 0 && d < q.labels:
			r.DName = n
			return r
		}
	}
	switch {
	case exact != nil && q.sees(exact, v.im.AnyDepth()):
		r.Node = exact
	case v.im.AnyDepth():
		r.Node = f.anyDepth(q.labels - zoneDepth)
		if r.Wildcard = r.Node != nil; !r.Wildcard && exact != nil && q.sees(exact, false) {
			r.Node = exact // an empty non-terminal
		}
	default:
		if exact != nil { // it is there for others only
			i++
			if encloser = f.at(i); encloser == nil {
				return r
			}
		}
		if w := f.wildcard(i, encloser); w != nil && q.shape(w)&image.Apex == 0 {
			r.Node, r.Wildcard = w, true
		}
	}
	return r
}

// encloser finds the closest encloser of a name that does not exist (RFC 4592
// §3.3.1). Its parent is the likeliest; else bisection.
func (f *finder) encloser() (int, image.Node) {
	labels := f.q.labels
	if labels == 0 {
		return 0, nil
	}
	if n := f.at(1); n != nil {
		return 1, n
	}
	var found image.Node
	low, high := 2, labels+1 // the first that exists is in [low, high); high exists or is beyond
	for low < high {
		mid := (low + high) / 2
		if mid > labels {
			break
		}
		if n := f.at(mid); n != nil {
			found, high = n, mid
		} else {
			low = mid + 1
		}
	}
	return high, found
}

// zone is the closest apex with at most depth labels; known is the node at that
// depth, or nil when it has not been looked up.
func (f *finder) zone(known image.Node, depth int) (image.Node, int) {
	for d := f.v.apexes.Down(depth); d >= 0; d = f.v.apexes.Down(d - 1) {
		n := known
		if d != depth || n == nil {
			n = f.at(f.q.labels - d)
		}
		if n != nil && f.q.shape(n)&image.Apex != 0 {
			return n, d
		}
	}
	return nil, -1
}

// Depth is how many labels the closest apex at or above the name in q has, with above that above
// it; -1: no zone is here.
func (v *View) Depth(q *Query, above bool) int {
	f := finder{v: v, q: q}
	depth := q.labels
	if above {
		depth--
	}
	_, d := f.zone(nil, depth)
	runtime.KeepAlive(v) // whose image would be unmapped otherwise
	return d
}

// wildcard is the node "*" right below the closest encloser (RFC 4592 §3.3.1).
func (f *finder) wildcard(i int, encloser image.Node) image.Node {
	if encloser.Traits()&image.HasWild == 0 {
		return nil
	}
	name, h := f.q.wildcard(&f.v.hash, i)
	n, ok := f.v.get(h, name)
	f.bad = f.bad || !ok
	if n == nil || !f.q.sees(n, false) {
		return nil
	}
	return n
}

// anyDepth is the wildcard of the closest name above that has one with records, up
// to the apex, which is the name without its first most labels.
func (f *finder) anyDepth(most int) image.Node {
	for i := 1; i <= most; i++ {
		n := f.at(i)
		if n == nil {
			continue
		}
		if w := f.wildcard(i, n); w != nil && w.Len() > 0 {
			return w
		}
	}
	return nil
}

// sees tells whether the name exists for the client of q: it has records for it, or
// names below. With own, names below do not count.
func (q *Query) sees(n image.Node, own bool) bool {
	if n.Len() == 0 {
		return !own
	}
	if q.Whole || n.Traits()&image.Located == 0 || !own && n.Traits()&image.Parent != 0 {
		return true
	}
	seen, located := false, false
	for i := range n.Len() {
		_, s := n.At(i)
		v := s.View()
		located = located || len(v.Location) > 0
		if !v.For(q.Location) || !q.holds(&v) {
			continue
		}
		if len(v.Location) == 0 {
			return true // wherever the client is
		}
		seen = true
	}
	q.Varied = q.Varied || located
	return seen
}

// shape is what a node is for the client of q: Apex, Cut, DName, or several of its
// traits when it is the same for all clients.
func (q *Query) shape(n image.Node) image.Traits {
	t := n.Traits()
	if t&image.Located == 0 || t&(image.Apex|image.Cut|image.DName) == 0 {
		return t
	}
	if q.Whole {
		if t&image.Apex != 0 {
			t &^= image.Cut
		}
		return t
	}
	var is image.Traits
	for i := range n.Len() {
		kind, s := n.At(i)
		x := image.Traits(0)
		switch kind {
		case record.TypeSOA:
			x = image.Apex
		case record.TypeNS:
			x = image.Cut
		case record.TypeDNAME:
			x = image.DName
		default:
			continue
		}
		v := s.View()
		q.Varied = q.Varied || len(v.Location) > 0
		if v.For(q.Location) && q.holds(&v) && (x != image.DName || len(v.Location) == 0) {
			is |= x
		}
	}
	if is&image.Apex != 0 {
		is &^= image.Cut
	}
	return is
}

// holds tells whether any record of a set does now.
func (q *Query) holds(v *image.View) bool {
	for k := range v.Count {
		if Holds(v.Terms(k), q.Now) {
			return true
		}
	}
	return false
}

// Holds tells whether a record of the given terms is answered at a time in unix
// seconds.
func Holds(t record.Terms, now int64) bool {
	return t.From <= now && (t.Until == 0 || now < t.Until)
}
