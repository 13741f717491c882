package data

import (
	"sync/atomic"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// View is one version of a dataset. The zero value is not usable: see New.
type View struct {
	im   *image.Image
	hash image.Hasher

	over    layer   // names that changed since im was built
	touched *filter // nil: none did

	apexes, cuts image.Depths
	// reshaped: an apex, a cut or a DNAME came or went since im was built, so that what
	// its nodes say of being settled does not hold.
	reshaped bool

	zones, sets int

	// guide is where clients are, in a View of NewDataset; nil in others, whose image has a
	// Chart. problem is what it did not take when the View was made.
	guide   *geo.Guide
	problem error

	last []record.Name // that differ from the View that this one was made of by Apply
}

// Serials gives the serial to answer for the zone with the given apex, in each of its
// SOAs, and false to answer the one in the SOA record.
type Serials func(apex record.Name) (uint32, bool)

// New gives the View of an image as it was built.
func New(im *image.Image) *View {
	_, sets, zones, _ := im.Counts()
	return &View{im: im, hash: im.Hasher(), apexes: im.Apexes(), cuts: im.Cuts(), zones: zones, sets: sets}
}

// NewDataset gives the View of an image of a dataset: RRsets of zonecast's own types are not
// answered, but say how the others are. An RRset with a location is that of a PoP; of those
// with the same owner and type one is answered.
func NewDataset(im *image.Image) *View {
	v := New(im)
	var put []record.RRset
	for n := range im.Guides() {
		for i := range n.Len() {
			if t, s := n.At(i); t.IsOwn() {
				put = append(put, s.RRset(record.Name(n.Name())).RRset)
			}
		}
	}
	v.guide, v.problem = (*geo.Guide)(nil).Apply(put, nil)
	return v
}

// Guide tells where clients of a dataset are; nil: the View is of files.
func (v *View) Guide() *geo.Guide { return v.guide }

// Problem is what the Guide did not take of the change that made the View; nil: nothing.
func (v *View) Problem() error { return v.problem }

// Image is what the View stands on.
func (v *View) Image() *image.Image { return v.im }

// Hasher hashes names as the View wants it.
func (v *View) Hasher() *image.Hasher { return &v.hash }

// Chart tells where clients are.
func (v *View) Chart() *geo.Chart { return v.im.Chart() }

// Zones is the number of zones.
func (v *View) Zones() int { return v.zones }

// Sets is the number of RRsets.
func (v *View) Sets() int { return v.sets }

// Changed is the number of names that differ from the image.
func (v *View) Changed() int { return v.over.len }

// Last has the names that Apply made differ from the View before, their ancestors
// and apexes included.
func (v *View) Last() []record.Name { return v.last }

// Reshaped tells whether an apex, a cut or a DNAME differs from the image.
func (v *View) Reshaped() bool { return v.reshaped }

// Look begins to look up a batch of names, in three steps so that the waits for
// memory overlap: each step is done for all names before the next.
//
// The first asks for the place in the index.
func (v *View) Look(q *Query) { v.im.Touch(q.hash[0]) }

// LookNode is the second step: it asks for the name's node. The third is Plain or Find.
func (v *View) LookNode(q *Query) {
	if q.near, q.looked = v.im.Near(q.hash[0]); q.looked {
		v.im.TouchNode(q.near)
	}
}

// Plain gives the RRset that answers a question for q and t, when that can be told
// from the name's node alone: it is in a zone, neither hidden nor special, and has
// the type. nil means that Find has to be asked.
func (v *View) Plain(q *Query, t record.Type) image.Set {
	n, _ := v.exact(q)
	if n == nil || v.reshaped || n.Traits()&(image.Settled|image.Located) != image.Settled {
		return nil
	}
	return n.Find(t)
}

// exact gives the node of the name in q itself.
func (v *View) exact(q *Query) (n image.Node, ok bool) {
	if q.looked && (v.touched == nil || !v.touched.has(q.hash[0])) {
		if n, ok := v.im.GetNear(q.near, q.name[:q.len]); ok {
			return n, true
		}
	}
	return v.get(q.hash[0], q.name[:q.len])
}

// get gives the node of a name; ok is false when the image is damaged there.
func (v *View) get(h uint64, name []byte) (n image.Node, ok bool) {
	if v.touched != nil && v.touched.has(h) {
		if e := v.over.get(h, name); e != nil {
			if e.gone() {
				return nil, true
			}
			return e.node(), true
		}
	}
	return v.im.Get(h, name)
}

// Get gives the node of a name, wherever it stands in its zone: glue, too. The name
// is valid and canonical; nil: nothing is there, or the image is damaged there.
func (v *View) Get(name []byte) image.Node {
	n, _ := v.get(v.hash.Name(name), name)
	return n
}

// RRset gives one RRset as it is answered: a SOA with the serial that was stamped into
// it. ok is false when the image is damaged there; nil Data: there is none.
func (v *View) RRset(k record.Key) (r record.RRset, ok bool) {
	n, ok := v.get(v.hash.Name([]byte(k.Owner)), []byte(k.Owner))
	if n == nil {
		return r, ok
	}
	for i := range n.Len() {
		if t, s := n.At(i); t == k.Type && string(s.View().Location) == string(k.Location) {
			return s.RRset(k.Owner).RRset, true
		}
	}
	return r, true
}

// filter has a bit for the hash of each name that changed since an image was built:
// most questions need not look for theirs among the changes. Views of one image
// share it; that of an older View may have bits too many, which costs it a look.
type filter struct {
	bits [1 << (filterBits - 6)]atomic.Uint64
}

// filterBits: 2^20 bits are 128 KiB, which a core's cache keeps.
const filterBits = 20

func (f *filter) has(h uint64) bool {
	k := h >> (64 - filterBits)
	return f.bits[k/64].Load()>>(k%64)&1 != 0
}

func (f *filter) add(h uint64) {
	k := h >> (64 - filterBits)
	f.bits[k/64].Or(1 << (k % 64))
}
