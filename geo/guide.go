package geo

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Guide is the maps and the PoPs of one version of a dataset, to look clients up in. It does
// not change: Apply makes another one, in time proportional to the change but for a copy of
// the tables of maps whose prefixes change (a few milliseconds for a million prefixes). The
// zero Guide, and nil, has no maps.
type Guide struct {
	charts []*chartOf // by name
	pops   *pops
	// uses are the maps for names, by kind, then for the name itself and for those below.
	uses  [2][2]map[record.Name]int // number in charts
	depth [2]uint64                 // bit n: a use has a name of n labels
}

// pops is the PoPs that orders and RRsets speak of, by number.
type pops struct {
	number map[string]uint16
	name   []string
	state  map[string]State // of those of which something is said
	unable []bool           // drained or down, by number
}

// chartOf is one map.
type chartOf struct {
	name   string
	blocks [2][]*block // of IPv4 and IPv6, by prefix
	tables [2]*ranges  // nil: no blocks
	orders map[string][]record.Rdata
	uses   []Use
	number map[string]uint16 // of a location
	spots  []spot            // by number; 0 is no location
}

// spot is a location.
type spot struct {
	name  string
	order []uint16 // numbers of PoPs
}

// block is an RRset of entries: each u16 length, RDATA. It was checked.
type block struct {
	in    entry // its prefix
	count int   // entries
	data  []byte
}

// maxSpots is how many locations of a map, and PoPs, are told apart; what comes beyond is
// none. With more than spareSpots locations, or when no number is left for a PoP, numbers are
// given anew: a map has fewer (maxLocations).
const (
	maxSpots   = 1<<16 - 1
	spareSpots = 1 << 15
)

// Empty tells that nobody has a location.
func (g *Guide) Empty() bool { return g == nil || g.depth == [2]uint64{} }

// Apply gives the Guide after some RRsets came and others went; those of other types than
// maps and PoPs are not looked at. An error is an RRset that was not taken because it is
// malformed: what was there in its place stays. There is always a Guide.
func (g *Guide) Apply(put []record.RRset, remove []record.Key) (*Guide, error) {
	if g == nil {
		g = &Guide{}
	}
	if !slices.ContainsFunc(put, func(r record.RRset) bool { return isGuide(r.Type) }) &&
		!slices.ContainsFunc(remove, func(k record.Key) bool { return isGuide(k.Type) }) {
		return g, nil
	}
	e := g.edit(put, remove, false)
	if e.full {
		e = g.edit(put, remove, true)
	}
	now := e.Guide
	return &now, errors.Join(e.errs...)
}

// edit is Apply; with anew the numbers of PoPs and locations are given anew, and those that
// nobody uses any more have none.
func (g *Guide) edit(put []record.RRset, remove []record.Key, anew bool) *guideEdit {
	e := &guideEdit{Guide: *g, changed: map[string]*chartEdit{}, anew: anew}
	if e.pops == nil {
		e.pops = &pops{}
	}
	if anew {
		e.pops, e.popped = &pops{number: map[string]uint16{}, state: cloneMap(e.pops.state)}, true
		for _, c := range g.charts {
			e.chart(c.name)
		}
	}
	for _, k := range remove {
		if part, err := e.part(k); err == nil {
			e.take(k, part, nil)
		}
	}
	for _, r := range put {
		if !isGuide(r.Type) {
			continue
		}
		part, err := e.part(r.Key)
		if err == nil {
			err = CheckRRset(r)
		}
		if err != nil {
			e.wrong(err)
			continue
		}
		e.take(r.Key, part, r.Data)
	}
	e.finish()
	return e
}

// isGuide tells whether RRsets of the type are for a Guide.
func isGuide(t record.Type) bool { return t.IsOwn() && t != record.TypeTerms }

// guideEdit is a Guide in the making.
type guideEdit struct {
	Guide
	changed map[string]*chartEdit
	popped  bool // pops is ours
	anew    bool // numbers are given anew
	full    bool // there was no number for a PoP
	errs    []error
}

// chartEdit is a map in the making.
type chartEdit struct {
	*chartOf
	areas    [2][]entry
	ordered  bool // orders changed
	numbered bool // number and spots are ours
	used     bool // uses changed
}

// wrong notes an error; there may be one for each prefix, and a few say enough.
func (e *guideEdit) wrong(err error) {
	if len(e.errs) < maxErrors {
		e.errs = append(e.errs, err)
	}
}

func (e *guideEdit) part(k record.Key) (Part, error) {
	if !isGuide(k.Type) {
		return Part{}, errors.New("not of a map")
	}
	return PartOf(k)
}

