package reconcile

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Kind is what a conflict is about; metrics count by it.
type Kind string

// Kinds of conflicts, by rule.
const (
	Invalid  Kind = "invalid"  // rule 1: the claim is rejected, there is no winner
	Data     Kind = "data"     // rule 3: other data for the same key
	Alias    Kind = "cname"    // rule 4: a CNAME and other types at one name
	Below    Kind = "dname"    // rule 4: the name is below a DNAME
	Homeless Kind = "homeless" // rule 5: no zone holds the name, there is no winner
	Occluded Kind = "occluded" // rule 6: at or below a zone cut
	Warning  Kind = "warning"  // rule 7: address and PTR disagree; nothing is dropped
)

// Kinds is every kind, in order of the rules.
func Kinds() []Kind { return []Kind{Invalid, Data, Alias, Below, Homeless, Occluded, Warning} }

// Conflict is two claims that cannot both hold, or one claim that cannot hold.
type Conflict struct {
	Key  record.Key // of the loser
	Kind Kind
	// Winner is nil for a claim that is rejected for itself (Invalid, Homeless) and
	// for a Warning about a PTR that is missing.
	Winner *record.Claim
	// Loser is dropped, except when Kind is Warning.
	Loser *record.Claim
	Rule  string // what decided, in words
}

// String is the conflict in one line for people:
//
//	www.example.com. A: rule/web-vips (rules/web.go:41) conflicts with zone/example.com
//	(example.com.zone:12): people before robots (precedence zone > rule); zone/example.com wins
func (c Conflict) String() string {
	switch {
	case c.Kind == Warning && c.Winner == nil:
		return fmt.Sprintf("%s: %s: warning: %s", c.Key, who(c.Loser), c.Rule)
	case c.Kind == Warning:
		return fmt.Sprintf("%s: %s disagrees with %s: warning: %s", c.Key, who(c.Loser), who(c.Winner), c.Rule)
	case c.Winner == nil:
		return fmt.Sprintf("%s: %s is left out: %s", c.Key, who(c.Loser), c.Rule)
	}
	other := who(c.Winner)
	if c.Winner.Key != c.Key {
		other = c.Winner.Key.String() + " of " + other
	}
	return fmt.Sprintf("%s: %s conflicts with %s: %s; %s wins", c.Key, who(c.Loser), other, c.Rule, c.Winner.Source)
}

// who is a claim's source and place.
func who(c *record.Claim) string {
	var in []string
	if c.Place != "" {
		in = append(in, c.Place)
	}
	if c.Author != "" {
		in = append(in, "by "+c.Author)
	}
	if len(in) == 0 {
		return string(c.Source)
	}
	return fmt.Sprintf("%s (%s)", c.Source, strings.Join(in, ", "))
}

// reason is what decided, before it is put into words.
type reason uint8

const (
	invalid reason = iota
	otherData
	tooLarge
	aliasWins
	aliasLoses
	aliasAtApex
	belowDNAME
	homeless
	atCut
	belowCut
	noPTR
	otherPTR
)

func (r reason) kind() Kind {
	switch r {
	case invalid:
		return Invalid
	case otherData, tooLarge:
		return Data
	case aliasWins, aliasLoses, aliasAtApex:
		return Alias
	case belowDNAME:
		return Below
	case homeless:
		return Homeless
	case atCut, belowCut:
		return Occluded
	}
	return Warning
}

// conflict is a Conflict as it is kept. What stands at another name, and so can
// change without this name, is looked up when the conflict is read.
type conflict struct {
	why    reason
	loser  *claim
	winner *claim // nil: none, or what stands at via
	via    *node  // the cut or the DNAME above
	text   string // why the claim is invalid; what is wrong with the PTR
}

// setConflicts replaces what is known about a node in m, which is s.conflicts or
// s.warnings.
func (s *State) setConflicts(m map[*node][]conflict, n *node, now []conflict) {
	for _, c := range m[n] {
		s.counts[c.why.kind()]--
	}
	for _, c := range now {
		s.counts[c.why.kind()]++
	}
	if len(now) == 0 {
		delete(m, n)
	} else {
		m[n] = now
	}
}

