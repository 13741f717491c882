package reconcile

import (
	"fmt"
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
