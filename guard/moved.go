package guard

import (
	"fmt"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// isSteering tells whether RRsets of the type are counted by what they do to clients (rule 6)
// and not by themselves.
func isSteering(t record.Type) bool {
	return t == record.TypeMapBlock || t == record.TypeMapOrder || t == record.TypePoP
}

// moves gives the maps as they are after a change, and which prefixes it moves.
func (j *Judge) moves(change *reconcile.Change) (*geo.Guide, []geo.Move) {
	before := j.census.guide
	after, _ := before.Apply(change.Put, change.Remove) // what is malformed is not let in
	if after == before {
		return before, nil
	}
	return after, before.Moves(after)
}

// steer takes a change of a source into the maps and gives what of it counts; counts: it uses
// the bound up.
func (j *Judge) steer(source record.Source, change *reconcile.Change, now int64, counts bool) (counted []Count) {
	after, moves := j.moves(change)
	j.census.guide = after
	if !counts {
		return nil
	}
	for _, m := range moves {
		if m.Prefixes > 0 {
			j.movedWindow(m.Map).at(now).n[replaced] += m.Prefixes
			counted = append(counted, Count{Source: source, Map: m.Map, Moved: m.Prefixes})
		}
	}
	return counted
}

// movedWindow has the prefixes of a map that moved.
func (j *Judge) movedWindow(name string) *window {
	w := j.moved[name]
	if w == nil {
		w = &window{span: j.span}
		j.moved[name] = w
	}
	return w
}

// maps looks for maps too many of whose prefixes move.
func (h *hearing) maps(change *reconcile.Change) {
	_, moves := h.Judge.moves(change)
	for _, m := range moves {
		earlier := h.moved[m.Map].sum(h.now)[replaced]
		allowed := h.bounds.Moved.let(m.Of, 1, false)
		if m.Prefixes == 0 || m.Prefixes+earlier <= allowed {
			continue
		}
		h.trips = append(h.trips, Trip{
			Kind: Moved, Scope: ScopeMap, Count: m.Prefixes, Earlier: earlier, Of: m.Of, Allowed: allowed,
			Bound: h.bounds.Moved, Option: string(Moved), Examples: m.Examples,
		})
		t := &h.trips[len(h.trips)-1]
		t.why = m.Map
		t.Text = h.sentence(t, "", 0)
	}
}

// movedText says by how much the bound is exceeded; why is the map's name.
func (h *hearing) movedText(t *Trip) string {
	sum := t.Count + t.Earlier
	text := fmt.Sprintf("move %s of the %s prefixes of map %s to other PoPs", number(t.Count), number(t.Of), t.why)
	if t.Earlier > 0 {
		text += fmt.Sprintf("; with the %s before, that is %s", number(t.Earlier), number(sum))
	}
	text += fmt.Sprintf(" (%s); at most %s let through within %s (%s is %s)", percent(sum, t.Of), are(t.Allowed), short(h.bounds.Window), t.Option, t.Bound)
	if len(t.Examples) > 0 {
		text += "; for example " + strings.Join(t.Examples, ", ")
	}
	return text
}
