package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/mapper"
	"github.com/zonecast/zonecast/mapper/assign"
	mapfill "github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/measured"
	"github.com/zonecast/zonecast/mapper/pins"
	"github.com/zonecast/zonecast/mapper/places"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/rtt"
)

// mapInputs are the files that a map is computed from. They are flags only: a variable or a
// file that sets one would be for another map.
type mapInputs struct {
	JSON bool `option:"json" help:"print JSON and nothing else"`

	pops, demand, rtt, pins string
	asn, city               []string
	set                     plan.Settings
	believed                measured.Settings // of what beacons wrote
	unpinned                []string          // PoPs of pins, that there are not
	strange                 []string          // what beacons measured of others
}

func (o *mapInputs) declare(cmd *cobra.Command) {
	declare(cmd, "", o)
	o.set = plan.DefaultSettings()
	o.set.Headroom = 0
	f := cmd.Flags()
	f.StringVar(&o.pops, "pops", "", "PoPs, in JSON: [{\"name\", \"latitude\", \"longitude\", \"capacity\", \"drained\"}, ...]")
	f.StringVar(&o.demand, "demand", "", "demand, CSV with the columns prefix,weight")
	f.StringVar(&o.rtt, "rtt", "", "round-trip times, CSV with the columns prefix,pop,milliseconds; or a directory that beacons write (--beacon-out)")
	m := mapper.DefaultConfig()
	f.IntVar(&o.believed.Measurements, "measurements", m.Measurements, "of a directory: how many measurements a round-trip time needs")
	f.IntVar(&o.believed.Clients, "clients", m.Clients, "of a directory: how many clients a round-trip time needs")
	f.IntVar(&o.believed.Enough, "enough", m.Enough, "of a directory: from how many newer measurements on older ones are not looked at; 0: all are")
	f.StringSliceVar(&o.asn, "asn", nil, "MaxMind databases (.mmdb) of autonomous systems, for prefixes that were not measured")
	f.StringSliceVar(&o.city, "city", nil, "MaxMind databases (.mmdb) of cities or countries, for the same")
	f.StringVar(&o.pins, "pins", "", "pins, CSV with the columns match,pop: a prefix, AS64500 (with --asn), or a country as NL (with --city); they hold against capacity, not against a drain")
	f.StringVar(&o.set.Algorithm, "algorithm", o.set.Algorithm, "how to assign; `zonecast map algorithms` lists them")
	f.Float64Var(&o.set.Headroom, "headroom", o.set.Headroom, "part of each capacity that is left free, 0 to below 1")
	f.DurationVar(&o.set.Hysteresis, "hysteresis", o.set.Hysteresis, "least gain for which a prefix leaves its PoP of the map in force")
	f.Float64Var(&o.set.HysteresisShare, "hysteresis-share", o.set.HysteresisShare, "the same, as a part of its round-trip time; the larger counts")
	f.Float64Var(&o.set.MaxChurn, "max-churn", o.set.MaxChurn, "part of the demand that may move for a gain")
}