// against is the claim that decided, or nil.
func (c conflict) against() *claim {
	if c.via == nil {
		return c.winner
	}
	want := record.TypeNS
	if c.why == belowDNAME {
		want = record.TypeDNAME
	}
	for _, w := range c.via.won {
		if w.Type == want {
			return w
		}
	}
	return nil
}

// rule says in words what decided.
func (s *State) rule(c conflict) string {
	w := c.against()
	switch c.why {
	case invalid, noPTR, otherPTR:
		return c.text
	case otherData:
		return s.precedence(w, c.loser)
	case tooLarge:
		return fmt.Sprintf("united with it, the RRset would be larger than the %d octets that fit a DNS message", record.MaxRRsetSize)
	case aliasWins:
		return "a CNAME stands alone at its name, and its side has the higher precedence: " + s.precedence(w, c.loser)
	case aliasLoses:
		if w.src.rank == c.loser.src.rank {
			return "a CNAME stands alone at its name, and at equal precedence it loses to other types"
		}
		return "a CNAME stands alone at its name, and the side of the other types has the higher precedence: " + s.precedence(w, c.loser)
	case aliasAtApex:
		return "the apex of a zone can have no CNAME"
	case belowDNAME:
		return fmt.Sprintf("names below %s are not there, its DNAME redirects them", c.via.name)
	case homeless:
		return "no zone holds the name"
	case atCut:
		return fmt.Sprintf("%s is a zone cut: only NS, DS and glue stand there", c.loser.Owner)
	}
	return fmt.Sprintf("it is below the zone cut %s and no glue for an NS of the zone", c.via.name)
}

// precedence says why w goes before l.
func (s *State) precedence(w, l *claim) string {
	people := func(kind string) bool {
		return kind == record.KindOverride || kind == record.KindConfig || kind == record.KindZone
	}
	switch {
	case w.src.rank != l.src.rank && people(w.src.kind) && !people(l.src.kind):
		return fmt.Sprintf("people before robots (precedence %s > %s)", w.src.kind, l.src.kind)
	case w.src.rank != l.src.rank:
		return fmt.Sprintf("precedence %s > %s", w.src.kind, l.src.kind)
	case w.src == l.src:
		return "one source claims both, the lower TTL and then the data in order decide"
	}
	if n := s.nodes[l.Owner]; n != nil && n.zone != nil && n.zone.soa == w.src {
		return fmt.Sprintf("equal precedence (%s), the source of the SOA of %s goes first", w.src.kind, n.zone.name)
	}
	return fmt.Sprintf("equal precedence (%s), the order of the sources' names decides", w.src.kind)
}

func (s *State) public(c conflict) Conflict {
	out := Conflict{Key: c.loser.Key, Kind: c.why.kind(), Loser: c.loser.public(), Rule: s.rule(c)}
	if w := c.against(); w != nil {
		out.Winner = w.public()
	}
	return out
}

// Conflicts gives every conflict, in order of Key, as of the last Reconcile. The
// State must not change meanwhile.
func (s *State) Conflicts() iter.Seq[Conflict] {
	return func(yield func(Conflict) bool) {
		var all []conflict
		for _, list := range s.conflicts {
			all = append(all, list...)
		}
		for _, list := range s.warnings {
			all = append(all, list...)
		}
		slices.SortFunc(all, compareConflicts)
		for _, c := range all {
			if !yield(s.public(c)) {
				return
			}
		}
	}
}

// ConflictsOn gives the conflicts of the claims on a name, but no warnings, in the order of
// Conflicts, as of the last Reconcile.
func (s *State) ConflictsOn(name record.Name) (list []Conflict) {
	n := s.nodes[name]
	if n == nil {
		return nil
	}
	all := slices.Clone(s.conflicts[n])
	slices.SortFunc(all, compareConflicts)
	for _, c := range all {
		list = append(list, s.public(c))
	}
	return list
}

func compareConflicts(a, b conflict) int {
	return cmp.Or(a.loser.Owner.Compare(b.loser.Owner), a.loser.compare(b.loser), cmp.Compare(a.why, b.why), strings.Compare(a.text, b.text))
}
