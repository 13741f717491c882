package guard

import (
	"iter"
	"time"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// Judge remembers how large everything is and what changed lately. Its memory grows
// with the zones, the sources, and what changed within a window. It is not safe for
// concurrent use.
type Judge struct {
	bounds   Bounds
	limits   []limit
	span     int64 // of the window, in milliseconds
	protect  map[record.Name]bool
	below    map[record.Name]bool // names of wildcards in Protect, without the asterisk
	census   census
	clock    clock
	swept    int64 // when windows without counts were thrown away
	windows  map[place]*window
	overall  *window
	moved    map[string]*window // of prefixes, by map
	expected []Expectation      // the first to end first
}

// place is what a window is of: a source in a zone, or, without zone, in all.
type place struct {
	source record.Source
	zone   record.Name
}

// New makes a Judge of the dataset that all gives, which is asked again when names
// move between zones; it must then have all that was accepted and admitted. made has
// how many RRsets of it are each source's: a source that is not in it has made nothing,
// and is bounded as if that were so. All that is there counts as old.
func New(b Bounds, all func() iter.Seq[record.RRset], made map[record.Source]int) (*Judge, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	j := &Judge{
		bounds: b, limits: b.options(), span: b.Window.Milliseconds(),
		census: census{all: all, sources: map[record.Source]int{}}, windows: map[place]*window{}, overall: &window{span: b.Window.Milliseconds()}, moved: map[string]*window{},
		clock: clock{latest: never}, swept: never,
	}
	j.shelter()
	for source, n := range made {
		j.Attribute(source, n)
	}
	j.census.count(never)
	return j, nil
}

// Fork makes a Judge that judges changes of the same dataset by other bounds, without any
// effect on j. It knows what is there, and of what changed lately only which zones are young:
// not what was counted, what was expected, or what is whose (Restore, Expect and Attribute
// say that). The cost is in the zones.
func (j *Judge) Fork(b Bounds) (*Judge, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	span := b.Window.Milliseconds()
	k := &Judge{
		bounds: b, limits: b.options(), span: span,
		census:  census{all: j.census.all, zones: make(map[record.Name]*zone, len(j.census.zones)), sources: map[record.Source]int{}, rrsets: j.census.rrsets, longest: j.census.longest, guide: j.census.guide},
		windows: map[place]*window{}, overall: &window{span: span}, moved: map[string]*window{}, clock: j.clock, swept: never,
	}
	for apex, z := range j.census.zones {
		own := *z
		k.census.zones[apex] = &own
	}
	k.shelter()
	return k, nil
}

// Attribute says how many RRsets of the dataset are the source's. The Judge goes on
// counting from there by what the source's changes create and remove, which is not
// exact where sources replace each other's: who knows better says so again.
func (j *Judge) Attribute(source record.Source, rrsets int) {
	if rrsets > 0 {
		j.census.sources[source] = rrsets
	} else {
		delete(j.census.sources, source)
	}
}

// Size counts the RRsets of the dataset that bounds are shares of: all but the zones'
// SOA and NS, and freshness records.
func (j *Judge) Size() int { return j.census.rrsets }

// Judge tells what is wrong with a change that the source makes of the dataset; the
// verdict has no trips when nothing is. An empty source is nobody in particular: what
// several changed while nobody led. Nothing is remembered. Changes must come in the
// order in which they are made: each is judged as if those that were accepted or
// admitted before it are all that happened.
func (j *Judge) Judge(source record.Source, change reconcile.Change, now time.Time) Verdict {
	v := Verdict{Source: source}
	if change.Empty() {
		return v
	}
	e := j.clock.at(now)
	t := j.tally(source, &change, e)
	v.Removed, v.Replaced, v.Created = t.whole[removed], t.whole[replaced], t.whole[created]
	if source.Kind() == record.KindOverride {
		return v
	}
	if len(j.expected) > 0 {
		t.announce(source, j.Expectations(now))
	}
	h := hearing{Judge: j, tally: t, source: source, now: e}
	h.zones()
	h.silence()
	h.names()
	h.limits()
	h.maps(&change)
	v.Trips = h.trips
	return v
}

// Accept remembers that a change became part of the dataset because nothing tripped, and
// gives what of it counts. It uses up what was expected. Call it before the next change is
// judged.
func (j *Judge) Accept(source record.Source, change reconcile.Change, now time.Time) (counted []Count) {
	e := j.clock.set(now)
	t := j.tally(source, &change, e)
	if source.Kind() != record.KindOverride {
		if len(j.expected) > 0 {
			j.expected = t.announce(source, j.Expectations(now))
		}
		for i := range t.zones {
			if s := &t.zones[i]; s.n != (counts{}) {
				counted = append(counted, countOf(source, s.apex, s.n))
			}
		}
		j.sweep(e)
		j.remember(source, t, e)
		counted = append(counted, j.steer(source, &change, e, true)...)
	} else {
		j.steer(source, &change, e, false)
	}
	j.census.follow(source, t, e)
	return counted
}

// Admit remembers that a change became part of the dataset because a person let it
// through. It uses nothing up: what people look at is not what bounds are for.
func (j *Judge) Admit(source record.Source, change reconcile.Change, now time.Time) {
	e := j.clock.set(now)
	j.steer(source, &change, e, false)
	j.census.follow(source, j.tally(source, &change, e), e)
}

// remember counts in windows what t has.
func (j *Judge) remember(source record.Source, t *tally, now int64) {
	whole := j.window(source, "")
	for i := range t.zones {
		s := &t.zones[i]
		if s.n == (counts{}) && !s.again {
			continue
		}
		for _, w := range []*window{j.window(source, s.apex), whole, j.overall} {
			w.at(now).n.add(&s.n)
		}
	}
	for i := range t.events {
		e := &t.events[i]
		if e.counted {
			j.know(source, t, e, e.effect, now)
		}
		if e.lowered {
			j.know(source, t, e, lowered, now)
		}
	}
}

// know makes the window in the event's zone know what was done to the RRset.
func (j *Judge) know(source record.Source, t *tally, e *event, f effect, now int64) {
	s := &t.zones[e.zone]
	if f == created {
		return
	}
	w, d := j.window(source, s.apex), deed{*e.key, f}
	if from, ok := w.has(d, now); ok {
		for _, w := range []*window{w, j.window(source, ""), j.overall} {
			w.renew(from, f, now)
		}
	} else if s.announced[f] > 0 {
		s.announced[f]-- // counts nowhere
		return
	}
	if w.seen == nil {
		w.seen = map[deed]int64{}
	}
	w.seen[d] = now / wide(w.span)
}

// window is the source's in a zone, or in all.
func (j *Judge) window(source record.Source, zone record.Name) *window {
	p := place{source, zone}
	w := j.windows[p]
	if w == nil {
		w = &window{span: j.span}
		j.windows[p] = w
	}
	return w
}

// sweep throws away what windows have no more, once in a window.
func (j *Judge) sweep(now int64) {
	if now-j.span < j.swept {
		return
	}
	j.swept = now
	for m, w := range j.moved {
		if w.empty(now) {
			delete(j.moved, m)
		}
	}
	for p, w := range j.windows {
		if w.empty(now) {
			delete(j.windows, p)
		} else {
			w.forget(now)
		}
	}
}

// SetBounds changes what is let through from now on. What was counted still counts, for as
// long as the new window says; of a longer window than before, what was older than the old
// one is not known.
func (j *Judge) SetBounds(b Bounds) error {
	if err := b.Validate(); err != nil {
		return err
	}
	j.bounds, j.limits = b, b.options()
	j.shelter()
	if span := b.Window.Milliseconds(); span != j.span {
		j.span = span
		j.overall.rescale(span, j.clock.latest)
		for _, w := range j.moved {
			w.rescale(span, j.clock.latest)
		}
		for _, w := range j.windows {
			w.rescale(span, j.clock.latest)
		}
	}
	return nil
}

// shelter takes the names in Protect apart.
func (j *Judge) shelter() {
	j.protect, j.below = map[record.Name]bool{}, map[record.Name]bool{}
	for _, n := range j.bounds.Protect {
		if n.IsWildcard() {
			j.below[n.Parent()] = true
		} else {
			j.protect[n] = true
		}
	}
}
