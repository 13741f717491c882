package formats

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Knot is what is read of Knot DNS's module geoip: the file that its config-file names, of
// mode subnet (net), geodb (geo) or weighted (weight).
type Knot struct {
	Reader io.Reader
	File   string // in errors
	// Keys are geodb-key of the module, such as country/iso_code; none: that alone.
	Keys []string
	// Databases is geodb-file. Of several, those of IPv4 alone are asked for IPv4.
	Databases []*mmdb.DB
	TTL       uint32 // seconds, ttl of the module
}

// Bounds of Knot's files: our own choice, but for the keys.
const (
	maxKnot  = 64 << 20 // octets
	maxKeys  = 8        // Knot's own
	maxViews = 1 << 20
	maxKnotW = 255 // Knot's own: a weight
)

// view is what some clients get for a name.
type view struct {
	place string
	net   netip.Prefix
	geo   []string // a value for each key; "": any
	depth int      // keys up to the last that counts
	key   string   // of either, for people
	wt    uint32
	data  map[record.Type][]record.Rdata
}

// knotName is a name of the file and its views.
type knotName struct {
	name  record.Name
	place string
	views []*view
}

// Read reads the file.
func (k Knot) Read() (*Import, error) {
	if len(k.Keys) == 0 {
		k.Keys = []string{"country/iso_code"}
	}
	if len(k.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, expected at most %d", len(k.Keys), maxKeys)
	}
	i := &Import{}
	names, mode, err := k.parse(i)
	if err != nil {
		return nil, err
	}
	switch mode {
	case "net":
		err = k.subnet(i, names)
	case "geo":
		err = k.geodb(i, names)
	case "weight":
		err = k.weighted(i, names)
	default:
		err = fmt.Errorf("%s: no names, expected NAME: and below it - net: PREFIX, - geo: PLACE or - weight: NUMBER", k.File)
	}
	if err != nil {
		return nil, err
	}
	sortSets(i.Sets)
	for _, n := range names { // also of weights, where nobody has a location: names are what such a map is
		i.For(n.name)
	}
	return i, nil
}

// parse reads names and views. All views of a file are of one mode.
func (k Knot) parse(i *Import) (names []*knotName, mode string, err error) {
	b, err := io.ReadAll(io.LimitReader(k.Reader, maxKnot+1))
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", k.File, err)
	}
	if len(b) > maxKnot {
		return nil, "", fmt.Errorf("%s has more than %d octets", k.File, maxKnot)
	}
	l := knotLines{file: k.File, rest: string(b)}
	known := map[record.Name]*knotName{}
	var name *knotName
	var v *view
	views := 0
	for {
		item, err := l.next()
		if err != nil {
			return nil, "", err
		}
		switch {
		case item == nil:
			for _, n := range names {
				if len(n.views) == 0 {
					return nil, "", fmt.Errorf("%s: %s has nothing below it, expected - net, - geo or - weight", n.place, n.name)
				}
			}
			return names, mode, nil
		case item.level == 0:
			owner, err := dnswire.ParseName(item.key, record.Root)
			if err != nil {
				return nil, "", item.errorf("%w", err)
			}
			if before := known[owner]; before != nil {
				return nil, "", item.errorf("%s is there twice, before at %s, expected it once", owner, before.place)
			}
			if len(item.values) > 0 {
				return nil, "", item.errorf("%s: found %q behind it, expected - net, - geo or - weight on lines of their own", owner, clip(item.values[0]))
			}
			name, v = &knotName{name: owner, place: item.place}, nil
			known[owner] = name
			names = append(names, name)
		case name == nil:
			return nil, "", item.errorf("%q before the first name, expected NAME:", clip(item.key))
		case item.level == 1:
			if mode != "" && mode != item.key && (item.key == "net" || item.key == "geo" || item.key == "weight") {
				return nil, "", item.errorf("- %s in a file with - %s, expected one of both", item.key, mode)
			}
			if views++; views > maxViews {
				return nil, "", item.errorf("more than %d entries", maxViews)
			}
			if v, err = k.view(i, item); err != nil {
				return nil, "", err
			}
			mode = item.key
			name.views = append(name.views, v)
		case v == nil:
			return nil, "", item.errorf("%q before the first entry of %s, expected - net, - geo or - weight", clip(item.key), name.name)
		default:
			if err := v.add(item, name.name); err != nil {
				return nil, "", err
			}
		}
	}
}

