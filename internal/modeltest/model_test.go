package modeltest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// content is a dataset without freshness records.
type content struct {
	sets map[record.Key]record.RRset
	text string // equal texts are equal contents
}

func newContent(sets map[record.Key]record.RRset) content {
	lines := make([]string, 0, len(sets))
	for k, r := range sets {
		lines = append(lines, fields(string(k.Owner), string(k.Location), string(rune(k.Type)), string(rune(r.TTL)), r.Data))
	}
	slices.Sort(lines)
	return content{sets, strings.Join(lines, "")}
}

// fields makes a text of strings that is another for other strings.
func fields(a, b, c, d string, data []record.Rdata) string {
	n := 0
	for _, r := range data {
		n += 2 + len(r)
	}
	out := make([]byte, 0, len(a)+len(b)+len(c)+len(d)+n+8)
	add := func(s string) { out = append(append(out, byte(len(s)>>8), byte(len(s))), s...) }
	add(a)
	add(b)
	add(c)
	add(d)
	for _, r := range data {
		add(string(r))
	}
	return string(out)
}

// difference says in lines what b has otherwise than a.
func difference(a, b content) string {
	var out []string
	for k, r := range a.sets {
		if is, ok := b.sets[k]; !ok || !is.Equal(r) {
			out = append(out, fmt.Sprintf("- %s %d %x", k, r.TTL, r.Data))
		}
	}
	for k, r := range b.sets {
		if was, ok := a.sets[k]; !ok || !was.Equal(r) {
			out = append(out, fmt.Sprintf("+ %s %d %x", k, r.TTL, r.Data))
		}
	}
	slices.Sort(out)
	const most = 12
	if n := len(out); n > most {
		out = append(out[:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(out, "\n")
}

// precedence is that of DESIGN §5.
var precedence = map[string]int{record.KindOverride: 0, record.KindConfig: 1, record.KindZone: 2, record.KindMap: 3, record.KindUpdate: 4, record.KindRule: 5}

// dataset is what claims come to, of the types that the test draws: SOA and NS at
// apexes, A, TXT, CNAME. DESIGN §5: people before robots; a CNAME and the other types of
// a name are decided together; what is in no zone is not there.
func dataset(claims []record.Claim) content {
	owns := map[record.Name]record.Source{} // zones, and whose they are
	for _, c := range claims {
		if c.Type == record.TypeSOA {
			owns[c.Owner] = c.Source
		}
	}
	zone := func(n record.Name) record.Name {
		for ; n != ""; n = n.Parent() {
			if _, ok := owns[n]; ok {
				return n
			}
		}
		return ""
	}
	rank := func(c record.Claim) int { return precedence[c.Source.Kind()] }
	stranger := func(c record.Claim) int {
		if owns[zone(c.Owner)] == c.Source {
			return 0
		}
		return 1
	}
	first := map[record.Key]record.Claim{}
	for _, c := range claims {
		if zone(c.Owner) == "" {
			continue
		}
		if d, ok := first[c.Key]; !ok || cmp.Or(cmp.Compare(rank(c), rank(d)), cmp.Compare(stranger(c), stranger(d)),
			cmp.Compare(c.Source, d.Source), cmp.Compare(c.TTL, d.TTL), slices.Compare(c.Data, d.Data)) < 0 {
			first[c.Key] = c
		}
	}
	alias, others := map[record.Name]int{}, map[record.Name]int{} // the highest rank of either
	for k, c := range first {
		ranks := others
		if k.Type == record.TypeCNAME {
			ranks = alias
		}
		if best, ok := ranks[k.Owner]; !ok || rank(c) < best {
			ranks[k.Owner] = rank(c)
		}
	}
	sets := map[record.Key]record.RRset{}
	for k, c := range first {
		a, aliased := alias[k.Owner]
		o, other := others[k.Owner]
		if k.Type == record.TypeTXT && k.Owner.FirstLabel() == "_fresh" {
			continue // of no content
		}
		if !aliased || !other || (k.Type == record.TypeCNAME) == (a < o) {
			sets[k] = c.RRset
		}
	}
	return newContent(sets)
}

// asClaims makes claims of a content, of somebody whom only overrides precede.
func (c content) asClaims() []record.Claim {
	var out []record.Claim
	for _, r := range c.sets {
		out = append(out, record.Claim{RRset: r, Source: record.KindConfig + "/past"})
	}
	return out
}

// state is all that a source claims at a time.
type state struct {
	claims []record.Claim
	text   string
	id     string // of an override: which
}

func newState(claims []record.Claim) state {
	lines := make([]string, 0, len(claims))
	for _, c := range claims {
		lines = append(lines, fields(string(c.Source), string(c.Owner), string(rune(c.Type)), string(rune(c.TTL))+c.Place, c.Data))
	}
	slices.Sort(lines)
	return state{claims: claims, text: strings.Join(lines, "")}
}

// String is for people.
func (s state) String() string {
	var lines []string
	for _, c := range s.claims {
		lines = append(lines, fmt.Sprintf("%s %d %x %s", c.Key, c.TTL, c.Data, c.Place))
	}
	slices.Sort(lines)
	if n := len(lines); n > 16 {
		lines = append(lines[:3], fmt.Sprintf("... %d in all", n))
	}
	return strings.Join(lines, "\n")
}

// source has what a source claimed since the last look, the first being what was in
// force then.
type source struct {
	name   record.Source
	states []state
	// wasFrozen tells that it was frozen at the last look and ever since.
	wasFrozen bool
	// held is the hold at the last look, heldText what it would have let through.
	held, heldText, decision string
	released                 map[string]bool // texts that a person let through since
}

func (s *source) latest() state { return s.states[len(s.states)-1] }

func (s *source) claim(st state) {
	if st.text != s.latest().text || st.id != s.latest().id {
		s.states = append(s.states, st)
	}
}

// bounds are the guard's as this test sets them: fixed numbers of RRsets that a source
// may remove or replace within the window, which no two looks share.
type bounds struct {
	on                bool
	few               int
	removed, replaced int
}

// judgement is what a change of a source would be to a guard.
type judgement struct {
	must, may         bool
	removed, replaced int
}

// judge tells whether a source's change from one dataset to another must be held, or may
// be. Once tells that it is the source's only change within the window.
func (b bounds) judge(s record.Source, before, after content, once bool) (j judgement) {
	if !b.on {
		return j
	}
	type likeness struct {
		zone record.Name
		typ  record.Type
		data string
	}
	zoneIn := func(n record.Name, c content) record.Name {
		for ; n != ""; n = n.Parent() {
			if _, ok := c.sets[record.Key{Owner: n, Type: record.TypeSOA}]; ok {
				return n
			}
		}
		return ""
	}
	size := func(apex record.Name, c content) (n int) {
		for k := range c.sets {
			if zoneIn(k.Owner, c) == apex && k.Type != record.TypeSOA && !(k.Type == record.TypeNS && k.Owner == apex) {
				n++
			}
		}
		return n
	}
	went := map[likeness]int{}
	for k, was := range before.sets {
		is, stays := after.sets[k]
		zone := zoneIn(k.Owner, before)
		if k.Type == record.TypeSOA {
			if !stays || size(k.Owner, before) > 0 && size(k.Owner, after) == 0 {
				j.must = true
			}
		}
		if k.Type == record.TypeA && len(was.Data) > 1 && !slices.ContainsFunc(was.Data, func(d record.Rdata) bool { return stays && slices.Contains(is.Data, d) }) {
			j.must = true
		}
		if k.Type == record.TypeSOA || k.Type == record.TypeNS {
			continue
		}
		switch {
		case !stays:
			went[likeness{zone, k.Type, fmt.Sprint(was.Data)}]++
			j.removed++
		case !was.Equal(is):
			j.replaced++
		}
	}
	for k, is := range after.sets {
		if _, was := before.sets[k]; was {
			continue
		}
		if l := (likeness{zoneIn(k.Owner, after), k.Type, fmt.Sprint(is.Data)}); went[l] > 0 {
			went[l]--
			j.removed--
			j.replaced++
		}
	}
	if once && (j.removed > b.removed || j.replaced > b.replaced) {
		j.must = true
	}
	j.may = j.must || j.removed > b.removed || j.replaced > b.replaced
	return j
}

// model is what has to hold.
type model struct {
	bounds  bounds
	sources map[record.Source]*source // a slot of overrides is one, too: override/<owner> <type>
	freezes map[string]string         // by id: what is frozen
	pins    []uint64                  // since the last look, the first is the one of then; 0 is none
	bases   map[uint64][]content      // what may have lain below overrides, by version
	at      content                   // of the last version looked at
	version uint64
}

func newModel(b bounds) *model {
	return &model{bounds: b, sources: map[record.Source]*source{}, freezes: map[string]string{}, pins: []uint64{0}, bases: map[uint64][]content{}, at: newContent(nil)}
}

func (m *model) source(name record.Source) *source {
	s := m.sources[name]
	if s == nil {
		s = &source{name: name, states: []state{{}}, released: map[string]bool{}}
		m.sources[name] = s
	}
	return s
}

func (m *model) names() []record.Source { return slices.Sorted(maps.Keys(m.sources)) }

func passes(s record.Source) bool { return s.Kind() == record.KindOverride }

func (m *model) frozen(s record.Source) bool {
	for _, what := range m.freezes {
		if !passes(s) && (what == "" || what == string(s) || what == s.Kind()+"/*") {
			return true
		}
	}
	return false
}

// way is how far each source has come, in the order of names, and at last the pin.
type way []int

func (w way) key() string { return fmt.Sprint([]int(w)) }

// world is what a way comes to: what lies below overrides, and with them.
type world struct{ bases, full []content }

func (m *model) world(w way) world {
	var robots, people []record.Claim
	for i, name := range m.names() {
		claims := m.sources[name].states[w[i]].claims
		if passes(name) {
			people = append(people, claims...)
		} else {
			robots = append(robots, claims...)
		}
	}
	var out world
	if pin := m.pins[w[len(w)-1]]; pin != 0 {
		for _, b := range m.bases[pin] {
			out.bases = append(out.bases, b)
			out.full = append(out.full, dataset(append(b.asClaims(), people...)))
		}
		return out
	}
	return world{[]content{dataset(robots)}, []content{dataset(slices.Concat(robots, people))}}
}

// onward gives the ways that lead on from one of them, themselves included.
func (m *model) onward(from []way) []way {
	names := m.names()
	seen := map[string]way{}
	var step func(w way)
	step = func(w way) {
		if _, ok := seen[w.key()]; ok {
			return
		}
		seen[w.key()] = w
		for i := range w {
			most := len(m.pins)
			if i < len(names) {
				most = len(m.sources[names[i]].states)
			}
			if w[i]+1 < most {
				next := slices.Clone(w)
				next[i]++
				step(next)
			}
		}
	}
	for _, w := range from {
		step(w)
	}
	return slices.Collect(maps.Values(seen))
}
