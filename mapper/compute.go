package mapper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rtt"
)

// computed is a map and how it came to be. It does not change.
type computed struct {
	*plan.Plan
	in     *inputs
	filled *fill.Filled
	places []fill.Place
	pins   []int16
	// strangers are nil unless Config.Everywhere.
	strangers *strangers
	settings  plan.Settings
	maps      []*geo.Map // by clients, and by resolvers if any were measured
	at        time.Time
	took      time.Duration
	where     string
	revision  string // fingerprint of the inputs
	warnings  []string
}

// compute makes a map of inputs.
func (t *term) compute(ctx context.Context, in *inputs) (*computed, error) {
	c := &computed{in: in, at: t.deps.Now(), where: in.where, revision: in.fingerprint, settings: t.cfg.settings()}
	began := time.Now()
	var err error
	if c.places, err = in.databases.Look(in.Prefixes); err != nil {
		return nil, err
	}
	if c.filled, err = fill.Fill(in.Table, c.places); err != nil {
		return nil, err
	}
	var unknown []string
	c.pins, unknown = in.pins.Of(in.Prefixes, c.places, in.PoPs)
	c.settings.Pins = c.pins
	if c.Plan, err = plan.Compute(ctx, in.Table, t.previous(in), c.settings); err != nil {
		return nil, err
	}
	if t.cfg.Everywhere {
		lands, err := t.lands(in)
		if err != nil {
			return nil, err
		}
		c.strangers = c.everywhere(lands, t.homeOf())
	}
	if err := c.makeMaps(t.cfg.Map, t.uses, t.cfg.MaxEntries); err != nil {
		return nil, err
	}
	c.took = time.Since(began)
	if in.partly != nil {
		c.warnings = append(c.warnings, in.partly.Error())
	}
	if len(unknown) > 0 {
		c.warnings = append(c.warnings, "pins are to PoPs that there are not: "+strings.Join(unknown, ", "))
	}
	if err := in.pins.Needs(len(in.databases.Systems) > 0, len(in.databases.Cities) > 0); err != nil {
		c.warnings = append(c.warnings, err.Error())
	}
	c.warnings = append(c.warnings, in.strange()...)
	return c, nil
}

// strange tells of PoPs that are measured and not known, or the other way round: one that has another
// name now is both.
func (in *inputs) strange() (w []string) {
	if len(in.Unknown) > 0 {
		w = append(w, "measured are PoPs that there are not: "+strings.Join(slices.Sorted(maps.Keys(in.Unknown)), ", ")+"; beacons and `zonecast pop list` must have the same names")
	}
	var unmeasured []string
	for j, p := range in.PoPs {
		if in.Believed[j] == 0 && p.Open() {
			unmeasured = append(unmeasured, p.Name)
		}
	}
	if len(unmeasured) > 0 {
		w = append(w, "nothing that is believed was measured to "+strings.Join(unmeasured, ", ")+": who goes there is guessed from the distance, or nobody does")
	}
	if in.Evicted > 0 {
		w = append(w, fmt.Sprintf("%d rows of round-trip times and demand had no room: those that nobody measured, and the oldest", in.Evicted))
	}
	return w
}

// makeMaps makes the maps of the plan. The one by resolvers says of a prefix that was not measured
// as resolvers' what is said of its clients: small networks have both.
func (c *computed) makeMaps(name string, uses []geo.Use, most int) error {
	byClient := c.MapOf(name, func(i int) bool { return !c.in.resolver(i) })
	byResolver := c.MapOf(name+resolvers, func(i int) bool { return c.in.resolver(i) })
	clients, err := ortc.Aggregate(byClient.Entries)
	if err == nil && c.strangers != nil {
		clients, err = c.strangers.under(c, byClient)
	}
	if err != nil {
		return err
	}
	if most > 0 {
		kept, lost := c.Fewer(clients, most, func(i int) bool { return !c.in.resolver(i) })
		if lost.Removed > 0 {
			c.warnings = append(c.warnings, lost.String())
			if clients, err = ortc.Aggregate(kept); err != nil {
				return err
			}
		}
	}
	for _, u := range uses {
		byClient.Uses = append(byClient.Uses, u)
		u.Kind = geo.ByResolver
		byResolver.Uses = append(byResolver.Uses, u)
	}
	if !slices.ContainsFunc(c.in.Keys, func(k rtt.Key) bool { return k.Kind == rtt.Resolver }) {
		byClient.Uses = append(byClient.Uses, byResolver.Uses...)
		byClient.Entries = clients
		c.maps = []*geo.Map{trim(byClient)}
		return nil
	}
	// Its own word for everybody else would count more than any entry of clients.
	own := slices.DeleteFunc(slices.Clone(byResolver.Entries), func(e geo.Entry) bool { return e.Prefix.Bits() == 0 })
	if byResolver.Entries, err = ortc.Over(clients, own); err != nil {
		return err
	}
	if most > 0 {
		kept, lost := c.Fewer(byResolver.Entries, most, c.in.resolver)
		if lost.Removed > 0 {
			c.warnings = append(c.warnings, "by resolver: "+lost.String())
			if byResolver.Entries, err = ortc.Aggregate(kept); err != nil {
				return err
			}
		}
	}
	for l, order := range byClient.Orders {
		byResolver.Orders[l] = order
	}
	byClient.Entries = clients
	c.maps = []*geo.Map{trim(byClient), trim(byResolver)}
	return nil
}

// trim takes away orders of locations that nobody has.
func trim(m *geo.Map) *geo.Map {
	used := map[record.Location]bool{}
	for _, e := range m.Entries {
		used[e.Location] = true
	}
	for l := range m.Orders {
		if !used[l] {
			delete(m.Orders, l)
		}
	}
	return m
}

// reason says in words what the map is, for its claims.
func (c *computed) reason() string {
	f := c.Figures
	return fmt.Sprintf("mean %.1f ms, bound %.1f ms; %.1f %% of the demand moved", f.Mean, f.Bound, 100*c.Churn.Moved)
}

func sortClaims(claims []record.Claim) {
	slices.SortStableFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
}