// view reads the first line of a view.
func (k Knot) view(i *Import, item *knotItem) (*view, error) {
	v := &view{place: item.place, data: map[record.Type][]record.Rdata{}}
	if len(item.values) != 1 {
		return nil, item.errorf("- %s has %d values, expected one", clip(item.key), len(item.values))
	}
	text := item.values[0]
	switch item.key {
	case "net":
		if !strings.Contains(text, "/") {
			if a, err := netip.ParseAddr(text); err == nil {
				text = netip.PrefixFrom(a, a.BitLen()).String()
			}
		}
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return nil, item.errorf("net is %q, expected a prefix such as 192.0.2.0/24", clip(text))
		case within(p, []netip.Prefix{mapped}):
			return nil, item.errorf("net is %s, which is IPv4 in the form of IPv6, expected %s", p, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked())
		case p != p.Masked():
			i.note(item.place, "%s has bits behind its length, and is read as %s", p, p.Masked())
		}
		v.net, v.key = p.Masked(), p.Masked().String()
	case "geo":
		parts := strings.Split(text, ";")
		if len(parts) > len(k.Keys) {
			return nil, item.errorf("geo is %q, of %d parts, expected at most %d, one for each key: %s", clip(text), len(parts), len(k.Keys), among(k.Keys))
		}
		for n, p := range parts {
			if p == "*" {
				p = ""
			}
			if p != "" {
				if v.depth > 0 && v.depth < n || v.depth == 0 && n > 0 {
					i.note(item.place, "geo %q: a * before another part; Knot finds such an entry in some places only, here it holds in all that match", clip(text))
				}
				v.depth = n + 1
			}
			v.geo = append(v.geo, p)
		}
		v.geo = v.geo[:v.depth]
		shown := slices.Clone(v.geo)
		for n := range shown {
			shown[n] = cmp.Or(shown[n], "*")
		}
		v.key = cmp.Or(strings.Join(shown, ";"), "*")
		if len(v.key) > record.MaxLocation {
			return nil, item.errorf("geo has %d octets, expected at most %d", len(v.key), record.MaxLocation)
		}
	case "weight":
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return nil, item.errorf("weight is %q, expected 0 to %d", clip(text), maxKnotW)
		}
		v.wt, v.key = uint32(n), text
	default:
		return nil, item.errorf("found - %s, expected - net, - geo or - weight", clip(item.key))
	}
	return v, nil
}

// add reads a line of records.
func (v *view) add(item *knotItem, owner record.Name) error {
	t, err := record.ParseType(item.key)
	if err != nil {
		return item.errorf("type is %q, expected one such as A, AAAA, CNAME or TXT", clip(item.key))
	}
	switch t {
	case record.TypeRRSIG, record.TypeNSEC, 48, 50, 51: // DNSKEY, NSEC3, NSEC3PARAM
		return item.errorf("type %s is of DNSSEC, expected another", t)
	}
	_, alias := v.data[record.TypeCNAME]
	if t == record.TypeCNAME && len(v.data) > 0 || alias {
		return item.errorf("%s beside other records of the entry, expected a CNAME alone, once", t)
	}
	if t == record.TypeCNAME && len(item.values) > 1 {
		return item.errorf("%d CNAMEs, expected one", len(item.values))
	}
	for _, text := range item.values {
		rd, err := dnswire.ParseRdata(t, text, owner)
		if err != nil {
			return item.errorf("%s %q: %w", t, clip(text), err)
		}
		v.data[t] = append(v.data[t], rd)
	}
	return nil
}

