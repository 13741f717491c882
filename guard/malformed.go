package guard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Malformed adds to a verdict what of the claims of its source is malformed: those of maps,
// PoPs and terms that are not among what the source claimed before in the same shards. A change
// does not show them, as they are no part of the dataset; what they replace is in it as
// removed.
func (v *Verdict) Malformed(before, now []record.Claim) {
	t := Trip{Kind: Malformed, Scope: ScopeClaim}
	for i := range now {
		c := &now[i]
		err := malformed(c)
		if err == nil || slices.ContainsFunc(before, func(b record.Claim) bool { return b.RRset.Equal(c.RRset) }) {
			continue
		}
		if t.Count++; len(t.Examples) < maxExamples {
			text := err.Error()
			if c.Place != "" {
				text += " (" + c.Place + ")"
			}
			t.Examples = append(t.Examples, text)
		}
	}
	if t.Count == 0 {
		return
	}
	claims := "a claim that is malformed, and would"
	if t.Count > 1 {
		claims = number(t.Count) + " claims that are malformed, and would"
	}
	t.Text = fmt.Sprintf("%s makes %s be left out, with what was there in the place: %s", v.Source, claims, strings.Join(t.Examples, "; "))
	v.Trips = append(v.Trips, t)
}

// malformed tells why a claim of zonecast's own types is none, or nil. Rules and updates say
// nothing of maps: what they claim of them was never in force.
func malformed(c *record.Claim) error {
	if !c.Type.IsOwn() {
		return nil
	}
	if c.Type == record.TypeTerms {
		for _, d := range c.Data {
			if err := record.CheckTerms(d); err != nil {
				return fmt.Errorf("%s: %w", c.Key, err)
			}
		}
		return nil
	}
	if kind := c.Source.Kind(); kind == record.KindRule || kind == record.KindUpdate {
		return nil
	}
	return geo.CheckRRset(c.RRset)
}
