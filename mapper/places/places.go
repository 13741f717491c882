package places

import (
	"net/netip"
	"runtime"
	"sync"

	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/mapper/fill"
)

// Databases are those that are asked, one after the other until one knows the address: some
// are published as two files, of IPv4 and of IPv6.
type Databases struct {
	Systems []*mmdb.DB // of autonomous systems
	Cities  []*mmdb.DB // of cities or countries
}

// part is how many prefixes are looked up at a time.
const part = 8192

// Look gives the place of each prefix; nil without any database.
func (d Databases) Look(prefixes []netip.Prefix) ([]fill.Place, error) {
	if len(d.Systems)+len(d.Cities) == 0 {
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
			systems, cities := newAsker(d.Systems, system), newAsker(d.Cities, place)
			for from, to := next(); from < to; from, to = next() {
				for i := from; i < to; i++ {
					p, err := cities.ask(prefixes[i].Addr())
					if err == nil {
						p.AS, err = systems.ask(prefixes[i].Addr())
					}
					if err != nil {
						mu.Lock()
						failed = err
						mu.Unlock()
						return
					}
					places[i] = p
				}
			}
		})
	}
	wg.Wait()
	return places, failed
}

// asker asks databases for one thing, and remembers what records say: many networks share one.
type asker[T any] struct {
	of    []*mmdb.DB
	read  func(mmdb.Network) (T, error)
	known []map[uint64]T // by database and record
}

// remembered bounds what an asker remembers of each database.
const remembered = 1 << 20

func newAsker[T any](of []*mmdb.DB, read func(mmdb.Network) (T, error)) *asker[T] {
	a := &asker[T]{of: of, read: read}
	for range of {
		a.known = append(a.known, map[uint64]T{})
	}
	return a
}

// ask gives what the first database that knows the address says.
func (a *asker[T]) ask(addr netip.Addr) (v T, err error) {
	for i, db := range a.of {
		n, err := db.Lookup(addr)
		if err != nil {
			return v, err
		}
		if !n.Found() {
			continue
		}
		known := a.known[i]
		v, ok := known[n.ID()]
		if !ok {
			if v, err = a.read(n); err != nil {
				return v, err
			}
			if len(known) == remembered {
				clear(known)
			}
			known[n.ID()] = v
		}
		return v, nil
	}
	return v, nil
}

func system(n mmdb.Network) (uint32, error) {
	s, err := n.System()
	return s.Number, err
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
