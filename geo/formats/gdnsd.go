package formats

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/record"
)

// GDNSD is what is read of gdnsd's geoip plugin (gdnsd-plugin-geoip(8), version 3).
type GDNSD struct {
	// FS has the files, at the paths by which they refer to one another.
	FS fs.FS
	// File has maps, or the stanza of the plugin, or a whole configuration.
	File string
	// Map is the map to read; empty: the only one of the file.
	Map string
	// Resources is a file of resources; empty: File has them.
	Resources string
	// Resource is that whose addresses the names get; empty: the map alone is read.
	Resource string
	// Databases tell where clients are. Of several, those of IPv4 alone are asked
	// for IPv4 and the others for IPv6.
	Databases []*mmdb.DB
	// EmbeddedIPv4 puts clients whose IPv6 address has an IPv4 address in it where that
	// is, as gdnsd does: ::/96, ::ffff:0:0:0/96, 64:ff9b::/96 and 2002::/16. It makes up to
	// five prefixes of one, and cannot say it of Teredo (2001::/32), whose IPv4
	// address is at the end and inverted.
	EmbeddedIPv4 bool

	// Names are those that the map holds for, and that get the addresses of Resource.
	Names []record.Name
	TTL   uint32 // of the addresses, in seconds
}

const maxDatacenters = 254 // gdnsd's own

// Read reads the map.
func (g GDNSD) Read() (*Import, error) {
	root, err := parseVSCF(g.FS, g.File)
	if err != nil {
		return nil, err
	}
	if err := root.is(hashValue, "the file"); err != nil {
		return nil, err
	}
	name, config, err := g.find(root)
	if err != nil {
		return nil, err
	}
	m, err := newGDMap(g, name, config)
	if err != nil {
		return nil, err
	}
	i := m.out
	if g.Resource != "" {
		if err := g.resource(root, m); err != nil {
			return nil, err
		}
	}
	entries, err := m.entries()
	if err != nil {
		return nil, err
	}
	i.Map.Entries = entries
	used := map[record.Location]bool{}
	for _, e := range entries {
		used[e.Location] = true
	}
	for l, pops := range i.Map.Orders {
		switch {
		case !used[l]:
			delete(i.Map.Orders, l)
		case m.skipFirst:
			i.Map.Orders[l] = pops[1:]
		}
	}
	i.named(m.at)
	if m.noECS {
		for _, n := range g.Names {
			i.Map.Uses = append(i.Map.Uses, geo.Use{Name: n, Kind: geo.ByResolver})
		}
	} else {
		i.For(g.Names...)
	}
	return i, nil
}

// stanza is the plugin's part of a whole configuration, or the file that is that part.
func stanza(root *value) *value {
	if geoip := root.get("plugins").get("geoip"); geoip != nil {
		return geoip
	}
	return root
}

// find gives the map to read.
func (g GDNSD) find(root *value) (string, *value, error) {
	maps := root
	if in := stanza(root).get("maps"); in != nil {
		maps = in
	}
	var names []string
	for _, p := range maps.pairs {
		if p.value.get("datacenters") != nil {
			names = append(names, p.key)
		}
	}
	switch {
	case len(names) == 0:
		return "", nil, fmt.Errorf("%s: no map, expected NAME => { datacenters => […], … }, or that in maps => { … }, or in plugins => { geoip => { maps => … } }", maps.place)
	case g.Map == "" && len(names) == 1:
		g.Map = names[0]
	case g.Map == "":
		return "", nil, fmt.Errorf("%s: maps %s, expected that one of them is chosen", maps.place, among(names))
	}
	m := maps.get(g.Map)
	if m == nil {
		return "", nil, fmt.Errorf("%s: no map %q, expected one of %s", maps.place, g.Map, among(names))
	}
	return g.Map, m, m.is(hashValue, "map "+g.Map)
}

// gdMap is a map of gdnsd.
type gdMap struct {
	GDNSD
	name  string
	out   *Import
	dcs   []string          // as the file says, in its order
	pops  map[string]string // datacenter → its name here
	at    map[string]string // PoP → where its datacenter stands
	noECS bool

	skipFirst bool // of the resource: orders begin with the second

	coords map[string][2]float64 // radians; nil: no automatic lists
	limit  int                   // datacenters of an automatic list

	tree *level // nil: no map stanza
	def  *dclist
	nets []subnet
}

