package reconcile

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Change is what one Reconcile did to the dataset, each list in canonical order.
// No key is both put and removed.
type Change struct {
	Put    []record.RRset // new, or other data or TTL than before
	Remove []record.Key
	// Old has the RRsets as they were that Put replaces or Remove takes away.
	Old []record.RRset
}

// Empty tells whether nothing changed.
func (c Change) Empty() bool { return len(c.Put) == 0 && len(c.Remove) == 0 }

// State is all claims and the dataset they make. It is not safe for concurrent use.
type State struct {
	policy  Policy
	rank    map[string]int
	sources map[record.Source]*source
	shards  map[shardID][]*claim
	nodes   map[record.Name]*node
	index   index // every node but that of the missing name ""
	// special has the nodes with facts: few, so that looking at all names above a
	// name is cheap.
	special map[record.Name]*node
	// targets has the apexes and cuts whose NS point to a name.
	targets   map[record.Name][]*node
	invalid   map[*claim]string // why by rule 1
	conflicts map[*node][]conflict
	warnings  map[*node][]conflict // by reverse name
	counts    map[Kind]int
	rrsets    int
	claims    int
	dirty     []*node
	touched   []before // by the Reconcile that is under way
	idle      []*source
	told      func(record.Name) // nil: nobody; see Tell

	live  []*claim // scratch space of decide
	picks []pick   // likewise
}

type shardID struct {
	source record.Source
	shard  string
}

// before is what a node had when Reconcile began.
type before struct {
	n   *node
	won []*claim
}

// New starts without claims. It panics when p.Check is not nil.
func New(p Policy) *State {
	if err := p.Check(); err != nil {
		panic(fmt.Sprintf("reconcile: policy: %v", err))
	}
	s := &State{
		policy:  p,
		rank:    make(map[string]int),
		sources: make(map[record.Source]*source), shards: make(map[shardID][]*claim),
		nodes: make(map[record.Name]*node), special: make(map[record.Name]*node), targets: make(map[record.Name][]*node),
		invalid: make(map[*claim]string), conflicts: make(map[*node][]conflict), warnings: make(map[*node][]conflict),
		counts: make(map[Kind]int),
	}
	kinds := p.Precedence
	if kinds == nil {
		kinds = DefaultPrecedence()
	}
	for i, k := range kinds {
		s.rank[k] = i
	}
	return s
}

// Replace says that the claims of the shard of the source are now these; none
// removes the shard. The claims' Data and strings are kept and must not be
// changed. Nothing is decided before Reconcile.
//
// Claims that stand at the front and at the end of the shard as they did before
// cost a comparison; those between are looked at anew.
func (s *State) Replace(from record.Source, shard string, claims []record.Claim) {
	id := shardID{from, shard}
	old := s.shards[id]
	head := 0
	for head < len(old) && head < len(claims) && old[head].same(&claims[head]) {
		head++
	}
	tail := 0
	for tail < len(old)-head && tail < len(claims)-head && old[len(old)-1-tail].same(&claims[len(claims)-1-tail]) {
		tail++
	}
	gone, come := old[head:len(old)-tail], claims[head:len(claims)-tail]
	if len(gone) == 0 && len(come) == 0 {
		return
	}
	src := s.sources[from]
	if src == nil {
		kind := from.Kind()
		rank, ok := s.rank[kind]
		if !ok {
			rank = len(s.rank) // invalid by rule 1, but claims have an order all the same
		}
		src = &source{name: from, kind: kind, rank: rank}
		s.sources[from] = src
	}
	for _, c := range gone {
		s.unclaim(c)
	}
	block := make([]claim, len(come))
	now := make([]*claim, 0, len(claims))
	now = append(now, old[:head]...)
	var prov *record.Provenance
	for i := range come {
		r, c := &come[i], &block[i]
		if prov == nil || *prov != r.Provenance {
			p := r.Provenance
			prov = &p
		}
		*c = claim{RRset: r.RRset, src: src, prov: prov, place: r.Place, fallback: r.Fallback}
		if why := s.policy.check(c, r.Source); why != "" {
			c.bad = true
			s.invalid[c] = why
		}
		s.claim(c)
		now = append(now, c)
	}
	now = append(now, old[len(old)-tail:]...)
	if len(now) == 0 {
		delete(s.shards, id)
	} else {
		s.shards[id] = now
	}
	if src.claims == 0 {
		s.idle = append(s.idle, src)
	}
}

