package reconcile

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/zonecast/zonecast/record"
)

// The names below which reverse names lie (RFC 1035 §3.5, RFC 3596 §2.5).
const (
	reverse4 = "\x07in-addr\x04arpa\x00"
	reverse6 = "\x03ip6\x04arpa\x00"
)

// reverseName is where the PTR of an address is; rd is valid RDATA of A or AAAA.
func reverseName(rd record.Rdata) record.Name {
	if len(rd) == 4 {
		b := make([]byte, 0, 16+len(reverse4))
		for i := 3; i >= 0; i-- {
			at := len(b)
			b = strconv.AppendUint(append(b, 0), uint64(rd[i]), 10)
			b[at] = byte(len(b) - at - 1)
		}
		return record.Name(append(b, reverse4...))
	}
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 64+len(reverse6))
	for i := 15; i >= 0; i-- {
		b = append(b, 1, digits[rd[i]&15], 1, digits[rd[i]>>4])
	}
	return record.Name(append(b, reverse6...))
}

// checkReverse is rule 7 for everything the touched names may have changed. A name
// whose reverse name nothing else knows becomes a node when a rule made the address.
func (s *State) checkReverse() {
	check := make(map[*node]bool)
	for i := range s.touched {
		n, old := s.touched[i].n, s.touched[i].won
		if len(n.addressed) > 0 {
			check[n] = true
		}
		if slices.Equal(old, n.won) {
			continue
		}
		was, is := addresses(old, ofRules), addresses(n.won, ofRules)
		for _, name := range was {
			if _, stays := slices.BinarySearch(is, name); !stays {
				r := s.nodes[name]
				r.addressed = slices.DeleteFunc(r.addressed, func(m *node) bool { return m == n })
				if len(r.addressed) == 0 {
					r.addressed = nil
				}
				check[r] = true
			}
		}
		for _, name := range is {
			if _, was := slices.BinarySearch(was, name); !was {
				r := s.node(name)
				r.addressed = append(r.addressed, n)
				check[r] = true
			}
		}
		had, has := addresses(old, everyKind), addresses(n.won, everyKind)
		for _, name := range slices.Concat(had, has) {
			r := s.nodes[name]
			if r == nil || len(r.addressed) == 0 {
				continue
			}
			_, before := slices.BinarySearch(had, name)
			_, now := slices.BinarySearch(has, name)
			if before != now || len(s.warnings[r]) > 0 { // a warning names the claim, which may be another
				check[r] = true
			}
		}
	}
	for r := range check {
		s.setConflicts(s.warnings, r, s.disagreements(r))
		s.forget(r)
	}
}

// addresses are the reverse names of the addresses from sources of a kind, sorted.
func addresses(won []*claim, of func(*source) bool) []record.Name {
	var names []record.Name
	for _, c := range won {
		if isAddress(c.Type) && of(c.src) {
			for _, d := range c.Data {
				names = append(names, reverseName(d))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func everyKind(*source) bool   { return true }
func ofRules(src *source) bool { return src.kind == record.KindRule }

// disagreements are the warnings about the PTR at r.
func (s *State) disagreements(r *node) []conflict {
	if len(r.addressed) == 0 {
		return nil
	}
	e := s.setting(r.name)
	if e.zone == nil || e.cut != nil || e.dname != nil || r.facts&isCut != 0 {
		return nil // others hold the reverse zone
	}
	var ptr *claim
	var target0 record.Name
	for _, c := range r.won {
		switch c.Type {
		case record.TypeCNAME: // RFC 2317: the PTR is elsewhere
			return nil
		case record.TypePTR:
			if ptr == nil {
				ptr, target0 = c, target(c.Data[0])
			}
			for _, d := range c.Data {
				if s.hasAddress(target(d), r.name) {
					return nil
				}
			}
		}
	}
	var list []conflict
	for _, n := range r.addressed {
		for _, c := range n.won {
			if !isAddress(c.Type) || !ofRules(c.src) || !pointsBack(c, r.name) {
				continue
			}
			w := conflict{why: noPTR, loser: c, text: fmt.Sprintf("%s has no PTR", r.name)}
			if ptr != nil {
				w = conflict{why: otherPTR, loser: c, winner: ptr, text: fmt.Sprintf("the PTR points to %s, which does not have the address", target0)}
			}
			list = append(list, w)
		}
	}
	return list
}

func (s *State) hasAddress(name, reverse record.Name) bool {
	n := s.nodes[name]
	return n != nil && slices.ContainsFunc(n.won, func(c *claim) bool { return isAddress(c.Type) && pointsBack(c, reverse) })
}

// pointsBack tells whether one of the addresses has this reverse name.
func pointsBack(c *claim, reverse record.Name) bool {
	return slices.ContainsFunc(c.Data, func(d record.Rdata) bool { return reverseName(d) == reverse })
}
