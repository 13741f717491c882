package guard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Kind is what is wrong.
type Kind string

// The kinds of trips.
const (
	Removed   Kind = "removed"     // a bound
	Replaced  Kind = "replaced"    // a bound
	Repointed Kind = "repointed"   // a bound
	Created   Kind = "created"     // a bound
	Lowered   Kind = "ttl-lowered" // a bound
	Moved     Kind = "moved"       // a bound: prefixes of a map get another order of PoPs
	Malformed Kind = "malformed"   // a claim of maps, PoPs or terms cannot be read
	Emptied   Kind = "emptied"     // a zone has nothing left but SOA and NS
	Gone      Kind = "gone"        // a zone is taken away
	Silent    Kind = "silent"      // a rule or map returns nothing any more
	Protected Kind = "protected"   // a protected name loses an RRset
	Service   Kind = "service"     // a service loses every address
)

// Scope is where it is wrong.
type Scope string

// The scopes of trips.
const (
	ScopeZone    Scope = "zone"    // what the source changes in Trip.Zone
	ScopeSource  Scope = "source"  // what the source changes in all zones
	ScopeOverall Scope = "overall" // what all sources change
	ScopeName    Scope = "name"    // single names
	ScopeMap     Scope = "map"     // prefixes of a map; Trip.Zone is empty
	ScopeClaim   Scope = "claim"   // single claims, whatever they would change
)

// Verdict is what is wrong with a change.
type Verdict struct {
	Source record.Source
	// RRsets that the change removes, replaces and creates, counted in bounds or not;
	// one that is renamed is replaced.
	Removed, Replaced, Created int
	Trips                      []Trip // nothing is wrong when there are none
}

// Held tells whether the change must wait for a person.
func (v Verdict) Held() bool { return len(v.Trips) > 0 }

// String says what is wrong, a sentence each line, without full stops, since names
// end in dots; empty when nothing is.
func (v Verdict) String() string {
	if !v.Held() {
		return ""
	}
	var b strings.Builder
	for _, t := range v.Trips {
		b.WriteString(t.Text + "\n")
	}
	fmt.Fprintf(&b, "In all it removes %s, replaces %s and creates %s RRsets", number(v.Removed), number(v.Replaced), number(v.Created))
	return b.String()
}

// Bounds of what is said to people of a change that is held: a node of the store has room
// for it.
const (
	maxWhy      = 20
	maxSentence = 2000 // octets
)

// Why says what is wrong in the words of a hold, a sentence each.
func (v Verdict) Why() (why []string) {
	for i, t := range v.Trips {
		if i == maxWhy {
			return append(why, fmt.Sprintf("and %d more of the kind", len(v.Trips)-maxWhy))
		}
		s := t.Text
		if len(s) > maxSentence {
			s = strings.ToValidUTF8(s[:maxSentence], "") + "..."
		}
		why = append(why, s)
	}
	return why
}

// Trip is one thing that is wrong.
type Trip struct {
	Kind  Kind
	Scope Scope
	Zone  record.Name // empty unless it is wrong in a zone
	// Count is how many RRsets the change does it to, not those that were announced,
	// nor those to which the same was done within the window.
	Count     int
	Earlier   int    // how many it was done to before, within the window
	Announced int    // how many more it does it to, which were expected
	Of        int    // how many there were; 0 when it does not matter
	Allowed   int    // how many are let through within the window; only of a bound
	Bound     Bound  // that is exceeded; only of a bound
	Option    string // of the bound, in Bounds
	// Examples has a few of the RRsets, with what they were and would be.
	Examples []string
	Text     string // all of this in a sentence, without the full stop

	why string // a name is protected
}

// maxExamples is how many examples a trip has.
const maxExamples = 3