// sets adds what the views of a name answer, each at its own location.
func (k Knot) sets(i *Import, n *knotName) error {
	for _, v := range n.views {
		for t, data := range v.data {
			r := record.NewRRset(n.name, t, k.TTL, data...)
			r.Location = location(v)
			if err := r.Check(); err != nil {
				return fmt.Errorf("%s: %w", v.place, err)
			}
			i.Sets = append(i.Sets, record.Set{RRset: r})
		}
	}
	return nil
}

// location is the name that a view has here. It has no spaces, so that it can stand among
// others in CSV.
func location(v *view) record.Location { return record.Location(strings.ReplaceAll(v.key, " ", "_")) }

// lacks notes types that a view does not have and one around it has: Knot then answers that
// there is none.
func lacks(i *Import, n *knotName, inner, outer *view) {
	for t := range outer.data {
		if inner.data[t] == nil && inner.data[record.TypeCNAME] == nil {
			i.note(inner.place, "%s has no %s, and %s (%s) has: Knot answers that there is none, here it is that of %s", inner.key, t, outer.key, outer.place, outer.key)
		}
	}
}

// twice is an error when a name has a view twice.
func (n *knotName) twice() error {
	seen := map[string]*view{}
	for _, v := range n.views {
		if before := seen[v.key]; before != nil {
			return fmt.Errorf("%s: %s has %q twice, before at %s, expected it once", v.place, n.name, v.key, before.place)
		}
		seen[v.key] = v
	}
	return nil
}

// subnet is mode subnet: the map has the prefixes of all names, and each is served by
// itself, else by those around it, for names that do not have it.
func (k Knot) subnet(i *Import, names []*knotName) error {
	nets := map[netip.Prefix]bool{}
	for _, n := range names {
		if err := n.twice(); err != nil {
			return err
		}
		if err := k.sets(i, n); err != nil {
			return err
		}
		own := map[netip.Prefix]*view{}
		for _, v := range n.views {
			own[v.net], nets[v.net] = v, true
		}
		for _, v := range n.views {
			for bits := v.net.Bits() - 1; bits >= 0; bits-- {
				if outer := own[netip.PrefixFrom(v.net.Addr(), bits).Masked()]; outer != nil {
					lacks(i, n, v, outer)
					break
				}
			}
		}
	}
	for p := range nets {
		chain := []string{p.String()}
		for bits := p.Bits() - 1; bits >= 0; bits-- {
			if q := netip.PrefixFrom(p.Addr(), bits).Masked(); nets[q] {
				chain = append(chain, q.String())
			}
		}
		l, err := i.chain(chain)
		if err != nil {
			return err
		}
		i.Map.Entries = append(i.Map.Entries, geo.Entry{Prefix: p, Location: l})
	}
	slices.SortFunc(i.Map.Entries, func(a, b geo.Entry) int { return a.Prefix.Compare(b.Prefix) })
	return nil
}

// maxChain is how many entries may hold for a client: geo bounds orders so.
const maxChain = 64

func (i *Import) chain(keys []string) (record.Location, error) {
	if len(keys) > maxChain {
		return "", fmt.Errorf("%d entries hold for one client, from %q to %q, at most %d", len(keys), keys[0], keys[len(keys)-1], maxChain)
	}
	return i.order(keys, ","), nil
}

