package reconcile

import (
	"slices"

	"github.com/zonecast/zonecast/record"
)

// node is a name on which there are claims, or whose PTR rule 7 asks for.
type node struct {
	name   record.Name
	claims []*claim // in order of claim.compare
	won    []*claim // what the dataset has here, in order of key; replaced, never changed in place
	zone   *node    // apex of the zone that holds the name; nil when none does
	soa    *source  // at an apex, who claims the SOA that won
	// addressed has the names with an address made by a rule whose reverse name this
	// is, each once, in no order.
	addressed []*node
	facts     facts
	dirty     bool // is on State.dirty
	touched   int  // place on State.touched, counted from 1
}

// facts are what matters to the names below.
type facts uint8

const (
	claimsApex   facts = 1 << iota // has a valid SOA claim that is not Fallback
	claimsParent                   // has a valid Fallback SOA claim
	isApex
	isCut
	isDNAME
)

// claimed are the facts that follow from a name's claims alone, decided the others.
const (
	claimed = claimsApex | claimsParent
	decided = isApex | isCut | isDNAME
)

// setting is what the names above say about a name.
type setting struct {
	zone   *node // apex at the name or above
	cut    *node // zone cut above, within the zone
	dname  *node // DNAME above, within the zone
	yields bool  // Fallback claims yield
}

// setting looks at the name and what is above it. The names above have been decided.
func (s *State) setting(name record.Name) setting {
	var e setting
	var fallback *node
	for m := name; m != ""; m = m.Parent() {
		n := s.special[m]
		if n == nil {
			continue
		}
		if n.facts&claimsApex != 0 {
			e.yields = true
			if e.zone == nil {
				e.zone = n
			}
		}
		if n.facts&claimsParent != 0 && fallback == nil {
			fallback = n
		}
	}
	if e.zone == nil {
		e.zone = fallback
	}
	if e.zone == nil || e.zone.name == name {
		return e
	}
	for m := name.Parent(); ; m = m.Parent() {
		if n := s.special[m]; n != nil && n.facts&(isCut|isDNAME) != 0 {
			// The highest is the one that counts: those below it are not there.
			e.cut, e.dname = nil, nil
			if n.facts&isCut != 0 {
				e.cut = n
			} else {
				e.dname = n
			}
		}
		if m == e.zone.name {
			return e
		}
	}
}

// verdict is what the rules make of one name.
type verdict struct {
	won       []*claim
	conflicts []conflict
}

// pick is the winner of one key with the claims whose data it has.
type pick struct {
	win  *claim
	with []*claim
}

// decide applies the rules to one name. It changes nothing but scratch space.
func (s *State) decide(n *node, e setting) verdict {
	var v verdict
	live := s.live[:0]
	for _, c := range n.claims {
		switch {
		case c.bad:
			v.conflicts = append(v.conflicts, conflict{why: invalid, loser: c, text: s.invalid[c]})
		case c.fallback && e.yields:
		case e.zone == nil:
			v.lose(homeless, c, nil, nil)
		case e.dname != nil:
			v.lose(belowDNAME, c, nil, e.dname)
		case e.cut != nil && !(isAddress(c.Type) && s.isGlue(n.name, e.zone)):
			v.lose(belowCut, c, nil, e.cut)
		default:
			live = append(live, c)
		}
	}
	s.live = live
	var own *source
	switch {
	case e.zone == nil:
	case e.zone != n:
		own = e.zone.soa
	default:
		if i := slices.IndexFunc(live, func(c *claim) bool { return c.Type == record.TypeSOA }); i >= 0 {
			own = live[i].src
		}
	}
	picks := s.picks[:0]
	for len(live) > 0 {
		k := 1
		for k < len(live) && live[k].Key == live[0].Key {
			k++
		}
		picks = append(picks, s.choose(live[:k], own, &v))
		live = live[k:]
	}
	s.picks = picks
	picks = alias(picks, e.zone == n, &v)
	if e.zone != n {
		picks = s.delegate(picks, n, e.zone, &v)
	}
	v.won = n.won
	if !slices.EqualFunc(n.won, picks, func(c *claim, p pick) bool { return sameWin(c, p.win) }) {
		v.won = make([]*claim, len(picks))
		for i, p := range picks {
			v.won[i] = p.win
		}
	}
	return v
}

// sameWin tells whether a result is what it was, its provenance included.
func sameWin(old, c *claim) bool {
	return old == c || c.first != nil && old.first == c.first && old.TTL == c.TTL && slices.Equal(old.Data, c.Data)
}

