package guard

import (
	"time"

	"github.com/zonecast/zonecast/record"
)

// Count is what of a source's accepted change counts in one zone. Kept and given to the
// next Judge, it makes that one as strict as this one is.
type Count struct {
	Source record.Source
	Zone   record.Name // empty is outside every zone, or in no zone in particular
	// RRsets.
	Removed, Replaced, Repointed, Created, Lowered int
	// Moved is prefixes of Map that got another order of PoPs; such a count has nothing else.
	Map   string
	Moved int
}

func countOf(source record.Source, zone record.Name, n counts) Count {
	return Count{Source: source, Zone: zone, Removed: n[removed], Replaced: n[replaced], Repointed: n[repointed], Created: n[created], Lowered: n[lowered]}
}

// Restore remembers what another Judge counted at a time. Calls come in order of time,
// before any change is judged. Which RRsets they were is not known any more: one that is
// replaced again counts again.
func (j *Judge) Restore(c Count, at time.Time) {
	n := counts{removed: max(c.Removed, 0), replaced: max(c.Replaced, 0), repointed: max(c.Repointed, 0), created: max(c.Created, 0), lowered: max(c.Lowered, 0)}
	e := j.clock.set(at)
	if c.Map != "" {
		j.movedWindow(c.Map).at(e).n[replaced] += max(c.Moved, 0)
		return
	}
	places := []*window{j.window(c.Source, ""), j.overall}
	if c.Zone != "" {
		places = append(places, j.window(c.Source, c.Zone))
	}
	for _, w := range places {
		w.at(e).n.add(&n)
	}
}