// read reads the table, and fills its gaps.
func (o *mapInputs) read(cmd *cobra.Command) (*table.Table, *mapfill.Filled, error) {
	for _, f := range []struct{ flag, value string }{{"pops", o.pops}, {"demand", o.demand}, {"rtt", o.rtt}} {
		if f.value == "" {
			return nil, nil, misused(cmd, fmt.Errorf("--%s is missing, expected a file", f.flag))
		}
	}
	var pops []table.PoP
	err := withFile(o.pops, func(r io.Reader) (err error) {
		pops, err = table.ReadPoPs(r, o.pops)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if b := o.believed; b.Measurements < 1 || b.Clients < 1 || b.Enough < 0 {
		return nil, nil, misused(cmd, fmt.Errorf("--measurements is %d, --clients %d, --enough %d, expected at least 1, 1 and 0", b.Measurements, b.Clients, b.Enough))
	}
	databases, err := o.databases()
	if err != nil {
		return nil, nil, err
	}
	t, err := o.readTable(pops)
	if err != nil {
		return nil, nil, err
	}
	where, err := databases.Look(t.Prefixes)
	if err != nil {
		return nil, nil, err
	}
	filled, err := mapfill.Fill(t, where)
	if err != nil {
		return nil, nil, err
	}
	if o.pins != "" {
		p, err := pins.Read(o.pins)
		if err != nil {
			return nil, nil, err
		}
		if err := p.Needs(len(databases.Systems) > 0, len(databases.Cities) > 0); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", o.pins, err)
		}
		o.set.Pins, o.unpinned = p.Of(t.Prefixes, where, pops)
	}
	return t, filled, nil
}

// readTable reads demand and round-trip times, these from a file or from a directory of beacons.
func (o *mapInputs) readTable(pops []table.PoP) (t *table.Table, err error) {
	info, err := os.Stat(o.rtt)
	if err != nil {
		return nil, err
	}
	err = withFile(o.demand, func(demand io.Reader) error {
		if info.IsDir() {
			wanted, err := table.ReadDemand(demand, o.demand)
			if err != nil {
				return err
			}
			t, err = o.ofBeacons(pops, wanted)
			return err
		}
		return withFile(o.rtt, func(rtt io.Reader) (err error) {
			t, err = table.Read(pops, demand, o.demand, rtt, o.rtt)
			return err
		})
	})
	return t, err
}

// ofBeacons takes what run mapper would believe, of clients.
func (o *mapInputs) ofBeacons(pops []table.PoP, demand *table.Table) (*table.Table, error) {
	tables, err := rtt.ReadDir(o.rtt, rtt.Limit{}, time.Time{})
	if err != nil {
		return nil, err
	}
	m, err := measured.New(tables, pops, o.believed)
	if err != nil {
		return nil, err
	}
	for pop, n := range m.Unknown {
		o.strange = append(o.strange, fmt.Sprintf("%s: %d times are of PoP %s, which %s has not", o.rtt, n, pop, o.pops))
	}
	slices.Sort(o.strange)
	m.Replace(demand)
	return m.OfClients(), nil
}

func (o *mapInputs) databases() (places.Databases, error) {
	return openDatabases(o.asn, o.city)
}

// openDatabases opens MaxMind databases of autonomous systems and of cities.
func openDatabases(asn, city []string) (d places.Databases, err error) {
	for _, file := range city {
		db, err := mmdb.Open(file)
		if err == nil {
			err = db.CheckPlaces(false)
		}
		if err != nil {
			return d, err
		}
		d.Cities = append(d.Cities, db)
	}
	for _, file := range asn {
		db, err := mmdb.Open(file)
		if err != nil {
			return d, err
		}
		d.Systems = append(d.Systems, db)
	}
	return d, nil
}

// withFile gives a file to read.
func withFile(file string, read func(io.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return read(f)
}

// readMap reads a map as a file; "" is none.
func readMap(file string) (m *table.Map, err error) {
	if file == "" {
		return nil, nil
	}
	err = withFile(file, func(r io.Reader) (err error) {
		m, err = table.ReadMap(r, file)
		return err
	})
	return m, err
}

// mapInForce is a map in force, for plan.Compute.
func mapInForce(m *table.Map, t *table.Table) plan.Previous {
	if m == nil {
		return nil
	}
	rests := table.Rests(t.Prefixes)
	return func(i int) []string {
		l, _ := m.Lookup(rests[i])
		return l.Order
	}
}

// mapView is a map and how good it is, as it is told.
type mapView struct {
	Algorithm string  `json:"algorithm"`
	Prefixes  int     `json:"prefixes"`
	Entries   int     `json:"entries"` // lines of the map that was written
	Demand    float64 `json:"demand"`
	// Milliseconds, by demand. Gap is a part of Bound, 0.001 is 0.1 %.
	Mean      float64 `json:"mean"`
	P50       float64 `json:"p50"`
	P95       float64 `json:"p95"`
	Bound     float64 `json:"bound"`
	Unbounded float64 `json:"unbounded"`
	Gap       float64 `json:"gap"`

	Overloaded float64   `json:"overloaded"` // demand above capacities
	PoPs       []popLoad `json:"pops"`
	// Churn is there with a map in force; parts of the demand.
	Churn *churnView `json:"churn,omitempty"`

	Pinned     int `json:"pinned,omitempty"`      // prefixes
	PinnedAway int `json:"pinned_away,omitempty"` // of them to a PoP that is closed, which are elsewhere

	Cells    map[string]int `json:"cells"`            // prefixes × PoPs by where their times come from
	Struck   map[string]int `json:"struck,omitempty"` // times that light forbids, by PoP
	Warnings []string       `json:"warnings,omitempty"`

	Seconds        float64 `json:"seconds"`         // of all, reading and writing files included
	SecondsCompute float64 `json:"seconds_compute"` // of the plan alone
}

type popLoad struct {
	Name     string  `json:"name"`
	Load     float64 `json:"load"`
	Capacity float64 `json:"capacity"`
	Share    float64 `json:"share"` // of the capacity; 0 without one
	Price    float64 `json:"price"` // milliseconds that more room would save each unit of demand
	Drained  bool    `json:"drained"`
	// Lost is the largest load of another PoP, as part of its capacity, when this one is lost,
	// and LostMean the mean round-trip time then.
	Lost     float64 `json:"lost"`
	LostAt   string  `json:"lost_at,omitempty"`
	LostMean float64 `json:"lost_mean"`
}

type churnView struct {
	Moved    float64 `json:"moved"`
	Gain     float64 `json:"gain"`
	Deferred float64 `json:"deferred"`
}

func newMapCompute() *cobra.Command {
	var o mapInputs
	var out, inForce string
	var aggregate bool
	var most int
	cmd := &cobra.Command{
		Use: "compute", Short: "compute a map from demand, round-trip times and capacities", Args: exactArgs(),
		Long: `compute assigns prefixes to PoPs for the least demand-weighted round-trip time within the capacities. What was not measured is taken from covering
prefixes, and with --asn and --city from the autonomous system, country and continent. It prints how good the map is, and how far from
what is possible; --out is the map: prefix,pop,second,third, the PoPs that take over being chosen so that they have room together.

With --in-force, a map that compute wrote, a prefix moves only for a gain above --hysteresis. --aggregate writes the fewest prefixes that
say the same, and 0.0.0.0/0 and ::/0 for everybody else.

With --pins, people say who is where: a prefix, or with --asn and --city all of an autonomous system or a country. --headroom leaves a part of each
capacity free, and what "run mapper" leaves is 0.05: for its map give that.`,
		Example: `  zonecast map compute --pops pops.json --demand demand.csv --rtt rtt.csv --out map.csv
  zonecast map compute --pops pops.json --demand demand.csv --rtt rtt.csv --in-force map.csv --out new.csv --json`,
	}
	o.declare(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write the map to; none: only its figures are printed")
	cmd.Flags().StringVar(&inForce, "in-force", "", "the map that is in force, as compute wrote it")
	cmd.Flags().BoolVar(&aggregate, "aggregate", false, "write the fewest prefixes that say the same")
	cmd.Flags().IntVar(&most, "max-entries", 0, "write at most so many prefixes, giving up the gains that are least, which is said; 0: as many as it takes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if err := o.set.Check(); err != nil {
			return misused(cmd, err)
		}
		if most < 0 || most == 1 {
			return misused(cmd, fmt.Errorf("--max-entries is %d, expected 0 or at least 2: 0.0.0.0/0 and ::/0 stay", most))
		}
		began := time.Now()
		before, err := readMap(inForce)
		if err != nil {
			return err
		}
		t, filled, err := o.read(cmd)
		if err != nil {
			return err
		}
		computing := time.Now()
		p, err := plan.Compute(cmd.Context(), t, mapInForce(before, t), o.set)
		if err != nil {
			return err
		}
		v := o.view(p, filled)
		v.SecondsCompute = time.Since(computing).Seconds()
		lines := p.Lines()
		v.Entries = len(t.Prefixes)
		if aggregate || most > 0 {
			var lost plan.EntryLoss
			if lines, v.Entries, lost, err = fewest(p, most); err != nil {
				return err
			}
			if lost.Removed > 0 {
				v.Warnings = append(v.Warnings, lost.String())
			}
		}
		if out != "" {
			if err := atomicfile.WriteFunc(out, 0o644, func(w io.Writer) error { return table.WriteMap(w, lines) }); err != nil {
				return err
			}
		}
		v.Seconds = time.Since(began).Seconds()
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
		}
		return v.print(cmd.OutOrStdout())
	}
	return cmd
}

// fewest gives a plan as the fewest lines that say the same, or as at most most lines.
func fewest(p *plan.Plan, most int) (lines iter.Seq[table.Line], count int, lost plan.EntryLoss, err error) {
	m := p.Map("map")
	entries, err := ortc.Aggregate(m.Entries)
	if err == nil && most > 0 {
		if entries, lost = p.Fewer(entries, most, func(int) bool { return true }); lost.Removed > 0 {
			entries, err = ortc.Aggregate(entries)
		}
	}
	return func(yield func(table.Line) bool) {
		for _, e := range entries {
			if !yield(table.Line{Prefix: e.Prefix, Order: orderOf(m, e)}) {
				return
			}
		}
	}, len(entries), lost, err
}

// orderOf is the PoPs of an entry.
func orderOf(m *geo.Map, e geo.Entry) (names []string) {
	for _, l := range m.Orders[e.Location] {
		names = append(names, string(l))
	}
	if names == nil {
		names = []string{string(e.Location)}
	}
	return names
}

// view tells of a plan of the inputs.
func (o *mapInputs) view(p *plan.Plan, filled *mapfill.Filled) *mapView {
	v := viewMap(p, filled, o.set)
	for i, j := range o.set.Pins {
		if j != plan.None {
			v.Pinned++
			if p.Orders[i][0] != j {
				v.PinnedAway++
			}
		}
	}
	v.Warnings = append(v.Warnings, o.strange...)
	if len(o.unpinned) > 0 {
		v.Warnings = append(v.Warnings, fmt.Sprintf("%s: pins are to PoPs that %s has not: %s", o.pins, o.pops, strings.Join(o.unpinned, ", ")))
	}
	return v
}

func viewMap(p *plan.Plan, filled *mapfill.Filled, set plan.Settings) *mapView {
	f := p.Figures
	v := &mapView{
		Algorithm: set.Algorithm, Prefixes: len(p.Table.Prefixes), Demand: f.Demand, Mean: f.Mean, P50: f.P50, P95: f.P95, Bound: f.Bound, Unbounded: f.Unbounded,
		Gap: f.Gap, Overloaded: f.Overloaded, PoPs: viewLoads(p.Table.PoPs, f), Cells: map[string]int{},
	}
	for j := range v.PoPs {
		if p.Prices != nil {
			v.PoPs[j].Price = float64(max(p.Prices[j], 0)) / 1000
		}
	}
	for _, l := range p.Losses {
		if l.At != plan.None {
			v.PoPs[l.PoP].Lost, v.PoPs[l.PoP].LostAt, v.PoPs[l.PoP].LostMean = l.Worst, p.Table.PoPs[l.At].Name, l.Mean
		}
	}
	if p.Home != nil {
		v.Churn = &churnView{p.Churn.Moved, p.Churn.Gain, p.Churn.Deferred}
	}
	for l, n := range filled.Cells {
		if n > 0 {
			v.Cells[mapfill.Level(l).String()] = n
		}
	}
	for j, n := range filled.Struck {
		if n > 0 {
			if v.Struck == nil {
				v.Struck = map[string]int{}
			}
			v.Struck[p.Table.PoPs[j].Name] = n
		}
	}
	v.Warnings = warnings(p, filled)
	return v
}

// warnings are what a person should know before the map is in force.
func warnings(p *plan.Plan, filled *mapfill.Filled) (w []string) {
	capacity := 0.0
	for _, pop := range p.Table.PoPs {
		if pop.Open() {
			capacity += pop.Capacity
		}
	}
	if d := p.Figures.Demand; d > capacity {
		w = append(w, fmt.Sprintf("demand %.6g is above the capacity of all open PoPs, %.6g: each gets %.1f %% of its capacity", d, capacity, 100*d/capacity))
	} else if o := p.Figures.Overloaded; o > 0 {
		w = append(w, fmt.Sprintf("demand of %.6g is above the capacity of its PoP", o))
	}
	for j, s := range filled.Suspect {
		if s {
			w = append(w, fmt.Sprintf("%s: its latitude and longitude contradict what was measured, and are not used; check those of the PoPs around it as well", p.Table.PoPs[j].Name))
		}
	}
	if n := filled.Cells[mapfill.Nothing]; n > 0 {
		w = append(w, fmt.Sprintf("%d round-trip times are to PoPs that nothing was measured to", n))
	}
	return w
}

func viewLoads(pops []table.PoP, f plan.Figures) []popLoad {
	loads := make([]popLoad, len(pops))
	for j, p := range pops {
		loads[j] = popLoad{Name: p.Name, Load: f.Load[j], Capacity: p.Capacity, Drained: p.Drained}
		if p.Capacity > 0 {
			loads[j].Share = f.Load[j] / p.Capacity
		}
	}
	return loads
}

func (v *mapView) print(w io.Writer) error {
	fmt.Fprintf(w, "%d prefixes, demand %.6g, by %s in %.2f s (the plan %.2f s, %d processors)\n", v.Prefixes, v.Demand, v.Algorithm, v.Seconds, v.SecondsCompute, runtime.GOMAXPROCS(0))
	fmt.Fprintf(w, "round-trip time: mean %.3f ms, p50 %.3f ms, p95 %.3f ms\n", v.Mean, v.P50, v.P95)
	fmt.Fprintf(w, "bound: %.3f ms within the capacities (gap %.4f %%), %.3f ms without\n", v.Bound, 100*v.Gap, v.Unbounded)
	if c := v.Churn; c != nil {
		fmt.Fprintf(w, "of the demand %.2f %% move, %.2f %% for a gain above the threshold; %.2f %% would gain and are put off\n", 100*c.Moved, 100*c.Gain, 100*c.Deferred)
	}
	if v.Pinned > 0 {
		fmt.Fprintf(w, "pins hold for %d of the prefixes; for %d more their PoP is closed\n", v.Pinned-v.PinnedAway, v.PinnedAway)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "POP\tLOAD\tCAPACITY\tUSED\tPRICE\tIF LOST")
	for _, p := range v.PoPs {
		lost := "-"
		if p.LostAt != "" {
			lost = fmt.Sprintf("mean %.1f ms, %s at %.0f %%", p.LostMean, plain(p.LostAt), 100*p.Lost)
		}
		drained := ""
		if p.Drained {
			drained = " (drained)"
		}
		fmt.Fprintf(t, "%s%s\t%.6g\t%.6g\t%.1f %%\t%.1f ms\t%s\n", plain(p.Name), drained, p.Load, p.Capacity, 100*p.Share, p.Price, lost)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range v.Warnings {
		fmt.Fprintln(w, "warning:", plain(text))
	}
	return nil
}

func newMapAlgorithms() *cobra.Command {
	var o struct {
		JSON bool `option:"json" help:"print JSON and nothing else"`
	}
	cmd := &cobra.Command{Use: "algorithms", Short: "how maps can be computed, and which way is for what", Args: exactArgs(), Example: "  zonecast map algorithms"}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		type view struct {
			Name   string `json:"name"`
			Reason string `json:"reason"`
		}
		var all []view
		for _, a := range assign.Algorithms() {
			all = append(all, view{a.Name, a.Reason})
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
		}
		for _, a := range all {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", a.Name, a.Reason)
		}
		return nil
	}
	return cmd
}

func newMapDiff() *cobra.Command {
	var o struct {
		JSON bool `option:"json" help:"print JSON and nothing else"`
	}
	var demandFile string
	cmd := &cobra.Command{
		Use: "diff OLD NEW", Short: "what differs between two maps that are files", Args: exactArgs("OLD", "NEW"),
		Long: `diff tells how many prefixes have another first PoP in NEW than in OLD, from which to which; with --demand also how much demand that is. What
counts are the addresses of a prefix that are in no longer one of either file: how a file says it, in few prefixes or in many, makes no difference.`,
		Example: "  zonecast map diff map.csv new.csv --demand demand.csv",
	}
	declare(cmd, "", &o)
	cmd.Flags().StringVar(&demandFile, "demand", "", "demand, CSV with the columns prefix,weight")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		before, err := readMap(args[0])
		if err != nil {
			return err
		}
		after, err := readMap(args[1])
		if err != nil {
			return err
		}
		demand := &table.Table{}
		if demandFile != "" {
			err := withFile(demandFile, func(r io.Reader) (err error) {
				demand, err = table.ReadDemand(r, demandFile)
				return err
			})
			if err != nil {
				return err
			}
		}
		v := diffMaps(before, after, demand)
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
		}
		return v.print(cmd.OutOrStdout())
	}
	return cmd
}

