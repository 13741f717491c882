package guard

import (
	"slices"

	"github.com/zonecast/zonecast/record"
)

// hearing is one judgement under way.
type hearing struct {
	*Judge
	*tally
	source record.Source
	now    int64
	trips  []Trip
	byZone [][]*event // made when it is needed first
}

// which gives the events that are so, of the zone with the index, or of all with -1.
func (h *hearing) which(zone int, so func(*event) bool) (found []*event) {
	if h.byZone == nil {
		h.byZone = make([][]*event, len(h.tally.zones)+1)
		for i := range h.events {
			e := &h.events[i]
			h.byZone[0] = append(h.byZone[0], e)
			h.byZone[e.zone+1] = append(h.byZone[e.zone+1], e)
		}
	}
	for _, e := range h.byZone[zone+1] {
		if so(e) {
			found = append(found, e)
		}
	}
	return found
}

// zones looks for zones emptied, or taken away.
func (h *hearing) zones() {
	for i := range h.tally.zones {
		s := &h.tally.zones[i]
		was, is := h.census.soas(s.apex, nil) > 0, h.census.soas(s.apex, h.shift) > 0
		t := Trip{Kind: Gone, Scope: ScopeZone, Zone: s.apex, Count: s.size, Of: s.size}
		switch {
		case !was:
			continue
		case !is:
			above := h.census.enclosing(s.apex.Parent(), h.shift)
			if above != "" && (s.size == 0 || s.size+s.net > 0) {
				continue // its names are the zone's above, or there were none
			}
		case s.size > 0 && s.size+s.net <= 0:
			t.Kind = Emptied
		default:
			continue
		}
		s.lost = true
		h.trip(t, h.which(i, func(e *event) bool { return e.effect == removed && isContent(e.key, s.apex) }))
	}
}

// silence looks for a rule or map that returns nothing any more. A few RRsets that go are
// nothing to speak of.
func (h *hearing) silence() {
	if kind := h.source.Kind(); kind != record.KindRule && kind != record.KindMap {
		return
	}
	size := h.census.sources[h.source]
	net, counted := 0, 0
	for i := range h.tally.zones {
		net += h.tally.zones[i].net
		counted += h.tally.zones[i].n[removed]
	}
	if size > h.bounds.Few && size+net <= 0 && counted > 0 {
		h.trip(Trip{Kind: Silent, Scope: ScopeSource, Count: size, Of: size}, h.which(-1, func(e *event) bool { return e.effect == removed }))
	}
}

// names looks for protected names and services that lose what they had.
func (h *hearing) names() {
	var reasons []string
	var services []*event
	protected := map[string][]*event{} // by reason
	for i := range h.events {
		e := &h.events[i]
		if e.effect == created || e.now != nil && e.old == nil {
			continue
		}
		if why := h.loses(e); why != "" {
			if protected[why] == nil {
				reasons = append(reasons, why)
			}
			protected[why] = append(protected[why], e)
			continue
		}
		if (e.key.Type == record.TypeA || e.key.Type == record.TypeAAAA) && e.old != nil && len(e.old.Data) > 1 && (e.renamed() || !e.keeps()) {
			services = append(services, e)
		}
	}
	for _, why := range reasons {
		of := protected[why]
		h.trip(Trip{Kind: Protected, Scope: ScopeName, Count: len(of), why: why}, of)
	}
	if len(services) > 0 {
		h.trip(Trip{Kind: Service, Scope: ScopeName, Count: len(services)}, services)
	}
}

// loses tells what a protected name loses, in words, or "".
func (h *hearing) loses(e *event) string {
	apex := h.tally.zones[e.zone].apex
	gone := e.now == nil || e.renamed()
	switch {
	case isFreshnessRecord(e):
		if gone {
			return "it proves how fresh the dataset is"
		}
		return ""
	case e.key.Owner == apex && (e.key.Type == record.TypeNS || e.key.Type == record.TypeSOA):
		if h.census.soas(apex, h.shift) == 0 {
			return "" // said of the zone, unless its names are the zone's above
		}
		if gone || e.key.Type == record.TypeNS && e.old != nil && !e.keeps() {
			return "it is at the apex of a zone"
		}
	case h.protected(e.key.Owner):
		if gone || e.old != nil && !slices.Equal(e.old.Data, e.now.Data) && !e.keeps() {
			return "its name is protected"
		}
	}
	return ""
}

func (j *Judge) protected(name record.Name) bool {
	if j.protect[name] {
		return true
	}
	if len(j.below) > 0 {
		for name = name.Parent(); name != ""; name = name.Parent() {
			if j.below[name] {
				return true
			}
		}
	}
	return false
}

// limits looks for what exceeds a bound. What is wrong within one zone alone is not said
// of the source and of the dataset again.
func (h *hearing) limits() {
	all, announced := h.sum(), h.announcement()
	var said counts // RRsets of which something was said
	for i := range h.tally.zones {
		s := &h.tally.zones[i]
		if s.lost {
			said[removed] += s.n[removed]
		}
	}
	if h.said(Silent) {
		said[removed] = all[removed]
	}
	for i := range h.Judge.limits {
		l := &h.Judge.limits[i]
		if all[l.effect] == 0 || said[l.effect] == all[l.effect] {
			continue
		}
		switch l.scope {
		case ScopeZone:
			for i := range h.tally.zones {
				s := &h.tally.zones[i]
				lost := l.effect == removed && s.lost
				if !lost && h.exceeds(l, i, &s.n, &s.announced, s.size, s.before) {
					said[l.effect] += s.n[l.effect]
				}
			}
		case ScopeSource:
			if h.exceeds(l, -1, &all, &announced, h.census.sources[h.source], h.windows[place{source: h.source}]) {
				said[l.effect] = all[l.effect]
			}
		case ScopeOverall:
			h.exceeds(l, -1, &all, &announced, h.census.rrsets, h.overall)
		}
	}
}

func (h *hearing) said(k Kind) bool {
	return slices.ContainsFunc(h.trips, func(t Trip) bool { return t.Kind == k })
}

// announcement is what was expected in all zones.
func (h *hearing) announcement() (n counts) {
	for i := range h.tally.zones {
		n.add(&h.tally.zones[i].announced)
	}
	return n
}

// exceeds trips when what the change does is, with what the window has, more than the
// limit lets through. zone is an index, or -1 for all; size is what is there now.
func (h *hearing) exceeds(l *limit, zone int, n, announced *counts, size int, w *window) bool {
	if n[l.effect] == 0 {
		return false
	}
	few := h.bounds.few(l.effect)
	before := w.sum(h.now)
	sum := before[l.effect] + n[l.effect]
	if sum <= few {
		return false
	}
	// What was there when the window began, as far as this source or all of them
	// changed it.
	size += before[removed]
	if l.scope == ScopeSource && l.effect != created {
		size = max(size, sum) // the census need not know all that the source made
	}
	if l.effect == created {
		size = max(size-before[created], 0)
	}
	let := l.bound.let(size, few, l.scope == ScopeZone && l.effect != created)
	if sum <= let {
		return false
	}
	t := Trip{
		Kind: l.effect.kind(), Scope: l.scope, Count: n[l.effect], Earlier: before[l.effect], Announced: announced[l.effect],
		Of: size, Allowed: let, Bound: l.bound, Option: l.name,
	}
	if zone >= 0 {
		t.Zone = h.tally.zones[zone].apex
	}
	h.trip(t, h.which(zone, func(e *event) bool {
		if l.effect == lowered {
			return e.lowered
		}
		return e.counted && e.effect == l.effect
	}))
	return true
}
