package protocol

import (
	"slices"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Of a dataset, RRsets with a location are those of PoPs. Of several of one owner and type a
// client gets that of the first PoP in the order of its location that is up and has one; when
// none is up, that of the first that has one: what was found of health is never a reason to
// answer nothing. When no PoP of the order has one, or the client is nowhere, it gets the
// RRset for everybody.
//
// Where the client is is looked up at the first such RRset on the way to an answer, so that
// other names cost nothing. Each choice is remembered: the scope of the answer is where all
// of them come out the same.

// choice is one of an RRset among several.
type choice struct {
	node image.Node
	t    record.Type
	at   int // RRset of the node; -1: none
}

// maxChoices is how many choices of one answer are remembered. With more its scope is where
// the order of PoPs is the same, which is true and may be narrower than it could be.
const maxChoices = 16

// steer is what one answer knows of where its client is.
type steer struct {
	guide   *geo.Guide // nil: the data has none
	client  geo.Client
	located bool // client is looked up
	wide    bool // client has the location of its subnet as a whole

	choices []choice
	more    bool // than maxChoices
	last    bool // a PoP was chosen that is not up
}

// begin is for a new answer; the client stays where it is.
func (s *steer) begin() { s.choices, s.more, s.last = s.choices[:0], false, false }

// pick gives the RRset of a type that a node has for the client; nil: none.
func (a *answer) pick(n image.Node, t record.Type) image.Set {
	if t.IsOwn() {
		return nil
	}
	if n.Traits()&image.Located == 0 {
		return n.Find(t)
	}
	first, end := -1, 0
	located := false
	for i := range n.Len() {
		kind, s := n.At(i)
		if kind != t {
			if kind > t {
				break
			}
			continue
		}
		if first < 0 {
			first = i
		}
		end = i + 1
		located = located || len(s.Location()) > 0
	}
	if first < 0 {
		return nil
	}
	if !located {
		_, s := n.At(first)
		return s
	}
	a.varied = true
	st := &a.k.steer
	if !st.located {
		st.located = true
		st.client = a.q.Client(st.guide, a.q.from, a.q.on())
	}
	at, last := st.choose(n, first, end, st.client.Order())
	st.last = st.last || last
	switch {
	case slices.ContainsFunc(st.choices, func(c choice) bool { return &c.node[0] == &n[0] && c.t == t }):
	case len(st.choices) == cap(st.choices):
		st.more = true
	default:
		st.choices = append(st.choices, choice{n, t, at})
	}
	if at < 0 {
		return nil
	}
	_, s := n.At(at)
	return s
}

// choose gives the number of the RRset for an order of PoPs among those of one type, first to
// before end; -1: none. last: the PoP is not up.
func (s *steer) choose(n image.Node, first, end int, order []uint16) (at int, last bool) {
	resort := -1
	for _, p := range order {
		name, up := s.guide.PoP(p)
		if !up && resort >= 0 {
			continue
		}
		for i := first; i < end; i++ {
			_, set := n.At(i)
			if string(set.Location()) != name {
				continue
			}
			if up {
				return i, false
			}
			resort = i
			break
		}
	}
	if resort >= 0 {
		return resort, true
	}
	if _, set := n.At(first); len(set.Location()) == 0 { // it sorts before all others
		return first, false
	}
	return -1, false
}

// again makes the same choices for another order and tells whether they come out the same.
func (s *steer) again(order []uint16) bool {
	if s.more {
		return slices.Equal(order, s.client.Order())
	}
	for i := range s.choices {
		c := &s.choices[i]
		first, end := -1, 0
		for k := range c.node.Len() {
			switch kind, _ := c.node.At(k); {
			case kind == c.t:
				if first < 0 {
					first = k
				}
				end = k + 1
			}
		}
		if at, _ := s.choose(c.node, first, end, order); at != c.at {
			return false
		}
	}
	return true
}

// narrow finds the scope of an answer and tells whether it has to be made again, because the
// client's subnet is too coarse to tell where it is.
func (a *answer) narrow() bool {
	st := &a.k.steer
	if st.guide == nil || !a.q.hasSubnet || !st.located || st.wide {
		return false
	}
	scope := st.client.Scope(st.again)
	a.q.subnet.scope = uint8(scope)
	if scope <= int(a.q.subnet.source) {
		return false
	}
	st.wide = true
	return st.client.Widen()
}
