package replay

import (
	"fmt"

	"github.com/zonecast/zonecast/record"
)

// Server answers from the RRsets that it was given as a host does that has them.
type Server interface {
	// Put gives it more RRsets, of names that it had none of.
	Put(sets []record.RRset) error
	// Ask gives the response as it goes over TCP, in wire form, valid until the next call.
	Ask(name record.Name, t record.Type) []byte
}

// part is a Server that has the part of a state which matters to the names that it was
// shown.
type part struct {
	state Reader
	Server
	nodes map[record.Name]bool // whose RRsets it has, or that have none
	lines map[record.Name]bool // names shown, and those above them
	put   []record.RRset       // not yet given to the Server
}

func newPart(state Reader, s Server) *part {
	return &part{state: state, Server: s, nodes: map[record.Name]bool{}, lines: map[record.Name]bool{}}
}

// show takes all that matters to a name: what is there, and at each name above; and the
// wildcards below those. Found is false when all was known before.
func (p *part) show(name record.Name) (found bool) {
	for at := name; at != "" && !p.lines[at]; at = at.Parent() {
		found = true
		p.lines[at] = true
		p.node(at)
		if above := at.Parent(); above != "" {
			if star, err := above.Wildcard(); err == nil { // else nothing can be below
				p.node(star)
			}
		}
	}
	return found
}

// node takes the RRsets of a name, or one of the names below, by which it is there.
func (p *part) node(name record.Name) {
	if p.nodes[name] {
		return
	}
	if sets := p.take(name); len(sets) > 0 {
		return
	}
	for below := range p.state.Below(name) {
		if !p.nodes[below] {
			p.take(below)
		}
		return
	}
}

func (p *part) take(name record.Name) []record.RRset {
	p.nodes[name] = true
	sets := p.state.At(name)
	p.put = append(p.put, sets...)
	return sets
}

// give gives the Server what was taken.
func (p *part) give() error {
	if err := p.Put(p.put); err != nil {
		return fmt.Errorf("take a part of the dataset to ask it: %w", err)
	}
	p.put = nil
	return nil
}
