package reconcile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Verdict is what became of a claim.
type Verdict string

// Verdicts.
const (
	Wins   Verdict = "wins"   // it is in the dataset
	Agrees Verdict = "agrees" // the dataset has its data, from a claim before it
	United Verdict = "united" // its records are in the dataset, with those of others
	Loses  Verdict = "loses"  // a conflict keeps it out
	Yields Verdict = "yields" // a Fallback claim, and another zone is there
)

// Finding is one claim and what became of it.
type Finding struct {
	Claim   record.Claim
	Verdict Verdict
	Kind    Kind          // of the conflict that a claim loses; otherwise ""
	Rule    string        // why, in words
	Against *record.Claim // the claim that decided against it, or that it agrees with; may be nil
}

// Explanation is why a name is in the dataset as it is.
type Explanation struct {
	Name record.Name
	Type record.Type // zero: every type
	Zone record.Name // apex of the zone that holds the name; "" when none does
	// RRsets are those of Name and Type in the dataset, in canonical order.
	RRsets []record.RRset
	// Wildcard is the name in the dataset that answers for Name, which is not there
	// itself (RFC 4592); "" when none does.
	Wildcard record.Name
	// Findings has every claim on the name, of the type asked or one that decided
	// over it (CNAME, DNAME, NS), in order of type, location and precedence.
	Findings []Finding
	// Around has claims on other names that decide over this one: the zone's SOA,
	// the NS of a zone cut or the DNAME above it.
	Around []record.Claim
	// Warnings are conflicts of kind Warning on the name.
	Warnings []Conflict
	// Notes say the rest in sentences, the most important first.
	Notes []string
}

// Explain tells why the dataset has at a name what it has; t zero asks for every
// type. It speaks as of the last Reconcile and expects that nothing is Dirty.
func (s *State) Explain(name record.Name, t record.Type) Explanation {
	x := Explanation{Name: name, Type: t}
	e := s.setting(name)
	if e.zone != nil {
		x.Zone = e.zone.name
	}
	n := s.nodes[name]
	if n != nil {
		for _, c := range n.won {
			if t == 0 || t == c.Type {
				x.RRsets = append(x.RRsets, c.RRset)
			}
		}
		x.Findings = s.findings(n, e, t)
		x.Warnings = s.warningsOn(n, t)
	}
	x.around(e)
	s.notes(&x, n, e)
	return x
}

// Findings gives every claim on a name and what became of it, as Explain does, as of the
// last Reconcile.
func (s *State) Findings(name record.Name) []Finding {
	n := s.nodes[name]
	if n == nil {
		return nil
	}
	return s.findings(n, s.setting(name), 0)
}

// findings says what became of the claims on n that matter for the type.
func (s *State) findings(n *node, e setting, t record.Type) []Finding {
	lost := make(map[*claim]conflict)
	matters := make(map[*claim]bool)
	for _, c := range s.decide(n, e).conflicts {
		lost[c.loser] = c
	}
	for _, c := range n.claims {
		if t == 0 || c.Type == t || c.Type == record.TypeCNAME {
			matters[c] = true
			if w := lost[c].winner; w != nil {
				matters[cmp.Or(w.first, w)] = true
			}
		}
	}
	var list []Finding
	for _, c := range n.claims {
		if !matters[c] {
			continue
		}
		f := Finding{Claim: *c.public()}
		if l, ok := lost[c]; ok {
			f.Verdict, f.Kind, f.Rule = Loses, l.why.kind(), s.rule(l)
			if w := l.against(); w != nil {
				f.Against = w.public()
			}
		} else if c.fallback && e.yields {
			f.Verdict = Yields
			if w := s.zoneAbove(n.name); w != nil {
				f.Rule, f.Against = fmt.Sprintf("a fallback: it holds only where no zone is, and %s is one", w.Owner), w.public()
			}
		} else {
			s.won(&f, n, c)
		}
		list = append(list, f)
	}
	return list
}

