package guard

import (
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Expectation is a mass change that a person announced. What it announces is counted
// in no bound, and is used up as it comes.
type Expectation struct {
	ID     string
	Zone   record.Name   // empty means every zone
	Source record.Source // empty means every source
	// RRsets that may still come. Replacements are of repointed CNAMEs, too.
	Removals, Replacements, Creations int
	Until                             time.Time // after it nothing is expected any more
}

// Check tells why the expectation makes no sense, or nil.
func (e Expectation) Check() error {
	switch {
	case e.ID == "":
		return fmt.Errorf("expectation has no ID")
	case e.Zone == "" && e.Source == "":
		return fmt.Errorf("expectation %s is for every zone and every source, expected one of both at least", e.ID)
	case e.Source != "" && e.Source.Check() != nil:
		return fmt.Errorf("expectation %s: %w", e.ID, e.Source.Check())
	case e.Removals < 0 || e.Replacements < 0 || e.Creations < 0:
		return fmt.Errorf("expectation %s has %d removals, %d replacements and %d creations, expected none below 0", e.ID, e.Removals, e.Replacements, e.Creations)
	case e.spent():
		return fmt.Errorf("expectation %s expects nothing: no removals, replacements or creations", e.ID)
	case e.Until.IsZero():
		return fmt.Errorf("expectation %s has no end", e.ID)
	}
	return nil
}

func (e *Expectation) spent() bool { return e.Removals+e.Replacements+e.Creations == 0 }

// left is how many RRsets with the effect may still come; nil when none is for bounds.
func (e *Expectation) left(f effect) *int {
	switch f {
	case removed:
		return &e.Removals
	case replaced, repointed:
		return &e.Replacements
	case created:
		return &e.Creations
	}
	return nil
}

// Expect lets through what e announces, from now on. One with the same ID is replaced.
func (j *Judge) Expect(e Expectation) error {
	if err := e.Check(); err != nil {
		return err
	}
	j.Unexpect(e.ID)
	j.expected = append(j.expected, e)
	// What ends first is used first.
	slices.SortStableFunc(j.expected, func(a, b Expectation) int { return a.Until.Compare(b.Until) })
	return nil
}

// Unexpect takes an expectation back; false when there is none with the ID, or no
// more.
func (j *Judge) Unexpect(id string) bool {
	before := len(j.expected)
	j.expected = slices.DeleteFunc(j.expected, func(e Expectation) bool { return e.ID == id })
	return len(j.expected) < before
}

// Expectations gives what is left of them at now, the first to end first.
func (j *Judge) Expectations(now time.Time) []Expectation {
	var left []Expectation
	for _, e := range j.expected {
		if e.Until.After(now) {
			left = append(left, e)
		}
	}
	return left
}

// announce takes what was expected out of what counts, and gives what is left of the
// expectations.
func (t *tally) announce(source record.Source, expected []Expectation) []Expectation {
	for i := range t.zones {
		s := &t.zones[i]
		for k := range expected {
			e := &expected[k]
			if e.Zone != "" && e.Zone != s.apex || e.Source != "" && e.Source != source {
				continue
			}
			for f := range lowered {
				left := e.left(f)
				n := min(*left, s.n[f])
				*left -= n
				s.n[f] -= n
				s.announced[f] += n
			}
		}
	}
	return slices.DeleteFunc(expected, func(e Expectation) bool { return e.spent() })
}