// Shard gives the claims of a shard as Replace was given them; nil when there is none.
func (s *State) Shard(from record.Source, shard string) []record.Claim {
	var out []record.Claim
	for _, c := range s.shards[shardID{from, shard}] {
		out = append(out, *c.public())
	}
	return out
}

// Shards gives the sources and names of all shards, in no particular order.
func (s *State) Shards() iter.Seq2[record.Source, string] {
	return func(yield func(record.Source, string) bool) {
		for id := range s.shards {
			if !yield(id.source, id.shard) {
				return
			}
		}
	}
}

func (s *State) claim(c *claim) {
	n := s.node(c.Owner)
	i, _ := slices.BinarySearchFunc(n.claims, c, (*claim).compare)
	if n.claims == nil {
		n.claims = []*claim{c} // exactly one: most names have one or two claims
	} else {
		n.claims = slices.Insert(n.claims, i, c)
	}
	c.src.claims++
	s.claims++
	s.mark(n)
}

func (s *State) unclaim(c *claim) {
	n := s.nodes[c.Owner]
	i, _ := slices.BinarySearchFunc(n.claims, c, (*claim).compare)
	for n.claims[i] != c { // claims that are equal in everything
		i++
	}
	n.claims = slices.Delete(n.claims, i, i+1)
	if len(n.claims) == 0 {
		n.claims = nil
	}
	delete(s.invalid, c)
	c.src.claims--
	s.claims--
	s.mark(n)
}

func (s *State) node(name record.Name) *node {
	n := s.nodes[name]
	if n == nil {
		n = &node{name: name}
		s.nodes[name] = n
		if name != "" {
			s.index.insert(n)
		}
	}
	return n
}

func (s *State) mark(n *node) {
	if !n.dirty {
		n.dirty = true
		s.dirty = append(s.dirty, n)
	}
}

func (s *State) markBelow(n *node) {
	if n.name == "" {
		return
	}
	for m := range s.index.below(n.name) {
		s.mark(m)
	}
}

// Dirty tells whether Reconcile has something to do.
func (s *State) Dirty() bool { return len(s.dirty) > 0 }

// Len counts the RRsets of the dataset.
func (s *State) Len() int { return s.rrsets }

// Claims counts the claims.
func (s *State) Claims() int { return s.claims }

// Reconcile decides everything that Replace touched, and tells how the dataset
// changed since the last call. The cost is in what changed; a zone, cut or DNAME
// that comes or goes costs the names below it.
//
// What a name comes to depends on its own claims, on the facts of the names above
// it and, for glue, on the NS that point to it. So names are decided from the top
// down, and whoever's facts change marks those who depend on them; that ends,
// because glue has no facts that others depend on.
func (s *State) Reconcile() Change {
	for i := 0; i < len(s.dirty); i++ { // grows while it is read
		s.claimFacts(s.dirty[i])
	}
	for len(s.dirty) > 0 {
		round := s.inOrder(s.dirty, func(n *node) bool { return n.dirty })
		s.dirty = nil
		for _, n := range round {
			s.evaluate(n)
		}
	}
	s.checkReverse()
	change := s.collect()
	for _, src := range s.idle {
		if src.claims == 0 {
			delete(s.sources, src.name)
		}
	}
	s.idle = nil
	return change
}

// inOrder sorts nodes by name, those above before those below. Of many it is faster
// to walk the index than to compare names.
func (s *State) inOrder(nodes []*node, in func(*node) bool) []*node {
	if len(nodes) > len(s.nodes)/8 {
		sorted := make([]*node, 0, len(nodes))
		if n := s.nodes[""]; n != nil && in(n) {
			sorted = append(sorted, n)
		}
		for n := range s.index.from(record.Root) {
			if in(n) {
				sorted = append(sorted, n)
			}
		}
		return sorted
	}
	slices.SortFunc(nodes, func(n, m *node) int { return n.name.Compare(m.name) })
	return nodes
}

