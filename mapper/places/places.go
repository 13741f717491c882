package places

import (
	"net/netip"
	"runtime"
	"sync"

	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/mapper/fill"
)

// Databases are those that are asked; each may be nil, and one file may be both.
type Databases struct {
	Systems *mmdb.DB // of autonomous systems
	Cities  *mmdb.DB // of cities or countries
}

// part is how many prefixes are looked up at a time.
const part = 8192

// Look gives the place of each prefix; nil without any database.
func (d Databases) Look(prefixes []netip.Prefix) ([]fill.Place, error) {
	if d.Systems == nil && d.Cities == nil {
		return nil, nil
	}
	places := make([]fill.Place, len(prefixes))
	var mu sync.Mutex // guards below
	var failed error
	at := 0
	next := func() (from, to int) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil {
			return 0, 0
		}
		from, to = at, min(at+part, len(prefixes))
		at = to
		return from, to
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			l := looker{Databases: d, systems: map[uint64]uint32{}, cities: map[uint64]fill.Place{}}
			for from, to := next(); from < to; from, to = next() {
				for i := from; i < to; i++ {
					var err error
					if places[i], err = l.look(prefixes[i].Addr()); err != nil {
						mu.Lock()
						failed = err
						mu.Unlock()
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return places, failed
}

// looker remembers what records say: many networks share one.
type looker struct {
	Databases
	systems map[uint64]uint32
	cities  map[uint64]fill.Place
}

// remembered bounds what a looker remembers of each database.
const remembered = 1 << 20

func (l *looker) look(a netip.Addr) (p fill.Place, err error) {
	if l.Cities != nil {
		n, err := l.Cities.Lookup(a)
		if err != nil {
			return p, err
		}
		if n.Found() {
			known, ok := l.cities[n.ID()]
			if !ok {
				if known, err = place(n); err != nil {
					return p, err
				}
				if len(l.cities) == remembered {
					clear(l.cities)
				}
				l.cities[n.ID()] = known
			}
			p = known
		}
	}
	if l.Systems != nil {
		n, err := l.Systems.Lookup(a)
		if err != nil {
			return p, err
		}
		if n.Found() {
			number, ok := l.systems[n.ID()]
			if !ok {
				s, err := n.System()
				if err != nil {
					return p, err
				}
				number = s.Number
				if len(l.systems) == remembered {
					clear(l.systems)
				}
				l.systems[n.ID()] = number
			}
			p.AS = number
		}
	}
	return p, nil
}

func place(n mmdb.Network) (p fill.Place, err error) {
	q, err := n.Place()
	if err != nil {
		return p, err
	}
	p = fill.Place{Located: q.Located, Latitude: float32(q.Latitude), Longitude: float32(q.Longitude)}
	if len(q.Country) == 2 {
		copy(p.Country[:], q.Country)
	}
	continent := q.Continent
	if continent == "" {
		continent = mmdb.Continent(q.Country)
	}
	if len(continent) == 2 {
		copy(p.Continent[:], continent)
	}
	return p, nil
}