// chart gives the map to change.
func (e *guideEdit) chart(name string) *chartEdit {
	if c := e.changed[name]; c != nil {
		return c
	}
	c := &chartEdit{chartOf: &chartOf{name: name, spots: []spot{{}}}}
	if i, found := e.find(name); found {
		*c.chartOf = *e.charts[i]
		c.orders = cloneMap(c.orders)
	} else {
		c.orders = map[string][]record.Rdata{}
	}
	e.changed[name] = c
	return c
}

// cloneMap is a copy to be changed, also of nil.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	to := make(map[K]V, len(m)+1)
	maps.Copy(to, m)
	return to
}

func (g *Guide) find(name string) (int, bool) {
	return slices.BinarySearchFunc(g.charts, name, func(c *chartOf, n string) int { return strings.Compare(c.name, n) })
}

// take enters the data of an RRset, nil when it goes.
func (e *guideEdit) take(k record.Key, part Part, data []record.Rdata) {
	switch k.Type {
	case record.TypePoP:
		e.ownPops()
		delete(e.pops.state, part.PoP)
		if data != nil {
			e.pops.state[part.PoP] = State(data[0][0])
		}
	case record.TypeMapOrder:
		c, label := e.chart(part.Map), string(k.Owner[1:2])
		c.ordered = true
		delete(c.orders, label)
		if data != nil {
			c.orders[label] = data
		}
	case record.TypeMapUse:
		c := e.chart(part.Map)
		c.used, c.uses = true, nil
		for _, rd := range data {
			u, _ := parseUse(string(rd))
			c.uses = append(c.uses, u)
		}
	case record.TypeMapBlock:
		c := e.chart(part.Map)
		family := 0
		if part.Block.Addr().Is6() {
			family = 1
		}
		area := entry{at: numberOf(part.Block.Addr()), bits: uint8(part.Block.Bits())}
		if len(c.areas[family]) == 0 {
			c.blocks[family] = slices.Clone(c.blocks[family])
		}
		i, found := search(c.blocks[family], area)
		switch b := newBlock(area, data); {
		case data == nil && !found:
			return
		case data == nil:
			c.blocks[family] = slices.Delete(c.blocks[family], i, i+1)
		case found:
			c.blocks[family][i] = b
		default:
			c.blocks[family] = slices.Insert(c.blocks[family], i, b)
		}
		c.areas[family] = append(c.areas[family], area)
	}
}

func newBlock(in entry, data []record.Rdata) *block {
	n := 0
	for _, rd := range data {
		n += 2 + len(rd)
	}
	b := &block{in: in, count: len(data), data: make([]byte, 0, n)}
	for _, rd := range data {
		b.data = append(append(b.data, byte(len(rd)>>8), byte(len(rd))), rd...)
	}
	return b
}

// search finds the block of a prefix, or where it would be.
func search(blocks []*block, in entry) (int, bool) {
	return slices.BinarySearchFunc(blocks, in, func(b *block, in entry) int { return b.in.compare(in) })
}

// each gives the entries of a block: value is 0, location lies in the block.
func (b *block) each(yield func(e entry, location []byte) bool) {
	for rest := b.data; len(rest) > 2; {
		n := 2 + int(rest[0])<<8 + int(rest[1])
		rd := rest[2:n]
		rest = rest[n:]
		size := 4
		a := number{}
		if rd[0] == 6 {
			size = 16
			a = numberOf(netip.AddrFrom16([16]byte(rd[1:17])))
		} else {
			a.Hi = uint64(rd[1])<<56 | uint64(rd[2])<<48 | uint64(rd[3])<<40 | uint64(rd[4])<<32
		}
		if !yield(entry{at: a, bits: rd[1+size]}, rd[2+size:]) {
			return
		}
	}
}

// ownPops makes pops ours, unless it is.
func (e *guideEdit) ownPops() {
	if e.popped {
		return
	}
	e.popped = true
	e.pops = &pops{number: cloneMap(e.pops.number), name: slices.Clone(e.pops.name), state: cloneMap(e.pops.state), unable: slices.Clone(e.pops.unable)}
}

// finish makes the Guide.
func (e *guideEdit) finish() {
	g := &e.Guide
	used := false
	if len(e.changed) > 0 {
		g.charts = slices.Clone(g.charts)
	}
	for _, name := range slices.Sorted(maps.Keys(e.changed)) {
		c := e.changed[name]
		e.build(c)
		i, found := g.find(name)
		switch empty := len(c.blocks[0])+len(c.blocks[1])+len(c.orders)+len(c.uses) == 0; {
		case found && empty:
			g.charts, used = slices.Delete(g.charts, i, i+1), true
		case found:
			g.charts[i] = c.chartOf
		case !empty:
			g.charts, used = slices.Insert(g.charts, i, c.chartOf), true
		}
		used = used || c.used
	}
	if used {
		g.index()
	}
	if e.popped {
		p := g.pops
		for i, name := range p.name {
			p.unable[i] = p.state[name] != Up
		}
	}
}

