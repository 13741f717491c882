package tinydns

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/zonecast/zonecast/record"
)

// names is every name of a file with those above it, each once.
type names struct {
	blocks
	nodes chunks[node] // the first is the root
	seed  maphash.Seed
	// slots is a table with open addressing and a size that is a power of two: the
	// upper half is 32 bits of the name's hash, the lower the node's index plus one.
	// Zero is empty. It is a map without its costs: most lookups of a file miss the
	// processor's caches, and this one then misses them once.
	slots []uint64
	last  uint32 // the node that was asked for last: a name's lines are often together
	up    uint32 // the parent of the node that was entered last: neighbours share it
}

// node is a name, also one that only has names below it.
type node struct {
	name   ref
	prefix uint64 // the first eight octets of the first label, big endian, padded by zero
	parent uint32 // of the root: itself
	count  uint32 // records
}

func newNames() names {
	n := names{seed: maphash.MakeSeed(), slots: make([]uint64, 64)}
	n.enter(n.keep([]byte(record.Root)), record.Root, uint32(n.hash(record.Root)), 0)
	return n
}

func (n *names) hash(name record.Name) uint64 { return maphash.String(n.seed, string(name)) }

// find gives the node of a name.
func (n *names) find(name []byte, hash uint32) (uint32, bool) {
	mask := uint32(len(n.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := n.slots[i]
		if s == 0 {
			return 0, false
		}
		if uint32(s>>32) == hash {
			if id := uint32(s) - 1; string(n.name(id)) == string(name) {
				return id, true
			}
		}
	}
}

// name gives the name of a node.
func (n *names) name(id uint32) record.Name { return record.Name(n.get(n.nodes.at(id).name)) }

// node gives the index of a name in canonical wire form.
func (n *names) node(name []byte) (uint32, error) {
	if string(name) == string(n.name(n.last)) {
		return n.last, nil
	}
	hash := uint32(maphash.Bytes(n.seed, name))
	id, ok := n.find(name, hash)
	if !ok {
		if n.nodes.n > maxNames-128 || n.full() { // a name has at most 127 above it
			return 0, fmt.Errorf("more than %d names, or %d octets in them", maxNames, maxBlocks*blockOctets)
		}
		at := n.keep(name)
		own := record.Name(n.get(at))
		id = n.enter(at, own, hash, n.parent(at, own))
	}
	n.last = id
	return id, nil
}

// parent gives the node above a name, which is kept at at, and enters it if need be.
func (n *names) parent(at ref, name record.Name) uint32 {
	above := name.Parent()
	if n.name(n.up) == above {
		return n.up
	}
	hash := uint32(n.hash(above))
	id, ok := n.find([]byte(above), hash)
	if !ok {
		// Its octets are the last ones of the name's.
		cut := len(name) - len(above)
		at := at&^0xffff + ref(cut)<<16 | ref(len(above))
		id = n.enter(at, above, hash, n.parent(at, above))
	}
	n.up = id
	return id
}

// enter adds a name that is not there and is kept at at.
func (n *names) enter(at ref, name record.Name, hash, parent uint32) uint32 {
	if 4*n.nodes.n >= 3*len(n.slots) {
		n.grow()
	}
	var prefix [8]byte
	copy(prefix[:], name.FirstLabel())
	id := uint32(n.nodes.n)
	n.nodes.add(node{name: at, parent: parent, prefix: binary.BigEndian.Uint64(prefix[:])})
	n.put(uint64(hash)<<32 | uint64(id+1))
	return id
}

func (n *names) put(slot uint64) {
	mask := uint32(len(n.slots) - 1)
	i := uint32(slot>>32) & mask
	for n.slots[i] != 0 {
		i = (i + 1) & mask
	}
	n.slots[i] = slot
}

func (n *names) grow() {
	old := n.slots
	n.slots = make([]uint64, 4*len(old))
	for _, s := range old {
		if s != 0 {
			n.put(s)
		}
	}
}