// won says how a claim that lost nothing got into the dataset.
func (s *State) won(f *Finding, n *node, c *claim) {
	i := slices.IndexFunc(n.won, func(w *claim) bool { return w.Key == c.Key })
	if i < 0 {
		return // claimed after the last Reconcile
	}
	alone := true
	for _, d := range n.claims {
		alone = alone && (d == c || d.Key != c.Key)
	}
	switch w := n.won[i]; {
	case w == c && alone:
		f.Verdict, f.Rule = Wins, "nobody else claims it"
	case w == c:
		f.Verdict, f.Rule = Wins, "first in precedence"
	case w.first == c:
		f.Verdict, f.Rule = United, "the policy merges it, and it gives the TTL"
	case w.first != nil:
		f.Verdict, f.Rule = United, fmt.Sprintf("the policy merges it, the TTL is that of %s", w.first.src.name)
		f.Against = w.public()
	default:
		f.Verdict, f.Rule = Agrees, "the same data, from a claim that goes first and gives the TTL"
		f.Against = w.public()
	}
}

// zoneAbove is the claim to which Fallback claims at the name yield.
func (s *State) zoneAbove(name record.Name) *claim {
	for m := name; m != ""; m = m.Parent() {
		if n := s.special[m]; n != nil && n.facts&claimsApex != 0 {
			for _, c := range n.claims {
				if c.Type == record.TypeSOA && !c.bad && !c.fallback {
					return c
				}
			}
		}
	}
	return nil
}

// around adds the claims above that decide over the name.
func (x *Explanation) around(e setting) {
	add := func(n *node, t record.Type) {
		if n == nil {
			return
		}
		for _, c := range n.won {
			if c.Type == t {
				x.Around = append(x.Around, *c.public())
			}
		}
	}
	if e.zone != nil && e.zone.name != x.Name {
		add(e.zone, record.TypeSOA)
	}
	add(e.cut, record.TypeNS)
	add(e.dname, record.TypeDNAME)
}

// warningsOn are the warnings about addresses of n, and about the PTR when n is a
// reverse name.
func (s *State) warningsOn(n *node, t record.Type) []Conflict {
	var found []conflict
	if t == 0 || t == record.TypePTR {
		found = append(found, s.warnings[n]...)
	}
	for _, name := range addresses(n.won, ofRules) {
		if r := s.nodes[name]; r != nil && r != n {
			for _, c := range s.warnings[r] {
				if c.loser.Owner == n.name && (t == 0 || c.loser.Type == t) {
					found = append(found, c)
				}
			}
		}
	}
	slices.SortFunc(found, compareConflicts)
	var list []Conflict
	for _, c := range found {
		list = append(list, s.public(c))
	}
	return list
}

func (s *State) notes(x *Explanation, n *node, e setting) {
	say := func(format string, args ...any) { x.Notes = append(x.Notes, fmt.Sprintf(format, args...)) }
	switch {
	case e.zone == nil:
		say("no zone of the dataset holds %s: queries for it are refused", x.Name)
		return
	case e.cut != nil && len(x.RRsets) > 0:
		say("%s is glue for the delegation of %s, and given only with referrals", x.Name, e.cut.name)
		return
	case e.cut != nil:
		say("%s is below the zone cut %s: queries are referred to the servers of that zone", x.Name, e.cut.name)
		return
	case e.dname != nil:
		say("%s is below the DNAME of %s, which redirects queries for it", x.Name, e.dname.name)
		return
	}
	if n != nil && len(n.won) > 0 {
		if n.facts&isCut != 0 {
			say("%s is a zone cut: queries are referred to the servers of that zone", x.Name)
		}
		i := slices.IndexFunc(n.won, func(c *claim) bool { return c.Type == record.TypeCNAME })
		switch {
		case i >= 0 && x.Type != record.TypeCNAME:
			say("%s is an alias of %s", x.Name, target(n.won[i].Data[0]))
		case len(x.RRsets) == 0:
			say("%s is there but has no %s", x.Name, x.Type)
		}
		return
	}
	if s.holdsBelow(x.Name) {
		say("%s has no records, but names below it have: the answer is empty, not a name error", x.Name)
		return
	}
	for m := x.Name; m != e.zone.name; {
		m = m.Parent()
		if w, err := m.Wildcard(); err == nil && w != x.Name {
			if wn := s.nodes[w]; wn != nil && len(wn.won) > 0 {
				x.Wildcard = w
				say("%s is not in the dataset, %s answers for it", x.Name, w)
				return
			}
		}
		if a := s.nodes[m]; a != nil && len(a.won) > 0 || s.holdsBelow(m) {
			break // the closest encloser: wildcards above it do not reach the name (RFC 4592 §2.2.1)
		}
	}
	say("%s is not in the dataset: the answer is a name error", x.Name)
}

