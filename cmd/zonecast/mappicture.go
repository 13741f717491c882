package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/geo"
	geoformats "github.com/zonecast/zonecast/geo/formats"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/picture"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
)

// mapPicture is what `map picture` draws.
type mapPicture struct {
	pops, csv, demand, rtt, show, title, out string
	mmdb                                     []string
}

func newMapPicture() *cobra.Command {
	var o mapPicture
	cmd := &cobra.Command{
		Use: "picture", Short: "draw a map of the world", Args: exactArgs(),
		Long: `picture draws a map of the world as SVG: the PoPs with load against capacity, and the countries by the PoP that serves most of them, or by the
round-trip time to it (--show latency). --mmdb tells in which country a prefix is. What counts of a country is its demand, or, without --demand,
its addresses of IPv4. Load is known with --demand only. Nothing is asked of a network.`,
		Example: `  zonecast map picture --pops pops.json --map map.csv --mmdb city.mmdb --demand demand.csv --out world.svg
  zonecast map picture --pops pops.json --map map.csv --mmdb city.mmdb --demand demand.csv --rtt rtt.csv --show latency --out latency.svg`,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.draw(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.pops, "pops", "", "PoPs, in JSON: [{\"name\", \"latitude\", \"longitude\", \"capacity\", \"drained\"}, ...]")
	f.StringVar(&o.csv, "map", "", "the map, CSV as `zonecast map export` and `zonecast map compute` write it")
	f.StringSliceVar(&o.mmdb, "mmdb", nil, "database of places (MaxMind DB); two when IPv4 and IPv6 are apart")
	f.StringVar(&o.demand, "demand", "", "demand, CSV with the columns prefix,weight")
	f.StringVar(&o.rtt, "rtt", "", "round-trip times, CSV with the columns prefix,pop,milliseconds")
	f.StringVar(&o.show, "show", "assignment", "what countries are coloured by: assignment or latency")
	f.StringVar(&o.title, "title", "Which PoP serves whom", "title of the picture")
	f.StringVarP(&o.out, "out", "o", "", "file to write (default: standard output)")
	return cmd
}

func (o *mapPicture) draw(cmd *cobra.Command) error {
	for _, f := range []struct{ flag, value string }{{"pops", o.pops}, {"map", o.csv}} {
		if f.value == "" {
			return misused(cmd, fmt.Errorf("--%s is missing, expected a file", f.flag))
		}
	}
	p := &picture.Picture{Title: o.title, Loaded: o.demand != "", Countries: map[string]picture.Country{}}
	switch o.show {
	case "assignment":
	case "latency":
		p.Shows = picture.Latency
		if o.rtt == "" || o.demand == "" {
			return misused(cmd, errors.New("--show latency needs --rtt and --demand"))
		}
	default:
		return misused(cmd, fmt.Errorf("--show is %q, expected assignment or latency", o.show))
	}
	var pops []table.PoP
	err := withFile(o.pops, func(r io.Reader) (err error) {
		pops, err = table.ReadPoPs(r, o.pops)
		return err
	})
	if err != nil {
		return err
	}
	place := map[string]int{}
	for i, x := range pops {
		if !x.Located {
			return fmt.Errorf("%s: PoP %s has no latitude and longitude, expected both to draw it", o.pops, x.Name)
		}
		place[x.Name] = i
		p.PoPs = append(p.PoPs, picture.PoP{Name: x.Name, Latitude: x.Latitude, Longitude: x.Longitude, Capacity: x.Capacity, Drained: x.Drained})
	}
	var read *geoformats.Import
	err = withFile(o.csv, func(r io.Reader) (err error) {
		read, err = geoformats.ReadCSV(r, o.csv)
		return err
	})
	if err != nil {
		return err
	}
	s, err := newServedBy(&read.Map, pops, place)
	if err != nil {
		return fmt.Errorf("%s: %w", o.csv, err)
	}
	dbs, err := openPlaces(o.mmdb)
	if err != nil {
		return err
	}
	d := &atlasOf{Picture: p, by: s, dbs: dbs, rtt: map[string]*mean{}}
	if o.demand != "" {
		err = d.demand(o, pops)
	} else {
		err = d.addresses()
	}
	if err != nil {
		return err
	}
	p.Note = fmt.Sprintf("%d prefixes, %d PoPs", len(read.Map.Entries), len(pops))
	if d.nobody > 0 {
		p.Note += fmt.Sprintf("; no PoP serves %.2g %% of what is counted", 100*d.nobody/d.all)
	}
	b, err := p.SVG()
	if err != nil {
		return err
	}
	if o.out == "" {
		_, err = cmd.OutOrStdout().Write(b)
		return err
	}
	return atomicfile.WriteFunc(o.out, 0o644, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

func openPlaces(files []string) (dbs []*mmdb.DB, err error) {
	for _, f := range files {
		db, err := mmdb.Open(f)
		if err == nil {
			err = db.CheckPlaces(false)
		}
		if err != nil {
			return nil, err
		}
		dbs = append(dbs, db)
	}
	return dbs, nil
}

// servedBy tells which PoP serves an address: the first of its location's order that is not
// drained.
type servedBy struct {
	chart *geo.Chart
	pop   map[record.Location]int // -1: none
}

func newServedBy(m *geo.Map, pops []table.PoP, place map[string]int) (*servedBy, error) {
	a := geo.Atlas{Maps: map[string][]geo.Entry{"m": m.Entries}, Uses: []geo.Use{{Name: record.Root, Below: true, Kind: geo.ByResolver, Map: "m"}}}
	b, err := a.AppendBinary(nil, 1)
	if err != nil {
		return nil, err
	}
	s := &servedBy{pop: map[record.Location]int{}}
	if s.chart, err = geo.Open(b); err != nil {
		return nil, err
	}
	for _, e := range m.Entries {
		if _, ok := s.pop[e.Location]; ok || e.Location == "" {
			continue
		}
		order := m.Orders[e.Location]
		if order == nil {
			order = []record.Location{e.Location}
		}
		s.pop[e.Location] = -1
		for _, name := range order {
			i, ok := place[string(name)]
			if !ok {
				return nil, fmt.Errorf("%s is served by %q, which is none of the PoPs", e.Prefix, string(name))
			}
			if !pops[i].Drained {
				s.pop[e.Location] = i
				break
			}
		}
	}
	return s, nil
}

// at is the PoP that serves an address; -1: none.
func (s *servedBy) at(a netip.Addr) int {
	p := s.chart.Locate([]byte(record.Root), 0, a, netip.Prefix{})
	if i, ok := s.pop[record.Location(p.Location)]; ok {
		return i
	}
	return -1
}

// mean is a weighted mean.
type mean struct{ sum, weight float64 }

// atlasOf gathers what is drawn of countries.
type atlasOf struct {
	*picture.Picture
	by     *servedBy
	dbs    []*mmdb.DB
	rtt    map[string]*mean
	all    float64
	nobody float64 // of all, what no PoP serves
}

// add counts a prefix of a country. ms below 0: not measured.
func (d *atlasOf) add(country string, pop int, weight, ms float64) {
	d.all += weight
	if pop < 0 {
		d.nobody += weight
		return
	}
	if country == "" {
		return
	}
	c, ok := d.Countries[country]
	if !ok {
		c = picture.Country{Shares: make([]float64, len(d.PoPs)), RTT: -1}
	}
	c.Shares[pop] += weight
	if ms >= 0 {
		m := d.rtt[country]
		if m == nil {
			m = &mean{}
			d.rtt[country] = m
		}
		m.sum += weight * ms
		m.weight += weight
		c.RTT = m.sum / max(m.weight, 1e-300)
	}
	d.Countries[country] = c
}

// country is that of an address; "": not known.
func (d *atlasOf) country(a netip.Addr) (string, error) {
	for _, db := range d.dbs {
		n, err := db.Lookup(a)
		if err != nil {
			return "", err
		}
		if p, err := n.Place(); err != nil || p.Country != "" {
			return p.Country, err
		}
	}
	return "", nil
}

// demand counts by demand.
func (d *atlasOf) demand(o *mapPicture, pops []table.PoP) error {
	var t *table.Table
	err := withFile(o.demand, func(demand io.Reader) (err error) {
		if o.rtt == "" {
			t, err = table.ReadDemand(demand, o.demand)
			return err
		}
		return withFile(o.rtt, func(rtt io.Reader) (err error) {
			t, err = table.Read(pops, demand, o.demand, rtt, o.rtt)
			return err
		})
	})
	if err != nil {
		return err
	}
	for i, p := range table.Rests(t.Prefixes) {
		if t.Demand[i] == 0 || !p.IsValid() {
			continue
		}
		pop, ms := d.by.at(p.Addr()), -1.0
		if pop >= 0 {
			d.PoPs[pop].Load += t.Demand[i]
			if o.rtt != "" {
				if us := t.Row(i)[pop]; us != table.Missing {
					ms = float64(us) / 1000
				}
			}
		}
		country, err := d.country(p.Addr())
		if err != nil {
			return err
		}
		d.add(country, pop, t.Demand[i], ms)
	}
	return nil
}

// addresses counts the addresses of IPv4 of each network in the databases.
func (d *atlasOf) addresses() error {
	for _, db := range d.dbs {
		known := map[uint64]string{}
		for n, err := range db.Networks() {
			if err != nil {
				return err
			}
			if !n.Found() || !n.Prefix.Addr().Is4() {
				continue
			}
			country, ok := known[n.ID()]
			if !ok {
				p, err := n.Place()
				if err != nil {
					return err
				}
				country = p.Country
				known[n.ID()] = country
			}
			d.add(country, d.by.at(n.Prefix.Addr()), float64(uint64(1)<<(32-n.Prefix.Bits())), -1)
		}
	}
	return nil
}