// choose is rule 3 on the claims of one key, which are in order. It reorders g.
func (s *State) choose(g []*claim, own *source, v *verdict) pick {
	if len(g) == 1 {
		return pick{g[0], g}
	}
	slices.SortStableFunc(g, func(c, d *claim) int {
		if c.src.rank != d.src.rank || (c.src == own) == (d.src == own) {
			return c.compare(d)
		}
		if c.src == own {
			return -1
		}
		return 1
	})
	win := g[0]
	if s.policy.merges(win.src.kind, win.Key) {
		win = s.unite(g, v)
	}
	with := g[:0]
	for _, c := range g {
		switch {
		case c.SameData(win.RRset), win.first != nil && s.policy.merges(c.src.kind, c.Key) && contains(win.Data, c.Data):
			with = append(with, c)
		case win.first != nil && s.policy.merges(c.src.kind, c.Key):
			v.lose(tooLarge, c, win, nil)
		default:
			v.lose(otherData, c, win, nil)
		}
	}
	return pick{win, with}
}

// unite makes one RRset of all claims in g that the policy merges, as long as it
// fits a message.
func (s *State) unite(g []*claim, v *verdict) *claim {
	united := &claim{RRset: g[0].RRset, src: g[0].src, prov: g[0].prov, place: g[0].place, first: g[0]}
	for _, c := range g[1:] {
		if !s.policy.merges(c.src.kind, c.Key) || contains(united.Data, c.Data) {
			continue
		}
		if all := record.NewRRset(c.Owner, c.Type, united.TTL, slices.Concat(united.Data, c.Data)...); fits(all) {
			united.Data = all.Data
		}
	}
	if len(united.Data) == len(g[0].Data) {
		return g[0]
	}
	return united
}

// fits tells whether RRset.Check would find the size right; nothing else can be
// wrong with the union of valid RRsets.
func fits(r record.RRset) bool { return r.Check() == nil }

// contains tells whether every record of part is in all; both are in canonical
// order.
func contains(all, part []record.Rdata) bool {
	for _, d := range part {
		if _, ok := slices.BinarySearch(all, d); !ok {
			return false
		}
	}
	return true
}

// alias is rule 4 for CNAME. It returns the picks that stay.
func alias(picks []pick, apex bool, v *verdict) []pick {
	var cname, other *claim // the best of each side
	for _, p := range picks {
		side := &other
		switch {
		case p.win.Type == record.TypeCNAME:
			side = &cname
		case besideCNAME(p.win.Type):
			continue
		}
		// At an apex the SOA speaks for its side, whatever stands beside it.
		if *side == nil || p.win.src.rank < (*side).src.rank || apex && p.win.Type == record.TypeSOA {
			*side = p.win
		}
	}
	if cname == nil || other == nil {
		return picks
	}
	cnameLoses := apex || other.src.rank <= cname.src.rank
	stay := picks[:0]
	for _, p := range picks {
		isCNAME := p.win.Type == record.TypeCNAME
		switch {
		case besideCNAME(p.win.Type), isCNAME != cnameLoses:
			stay = append(stay, p)
		case !isCNAME:
			v.drop(aliasWins, p, cname, nil)
		case apex:
			v.drop(aliasAtApex, p, other, nil)
		default:
			v.drop(aliasLoses, p, other, nil)
		}
	}
	return stay
}

// besideCNAME tells what may stand at the name of a CNAME (RFC 4034 §2.5 and §4).
func besideCNAME(t record.Type) bool { return t == record.TypeRRSIG || t == record.TypeNSEC }

// delegate is rule 6 at a name that is no apex. It returns the picks that stay.
func (s *State) delegate(picks []pick, n *node, zone *node, v *verdict) []pick {
	ns, glue := (*claim)(nil), false
	for _, p := range picks {
		if p.win.Type == record.TypeNS {
			if ns == nil {
				ns = p.win
			}
			glue = glue || slices.Contains(p.win.Data, record.Rdata(n.name))
		}
	}
	if ns == nil {
		return picks
	}
	stay := picks[:0]
	for _, p := range picks {
		switch t := p.win.Type; {
		case t == record.TypeNS, t == record.TypeDS, besideCNAME(t),
			isAddress(t) && (glue || s.isGlue(n.name, zone)):
			stay = append(stay, p)
		default:
			v.drop(atCut, p, ns, nil)
		}
	}
	return stay
}

// isGlue tells whether an NS of the zone, at its apex or a cut, points to the name.
func (s *State) isGlue(name record.Name, zone *node) bool {
	return slices.ContainsFunc(s.targets[name], func(n *node) bool { return n.zone == zone })
}

func isAddress(t record.Type) bool { return t == record.TypeA || t == record.TypeAAAA }

// lose says that c is not in the dataset. The winner is a claim, or what stands at
// via when the conflict is read.
func (v *verdict) lose(why reason, c, winner *claim, via *node) {
	v.conflicts = append(v.conflicts, conflict{why: why, loser: c, winner: winner, via: via})
}

// drop is lose for all claims behind a pick.
func (v *verdict) drop(why reason, p pick, winner *claim, via *node) {
	for _, c := range p.with {
		v.lose(why, c, winner, via)
	}
}
