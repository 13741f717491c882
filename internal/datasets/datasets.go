package datasets

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// Bounds: each dataset is a presenter, a publisher and a canary of its own.
const (
	maxDatasets = 64
	maxZones    = 10_000
)

// MapsZone is the zone of maps of a dataset that does not have geo.Zone, whose name was checked:
// that of edge is edge._of.maps.zonecast.internal.
func MapsZone(dataset string) record.Name {
	n, err := geo.Zone.Child(geo.DatasetsLabel)
	if err == nil {
		n, err = n.Child(dataset)
	}
	if err != nil {
		panic(err) // a constant, and a name that was checked
	}
	return n
}

// rest stands for all zones that no dataset names.
const rest = "*"

// Zones are those of one dataset.
type Zones struct {
	Dataset string
	// Names are apexes; they, and all below, are the dataset's, unless another one names
	// something between.
	Names []record.Name
	// Rest: what no dataset names is this one's, too.
	Rest bool
}

// String is the zones as UnmarshalText takes them.
func (z Zones) String() string {
	var words []string
	if z.Rest {
		words = append(words, rest)
	}
	for _, n := range z.Names {
		words = append(words, n.String())
	}
	return z.Dataset + "=" + strings.Join(words, " ")
}

// MarshalText implements encoding.TextMarshaler.
func (z Zones) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// UnmarshalText reads DATASET=ZONE ZONE..., of which * is all that no dataset names.
func (z *Zones) UnmarshalText(text []byte) error {
	name, list, ok := strings.Cut(string(text), "=")
	words := strings.Fields(list)
	if !ok || len(words) == 0 {
		return fmt.Errorf("datasets has %.80q, expected DATASET=ZONE ZONE..., as in \"edge=example.net example.org\" or \"internal=*\"", text)
	}
	now := Zones{Dataset: strings.TrimSpace(name)}
	if err := snapshot.CheckName(now.Dataset); err != nil {
		return fmt.Errorf("datasets has %.80q: %w", text, err)
	}
	for _, w := range words {
		if w == rest {
			now.Rest = true
			continue
		}
		n, err := record.ParseName(w)
		if err != nil {
			return fmt.Errorf("datasets: zone %.80q of %s: %w", w, now.Dataset, err)
		}
		now.Names = append(now.Names, n)
	}
	*z = now
	return nil
}

// Division says which dataset has what. The nil Division leaves everything in every dataset.
type Division struct {
	names []string // in the order given
	of    map[record.Name]string
	rest  string
}

// New makes a Division; nil of no zones.
func New(all []Zones) (*Division, error) {
	if len(all) == 0 {
		return nil, nil
	}
	d := &Division{of: map[record.Name]string{}}
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, z := range all {
		if slices.Contains(d.names, z.Dataset) {
			report("datasets: %s is there twice, expected all of its zones in one place", z.Dataset)
			continue
		}
		d.names = append(d.names, z.Dataset)
		for _, n := range z.Names {
			if other, ok := d.of[n]; ok {
				report("datasets: zone %s is in %s and in %s, expected it in one", n, other, z.Dataset)
			}
			d.of[n] = z.Dataset
		}
		if z.Rest && d.rest != "" {
			report("datasets: %s and %s both have *, expected one that has what no dataset names", d.rest, z.Dataset)
		}
		if z.Rest {
			d.rest = z.Dataset
		}
	}
	if d.rest == "" {
		report("datasets: none has *, expected one, such as \"internal=*\": what no dataset names would be nowhere")
	}
	if len(all) > maxDatasets || len(d.of) > maxZones {
		report("datasets: %d with %d zones, expected at most %d with %d", len(all), len(d.of), maxDatasets, maxZones)
	}
	for _, name := range d.names {
		if zone := MapsZone(name); d.of[zone] == "" {
			d.of[zone] = name
		}
	}
	return d, errors.Join(errs...)
}

// Names are the datasets in the order given; none of the nil Division.
func (d *Division) Names() []string {
	if d == nil {
		return nil
	}
	return slices.Clone(d.names)
}

// Check tells why there is nothing of a dataset, or nil.
func (d *Division) Check(dataset string) error {
	if d == nil || slices.Contains(d.names, dataset) {
		return nil
	}
	return fmt.Errorf("dataset is %q, expected one that datasets names: %s", dataset, strings.Join(d.names, ", "))
}

// Has tells whether a name is in a dataset.
func (d *Division) Has(dataset string, name record.Name) bool {
	return d == nil || d.nameOf(name) == dataset
}

// MapsZone is the zone that a dataset has its maps and states of PoPs in.
func (d *Division) MapsZone(dataset string) record.Name {
	if d.Has(dataset, geo.Zone) {
		return geo.Zone
	}
	return MapsZone(dataset)
}

// Of is the dataset that has a name.
func (d *Division) Of(name record.Name) string {
	if d == nil {
		return ""
	}
	return d.nameOf(name)
}

// nameOf is the dataset of a name: that of the closest name at or above it that one has.
func (d *Division) nameOf(name record.Name) string {
	for n := name; n != ""; n = n.Parent() {
		if of, ok := d.of[n]; ok {
			return of
		}
	}
	return d.rest
}

// Part is what of a change a dataset has: the claims for its names; of the signs of freshness
// its own; of the states of PoPs all, in its own zone of maps.
func (d *Division) Part(dataset string, ch claimtree.Change) claimtree.Change {
	if d == nil || len(ch.Claims) == 0 {
		return ch
	}
	ch.Claims = d.Claims(dataset, ch.Source, ch.Shard, ch.Claims)
	return ch
}

// Claims are those of a shard that are in a dataset; nil: none is.
func (d *Division) Claims(dataset string, s record.Source, shard string, claims []record.Claim) []record.Claim {
	if d == nil {
		return claims
	}
	if s == freshness.Source {
		if of, ok := freshness.DatasetOf(shard); ok && slices.Contains(d.names, of) {
			if of != dataset {
				return nil
			}
			return claims
		}
	}
	if s == steering.Source {
		return d.states(dataset, claims)
	}
	has := func(c record.Claim) bool { return d.nameOf(c.Owner) == dataset }
	first := slices.IndexFunc(claims, func(c record.Claim) bool { return !has(c) })
	if first < 0 {
		return claims
	}
	var part []record.Claim
	for _, c := range claims {
		if has(c) {
			part = append(part, c)
		}
	}
	return part
}

// states puts claims of states of PoPs, and of their zone, into the zone of maps of a dataset.
func (d *Division) states(dataset string, claims []record.Claim) []record.Claim {
	zone := d.MapsZone(dataset)
	if zone == geo.Zone {
		return claims
	}
	own := slices.Clone(claims)
	for i := range own {
		if c := &own[i]; c.Owner.IsSubdomainOf(geo.Zone) {
			c.Owner = c.Owner[:len(c.Owner)-len(geo.Zone)] + zone
		}
	}
	return own
}