// build makes what is looked up of what changed.
func (e *guideEdit) build(c *chartEdit) {
	if e.anew || len(c.spots) > spareSpots { // most are of names that nobody uses any more
		c.number, c.spots, c.numbered, c.ordered = map[string]uint16{}, []spot{{}}, true, true
		for family := range c.areas {
			if c.tables[family] != nil {
				c.tables[family], c.areas[family] = nil, []entry{{}}
			}
		}
	}
	for family := range c.areas {
		areas := outermost(c.areas[family])
		if len(areas) == 0 {
			continue
		}
		table := c.tables[family]
		if len(c.blocks[family]) == 0 {
			c.tables[family] = nil
			continue
		}
		if table == nil {
			table = newRanges(family == 1, 1).done()
			areas = []entry{{}}
		}
		for i := range areas {
			areas[i].value = e.number(c, c.above(family, areas[i]))
		}
		c.tables[family] = table.with(areas, entriesOf(c.blocks[family]), func(area entry, to []entry) []entry { return e.within(c, family, area, to) })
	}
	if c.ordered {
		e.own(c)
		for i := range c.spots {
			c.spots[i].order = nil
		}
		for _, label := range slices.Sorted(maps.Keys(c.orders)) {
			for _, rd := range c.orders[label] {
				l, order, _ := parseOrder(string(rd))
				n := e.number(c, []byte(l))
				if n == 0 {
					continue
				}
				c.spots[n].order = e.order(order...)
			}
		}
	}
	for i := 1; i < len(c.spots); i++ {
		if s := &c.spots[i]; s.order == nil { // only of spots that are ours
			s.order = e.order(record.Location(s.name))
		}
	}
}