// dclist is an ordered list of datacenters.
type dclist struct {
	auto     bool
	location record.Location
	dcs      []string
}

// level is a level of a map stanza: a place → what is in it.
type level struct {
	def      *dclist
	children []child
}

// child has a list or a level.
type child struct {
	name string
	list *dclist
	more *level
}

// subnet is a prefix of a nets stanza.
type subnet struct {
	prefix netip.Prefix
	list   *dclist
	place  string
}

func newGDMap(g GDNSD, name string, v *value) (*gdMap, error) {
	m := &gdMap{GDNSD: g, name: name, out: &Import{}, pops: map[string]string{}, at: map[string]string{}}
	for _, p := range v.pairs {
		switch p.key {
		case "geoip2_db", "datacenters", "ignore_ecs", "nets", "map", "auto_dc_coords", "auto_dc_limit":
		default:
			return nil, fmt.Errorf("%s: map %q has the key %q, expected geoip2_db, datacenters, ignore_ecs, nets, map, auto_dc_coords or auto_dc_limit", p.place, name, clip(p.key))
		}
	}
	dcs := v.get("datacenters")
	if dcs == nil {
		return nil, v.errorf("map %q has no datacenters, expected datacenters => [ NAME, … ]", name)
	}
	if err := m.datacenters(dcs); err != nil {
		return nil, err
	}
	if err := m.automatic(v.get("auto_dc_coords"), v.get("auto_dc_limit")); err != nil {
		return nil, err
	}
	if e := v.get("ignore_ecs"); e != nil {
		switch strings.ToLower(e.text) {
		case "true":
			m.noECS = true
		case "false":
		default:
			return nil, e.errorf("ignore_ecs is %q, expected true or false", clip(e.text))
		}
	}
	m.def = m.listOf(m.dcs)
	db := v.get("geoip2_db")
	if tree := v.get("map"); tree != nil {
		if err := tree.is(hashValue, "map"); err != nil {
			return nil, err
		}
		if db == nil {
			return nil, tree.errorf("map without geoip2_db, expected the name of a database beside it")
		}
		var err error
		if m.tree, err = m.level(tree, nil, 0); err != nil {
			return nil, err
		}
	}
	if db != nil {
		if m.tree == nil && m.coords == nil {
			return nil, db.errorf("geoip2_db without map and auto_dc_coords, expected one of both, or no database: gdnsd does not start so")
		}
		if len(g.Databases) == 0 {
			return nil, db.errorf("map %q needs a database of places (%q), and none is given", name, clip(db.text))
		}
		for _, d := range g.Databases {
			if err := d.CheckPlaces(m.coords != nil); err != nil {
				return nil, err
			}
		}
	}
	if m.coords != nil && db == nil {
		return nil, v.get("auto_dc_coords").errorf("auto_dc_coords without geoip2_db, expected the name of a database beside it")
	}
	return m, m.readNets(v.get("nets"))
}

func (m *gdMap) datacenters(v *value) error {
	items := v.items()
	if len(items) == 0 || len(items) > maxDatacenters {
		return v.errorf("datacenters has %d names, expected 1 to %d", len(items), maxDatacenters)
	}
	from := map[string]string{}
	for _, d := range items {
		if err := d.is(textValue, "a datacenter"); err != nil {
			return err
		}
		pop, err := popName(d.text)
		switch before, twice := from[pop]; {
		case err != nil:
			return d.errorf("%w", err)
		case d.text == "auto":
			return d.errorf("a datacenter has the name auto, which is a list that gdnsd makes, expected another")
		case twice:
			return d.errorf("datacenter %q is there twice, before as %q, expected it once", d.text, before)
		}
		from[pop], m.pops[d.text], m.at[pop] = d.text, pop, d.place
		m.dcs = append(m.dcs, d.text)
	}
	return nil
}

