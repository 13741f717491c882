package mapper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/mapper/measured"
	"github.com/zonecast/zonecast/mapper/pins"
	"github.com/zonecast/zonecast/mapper/places"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/rtt"
)

const (
	// fetchTimeout bounds one fetch from a beacon.
	fetchTimeout = 20 * time.Second
	// maxAhead is how far a measurement may be in the future: clocks that somebody keeps are seconds apart.
	maxAhead = time.Minute
	// maxFetch bounds what one beacon gives, in octets.
	maxFetch = 1 << 30
)

// limit bounds one table, and in octets all of one beacon: two hours of slots that are full, and a day of
// those of a tenth.
var limit = rtt.Limit{Rows: table.MaxPrefixes, Octets: 4 << 30}

// inputs are what a map is computed from.
type inputs struct {
	*measured.Measured
	databases places.Databases
	pins      *pins.Pins
	// partly is what could not be read of several; the others are used.
	partly      error
	where       string
	fingerprint string
	databasesOf string // their fingerprint, taken before they were read
}

// resolver tells whether row i is of resolvers.
func (in *inputs) resolver(i int) bool { return in.Keys[i].Kind == rtt.Resolver }

// inputs reads everything; of inputs that the claims are of, no more than their fingerprint. Its error says
// why no map can be made of it.
func (t *term) inputs(ctx context.Context) (*inputs, error) {
	now := t.deps.Now()
	sum := xxh3.New()
	in := &inputs{where: strings.Join(t.cfg.RTT, " ")}
	all, err := steering.Read(ctx, t.deps.Store)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("no PoP is in the store: `zonecast pop add` adds one")
	}
	var pops []table.PoP
	for _, p := range all {
		fmt.Fprintln(sum, p.Name, p.Latitude, p.Longitude, p.Capacity, p.State)
		pops = append(pops, table.PoP{
			Name: p.Name, Latitude: p.Latitude, Longitude: p.Longitude, Located: p.Latitude != 0 || p.Longitude != 0,
			Capacity: p.Capacity, Drained: p.State != "up",
		})
	}
	tables, err := t.tables(ctx, now.Add(-t.cfg.MaxAge), now.Add(maxAhead))
	if len(tables) == 0 {
		if err == nil {
			err = fmt.Errorf("%s: nothing was measured in the last %s", cmp.Or(in.where, "--mapper-rtt is not set"), t.cfg.MaxAge)
		}
		return nil, fmt.Errorf("no round-trip times: %w", err)
	}
	in.partly = err
	newest := time.Time{}
	for _, r := range tables {
		if _, err := r.WriteTo(sum); err != nil {
			return nil, err
		}
		if r.End.After(newest) {
			newest = r.End
		}
	}
	t.metrics.age.Set(max(now.Sub(newest).Seconds(), 0))
	if age := now.Sub(newest); age > t.cfg.Stale {
		return nil, fmt.Errorf("the newest round-trip time is %s old, expected at most --mapper-stale %s: are beacons running?", age.Round(time.Second), t.cfg.Stale)
	}
	if in.databasesOf, err = statOf(slices.Concat(t.cfg.ASN, t.cfg.City)); err != nil {
		return nil, err
	}
	of, err := statOf([]string{t.cfg.DemandFile, t.cfg.PinsFile})
	if err != nil {
		return nil, err
	}
	fmt.Fprint(sum, in.databasesOf, of)
	in.fingerprint = fmt.Sprintf("%016x", sum.Sum64())
	if in.fingerprint == t.seen {
		return in, nil
	}
	if err := t.open(in); err != nil {
		return nil, err
	}
	set := measured.Settings{Measurements: t.cfg.Measurements, Clients: t.cfg.Clients, Enough: t.cfg.Enough, Demand: t.cfg.Weight, Queries: t.cfg.Queries}
	if in.Measured, err = measured.New(tables, pops, set); err != nil {
		return nil, err
	}
	if t.cfg.DemandFile != "" {
		demand, err := readDemand(t.cfg.DemandFile)
		if err != nil {
			return nil, err
		}
		in.Replace(demand)
	}
	if !slices.ContainsFunc(in.Demand, func(d float64) bool { return d > 0 }) {
		return nil, errors.New("nobody has any demand: neither page loads were measured nor is there a --mapper-demand file")
	}
	return in, nil
}