// order is the numbers of PoPs.
func (e *guideEdit) order(pops ...record.Location) []uint16 {
	numbers := make([]uint16, 0, len(pops))
	for _, p := range pops {
		if n, ok := e.pop(string(p)); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// own makes number and spots of a map ours, unless they are.
func (e *guideEdit) own(c *chartEdit) {
	if !c.numbered {
		c.number, c.spots, c.numbered = cloneMap(c.number), slices.Clone(c.spots), true
	}
}

// number is that of a location; 0 for none.
func (e *guideEdit) number(c *chartEdit, location []byte) uint16 {
	if len(location) == 0 {
		return 0
	}
	if n, ok := c.number[string(location)]; ok {
		return n
	}
	if len(c.spots) > maxSpots {
		e.wrong(fmt.Errorf("map %s: location %q is the %dth, at most %d are told apart: it is none", c.name, location, len(c.spots), maxSpots))
		return 0
	}
	e.own(c)
	n, name := uint16(len(c.spots)), string(location)
	c.number[name] = n
	c.spots = append(c.spots, spot{name: name}) // build has its order
	return n
}

// pop is the number of a PoP; false: there is none left.
func (e *guideEdit) pop(name string) (uint16, bool) {
	if n, ok := e.pops.number[name]; ok {
		return n, true
	}
	if len(e.pops.name) == maxSpots {
		e.full = true
		e.wrong(fmt.Errorf("PoP %q is the %dth, at most %d are told apart: nobody is sent there", name, maxSpots+1, maxSpots))
		return 0, false
	}
	e.ownPops()
	n := uint16(len(e.pops.name))
	e.pops.number[name] = n
	e.pops.name, e.pops.unable = append(e.pops.name, name), append(e.pops.unable, false)
	return n, true
}

// within gives the entries within an area, in order, and where clients of private networks
// are unless an entry there says it.
func (e *guideEdit) within(c *chartEdit, family int, area entry, to []entry) []entry {
	blocks := c.blocks[family]
	for n := range int(area.bits) { // blocks around it, which have none of it unless blocks overlap
		if i, found := search(blocks, entry{at: area.at.Mask(n), bits: uint8(n)}); found {
			for en, location := range blocks[i].each {
				if area.around(en) {
					en.value = e.number(c, location)
					to = append(to, en)
				}
			}
		}
	}
	first, _ := search(blocks, area)
	for _, b := range blocks[first:] {
		if !area.around(b.in) {
			break
		}
		for en, location := range b.each {
			en.value = e.number(c, location)
			to = append(to, en)
		}
	}
	if !slices.IsSortedFunc(to, entry.compare) { // blocks overlap
		slices.SortStableFunc(to, entry.compare)
	}
	// Of several for one prefix that of the innermost block counts, which is the last.
	kept := to[:0]
	for _, en := range to {
		if n := len(kept); n > 0 && kept[n-1].compare(en) == 0 {
			kept = kept[:n-1]
		}
		kept = append(kept, en)
	}
	for _, p := range private[family] {
		if i, found := slices.BinarySearchFunc(kept, p, entry.compare); !found && area.around(p) {
			kept = slices.Insert(kept, i, p)
		}
	}
	return kept
}

// above is the location that holds for an area as far as nothing within it says another.
func (c *chartOf) above(family int, area entry) []byte {
	least := uint8(0)
	for _, p := range private[family] {
		if p.around(area) {
			least = p.bits
		}
	}
	location, _ := c.enclosing(family, area, least, func(b *block) bool { return b.in.bits < area.bits })
	return location
}

// enclosing is the location, and the length, of the longest entry around an area that has
// least bits or more. of, unless nil, says of which blocks.
func (c *chartOf) enclosing(family int, area entry, least uint8, of func(*block) bool) (location []byte, bits int) {
	bits = -1
	blocks := c.blocks[family]
	for n := 0; n <= int(area.bits); n++ {
		around := entry{at: area.at.Mask(n), bits: uint8(n)}
		i, found := search(blocks, around)
		if !found || of != nil && !of(blocks[i]) {
			continue
		}
		for e, l := range blocks[i].each {
			if area.at.Less(e.at) {
				break
			}
			if e.bits >= least && e.around(area) && int(e.bits) >= bits {
				location, bits = l, int(e.bits)
			}
		}
	}
	return location, bits
}

// private are networks whose addresses say nothing of where somebody is, unless the map has
// an entry within them: the authority looks at the resolver instead (RFC 7871 §10). RFC 1918,
// 4193, 6598, loopback and link-local.
var private = func() (all [2][]entry) {
	for _, text := range []string{
		"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10",
	} {
		p := netip.MustParsePrefix(text)
		family := 0
		if p.Addr().Is6() {
			family = 1
		}
		all[family] = append(all[family], entry{at: numberOf(p.Addr()), bits: uint8(p.Bits())})
	}
	return all
}()

// privateBits is the length of the private network that an address is in; 0: none.
func privateBits(family int, a number) uint8 {
	for _, p := range private[family] {
		if a.Mask(int(p.bits)) == p.at {
			return p.bits
		}
	}
	return 0
}

// index makes uses and depth. Of two maps with one use the first by name counts.
func (g *Guide) index() {
	g.uses, g.depth = [2][2]map[record.Name]int{}, [2]uint64{}
	for i, c := range g.charts {
		for _, u := range c.uses {
			m := &g.uses[u.Kind][below(u.Below)]
			if *m == nil {
				*m = map[record.Name]int{}
			}
			if _, ok := (*m)[u.Name]; !ok {
				(*m)[u.Name] = i
				n := u.Name.Labels()
				g.depth[n/64] |= 1 << (n % 64)
			}
		}
	}
}

// chartFor gives the map that holds for a name; nil: none.
func (g *Guide) chartFor(name []byte, labels int, kind Kind) *chartOf {
	has := func(n int) bool { return g.depth[n/64&1]>>(n%64)&1 != 0 }
	exact, under := g.uses[kind][0], g.uses[kind][1]
	if has(labels) {
		if i, ok := exact[record.Name(name)]; ok {
			return g.charts[i]
		}
	}
	if i, ok := under[record.Root]; ok && labels == 0 {
		return g.charts[i]
	}
	for labels > 0 && len(under) > 0 && len(name) > int(name[0])+1 {
		name = name[int(name[0])+1:]
		labels--
		if has(labels) {
			if i, ok := under[record.Name(name)]; ok {
				return g.charts[i]
			}
		}
	}
	return nil
}

// Maps gives the names of the maps.
func (g *Guide) Maps() []string {
	if g == nil {
		return nil
	}
	names := make([]string, len(g.charts))
	for i, c := range g.charts {
		names[i] = c.name
	}
	return names
}

// Ranges is how many ranges, of both families.
func (g *Guide) Ranges() (n int) {
	if g == nil {
		return 0
	}
	for _, c := range g.charts {
		for _, t := range c.tables {
			if t != nil {
				n += t.len()
			}
		}
	}
	return n
}

// States gives the state of each PoP of which something is said, by name.
func (g *Guide) States() []PoP {
	if g == nil || g.pops == nil {
		return nil
	}
	all := make([]PoP, 0, len(g.pops.state))
	for name, s := range g.pops.state {
		all = append(all, PoP{name, s})
	}
	slices.SortFunc(all, func(a, b PoP) int { return strings.Compare(a.Name, b.Name) })
	return all
}