// automatic reads what lists by distance need.
func (m *gdMap) automatic(coords, limit *value) error {
	count := len(m.dcs)
	if coords != nil {
		if err := coords.is(hashValue, "auto_dc_coords"); err != nil {
			return err
		}
		m.coords = map[string][2]float64{}
		for _, p := range coords.pairs {
			if _, ok := m.pops[p.key]; !ok {
				return fmt.Errorf("%s: auto_dc_coords has %q, expected one of datacenters: %s", p.place, clip(p.key), among(m.dcs))
			}
			items := p.value.items()
			if len(items) != 2 {
				return p.value.errorf("coordinates of %q are %d numbers, expected [ latitude, longitude ] in degrees", p.key, len(items))
			}
			var at [2]float64
			for i, most := range [2]float64{90, 180} {
				x, err := strconv.ParseFloat(items[i].text, 64)
				if err != nil || math.IsNaN(x) || x < -most || x > most {
					return items[i].errorf("%s of %q is %q, expected degrees, -%g to %g", [2]string{"latitude", "longitude"}[i], p.key, clip(items[i].text), most, most)
				}
				at[i] = x * math.Pi / 180
			}
			m.coords[p.key] = at
		}
		count = len(m.coords)
	}
	m.limit = min(count, 3)
	if limit != nil {
		n, err := strconv.ParseUint(limit.text, 0, 32)
		if err != nil || limit.kind != textValue {
			return limit.errorf("auto_dc_limit is %q, expected a number, 0 for no limit", clip(limit.text))
		}
		if m.limit = int(n); n == 0 || int(n) > count {
			m.limit = count
		}
	}
	return nil
}

// listOf is the list of some datacenters in order.
func (m *gdMap) listOf(dcs []string) *dclist {
	pops := make([]string, 0, len(dcs))
	for _, d := range dcs {
		if p := m.pops[d]; !slices.Contains(pops, p) {
			pops = append(pops, p)
		}
	}
	return &dclist{location: m.out.order(pops, "/"), dcs: dcs}
}

// list reads a list of datacenters, or auto where that is allowed.
func (m *gdMap) list(v *value, auto bool) (*dclist, error) {
	if v.kind == hashValue {
		return nil, v.is(listValue, "a list of datacenters")
	}
	items := v.items()
	if len(items) > maxDatacenters {
		return nil, v.errorf("a list of %d datacenters, at most %d", len(items), maxDatacenters)
	}
	var dcs []string
	for _, d := range items {
		if err := d.is(textValue, "a datacenter"); err != nil {
			return nil, err
		}
		if auto && len(items) == 1 && d.text == "auto" {
			return &dclist{auto: true}, nil
		}
		if _, ok := m.pops[d.text]; !ok {
			return nil, d.errorf("datacenter %q, expected one of datacenters: %s", clip(d.text), among(m.dcs))
		}
		dcs = append(dcs, d.text)
	}
	if len(dcs) == 0 {
		m.out.note(v.place, "an empty list: gdnsd gives no records to these clients; here they have no location, and get what everybody gets, if there is that")
	}
	return m.listOf(dcs), nil
}

// level reads a level of a map stanza. around is the default of that around it; nil: it
// is the first.
func (m *gdMap) level(v *value, around *dclist, depth int) (*level, error) {
	l := &level{def: around}
	if around == nil {
		if l.def = m.def; m.coords != nil {
			l.def = &dclist{auto: true}
		}
	}
	if d := v.get("default"); d != nil {
		list, err := m.list(d, m.coords != nil)
		if err != nil {
			return nil, err
		}
		if l.def = list; depth == 0 && !list.auto {
			m.def = list // also of clients of whom nothing is known
		}
	}
	for _, p := range v.pairs {
		if p.key == "default" {
			continue
		}
		c := child{name: p.key}
		var err error
		if p.value.kind == hashValue {
			c.more, err = m.level(p.value, l.def, depth+1)
		} else {
			c.list, err = m.list(p.value, m.coords != nil)
		}
		if err != nil {
			return nil, err
		}
		l.children = append(l.children, c)
	}
	return l, nil
}

