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
}

func countOf(source record.Source, zone record.Name, n counts) Count {
	return Count{source, zone, n[removed], n[replaced], n[repointed], n[created], n[lowered]}
}

// Restore remembers what another Judge counted at a time. Calls come in order of time,
// before any change is judged. Which RRsets they were is not known any more: one that is
// replaced again counts again.
func (j *Judge) Restore(c Count, at time.Time) {
	n := counts{removed: max(c.Removed, 0), replaced: max(c.Replaced, 0), repointed: max(c.Repointed, 0), created: max(c.Created, 0), lowered: max(c.Lowered, 0)}
	e := j.clock.set(at)
	places := []*window{j.window(c.Source, ""), j.overall}
	if c.Zone != "" {
		places = append(places, j.window(c.Source, c.Zone))
	}
	for _, w := range places {
		w.at(e).n.add(&n)
	}
}
