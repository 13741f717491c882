package formats

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/record"
)

const (
	maxAddresses = 4096      // of a datacenter
	maxWeight    = 1<<20 - 1 // gdnsd's own
)

// resource reads the addresses that names have at each datacenter.
func (g GDNSD) resource(root *value, m *gdMap) error {
	where := root
	if g.Resources != "" {
		var err error
		if where, err = parseVSCF(g.FS, g.Resources); err != nil {
			return err
		}
	}
	plugin := stanza(where)
	all := plugin
	if in := plugin.get("resources"); in != nil {
		all = in
	}
	r := all.get(g.Resource)
	if r == nil {
		var names []string
		for _, p := range all.pairs {
			if p.value.get("dcmap") != nil {
				names = append(names, p.key)
			}
		}
		return fmt.Errorf("%s: no resource %q, expected one of %s", all.place, g.Resource, among(names))
	}
	if err := r.is(hashValue, "resource "+g.Resource); err != nil {
		return err
	}
	of := r.get("map")
	if of == nil || of.text != m.name {
		found := "none"
		if of != nil {
			found = fmt.Sprintf("%q", of.text)
		}
		return r.errorf("resource %q has the map %s, expected %q, which is read", g.Resource, found, m.name)
	}
	dcmap := r.get("dcmap")
	if dcmap == nil {
		return r.errorf("resource %q has no dcmap, expected dcmap => { DATACENTER => addresses, … }", g.Resource)
	}
	if err := dcmap.is(hashValue, "dcmap"); err != nil {
		return err
	}
	incomplete := strings.EqualFold(textOf(plugin.get("undefined_datacenters_ok")), "true")
	for _, p := range dcmap.pairs {
		if _, ok := m.pops[p.key]; !ok {
			return fmt.Errorf("%s: dcmap has %q, expected one of datacenters of map %q: %s", p.place, clip(p.key), m.name, among(m.dcs))
		}
	}
	for _, dc := range m.dcs {
		v := dcmap.get(dc)
		if v == nil {
			if !incomplete {
				return dcmap.errorf("dcmap has no datacenter %q of map %q, expected addresses of each", dc, m.name)
			}
			continue
		}
		a := &addresses{m: m, plugins: where.get("plugins"), levels: []*value{plugin, r}}
		if err := a.datacenter(v, dc); err != nil {
			return err
		}
		if err := g.addSets(m, record.Location(m.pops[dc]), a, v); err != nil {
			return err
		}
	}
	sortSets(m.out.Sets)
	m.skipFirst = strings.EqualFold(textOf(r.get("skip_first")), "true")
	if h := firstOf([]*value{r, plugin}, "service_types"); h != nil && textOf(h) != "up" {
		m.out.note(h.place, "what gdnsd checks (service_types, up_thresh) is not read: PoPs are up until they are said to be down")
	}
	return nil
}

func textOf(v *value) string {
	if v == nil {
		return ""
	}
	return v.text
}

// firstOf is the value of a key on the first level that has it.
func firstOf(levels []*value, key string) *value {
	for _, l := range levels {
		if v := l.get(key); v != nil {
			return v
		}
	}
	return nil
}

// addresses are what a datacenter answers.
type addresses struct {
	m       *gdMap
	plugins *value
	levels  []*value // around, outermost first
	refs    int

	records []weighted
	alias   record.Name
	choose  bool // one of them, by weight
}

// weighted is an address and its weight.
type weighted struct {
	addr   netip.Addr
	weight uint32
}

// datacenter reads a value of a dcmap.
func (a *addresses) datacenter(v *value, label string) error {
	switch v.kind {
	case listValue:
		return a.plain(v)
	case hashValue:
		return a.synthesized(v, label)
	}
	if ref := strings.TrimPrefix(v.text, "%"); strings.Contains(ref, "!") {
		return a.reference(v, ref)
	}
	if _, err := netip.ParseAddr(v.text); err == nil {
		return a.plain(v)
	}
	return a.cname(v)
}

func (a *addresses) cname(v *value) error {
	n, err := record.ParseName(v.text)
	if err != nil || !strings.HasSuffix(v.text, ".") {
		return v.errorf("found %q, expected an address, or a name that ends with a dot", clip(v.text))
	}
	a.alias = n
	return nil
}

// reference reads %plugin!resource.
func (a *addresses) reference(v *value, ref string) error {
	plugin, resource, _ := strings.Cut(ref, "!")
	if plugin == "" {
		plugin = a.plugin(nil)
	}
	if a.refs++; a.refs > 8 {
		return v.errorf("%q: more than 8 references in one another", clip(v.text))
	}
	in := a.plugins.get(plugin)
	if r := in.get("resources"); r != nil {
		in = r
	}
	r := in.get(resource)
	if r == nil {
		return v.errorf("%q refers to resource %q of plugin %q, which is not in this file", clip(v.text), clip(resource), clip(plugin))
	}
	a.levels = []*value{a.plugins.get(plugin)}
	return a.by(plugin, r)
}

// plugin is that of a hash: its own, or that of the levels around it.
func (a *addresses) plugin(v *value) string {
	levels := []*value{v}
	for i := len(a.levels) - 1; i >= 0; i-- {
		levels = append(levels, a.levels[i])
	}
	if p := firstOf(levels, "plugin"); p != nil {
		return p.text
	}
	return "multifo"
}

func (a *addresses) synthesized(v *value, _ string) error { return a.by(a.plugin(v), v) }

