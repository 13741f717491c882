package data

// Query is a name taken apart for lookups. It is large and meant to be used again;
// the zero value is ready. It is for one goroutine.
type Query struct {
	wire   [255]byte   // in canonical form
	off    [128]uint8  // where each label starts; off[labels] is the root's
	hash   [128]uint64 // of the suffix that starts there
	len    int
	labels int // the root's not counted: 0 to 127
	wild   [255]byte
}

// set takes name, which is valid and canonical, for lookups in v.
func (q *Query) set(v *View, name []byte) {
	q.len = copy(q.wire[:], name)
	q.labels = 0
	for i := 0; q.wire[i] != 0; i += int(q.wire[i]) + 1 {
		q.off[q.labels] = uint8(i)
		q.labels++
	}
	q.off[q.labels] = uint8(q.len - 1)
	h := uint64(rootHash)
	q.hash[q.labels] = h
	for i := q.labels - 1; i >= 0; i-- {
		h = v.hash(h, q.wire[q.off[i]+1:q.off[i+1]])
		q.hash[i] = h
	}
}

// suffix is the name without its first i labels.
func (q *Query) suffix(i int) []byte { return q.wire[q.off[i]:q.len] }

// Result is where a name stands. At most one of Cut and DNAME is set, and then
// Node is nil.
type Result struct {
	// Zone is the closest zone at or above the name; nil: none is here, and
	// nothing else is set.
	Zone *Zone
	// Node is the name, or the wildcard it is synthesised from; nil: the name does
	// not exist.
	Node *Node
	// Wildcard tells that Node is a source of synthesis (RFC 4592 §3.3.1).
	Wildcard bool
	// Cut is the topmost delegation at or above the name, below the apex.
	Cut *Node
	// DNAME is the topmost owner of a DNAME above the name, the apex included.
	DNAME *Node
}

// Find looks up a name: valid, in canonical wire form. atParent asks for data that
// belongs to the upper side of a zone cut (DS, RFC 4035 §3.1.4.1): then the cut at
// the name itself does not count, and an apex is looked up in the zone above it when
// that is here.
//
// The walk goes from the name up to the first apex, one map look-up for each
// label, remembering the topmost cut and DNAME it passed.
func (v *View) Find(q *Query, name []byte, atParent bool) Result {
	q.set(v, name)
	var r Result
	var exact, cut, dname *Node
	encloser := -1 // labels less than the name has
	for i := 0; i <= q.labels; i++ {
		n := v.names.Get(q.hash[i], q.suffix(i))
		if n == nil {
			continue
		}
		if encloser < 0 {
			encloser = i
		}
		if i == 0 {
			exact = n
			if atParent && (n.zone == nil || v.zoneAbove(q)) {
				continue
			}
		}
		if n.zone == nil && n.traits&isCut != 0 {
			cut, dname = n, nil // NS goes before DNAME of the same name
		} else if n.traits&hasDNAME != 0 && i > 0 {
			cut, dname = nil, n
		}
		if n.zone != nil {
			r.Zone = n.zone
			break
		}
	}
	switch {
	case r.Zone == nil:
	case cut != nil || dname != nil:
		r.Cut, r.DNAME = cut, dname
	case exact != nil:
		r.Node = exact
	default:
		if w := v.wildcard(q, encloser); w != nil && w.zone == nil {
			r.Node, r.Wildcard = w, true
		}
	}
	return r
}

// zoneAbove tells whether a zone is here above the name in q.
func (v *View) zoneAbove(q *Query) bool {
	for i := 1; i <= q.labels; i++ {
		if n := v.names.Get(q.hash[i], q.suffix(i)); n != nil && n.zone != nil {
			return true
		}
	}
	return false
}

// wildcard is the node "*" right below the closest encloser (RFC 4592 §3.3.1).
func (v *View) wildcard(q *Query, encloser int) *Node {
	name := append(append(q.wild[:0], "\x01*"...), q.suffix(encloser)...)
	return v.names.Get(v.hash(q.hash[encloser], name[1:2]), name)
}

// Get gives the node of a name, wherever it stands in its zone: glue, too. The name
// is valid and in canonical wire form; nil: nothing is there.
func (v *View) Get(name []byte) *Node {
	var off [128]uint8
	k := 0
	for i := 0; name[i] != 0; i += int(name[i]) + 1 {
		off[k] = uint8(i)
		k++
	}
	h, end := uint64(rootHash), len(name)-1
	for k--; k >= 0; k-- {
		h = v.hash(h, name[int(off[k])+1:end])
		end = int(off[k])
	}
	return v.names.Get(h, name)
}

// Nodes gives every node, in no particular order.
func (v *View) Nodes(yield func(*Node) bool) {
	for _, n := range v.names.All() {
		if !yield(n) {
			return
		}
	}
}