// at gives the list of a place: below the country, levels that the map does not name are
// passed over; the city is behind the last subdivision.
func (l *level) at(p *mmdb.Place) *dclist {
	names := make([]string, 0, 8)
	names = append(append(append(names, p.Continent, p.Country), p.Subdivisions...), p.City)
	depth := 0
	for len(l.children) > 0 {
		var found *child
		for found == nil && depth < len(names) && names[depth] != "" {
			found = l.child(names[depth])
			if depth++; depth <= 2 {
				break
			}
		}
		switch {
		case found == nil:
			return l.def
		case found.more == nil:
			return found.list
		}
		l = found.more
	}
	return l.def
}

func (l *level) child(name string) *child {
	for i := range l.children {
		if equalFold(l.children[i].name, name) {
			return &l.children[i]
		}
	}
	return nil
}

// equalFold compares as gdnsd does: the case of ASCII alone does not count.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

// nearest is the automatic list of a place.
func (m *gdMap) nearest(p *mmdb.Place) *dclist {
	if !p.Located {
		return m.def
	}
	latitude, longitude := p.Latitude*math.Pi/180, p.Longitude*math.Pi/180
	distance := make(map[string]float64, len(m.coords))
	for dc, at := range m.coords {
		a, b := math.Sin((at[0]-latitude)/2), math.Sin((at[1]-longitude)/2)
		distance[dc] = a*a + math.Cos(latitude)*math.Cos(at[0])*b*b // haversine, without what keeps its order
	}
	// Equally far ones stand as in the default list, those that are not in it behind.
	var dcs []string
	for _, dc := range append(slices.Clone(m.def.dcs), m.dcs...) {
		if _, known := m.coords[dc]; known && !slices.Contains(dcs, dc) {
			dcs = append(dcs, dc)
		}
	}
	slices.SortStableFunc(dcs, func(a, b string) int { return cmp.Compare(distance[a], distance[b]) })
	return m.listOf(dcs[:min(m.limit, len(dcs))])
}

// IPv6 prefixes that have IPv4 addresses in them.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 §2.5.5.1: gdnsd's own form
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")   // RFC 4291 §2.5.5.2
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765, obsolete
	wellKnown  = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	embedding  = []netip.Prefix{mapped, siit, wellKnown, teredo, sixToFour}
	allIPv4    = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	allIPv6    = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

func within(p netip.Prefix, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}

// readNets reads a nets stanza, or the file that it names.
func (m *gdMap) readNets(v *value) error {
	if v == nil {
		return nil
	}
	if v.kind == textValue {
		file := path.Join("geoip", v.text) // where gdnsd has it, below its configuration
		if _, err := fs.Stat(m.FS, file); err != nil {
			file = v.text
		}
		in, err := parseVSCF(m.FS, file)
		if err != nil {
			return v.errorf("nets: %w", err)
		}
		v = in
	}
	if err := v.is(hashValue, "nets"); err != nil {
		return err
	}
	seen := map[netip.Prefix]subnet{}
	var errs []error
	for _, pair := range v.pairs {
		p, err := m.prefix(pair)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l, err := m.list(pair.value, false)
		if err != nil {
			return err
		}
		if before, twice := seen[p]; twice && before.list.location != l.location {
			errs = append(errs, fmt.Errorf("%s: %s is there twice with other datacenters, before at %s, expected one list", pair.place, p, before.place))
			continue
		}
		n := subnet{p, l, pair.place}
		if _, twice := seen[p]; !twice {
			seen[p] = n
			m.nets = append(m.nets, n)
		}
		if len(errs) == 20 {
			break
		}
	}
	return errors.Join(errs...)
}

// prefix reads a key of a nets stanza.
func (m *gdMap) prefix(p pair) (netip.Prefix, error) {
	text, mask, ok := strings.Cut(p.key, "/")
	a, err := netip.ParseAddr(text)
	bits, err2 := strconv.ParseUint(mask, 10, 8)
	if !ok || err != nil || err2 != nil || a.Zone() != "" || int(bits) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%s: nets has %q, expected address/length such as 192.0.2.0/24", p.place, clip(p.key))
	}
	full := netip.PrefixFrom(a, int(bits))
	q := full.Masked()
	if full != q {
		m.out.note(p.place, "%s has bits behind its length, and is read as %s", p.key, q)
	}
	if q.Addr().Is6() && within(q, embedding) {
		return q, fmt.Errorf("%s: nets has %s, which is IPv4 in the form of IPv6, expected the IPv4 prefix itself", p.place, q)
	}
	if q.Addr().Is6() && within(q, []netip.Prefix{compatible}) {
		b := q.Addr().As16()
		q = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), q.Bits()-96)
	}
	return q, nil
}