// mapDiff is how two maps differ.
type mapDiff struct {
	Prefixes int       `json:"prefixes"` // of both files
	Moved    int       `json:"moved"`    // of them, with another first PoP
	Orders   int       `json:"orders"`   // with the same first PoP and another one to take over
	Demand   float64   `json:"demand"`
	Share    float64   `json:"share"` // of the demand that moved
	Moves    []mapMove `json:"moves"`
}

type mapMove struct {
	From     string  `json:"from"` // "": in no prefix of the old map
	To       string  `json:"to"`
	Prefixes int     `json:"prefixes"`
	Demand   float64 `json:"demand"`
}

func diffMaps(before, after *table.Map, demand *table.Table) *mapDiff {
	v := &mapDiff{Moves: []mapMove{}}
	index := map[[2]string]int{}
	move := func(p netip.Prefix) (*mapMove, bool) {
		a, _ := before.Lookup(p)
		b, _ := after.Lookup(p)
		first := func(l table.Line) string { return append(l.Order, "")[0] }
		if first(a) == first(b) {
			return nil, strings.Join(a.Order, ",") != strings.Join(b.Order, ",")
		}
		key := [2]string{first(a), first(b)}
		i, ok := index[key]
		if !ok {
			i = len(v.Moves)
			index[key] = i
			v.Moves = append(v.Moves, mapMove{From: key[0], To: key[1]})
		}
		return &v.Moves[i], false
	}
	for _, p := range table.Rests(slices.Collect(prefixesOf(before, after))) {
		v.Prefixes++
		m, order := move(p)
		if m != nil {
			v.Moved++
			m.Prefixes++
		} else if order {
			v.Orders++
		}
	}
	moved := 0.0
	for i, p := range table.Rests(demand.Prefixes) {
		v.Demand += demand.Demand[i]
		if m, _ := move(p); m != nil {
			m.Demand += demand.Demand[i]
			moved += demand.Demand[i]
		}
	}
	if v.Demand > 0 {
		v.Share = moved / v.Demand
	}
	return v
}

