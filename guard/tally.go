package guard

import (
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// tally is what a change does, by zone.
type tally struct {
	events []event
	zones  []share
	index  map[record.Name]int // of zones, once there are many; otherwise nil
	shift  shift
	whole  counts // RRsets that the change removes, replaces, ..., counted or not
}

// share is a change's part in one zone.
type share struct {
	apex      record.Name // "" is outside every zone
	size      int         // content before the change
	net       int         // content more than before
	n         counts      // counted in bounds
	announced counts      // not counted, because it was
	young     bool        // empty when the window began
	again     bool        // has what was counted before
	lost      bool        // the change takes the zone away, or empties it
	before    *window     // of the source in the zone; may be nil
}

// manyZones is how many zones of a change are looked through one by one.
const manyZones = 8

// tally counts what a change does, at now.
func (j *Judge) tally(source record.Source, change *reconcile.Change, now int64) *tally {
	t := &tally{events: events(change, make([]event, 0, len(change.Put)+len(change.Remove)))}
	for i := range t.events {
		e := &t.events[i]
		t.whole[e.effect]++
		if e.key.Type != record.TypeSOA || e.effect == replaced {
			continue
		}
		if t.shift == nil {
			t.shift = shift{}
		}
		if e.effect == removed {
			t.shift[e.key.Owner]--
		} else {
			t.shift[e.key.Owner]++
		}
	}
	reviewed := j.bounds.reviewed(source)
	for i := range t.events {
		e := &t.events[i]
		var s *share
		if e.effect == created {
			e.zone = t.zone(j, source, j.census.enclosing(e.key.Owner, t.shift), now)
		} else {
			e.zone = t.zone(j, source, j.census.enclosing(e.key.Owner, nil), now)
		}
		s = &t.zones[e.zone]
		if !isContent(e.key, s.apex) {
			continue
		}
		switch e.effect {
		case removed:
			s.net--
		case created:
			s.net++
		}
		if reviewed && e.isRepointed() {
			e.effect = repointed
		}
		e.counted = !e.isChallenge() && !isSteering(e.key.Type) && (e.effect != created || !s.young)
	}
	t.pairRenames()
	for i := range t.events {
		e := &t.events[i]
		if e.counted {
			t.count(e, e.effect, now)
		}
		if e.lowered {
			t.count(e, lowered, now) // of SOA and NS, too
		}
	}
	return t
}

// count counts an event in its zone, unless the same was done to the RRset before.
func (t *tally) count(e *event, f effect, now int64) {
	s := &t.zones[e.zone]
	if _, again := s.before.has(deed{*e.key, f}, now); again {
		s.again = true
	} else {
		s.n[f]++
	}
}

// zone is the index of the zone's share.
func (t *tally) zone(j *Judge, source record.Source, apex record.Name, now int64) int {
	last := len(t.zones) - 1
	switch {
	case last >= 0 && t.zones[last].apex == apex:
		return last
	case t.index != nil:
		if i, ok := t.index[apex]; ok {
			return i
		}
	default:
		for i := range t.zones {
			if t.zones[i].apex == apex {
				return i
			}
		}
	}
	s := share{apex: apex, young: true, before: j.windows[place{source, apex}]}
	if z := j.census.zones[apex]; z != nil {
		s.size = z.rrsets
		s.young = z.rrsets == 0 || z.empty > now-j.span
	}
	t.zones = append(t.zones, s)
	if t.index != nil {
		t.index[apex] = last + 1
	} else if len(t.zones) > manyZones {
		t.index = make(map[record.Name]int)
		for i := range t.zones {
			t.index[t.zones[i].apex] = i
		}
	}
	return last + 1
}

// sum is what counts in all zones.
func (t *tally) sum() (n counts) {
	for i := range t.zones {
		n.add(&t.zones[i].n)
	}
	return n
}
