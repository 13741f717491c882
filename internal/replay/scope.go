package replay

import "github.com/zonecast/zonecast/record"

// scope tells which questions have to be asked. The others are answered alike before and
// after: all that matters to their name is alike, and leads to no other name. In most
// traffic these are most.
type scope struct {
	before, after *changed
	owners        map[record.Name]bool // of RRsets that differ
	above         map[record.Name]bool // names above those
	open          map[record.Name]bool // see above; by name
}

func newScope(before, after *changed) *scope {
	s := &scope{before: before, after: after, owners: map[record.Name]bool{}, above: map[record.Name]bool{}, open: map[record.Name]bool{}}
	for _, c := range []*changed{before, after} {
		for k := range c.otherwise {
			if !s.owners[k.Owner] && s.differs(k) {
				s.add(k.Owner)
			}
		}
	}
	return s
}

func (s *scope) add(owner record.Name) {
	s.owners[owner] = true
	for at := owner.Parent(); at != "" && !s.above[at]; at = at.Parent() {
		s.above[at] = true
	}
}

// differs tells whether an RRset differs by more than the serial of a SOA, in which that of
// nearly every change differs.
func (s *scope) differs(k record.Key) bool {
	was, is := s.before.get(k), s.after.get(k)
	if was == nil || is == nil {
		return was != is
	}
	return !same([]record.RRset{*was}, []record.RRset{*is}, true)
}

// asks tells whether questions for a name have to be asked.
func (s *scope) asks(name record.Name) bool {
	return s.node(name, true) || s.line(name.Parent())
}

// line tells whether anything at name or above, or a wildcard there, has questions for
// names below it asked.
func (s *scope) line(name record.Name) bool {
	if name == "" {
		return false
	}
	open, known := s.open[name]
	if !known {
		star, err := name.Wildcard()
		open = s.node(name, false) || err == nil && s.node(star, true) || s.line(name.Parent())
		s.open[name] = open
	}
	return open
}

// node tells whether what is at a name differs, or leads to other names. With answers it
// may be the one that answers.
func (s *scope) node(name record.Name, answers bool) bool {
	if s.owners[name] {
		return true
	}
	sets := s.before.At(name) // alike
	if len(sets) == 0 {
		return s.above[name] && anyBelow(s.before, name) != anyBelow(s.after, name)
	}
	apex, cut := false, false
	for _, r := range sets {
		switch r.Type {
		case record.TypeSOA:
			apex = true
		case record.TypeNS:
			cut = true
		case record.TypeDNAME:
			return true
		case record.TypeCNAME:
			if answers {
				return true
			}
		}
	}
	return cut && !apex
}

// anyBelow tells whether a name is below one.
func anyBelow(r Reader, name record.Name) bool {
	for range r.Below(name) {
		return true
	}
	return false
}