// geodb is mode geodb: as subnet, with the places of a database.
func (k Knot) geodb(i *Import, names []*knotName) error {
	if len(k.Databases) == 0 {
		return fmt.Errorf("%s has entries by place (geo), which need a database, and none is given", k.File)
	}
	var paths [][]string
	for _, key := range k.Keys {
		_, path, _ := strings.Cut(key, ")") // "(id)" before numbers
		paths = append(paths, strings.Split(cmp.Or(path, key), "/"))
	}
	at := map[string]*view{} // one of each place
	for _, n := range names {
		if err := n.twice(); err != nil {
			return err
		}
		if err := k.sets(i, n); err != nil {
			return err
		}
		for _, v := range n.views {
			at[v.key] = v
			for _, outer := range n.views {
				if outer.depth < v.depth && outer.holds(v.geo) {
					lacks(i, n, v, outer)
				}
			}
		}
	}
	all := make([]*view, 0, len(at))
	for _, v := range at {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *view) int { return cmp.Or(b.depth-a.depth, a.any()-b.any(), cmp.Compare(a.key, b.key)) })
	only4 := slices.ContainsFunc(k.Databases, (*mmdb.DB).Only4)
	var base []geo.Entry
	four, six := false, false
	for _, db := range k.Databases {
		wanted4, wanted6 := !four && db.Only4() == only4, !six && !db.Only4()
		four, six = four || wanted4, six || wanted6
		known := map[uint64]record.Location{}
		for n, err := range db.Networks() {
			if err != nil {
				return err
			}
			if is4 := n.Prefix.Addr().Is4(); !n.Found() || is4 && !wanted4 || !is4 && !wanted6 {
				continue
			}
			l, ok := known[n.ID()]
			if !ok {
				if l, err = i.placed(n, paths, all); err != nil {
					return err
				}
				known[n.ID()] = l
			}
			if l != "" {
				base = append(base, geo.Entry{Prefix: n.Prefix, Location: l})
			}
		}
	}
	var err error
	i.Map.Entries, err = ortc.Aggregate(base)
	return err
}

// placed gives the location of a network: all views that hold there, the most special
// first.
func (i *Import) placed(n mmdb.Network, paths [][]string, all []*view) (record.Location, error) {
	values := make([]string, len(paths))
	for k, p := range paths {
		v, _, err := n.Value(p...)
		if err != nil {
			return "", err
		}
		values[k] = v
	}
	var keys []string
	for _, v := range all {
		if v.holds(values) {
			keys = append(keys, string(location(v)))
		}
	}
	return i.chain(keys)
}

// holds tells whether a view holds where a database has these values.
func (v *view) holds(values []string) bool {
	for n, want := range v.geo {
		if want != "" && (n >= len(values) || values[n] != want) {
			return false
		}
	}
	return true
}

// any is how many parts of a view may be anything.
func (v *view) any() (n int) {
	for _, g := range v.geo {
		if g == "" {
			n++
		}
	}
	return n
}

// weighted is mode weighted: nobody has a location, and one record is chosen.
func (k Knot) weighted(i *Import, names []*knotName) error {
	for _, n := range names {
		data, terms := map[record.Type][]record.Rdata{}, map[record.Type][]record.Terms{}
		heaviest := uint32(0)
		for _, v := range n.views {
			for t, d := range v.data {
				if len(d) > 1 {
					i.note(v.place, "%d records of one weight: Knot answers all of them together, here each is chosen by itself", len(d))
				}
				if t == record.TypeCNAME && len(n.views) > 1 {
					i.note(v.place, "weighted CNAMEs: a name has one CNAME, that of the greatest weight is read")
					if len(data[t]) > 0 && v.wt <= heaviest {
						continue
					}
					heaviest, data[t], terms[t] = v.wt, nil, nil
				}
				data[t] = append(data[t], d...)
				for range d {
					terms[t] = append(terms[t], record.Terms{TTL: k.TTL, Weight: v.wt})
				}
			}
		}
		for t, d := range data {
			if t != record.TypeA && t != record.TypeAAAA {
				for x := range terms[t] {
					terms[t][x].Weight = 1
				}
			}
			s := record.NewSet(n.name, t, "", d, terms[t])
			if (t == record.TypeA || t == record.TypeAAAA) && len(s.Data) > 1 {
				s.Choose = 1
			}
			if err := s.Check(); err != nil {
				return fmt.Errorf("%s: %w", n.place, err)
			}
			i.Sets = append(i.Sets, s)
		}
	}
	return nil
}