// prefixesOf gives the prefixes of two maps, each once.
func prefixesOf(a, b *table.Map) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for _, l := range a.Lines() {
			if !yield(l.Prefix) {
				return
			}
		}
		for _, l := range b.Lines() {
			if other, ok := a.Lookup(l.Prefix); ok && other.Prefix == l.Prefix {
				continue
			}
			if !yield(l.Prefix) {
				return
			}
		}
	}
}

func (v *mapDiff) print(w io.Writer) error {
	fmt.Fprintf(w, "%d of %d prefixes have another first PoP, %d another one to take over\n", v.Moved, v.Prefixes, v.Orders)
	if v.Demand > 0 {
		fmt.Fprintf(w, "%.3f %% of the demand moves\n", 100*v.Share)
	}
	if len(v.Moves) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FROM\tTO\tPREFIXES\tDEMAND")
	for _, m := range v.Moves {
		from, to := m.From, m.To
		if from == "" {
			from = "-"
		}
		if to == "" {
			to = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%.6g\n", plain(from), plain(to), m.Prefixes, m.Demand)
	}
	return t.Flush()
}

// whatIf is a map before and after PoPs are drained.
type whatIf struct {
	Before *mapView `json:"before"`
	// AtOnce is what hosts do by themselves: the next of each order serves.
	AtOnce *momentView `json:"at_once"`
	After  *mapView    `json:"after"` // what the mapper computes then
}

// momentView is how good a map is, without how it came to be.
type momentView struct {
	Mean       float64   `json:"mean"`
	P50        float64   `json:"p50"`
	P95        float64   `json:"p95"`
	Overloaded float64   `json:"overloaded"`
	Moved      float64   `json:"moved"` // part of the demand
	PoPs       []popLoad `json:"pops"`
}

func newMapWhatIf() *cobra.Command {
	var o mapInputs
	var drain, undrain []string
	var inForce string
	cmd := &cobra.Command{
		Use: "what-if", Short: "what draining PoPs would do to round-trip times and loads", Args: exactArgs(),
		Long: `what-if tells round-trip times and the load of each PoP before, at once after PoPs are drained, when hosts go on to the next of each order, and when the
mapper has computed again. Before is the map of --in-force, or what compute gives.`,
		Example: `  zonecast map what-if --drain esams --pops pops.json --demand demand.csv --rtt rtt.csv`,
	}
	o.declare(cmd)
	cmd.Flags().StringSliceVar(&drain, "drain", nil, "PoPs to drain, separated by commas")
	cmd.Flags().StringSliceVar(&undrain, "undrain", nil, "PoPs to undrain")
	cmd.Flags().StringVar(&inForce, "in-force", "", "the map that is in force, as compute wrote it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if err := o.set.Check(); err != nil {
			return misused(cmd, err)
		}
		if len(drain)+len(undrain) == 0 {
			return misused(cmd, errors.New("--drain or --undrain is missing, expected names of PoPs"))
		}
		v, err := o.whatIf(cmd, inForce, drain, undrain)
		if err != nil {
			return err
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
		}
		return v.print(cmd.OutOrStdout())
	}
	return cmd
}

