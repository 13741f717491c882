package difftest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/zonecast/zonecast/record"
)

// ReduceOptions of Reduce.
type ReduceOptions struct {
	Zones []Zone
	// Differs tells whether the question still gets two answers with these zones.
	Differs func(context.Context, []Zone) (bool, error)
}

// Reduce takes records away as long as Differs holds, and gives what is left: taking
// away any one more of its records makes the answers the same. Zones keep their SOA
// and NS, without which nobody loads them, unless the whole zone can go.
func Reduce(ctx context.Context, o ReduceOptions) ([]Zone, error) {
	r := reducer{differs: o.Differs}
	for _, z := range o.Zones {
		for _, s := range z.Sets {
			for _, d := range s.Data {
				r.units = append(r.units, unit{z.Apex, s.Key, s.TTL, d})
			}
		}
	}
	if ok, err := r.try(ctx, r.units); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("reduce %d zones: the answers do not differ", len(o.Zones))
	}
	if err := r.zones(ctx, o.Zones); err != nil {
		return nil, err
	}
	if err := r.records(ctx); err != nil {
		return nil, err
	}
	return zonesFrom(r.units), nil
}

// unit is what is taken away at once: a record of a zone.
type unit struct {
	apex record.Name
	key  record.Key
	ttl  uint32
	data record.Rdata
}

// fixed tells that the zone needs the record to be loaded.
func (u unit) fixed() bool {
	return u.key.Owner == u.apex && (u.key.Type == record.TypeSOA || u.key.Type == record.TypeNS)
}

type reducer struct {
	differs func(context.Context, []Zone) (bool, error)
	units   []unit
}

func (r *reducer) try(ctx context.Context, units []unit) (bool, error) {
	if len(units) == 0 {
		return false, nil
	}
	return r.differs(ctx, zonesFrom(units))
}

// keep takes the units that are left when those for which out holds are gone, if the
// answers then still differ.
func (r *reducer) keep(ctx context.Context, out func(int, unit) bool) (bool, error) {
	var left []unit
	for i, u := range r.units {
		if !out(i, u) {
			left = append(left, u)
		}
	}
	if len(left) == len(r.units) {
		return false, nil
	}
	ok, err := r.try(ctx, left)
	if ok && err == nil {
		r.units = left
	}
	return ok, err
}

func (r *reducer) zones(ctx context.Context, zones []Zone) error {
	for _, z := range zones {
		if _, err := r.keep(ctx, func(_ int, u unit) bool { return u.apex == z.Apex }); err != nil {
			return err
		}
	}
	return nil
}

// records halves what is tried at once until it is single records, and goes on
// with these as long as any can go.
func (r *reducer) records(ctx context.Context) error {
	for size := (len(r.units) + 1) / 2; ; size = max(size/2, 1) {
		gone := false
		for at := 0; at < len(r.units); {
			ok, err := r.keep(ctx, func(i int, u unit) bool { return i >= at && i < at+size && !u.fixed() })
			if err != nil {
				return err
			}
			gone = gone || ok
			at += size
			if ok {
				at -= size // what follows has moved here; fixed ones stay and are passed over
				for at < len(r.units) && r.units[at].fixed() {
					at++
				}
			}
		}
		if size == 1 && !gone {
			return nil
		}
	}
}

// zonesFrom puts records together that were taken apart.
func zonesFrom(units []unit) (zones []Zone) {
	for i := 0; i < len(units); {
		z := Zone{Apex: units[i].apex}
		for i < len(units) && units[i].apex == z.Apex {
			first := units[i]
			var data []record.Rdata
			for ; i < len(units) && units[i].apex == z.Apex && units[i].key == first.key; i++ {
				data = append(data, units[i].data)
			}
			z.Sets = append(z.Sets, record.NewRRset(first.key.Owner, first.key.Type, first.ttl, data...))
		}
		zones = append(zones, z)
	}
	return zones
}

// DiffersFrom is Differs for Reduce: it starts the program and, by serve, ours with
// the zones, each in turn, and asks both. A zone that the program does not load is no
// difference. Rules of allowed are not counted as differences.
func DiffersFrom(p Program, q Question, dir string, rules map[string]*Allowed, serve func([]Zone) (netip.AddrPort, func(), error)) func(context.Context, []Zone) (bool, error) {
	n := 0
	return func(ctx context.Context, zones []Zone) (bool, error) {
		n++
		work := filepath.Join(dir, fmt.Sprint(n))
		if err := os.Mkdir(work, 0o755); err != nil {
			return false, fmt.Errorf("reduce: %w", err)
		}
		defer os.RemoveAll(work)
		if err := WriteZones(work, zones); err != nil {
			return false, nil // without its SOA: no zone
		}
		soon, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		peer, err := Start(soon, p, work, zones, 0, work)
		if err != nil {
			return false, ctx.Err()
		}
		defer peer.Stop()
		ours, stop, err := serve(zones)
		if err != nil {
			return false, nil
		}
		defer stop()
		reports, err := CompareMany(ctx, ManyOptions{
			Zones: zones, Ours: ours, Peers: []*Server{peer}, Allowed: rules, Workers: 1,
			Ask: func(yield func(Question) bool) { yield(q) },
		})
		return err == nil && reports[0].Differences > 0, ctx.Err()
	}
}
