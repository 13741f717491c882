package hamt

import (
	"iter"
	"math/bits"
)

const (
	levelBits = 5 // of the hash are used up by each level
	hashBits  = 64
)

// Map is one state of the map. The zero value is empty.
type Map[V any] struct {
	root *node[V]
	len  int
}

// node has one slot for each set bit of bitmap, in the order of the bits. A node
// at the depth where the hash is used up has bitmap 0 and a leaf in every slot.
type node[V any] struct {
	owner  *token // of the Editor that may change the node in place
	bitmap uint32
	slots  []slot[V]
}

// slot is a leaf or, when child is not nil, a deeper node.
type slot[V any] struct {
	child *node[V]
	leaf  *leaf[V]
}

type leaf[V any] struct {
	owner *token // as in node
	hash  uint64
	key   string
	val   V
}

// Len is the number of keys.
func (m Map[V]) Len() int { return m.len }

// Get gives the value of key, whose hash must be the one it was stored with; nil
// when there is none. The value is shared: it must not be changed.
func (m Map[V]) Get(hash uint64, key []byte) *V {
	if l := m.leaf(hash, key); l != nil {
		return &l.val
	}
	return nil
}

func (m Map[V]) leaf(hash uint64, key []byte) *leaf[V] {
	n := m.root
	for shift := 0; n != nil; shift += levelBits {
		if shift >= hashBits {
			for _, s := range n.slots {
				if s.leaf.key == string(key) {
					return s.leaf
				}
			}
			return nil
		}
		bit := uint32(1) << (hash >> shift & (1<<levelBits - 1))
		if n.bitmap&bit == 0 {
			return nil
		}
		s := &n.slots[bits.OnesCount32(n.bitmap&(bit-1))]
		if s.child == nil {
			if s.leaf.hash == hash && s.leaf.key == string(key) {
				return s.leaf
			}
			return nil
		}
		n = s.child
	}
	return nil
}

// All gives every key and value, in no particular order.
func (m Map[V]) All() iter.Seq2[string, *V] {
	return func(yield func(string, *V) bool) { m.root.all(yield) }
}

func (n *node[V]) all(yield func(string, *V) bool) bool {
	if n == nil {
		return true
	}
	for _, s := range n.slots {
		if s.child != nil {
			if !s.child.all(yield) {
				return false
			}
		} else if !yield(s.leaf.key, &s.leaf.val) {
			return false
		}
	}
	return true
}

// Edit gives an Editor that starts from m.
func (m Map[V]) Edit() *Editor[V] { return &Editor[V]{m: m, own: new(token)} }