// by reads the configuration of a resource of a plugin.
func (a *addresses) by(plugin string, v *value) error {
	switch plugin {
	case "multifo", "static":
		return a.families(v, a.multifo)
	case "weighted":
		return a.families(v, a.weighted)
	case "simplefo":
		a.m.out.note(v.place, "plugin simplefo: the primary address is read alone; it is up until its PoP is not")
		return a.families(v, a.simplefo)
	}
	return v.errorf("plugin %q, expected multifo, weighted, simplefo or static: others cannot be read", clip(plugin))
}

// parameters are keys beside addresses.
var parameters = []string{"plugin", "service_types", "up_thresh", "ignore_health", "multi", "skip_first", "addrs_v4", "addrs_v6"}

// families reads addrs_v4 and addrs_v6, or the addresses that stand directly in v.
func (a *addresses) families(v *value, read func(*value) error) error {
	if v.kind != hashValue {
		return a.datacenter(v, "")
	}
	a.levels = append(a.levels, v)
	four, six := v.get("addrs_v4"), v.get("addrs_v6")
	if four == nil && six == nil {
		return read(v)
	}
	for _, f := range []*value{four, six} {
		if f == nil {
			continue
		}
		before := len(a.records)
		if err := read(f); err != nil {
			return err
		}
		for _, r := range a.records[before:] {
			if r.addr.Is4() != (f == four) {
				return f.errorf("address %s is not of the family of its stanza (addrs_v4, addrs_v6)", r.addr)
			}
		}
	}
	return nil
}

// plain reads an address or an array of them.
func (a *addresses) plain(v *value) error {
	for _, e := range v.items() {
		if err := a.address(e, 1); err != nil {
			return err
		}
	}
	return nil
}

func (a *addresses) address(v *value, weight uint32) error {
	addr, err := netip.ParseAddr(v.text)
	switch {
	case v.kind != textValue || err != nil || addr.Zone() != "" || addr.Is4In6():
		return v.errorf("found %q, expected an address such as 192.0.2.1", clip(v.text))
	case len(a.records) == maxAddresses:
		return v.errorf("more than %d addresses", maxAddresses)
	}
	a.records = append(a.records, weighted{addr, weight})
	return nil
}

func (a *addresses) multifo(v *value) error {
	if v.kind != hashValue {
		return a.plain(v)
	}
	for _, p := range v.pairs {
		if slices.Contains(parameters, p.key) {
			continue
		}
		if err := a.address(p.value, 1); err != nil {
			return err
		}
	}
	return nil
}

func (a *addresses) simplefo(v *value) error {
	p := v.get("primary")
	if p == nil {
		return v.errorf("no primary, expected primary => address")
	}
	return a.address(p, 1)
}

// weighted reads label => [ address, weight ], or groups of them.
func (a *addresses) weighted(v *value) error {
	if err := v.is(hashValue, "a weighted resource"); err != nil {
		return err
	}
	levels := []*value{v}
	for i := len(a.levels) - 1; i >= 0; i-- {
		levels = append(levels, a.levels[i])
	}
	if multi := firstOf(levels, "multi"); multi != nil && strings.EqualFold(multi.text, "true") {
		a.m.out.note(multi.place, "multi => true: gdnsd leaves out lighter addresses by chance; here each answer has all of them")
	} else {
		a.choose = true
	}
	heaviest := uint32(0)
	for _, p := range v.pairs {
		if slices.Contains(parameters, p.key) {
			continue
		}
		if p.value.kind == hashValue {
			a.m.out.note(p.place, "group %q: gdnsd chooses a group and answers with its addresses; here one of all addresses is chosen by its weight", clip(p.key))
			if err := a.weighted(p.value); err != nil {
				return err
			}
			continue
		}
		items := p.value.items()
		if len(items) != 2 {
			return p.value.errorf("%q is %d values, expected [ address, weight ]", clip(p.key), len(items))
		}
		n, err := strconv.ParseUint(items[1].text, 0, 32)
		if err != nil || n < 1 || n > maxWeight {
			return items[1].errorf("weight of %q is %q, expected 1 to %d", clip(p.key), clip(items[1].text), maxWeight)
		}
		if _, err := netip.ParseAddr(items[0].text); err != nil {
			if uint32(n) > heaviest {
				if heaviest > 0 {
					a.m.out.note(p.place, "weighted CNAMEs: a name has one CNAME, that of the greatest weight is read")
				}
				if err := a.cname(items[0]); err != nil {
					return err
				}
				heaviest = uint32(n)
			}
			continue
		}
		if err := a.address(items[0], uint32(n)); err != nil {
			return err
		}
	}
	return nil
}

// addSets adds the RRsets of the names at a PoP.
func (g GDNSD) addSets(m *gdMap, pop record.Location, a *addresses, v *value) error {
	if a.alias != "" && len(a.records) > 0 {
		return v.errorf("a CNAME and addresses, expected one of both")
	}
	for _, n := range g.Names {
		if a.alias != "" {
			r := record.NewRRset(n, record.TypeCNAME, g.TTL, record.Rdata(a.alias))
			r.Location = pop
			m.out.Sets = append(m.out.Sets, record.Set{RRset: r})
			continue
		}
		for _, t := range []record.Type{record.TypeA, record.TypeAAAA} {
			var data []record.Rdata
			var terms []record.Terms
			for _, r := range a.records {
				if r.addr.Is4() == (t == record.TypeA) {
					data = append(data, record.Rdata(r.addr.AsSlice()))
					terms = append(terms, record.Terms{TTL: g.TTL, Weight: r.weight})
				}
			}
			if len(data) == 0 {
				continue
			}
			s := record.NewSet(n, t, pop, data, terms)
			if a.choose && len(s.Data) > 1 {
				s.Choose = 1
			}
			if err := s.Check(); err != nil {
				return v.errorf("%w", err)
			}
			m.out.Sets = append(m.out.Sets, s)
		}
	}
	return nil
}
