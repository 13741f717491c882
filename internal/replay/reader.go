package replay

import (
	"iter"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Reader is a state of the dataset.
type Reader interface {
	// At gives the RRsets of a name.
	At(name record.Name) []record.RRset
	// Below gives the names below this one that own an RRset, in any order. It is asked of
	// names that own nothing, and mostly for the first of them only.
	Below(name record.Name) iter.Seq[record.Name]
}

// Otherwise is which RRsets a state has otherwise than another one; nil means that there is
// none.
type Otherwise = map[record.Key]*record.RRset

// changed is a state in which some RRsets are otherwise.
type changed struct {
	Reader
	otherwise Otherwise
	types     map[record.Name][]record.Key // of otherwise, by owner
	names     []record.Name                // the owners in canonical order; nil: not needed yet
}

// change gives the state that has some RRsets otherwise than r.
func change(r Reader, otherwise Otherwise) *changed {
	c := &changed{Reader: r, otherwise: otherwise, types: make(map[record.Name][]record.Key, len(otherwise))}
	for k := range otherwise {
		c.types[k.Owner] = append(c.types[k.Owner], k)
	}
	return c
}

// get gives an RRset; nil: there is none.
func (c *changed) get(k record.Key) *record.RRset {
	if r, other := c.otherwise[k]; other {
		return r
	}
	for _, r := range c.Reader.At(k.Owner) {
		if r.Key == k {
			return &r
		}
	}
	return nil
}

func (c *changed) At(name record.Name) []record.RRset {
	sets := c.Reader.At(name)
	keys := c.types[name]
	if keys == nil {
		return sets
	}
	var out []record.RRset
	for _, s := range sets {
		if _, other := c.otherwise[s.Key]; !other {
			out = append(out, s)
		}
	}
	for _, k := range keys {
		if s := c.otherwise[k]; s != nil {
			out = append(out, *s)
		}
	}
	return out
}

func (c *changed) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		for n := range c.Reader.Below(name) { // mostly the first of them will do
			if c.types[n] == nil && !yield(n) {
				return
			}
		}
		if c.names == nil {
			c.names = slices.SortedFunc(maps.Keys(c.types), record.Name.Compare)
		}
		// The names below one are its neighbours.
		i, _ := slices.BinarySearchFunc(c.names, name, record.Name.Compare)
		for _, n := range c.names[i:] {
			if !n.IsSubdomainOf(name) {
				break
			}
			if n != name && len(c.At(n)) > 0 && !yield(n) {
				return
			}
		}
	}
}