// claimFacts finds what a name's claims alone say, and marks the names below when
// that changed.
func (s *State) claimFacts(n *node) {
	var f facts
	for _, c := range n.claims {
		if c.Type != record.TypeSOA || c.bad {
			continue
		}
		if c.fallback {
			f |= claimsParent
		} else {
			f |= claimsApex
		}
	}
	if n.facts&claimed != f {
		s.setFacts(n, n.facts&^claimed|f)
		s.markBelow(n)
	}
}

func (s *State) setFacts(n *node, f facts) {
	n.facts = f
	if f == 0 {
		delete(s.special, n.name)
	} else {
		s.special[n.name] = n
	}
}

// evaluate decides one name and marks who depends on what changed.
func (s *State) evaluate(n *node) {
	n.dirty = false
	if n.touched == 0 {
		s.touched = append(s.touched, before{n, n.won})
		n.touched = len(s.touched)
	}
	e := s.setting(n.name)
	v := s.decide(n, e)
	if s.told != nil && len(v.conflicts)+len(s.conflicts[n]) > 0 {
		s.told(n.name)
	}
	s.setConflicts(s.conflicts, n, v.conflicts)

	f := n.facts &^ decided
	apex := e.zone == n
	if apex {
		f |= isApex
	}
	var soa *source
	for _, c := range v.won {
		switch {
		case c.Type == record.TypeSOA:
			soa = c.src
		case c.Type == record.TypeNS && !apex && e.cut == nil:
			f |= isCut
		case c.Type == record.TypeDNAME:
			f |= isDNAME
		}
	}
	oldFacts, oldSOA, oldZone, oldWon := n.facts, n.soa, n.zone, n.won
	s.setFacts(n, f)
	n.soa, n.zone, n.won = soa, e.zone, v.won
	if f&decided != oldFacts&decided || soa != oldSOA {
		s.markBelow(n)
	}
	s.retarget(n, nsTargets(oldWon, oldFacts), nsTargets(n.won, f), oldZone != n.zone)
}