func readDemand(file string) (*table.Table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return table.ReadDemand(f, file)
}

// statOf tells one state of files from another.
func statOf(files []string) (of string, err error) {
	for _, file := range files {
		if file == "" {
			continue
		}
		s, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		of += fmt.Sprintln(file, s.Size(), s.ModTime().UnixNano())
	}
	return of, nil
}

// open reads the pins and databases, which may be hundreds of megabytes.
func (t *term) open(in *inputs) error {
	var err error
	if t.cfg.PinsFile != "" {
		if in.pins, err = pins.Read(t.cfg.PinsFile); err != nil {
			return err
		}
	}
	for _, of := range []struct {
		files []string
		to    *[]*mmdb.DB
	}{{t.cfg.ASN, &in.databases.Systems}, {t.cfg.City, &in.databases.Cities}} {
		for _, file := range of.files {
			db, err := mmdb.Open(file)
			if err != nil {
				return err
			}
			*of.to = append(*of.to, db)
		}
	}
	return nil
}

// tables reads those of all beacons that are not older than since; of a beacon that is away it gives what
// that said last: its users do not move for it. What is of the future was measured by a clock that was
// wrong, and would be the newest for as long as that takes: it is left out. With some of them there may be
// an error beside.
func (t *term) tables(ctx context.Context, since, until time.Time) ([]*rtt.Table, error) {
	tables, errs := make([][]*rtt.Table, len(t.cfg.RTT)), make([]error, len(t.cfg.RTT))
	var wg sync.WaitGroup // one that is away is not to keep the others waiting
	for i, from := range t.cfg.RTT {
		wg.Go(func() {
			if strings.Contains(from, "://") {
				tables[i], errs[i] = t.fetch(ctx, from, since)
			} else {
				tables[i], errs[i] = rtt.ReadDir(from, limit, since)
			}
		})
	}
	wg.Wait()
	for i, from := range t.cfg.RTT {
		var ahead *rtt.Table
		tables[i] = slices.DeleteFunc(tables[i], func(r *rtt.Table) bool {
			if r.End.After(until) {
				ahead = r
			}
			return r.End.After(until)
		})
		if ahead != nil {
			errs[i] = errors.Join(errs[i], fmt.Errorf("%s: round-trip times are of %s, which is to come by this clock, and left out: one of the two clocks is or was wrong",
				from, ahead.End.UTC().Format(time.DateTime)))
		}
		switch {
		case errs[i] == nil:
			t.heard[from] = tables[i]
		case len(tables[i]) == 0:
			for _, r := range t.heard[from] {
				if !r.End.Before(since) && !r.End.After(until) {
					tables[i] = append(tables[i], r)
				}
			}
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		t.metrics.unread.Inc()
	}
	return slices.Concat(tables...), err
}

// fetch reads the tables of a beacon.
func (t *term) fetch(ctx context.Context, from string, since time.Time) ([]*rtt.Table, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("fetch round-trip times: %w", err)
	}
	resp, err := t.deps.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch round-trip times: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch round-trip times of %s: status %s, expected 200", from, resp.Status)
	}
	tables, err := rtt.ReadAll(io.LimitReader(resp.Body, maxFetch), limit, rtt.MaxTables)
	if err != nil {
		err = fmt.Errorf("fetch round-trip times of %s: %w", from, err)
	}
	tables = slices.DeleteFunc(tables, func(r *rtt.Table) bool { return r.Empty() || r.End.Before(since) })
	return tables, err
}