func (o *mapInputs) whatIf(cmd *cobra.Command, inForce string, drain, undrain []string) (*whatIf, error) {
	m, err := readMap(inForce)
	if err != nil {
		return nil, err
	}
	t, filled, err := o.read(cmd)
	if err != nil {
		return nil, err
	}
	compute := func(ctx context.Context, t *table.Table, before plan.Previous) (*plan.Plan, *mapView, error) {
		began := time.Now()
		p, err := plan.Compute(ctx, t, before, o.set)
		if err != nil {
			return nil, nil, err
		}
		v := o.view(p, filled)
		v.Entries = len(t.Prefixes)
		v.SecondsCompute = time.Since(began).Seconds()
		v.Seconds = v.SecondsCompute
		return p, v, nil
	}
	before, v1, err := compute(cmd.Context(), t, mapInForce(m, t))
	if err != nil {
		return nil, err
	}
	changed := *t
	changed.PoPs = append([]table.PoP(nil), t.PoPs...)
	for _, names := range []struct {
		list    []string
		drained bool
	}{{drain, true}, {undrain, false}} {
		for _, name := range names.list {
			found := false
			for j := range changed.PoPs {
				if p := &changed.PoPs[j]; p.Name == name {
					p.Drained, found = names.drained, true
				}
			}
			if !found {
				return nil, misused(cmd, fmt.Errorf("PoP %q is not in %s", name, o.pops))
			}
		}
	}
	moment := before.Without(changed.PoPs)
	v2 := &momentView{Mean: moment.Mean, P50: moment.P50, P95: moment.P95, Overloaded: moment.Overloaded, Moved: before.Displaced(changed.PoPs), PoPs: viewLoads(changed.PoPs, moment)}
	_, v3, err := compute(cmd.Context(), &changed, before.Previous())
	if err != nil {
		return nil, err
	}
	return &whatIf{v1, v2, v3}, nil
}

