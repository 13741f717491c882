package reconcile

import (
	"iter"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// maxBlock is how many nodes a block of the index has at most. An insertion moves
// half a block (4 KiB) and, once in maxBlock/2 insertions, half the list of blocks:
// 16 KiB for a million names.
const maxBlock = 512

// index has nodes in canonical order of their names, so that the names below a
// name are neighbours: a list of sorted blocks, which for the numbers here does
// what a B-tree of two levels does.
type index struct {
	blocks [][]*node // none empty
}

// find gives the block and the place in it where name is, or would be inserted.
func (x *index) find(name record.Name) (b, i int, ok bool) {
	b, ok = slices.BinarySearchFunc(x.blocks, name, func(bl []*node, n record.Name) int { return bl[0].name.Compare(n) })
	if ok {
		return b, 0, true
	}
	if b == 0 {
		return 0, 0, false
	}
	b--
	i, ok = slices.BinarySearchFunc(x.blocks[b], name, func(m *node, n record.Name) int { return m.name.Compare(n) })
	return b, i, ok
}

// insert adds a node whose name is not there yet.
func (x *index) insert(n *node) {
	if len(x.blocks) == 0 {
		x.blocks = append(x.blocks, append(make([]*node, 0, maxBlock), n))
		return
	}
	b, i, _ := x.find(n.name)
	bl := x.blocks[b]
	if len(bl) == maxBlock {
		at := maxBlock / 2
		if i == maxBlock && b == len(x.blocks)-1 {
			at = maxBlock // names come in order: leave full blocks behind
		}
		upper := append(make([]*node, 0, maxBlock), bl[at:]...)
		clear(bl[at:])
		x.blocks[b] = bl[:at]
		if len(upper) == 0 {
			x.blocks = append(x.blocks, append(upper, n))
			return
		}
		x.blocks = slices.Insert(x.blocks, b+1, upper)
		if i > at {
			b, i = b+1, i-at
		}
	}
	x.blocks[b] = slices.Insert(x.blocks[b], i, n)
}

// remove takes a name out.
func (x *index) remove(name record.Name) {
	b, i, ok := x.find(name)
	if !ok {
		return
	}
	x.blocks[b] = slices.Delete(x.blocks[b], i, i+1)
	switch {
	case len(x.blocks[b]) == 0:
		x.blocks = slices.Delete(x.blocks, b, b+1)
	case b+1 < len(x.blocks) && len(x.blocks[b])+len(x.blocks[b+1]) <= maxBlock/2:
		x.blocks[b] = append(x.blocks[b], x.blocks[b+1]...)
		x.blocks = slices.Delete(x.blocks, b+1, b+2)
	}
}

// from gives nodes in order, beginning with name or what follows it. The index must
// not change meanwhile.
func (x *index) from(name record.Name) iter.Seq[*node] {
	return func(yield func(*node) bool) {
		if len(x.blocks) == 0 {
			return
		}
		b, i, _ := x.find(name)
		for ; b < len(x.blocks); b, i = b+1, 0 {
			for _, n := range x.blocks[b][i:] {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// below gives the nodes below a name in order, the name itself not included.
func (x *index) below(name record.Name) iter.Seq[*node] {
	return func(yield func(*node) bool) {
		for n := range x.from(name) {
			if n.name == name {
				continue
			}
			if !n.name.IsSubdomainOf(name) || !yield(n) {
				return
			}
		}
	}
}