// trip adds a trip, with examples of the events that it is of.
func (h *hearing) trip(t Trip, seen []*event) {
	types := map[record.Type]int{}
	renames := 0
	for _, e := range seen {
		types[e.key.Type]++
		if e.renamed() {
			renames++
		}
	}
	// A PTR says less than the address that it goes with.
	shown := slices.DeleteFunc(slices.Clone(seen), func(e *event) bool { return e.key.Type == record.TypePTR })
	if len(shown) == 0 {
		shown = seen
	}
	for i := range min(maxExamples, len(shown)) {
		at := i
		if len(shown) > maxExamples { // first, middle and last
			at = i * (len(shown) - 1) / (maxExamples - 1)
		}
		t.Examples = append(t.Examples, shown[at].words())
	}
	t.Text = h.sentence(&t, byType(types, len(seen)), renames)
	h.trips = append(h.trips, t)
}

// sentence says what is wrong.
func (h *hearing) sentence(t *Trip, types string, renames int) string {
	who := string(h.source)
	if who == "" {
		who = "what changed while nobody led"
	}
	var b strings.Builder
	b.WriteString(who + " would ")
	switch t.Kind {
	case Gone:
		if t.Of == 0 {
			return b.String() + "take the zone " + t.Zone.String() + " away, in which was nothing but SOA and NS"
		}
		fmt.Fprintf(&b, "take the zone %s away: its SOA, and %s with it", t.Zone, rrsets(t.Count))
	case Emptied:
		fmt.Fprintf(&b, "empty the zone %s: %s, and none is left but SOA and NS", t.Zone, removesAll(t.Count))
	case Silent:
		fmt.Fprintf(&b, "return nothing any more, and made %s", rrsets(t.Count))
	case Protected:
		if t.Count == 1 {
			return b.String() + "take away " + t.Examples[0] + ", which is not let through because " + t.why
		}
		fmt.Fprintf(&b, "take away %s, each of which is not let through because %s", rrsets(t.Count), t.why)
	case Service:
		if t.Count == 1 {
			return b.String() + "leave none of the addresses of " + t.Examples[0]
		}
		fmt.Fprintf(&b, "leave none of the addresses of %s that have several", rrsets(t.Count))
	case Moved:
		return b.String() + h.movedText(t)
	default:
		h.bounded(&b, t)
	}
	if t.Count > 1 && types != "" {
		b.WriteString(": " + types)
		if renames > 0 {
			fmt.Fprintf(&b, ", %s of them renamed", number(renames))
		}
	}
	switch {
	case len(t.Examples) == 0:
	case t.Count > len(t.Examples):
		b.WriteString("; for example " + strings.Join(t.Examples, ", "))
	default:
		b.WriteString("; " + strings.Join(t.Examples, ", "))
	}
	return b.String()
}

// bounded says by how much a bound is exceeded.
func (h *hearing) bounded(b *strings.Builder, t *Trip) {
	verb := map[Kind]string{Removed: "remove", Replaced: "replace", Repointed: "repoint", Created: "create", Lowered: "lower the TTL, to 0 or near it, of"}[t.Kind]
	where := map[Scope]string{ScopeZone: " of " + t.Zone.String(), ScopeSource: " that it made", ScopeOverall: " of the dataset"}[t.Scope]
	window := short(h.bounds.Window)
	sum := t.Count + t.Earlier
	of := fmt.Sprintf(" of %s (%s)", number(t.Of), percent(sum, t.Of))
	switch t.Kind {
	case Created:
		of = " where there were " + number(t.Of)
	case Lowered: // SOA and NS are among them, and not in t.Of
		of = ""
	}
	switch {
	case t.Earlier > 0:
		before := "before"
		if t.Scope == ScopeOverall {
			before = "before, by all sources"
		}
		fmt.Fprintf(b, "%s %s%s; with the %s %s, that is %s%s within %s", verb, rrsets(t.Count), where, number(t.Earlier), before, number(sum), of, window)
	case t.Kind == Created || t.Kind == Lowered:
		fmt.Fprintf(b, "%s %s%s%s", verb, rrsets(t.Count), where, of)
	default:
		fmt.Fprintf(b, "%s %s of %s%s (%s)", verb, number(t.Count), rrsets(t.Of), where, percent(sum, t.Of))
	}
	fmt.Fprintf(b, "; at most %s let through within %s (%s is %s)", are(t.Allowed), window, t.Option, t.Bound)
	if t.Announced > 0 {
		fmt.Fprintf(b, " besides %s that were announced", number(t.Announced))
	}
}
