package hamt

import (
	"math/bits"
	"slices"
)

// Editor makes a new Map out of an old one. Many edits by one Editor copy each
// node once. It is for one goroutine.
type Editor[V any] struct {
	m   Map[V]
	own *token // nodes with this owner are in no Map yet
}

// token is an identity; it has a size so that two never have one address.
type token struct{ _ byte }

// Map gives the state edited so far. The Editor may go on: it copies again.
func (e *Editor[V]) Map() Map[V] {
	e.own = new(token)
	return e.m
}

// Get is Map.Get on the state edited so far. The value may be one of an earlier
// Map: it must not be changed; Set stores another.
func (e *Editor[V]) Get(hash uint64, key []byte) *V { return e.m.Get(hash, key) }

// Edit gives the value of key to be changed in place until the next call of Map: a
// shallow copy of the old one, or a zero value when there was none.
func (e *Editor[V]) Edit(hash uint64, key string) *V {
	if l := e.m.leaf(hash, []byte(key)); l != nil {
		if l.owner != e.own {
			l = &leaf[V]{owner: e.own, hash: hash, key: l.key, val: l.val}
			e.put(l)
		}
		return &l.val
	}
	l := &leaf[V]{owner: e.own, hash: hash, key: key}
	e.put(l)
	return &l.val
}

// Set stores a value under key.
func (e *Editor[V]) Set(hash uint64, key string, val V) { *e.Edit(hash, key) = val }

func (e *Editor[V]) put(l *leaf[V]) {
	if e.m.root == nil {
		e.m.root = &node[V]{owner: e.own}
	}
	root, added := e.set(e.m.root, 0, l)
	e.m.root = root
	if added {
		e.m.len++
	}
}

func (e *Editor[V]) set(n *node[V], shift int, l *leaf[V]) (_ *node[V], added bool) {
	n = e.mine(n)
	if shift >= hashBits {
		for i, s := range n.slots {
			if s.leaf.key == l.key {
				n.slots[i].leaf = l
				return n, false
			}
		}
		n.slots = append(n.slots, slot[V]{leaf: l})
		return n, true
	}
	bit := uint32(1) << (l.hash >> shift & (1<<levelBits - 1))
	i := bits.OnesCount32(n.bitmap & (bit - 1))
	if n.bitmap&bit == 0 {
		n.slots = slices.Insert(n.slots, i, slot[V]{leaf: l})
		n.bitmap |= bit
		return n, true
	}
	s := n.slots[i]
	switch {
	case s.child != nil:
		s.child, added = e.set(s.child, shift+levelBits, l)
		n.slots[i] = s
		return n, added
	case s.leaf.hash == l.hash && s.leaf.key == l.key:
		n.slots[i] = slot[V]{leaf: l}
		return n, false
	default: // two keys meet here: both go one level down
		child := &node[V]{owner: e.own}
		child, _ = e.set(child, shift+levelBits, s.leaf)
		child, _ = e.set(child, shift+levelBits, l)
		n.slots[i] = slot[V]{child: child}
		return n, true
	}
}

// Delete removes key and tells whether it was there.
func (e *Editor[V]) Delete(hash uint64, key string) bool {
	if e.m.Get(hash, []byte(key)) == nil {
		return false // nothing is copied for nothing
	}
	e.m.root = e.delete(e.m.root, 0, hash, key)
	if len(e.m.root.slots) == 0 {
		e.m.root = nil
	}
	e.m.len--
	return true
}

// delete removes a key that is there. A child that is left with a single leaf is
// replaced by the leaf, so that the shape depends on the keys only.
func (e *Editor[V]) delete(n *node[V], shift int, hash uint64, key string) *node[V] {
	n = e.mine(n)
	if shift >= hashBits {
		n.slots = slices.DeleteFunc(n.slots, func(s slot[V]) bool { return s.leaf.key == key })
		return n
	}
	bit := uint32(1) << (hash >> shift & (1<<levelBits - 1))
	i := bits.OnesCount32(n.bitmap & (bit - 1))
	s := n.slots[i]
	if s.child == nil {
		n.slots = slices.Delete(n.slots, i, i+1)
		n.bitmap &^= bit
		return n
	}
	child := e.delete(s.child, shift+levelBits, hash, key)
	if len(child.slots) == 1 && child.slots[0].child == nil {
		n.slots[i] = child.slots[0]
	} else {
		n.slots[i] = slot[V]{child: child}
	}
	return n
}

// mine gives n itself when this Editor made it, otherwise a copy.
func (e *Editor[V]) mine(n *node[V]) *node[V] {
	if n.owner == e.own {
		return n
	}
	return &node[V]{owner: e.own, bitmap: n.bitmap, slots: slices.Clone(n.slots)}
}