// entries are the prefixes of the map.
func (m *gdMap) entries() ([]geo.Entry, error) {
	base := []geo.Entry{{Prefix: allIPv4, Location: m.def.location}, {Prefix: allIPv6, Location: m.def.location}}
	if m.tree != nil || m.coords != nil {
		if m.tree == nil {
			m.tree = &level{def: &dclist{auto: true}}
		}
		only4 := slices.ContainsFunc(m.Databases, (*mmdb.DB).Only4) // then the others are for IPv6
		four, six := false, false
		for _, db := range m.Databases {
			wanted4, wanted6 := !four && db.Only4() == only4, !six && !db.Only4()
			var err error
			if base, err = m.walk(db, base, wanted4, wanted6); err != nil {
				return nil, err
			}
			four, six = four || wanted4, six || wanted6
		}
	}
	// The whole of IPv4 is ::/96 to gdnsd, so that a wider prefix holds for it as well.
	over := make([]geo.Entry, 0, len(m.nets)+1)
	around := netip.Prefix{}
	var list *dclist
	for _, n := range m.nets {
		over = append(over, geo.Entry{Prefix: n.prefix, Location: n.list.location})
		if n.prefix == allIPv4 {
			around, list = compatible, nil
		} else if n.prefix.Addr().Is6() && n.prefix.Contains(compatible.Addr()) && (!around.IsValid() || n.prefix.Bits() > around.Bits()) {
			around, list = n.prefix, n.list
		}
	}
	if list != nil {
		over = append(over, geo.Entry{Prefix: allIPv4, Location: list.location})
	}
	out, err := ortc.Over(base, over)
	if err != nil || !m.EmbeddedIPv4 {
		return out, err
	}
	return embed(out)
}

// walk adds what a database says.
func (m *gdMap) walk(db *mmdb.DB, base []geo.Entry, four, six bool) ([]geo.Entry, error) {
	lists := map[uint64]record.Location{}
	for n, err := range db.Networks() {
		if err != nil {
			return nil, err
		}
		is4 := n.Prefix.Addr().Is4()
		if !n.Found() || is4 && !four || !is4 && (!six || within(n.Prefix, embedding) || within(n.Prefix, []netip.Prefix{compatible})) {
			continue
		}
		l, ok := lists[n.ID()]
		if !ok {
			p, err := n.Place()
			if err != nil {
				return nil, err
			}
			list := m.tree.at(&p)
			if list.auto {
				list = m.nearest(&p)
			}
			l = list.location
			lists[n.ID()] = l
		}
		if !is4 && four && n.Prefix.Contains(compatible.Addr()) { // and with it all of IPv4
			base[0].Location = l
		}
		if n.Prefix == allIPv4 || n.Prefix == allIPv6 {
			for i := range 2 {
				if base[i].Prefix == n.Prefix {
					base[i].Location = l
				}
			}
		} else if l != m.def.location || base[0].Location != m.def.location || base[1].Location != m.def.location {
			base = append(base, geo.Entry{Prefix: n.Prefix, Location: l})
		}
	}
	return base, nil
}

// embed puts IPv6 addresses with an IPv4 address in them where that is.
func embed(entries []geo.Entry) ([]geo.Entry, error) {
	four, _ := slices.BinarySearchFunc(entries, allIPv6, func(e geo.Entry, p netip.Prefix) int { return e.Prefix.Compare(p) })
	over := make([]geo.Entry, 0, 4*four)
	for _, into := range []netip.Prefix{compatible, siit, wellKnown, sixToFour} {
		for _, e := range entries[:four] {
			b, at := into.Addr().As16(), e.Prefix.Addr().As4()
			copy(b[into.Bits()/8:], at[:])
			over = append(over, geo.Entry{Prefix: netip.PrefixFrom(netip.AddrFrom16(b), into.Bits()+e.Prefix.Bits()), Location: e.Location})
		}
	}
	return ortc.Over(entries, over)
}
