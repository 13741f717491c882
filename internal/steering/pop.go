package steering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/store"
)

// Source claims the states of PoPs: a shard is one of them, and zoneShard the zone that maps
// and PoPs are in. No map has this name.
const (
	Source    record.Source = "map/pops"
	zoneShard string        = "zone.maps"
)

// MaxPoPs is how many there may be: our own choice.
const MaxPoPs = 1000

// Zone gives the claims of a zone that maps and PoPs are in; whoever claims a map claims it,
// too. They hold only where no other zone does.
func Zone(zone record.Name, source record.Source, p record.Provenance) []record.Claim {
	claims := rules.DefaultParams().Zone(zone, source, "zone of the maps")
	for i := range claims {
		claims[i].Provenance = p
	}
	return claims
}

// Claims gives what a map in a zone is as claims of a source, with the zone, for
// claimtree.Replace.
func Claims(m *geo.Map, zone record.Name, source record.Source, p record.Provenance) ([]record.Claim, error) {
	rrsets, err := m.RRsets(zone)
	if err != nil {
		return nil, err
	}
	claims := Zone(zone, source, p)
	for _, r := range rrsets {
		claims = append(claims, record.Claim{RRset: r, Source: source, Provenance: p, Place: "map " + m.Name})
	}
	return claims, nil
}

// PoP is a PoP and its name.
type PoP struct {
	Name string `json:"name"`
	tree.PoP
	State    string         `json:"state"` // up, drained or down
	Modified store.Revision `json:"-"`
}

// Read gives all PoPs in order of their names.
func Read(ctx context.Context, st store.Store) ([]PoP, error) {
	nodes, _, err := st.List(ctx, tree.PoPs)
	if err != nil {
		return nil, fmt.Errorf("list PoPs: %w", err)
	}
	all := make([]PoP, 0, len(nodes))
	for _, n := range nodes {
		p := PoP{Name: strings.TrimPrefix(n.Path, tree.PoPs), Modified: n.Modified}
		if err := tree.Decode(n, &p.PoP); err != nil {
			return nil, err
		}
		p.State = p.PoP.State().String()
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b PoP) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// By is who changes a PoP, why, and from where.
type By struct{ Author, Reason, From string }

// ErrLast is a drain that would leave no PoP up.
var ErrLast = errors.New("no PoP would be up")

// Change is what of a PoP changes.
type Change struct {
	Action string // for the audit: "pop drain"
	Text   string // for the audit, in words
	// Apply changes the PoP; there tells whether there is one, else it is the zero PoP. Gone
	// takes it away instead.
	Apply func(p *tree.PoP, there bool) error
	Gone  bool
	// People tells that it is people's word, which must leave a PoP up that was; what is found
	// of health need not.
	People bool
}

// Do changes a PoP: its node, the claim of its state and the audit at once. When somebody else
// changes it at the same time it is done on what that one left. It gives the PoP as it is then,
// and the receipt.
func Do(ctx context.Context, st store.Store, name string, c Change, by By, now time.Time) (p PoP, rev store.Revision, err error) {
	if err := (geo.PoP{Name: name}).Check(); err != nil {
		return p, 0, err
	}
	for range 8 {
		p, rev, err = try(ctx, st, name, c, by, now)
		if !errors.Is(err, store.ErrConflict) {
			return p, rev, err
		}
	}
	return p, rev, fmt.Errorf("PoP %s: others change PoPs all the time: %w", name, err)
}

func try(ctx context.Context, st store.Store, name string, c Change, by By, now time.Time) (PoP, store.Revision, error) {
	all, err := Read(ctx, st)
	if err != nil {
		return PoP{}, 0, err
	}
	i, there := slices.BinarySearchFunc(all, name, func(p PoP, n string) int { return strings.Compare(p.Name, n) })
	was := PoP{Name: name}
	if there {
		was = all[i]
	} else if len(all) >= MaxPoPs {
		return was, 0, fmt.Errorf("there are %d PoPs, at most %d", len(all), MaxPoPs)
	}
	is := was
	if err := c.Apply(&is.PoP, there); err != nil {
		return was, 0, err
	}
	if err := Check(is.PoP); err != nil {
		return was, 0, fmt.Errorf("PoP %s: %w", name, err)
	}
	is.State = is.PoP.State().String()
	t := store.Txn{If: []store.Cond{{Path: tree.PoPPath(name), Modified: was.Modified}}}
	if c.People && there && was.PoP.State() == geo.Up && (c.Gone || is.PoP.State() != geo.Up) {
		other := slices.IndexFunc(all, func(p PoP) bool { return p.Name != name && p.PoP.State() == geo.Up })
		if other < 0 {
			var others []string
			for _, p := range all {
				if p.Name != name {
					others = append(others, p.Name+" is "+p.State)
				}
			}
			return was, 0, fmt.Errorf("PoP %s is the last one that is up (%s): %w", name, cmp.Or(strings.Join(others, ", "), "there is no other"), ErrLast)
		}
		// Nobody may take that one away meanwhile.
		t.If = append(t.If, store.Cond{Path: tree.PoPPath(all[other].Name), Modified: all[other].Modified})
	}
	provenance := record.Provenance{Author: by.Author, Reason: by.Reason, Time: now.UTC().Truncate(time.Millisecond)}
	var claims []record.Claim
	node := store.Op{Path: tree.PoPPath(name), Delete: true}
	if !c.Gone {
		node = store.Op{Path: tree.PoPPath(name), Value: tree.Encode(is.PoP)}
		r, err := geo.PoP{Name: name, State: is.PoP.State()}.RRset(geo.Zone)
		if err != nil {
			return was, 0, err
		}
		claims = []record.Claim{{RRset: r, Source: Source, Provenance: provenance, Place: "PoP " + name}}
	}
	fresh, note := tree.AuditOps(tree.AuditEntry{Time: now.UnixMilli(), Action: c.Action, Subject: name, Text: c.Text, Author: by.Author, Reason: by.Reason, From: by.From})
	t.If = append(t.If, fresh)
	t.Do = append(t.Do, node, claimtree.Ops(Source, name, claims), note)
	if !there { // the first one, or the zone was lost
		t.Do = append(t.Do, claimtree.Ops(Source, zoneShard, Zone(geo.Zone, Source, record.Provenance{})))
	}
	rev, err := st.Commit(ctx, t)
	return is, rev, err
}

// Check tells why a PoP cannot be one, or nil.
func Check(p tree.PoP) error {
	var errs []error
	in := func(what string, v, least, most float64) {
		if math.IsNaN(v) || v < least || v > most {
			errs = append(errs, fmt.Errorf("%s is %v, expected %v to %v", what, v, least, most))
		}
	}
	in("latitude", p.Latitude, -90, 90)
	in("longitude", p.Longitude, -180, 180)
	in("capacity", p.Capacity, 0, 1e15)
	if len(p.Addresses) > 64 {
		errs = append(errs, fmt.Errorf("%d addresses, at most 64", len(p.Addresses)))
	}
	for _, a := range p.Addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			errs = append(errs, fmt.Errorf("address %.60q is none, expected for example 192.0.2.1", a))
		}
	}
	return errors.Join(errs...)
}