// nsTargets are the names that the NS of an apex or a cut point to, sorted.
func nsTargets(won []*claim, f facts) []record.Name {
	if f&(isApex|isCut) == 0 {
		return nil
	}
	var names []record.Name
	for _, c := range won {
		if c.Type == record.TypeNS {
			for _, d := range c.Data {
				names = append(names, target(d))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// retarget keeps State.targets, and marks the names whose being glue may have
// changed.
func (s *State) retarget(n *node, old, now []record.Name, moved bool) {
	for _, t := range old {
		if _, stays := slices.BinarySearch(now, t); !stays {
			left := slices.DeleteFunc(s.targets[t], func(m *node) bool { return m == n })
			if len(left) == 0 {
				delete(s.targets, t)
			} else {
				s.targets[t] = left
			}
			s.markName(t)
		}
	}
	for _, t := range now {
		_, was := slices.BinarySearch(old, t)
		if !was {
			s.targets[t] = append(s.targets[t], n)
		}
		if !was || moved {
			s.markName(t)
		}
	}
}

func (s *State) markName(name record.Name) {
	if n := s.nodes[name]; n != nil {
		s.mark(n)
	}
}

// collect says what became of the touched names, and forgets those without claims.
func (s *State) collect() Change {
	var ch Change
	nodes := make([]*node, len(s.touched))
	for i, t := range s.touched {
		nodes[i] = t.n
	}
	for _, n := range s.inOrder(nodes, func(n *node) bool { return n.touched > 0 }) {
		old, now := s.touched[n.touched-1].won, n.won
		s.rrsets += len(now) - len(old)
		n.touched = 0
		for len(old) > 0 || len(now) > 0 {
			order := 0
			switch {
			case len(old) == 0:
				order = 1
			case len(now) == 0:
				order = -1
			default:
				order = old[0].Key.Compare(now[0].Key)
			}
			switch {
			case order < 0:
				ch.Remove = append(ch.Remove, old[0].Key)
				ch.Old = append(ch.Old, old[0].RRset)
			case order > 0:
				ch.Put = append(ch.Put, now[0].RRset)
			case !old[0].RRset.Equal(now[0].RRset):
				ch.Put = append(ch.Put, now[0].RRset)
				ch.Old = append(ch.Old, old[0].RRset)
			}
			if order <= 0 {
				old = old[1:]
			}
			if order >= 0 {
				now = now[1:]
			}
		}
	}
	for _, n := range nodes {
		s.forget(n)
	}
	s.touched = nil
	return ch
}

// forget takes a node out that nothing needs any more.
func (s *State) forget(n *node) {
	if len(n.claims) > 0 || len(n.addressed) > 0 || n.touched > 0 || s.nodes[n.name] != n {
		return
	}
	delete(s.nodes, n.name)
	if n.name != "" {
		s.index.remove(n.name)
	}
}

// All gives the dataset in canonical order, as of the last Reconcile. The State
// must not change meanwhile.
func (s *State) All() iter.Seq[record.RRset] {
	return func(yield func(record.RRset) bool) {
		for n := range s.index.from(record.Root) {
			for _, c := range n.won {
				if !yield(c.RRset) {
					return
				}
			}
		}
	}
}

// At gives the RRsets of a name, as of the last Reconcile.
func (s *State) At(name record.Name) (sets []record.RRset) {
	if n := s.nodes[name]; n != nil {
		for _, c := range n.won {
			sets = append(sets, c.RRset)
		}
	}
	return sets
}

// Below gives the names below one that own an RRset, as of the last Reconcile. The State
// must not change meanwhile.
func (s *State) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		for n := range s.index.below(name) {
			if n.name != name && len(n.won) > 0 && !yield(n.name) {
				return
			}
		}
	}
}

// Made counts the RRsets of the dataset by the source whose claim won.
func (s *State) Made() map[record.Source]int {
	out := map[record.Source]int{}
	for _, n := range s.nodes {
		for _, c := range n.won {
			out[c.src.name]++
		}
	}
	return out
}

// MadeBy counts, for each source that made has, the RRsets of the dataset in which a claim of
// it won. The cost is in the shards and in these sources' claims.
func (s *State) MadeBy(made map[record.Source]int) {
	for id, claims := range s.shards {
		n, asked := made[id.source]
		if !asked {
			continue
		}
		for _, c := range claims {
			if slices.ContainsFunc(s.nodes[c.Owner].won, func(w *claim) bool { return w == c || w.first == c }) {
				n++
			}
		}
		made[id.source] = n
	}
}

// Tell has Reconcile call f, once or more, with each name that it decides anew and that had
// conflicts or has: no other name's conflicts change, but for the words about what stands
// above it. Nil ends that.
func (s *State) Tell(f func(record.Name)) { s.told = f }

// Get gives one RRset of the dataset, as of the last Reconcile.
func (s *State) Get(k record.Key) (record.RRset, bool) {
	if n := s.nodes[k.Owner]; n != nil {
		for _, c := range n.won {
			if c.Key == k {
				return c.RRset, true
			}
		}
	}
	return record.RRset{}, false
}

// Zone gives the apex of the zone that holds a name, as of the last Reconcile; "" when none
// does.
func (s *State) Zone(name record.Name) record.Name {
	if e := s.setting(name); e.zone != nil {
		return e.zone.name
	}
	return ""
}

// Zones gives the apexes in canonical order, as of the last Reconcile.
func (s *State) Zones() []record.Name {
	var apexes []record.Name
	for _, n := range s.special {
		if n.facts&isApex != 0 {
			apexes = append(apexes, n.name)
		}
	}
	slices.SortFunc(apexes, record.Name.Compare)
	return apexes
}

// ConflictCounts counts the conflicts by kind; kinds without any are there with 0.
func (s *State) ConflictCounts() map[Kind]int {
	counts := maps.Clone(s.counts)
	for _, k := range Kinds() {
		counts[k] += 0
	}
	return counts
}