// holdsBelow tells whether the dataset has a name below this one.
func (s *State) holdsBelow(name record.Name) bool {
	for n := range s.index.below(name) {
		if len(n.won) > 0 {
			return true
		}
	}
	return false
}

// String is the explanation for people, several lines.
func (x Explanation) String() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s", x.Name)
	if x.Type != 0 {
		fmt.Fprintf(&sb, " %s", x.Type)
	}
	if x.Zone != "" {
		fmt.Fprintf(&sb, " in zone %s", x.Zone)
	}
	sb.WriteByte('\n')
	for _, note := range x.Notes {
		fmt.Fprintf(&sb, "  %s\n", note)
	}
	for _, f := range x.Findings {
		fmt.Fprintf(&sb, "  %-6s %s from %s: %s", f.Verdict, brief(f.Claim.RRset), who(&f.Claim), f.Rule)
		if f.Against != nil {
			against := who(f.Against)
			if f.Against.Key != f.Claim.Key {
				against = f.Against.Key.String() + " from " + against
			}
			fmt.Fprintf(&sb, " (%s)", against)
		}
		if f.Claim.Reason != "" {
			fmt.Fprintf(&sb, "; %s", f.Claim.Reason)
		}
		sb.WriteByte('\n')
	}
	for i := range x.Around {
		fmt.Fprintf(&sb, "  above  %s from %s\n", brief(x.Around[i].RRset), who(&x.Around[i]))
	}
	for _, w := range x.Warnings {
		fmt.Fprintf(&sb, "  %s\n", w)
	}
	return sb.String()
}

// brief is an RRset on one line: key, TTL and the first records.
func brief(r record.RRset) string {
	const most = 4 // records shown
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s %d", r.Key, r.TTL)
	for i, d := range r.Data {
		if i == most {
			fmt.Fprintf(&sb, " and %d more", len(r.Data)-most)
			break
		}
		if i > 0 {
			sb.WriteByte(',')
		}
		sb.WriteByte(' ')
		sb.WriteString(text(r.Type, d))
	}
	return sb.String()
}

// text is RDATA for people: addresses and names as such, everything else as RFC 3597
// writes unknown types, cut where it gets long.
func text(t record.Type, d record.Rdata) string {
	if checkRdata(t, d) == nil {
		switch t {
		case record.TypeA, record.TypeAAAA:
			a, _ := netip.AddrFromSlice([]byte(d))
			return a.String()
		case record.TypeNS, record.TypeCNAME, record.TypePTR, record.TypeDNAME:
			return target(d).String()
		case record.TypeTXT:
			return fmt.Sprintf("%.60q", string(d[1:1+int(d[0])]))
		}
	}
	const most = 16 // octets shown
	if len(d) > most {
		return fmt.Sprintf("\\# %d %x...", len(d), string(d[:most]))
	}
	return fmt.Sprintf("\\# %d %x", len(d), string(d))
}