func (v *whatIf) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tBEFORE\tAT ONCE\tCOMPUTED AGAIN")
	for _, row := range []struct {
		what    string
		a, b, c float64
	}{{"mean", v.Before.Mean, v.AtOnce.Mean, v.After.Mean}, {"p50", v.Before.P50, v.AtOnce.P50, v.After.P50}, {"p95", v.Before.P95, v.AtOnce.P95, v.After.P95}} {
		fmt.Fprintf(t, "%s\t%.3f ms\t%.3f ms\t%.3f ms\n", row.what, row.a, row.b, row.c)
	}
	moved := 0.0
	if v.After.Churn != nil {
		moved = v.After.Churn.Moved
	}
	fmt.Fprintf(t, "demand that moved\t-\t%.2f %%\t%.2f %%\n", 100*v.AtOnce.Moved, 100*moved)
	for j, p := range v.Before.PoPs {
		of := func(p popLoad) string {
			if p.Drained {
				return fmt.Sprintf("%.6g (drained)", p.Load)
			}
			return fmt.Sprintf("%.6g (%.1f %%)", p.Load, 100*p.Share)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", plain(p.Name), of(p), of(v.AtOnce.PoPs[j]), of(v.After.PoPs[j]))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range v.After.Warnings {
		fmt.Fprintln(w, "warning:", plain(text))
	}
	return nil
}
