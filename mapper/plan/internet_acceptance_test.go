//go:build acceptance

package plan_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
)

const million = 1_000_000

// load is the load average of the last minute, which stands beside figures.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	l, _, _ := strings.Cut(string(b), " ")
	return l
}

// A map of a million prefixes from files, by the command: seconds, memory, and the gap to the
// optimum. Aims: 10 s for 14 PoPs, 30 s for 100, gap under 0.1 %.
func TestMillionPrefixes(t *testing.T) {
	in := newInternet(t, million)
	dir := t.TempDir()
	command := filepath.Join(dir, "zonecast")
	if out, err := exec.Command("go", "build", "-o", command, "../../cmd/zonecast").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct {
		pops  []table.PoP
		limit float64
	}{{wikimedia(), 10}, {in.synthetic(100), 30}} {
		t.Run(fmt.Sprintf("pops=%d", len(c.pops)), func(t *testing.T) {
			tab := in.measured(c.pops)
			capacities(tab, 0.9, 1.6)
			size := write(t, tab, dir)
			tab.RTT = nil
			runtime.GC()
			began := time.Now()
			run := exec.Command(command, "map", "compute", "--pops", filepath.Join(dir, "pops.json"), "--demand", filepath.Join(dir, "demand.csv"),
				"--rtt", filepath.Join(dir, "rtt.csv"), "--out", filepath.Join(dir, "map.csv"), "--json")
			var said bytes.Buffer
			run.Stderr = &said
			run.Env = append(os.Environ(), "GOMAXPROCS=2")
			out, err := run.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, &said)
			}
			took := time.Since(began).Seconds()
			var v struct {
				Mean, P50, P95, Bound, Unbounded, Gap, Overloaded, Seconds float64
				Compute                                                    float64 `json:"seconds_compute"`
				PoPs                                                       []struct{ Lost float64 }
			}
			if err := json.Unmarshal(out, &v); err != nil {
				t.Fatal(err)
			}
			usage := run.ProcessState.SysUsage().(*syscall.Rusage)
			t.Logf("%d prefixes × %d PoPs, rtt.csv %d MB: %.1f s in all (%.1f s reading and writing, %.1f s computing; %.1f s of processor), %d MB at most, load %s",
				len(in.prefixes), len(c.pops), size>>20, took, v.Seconds-v.Compute, v.Compute, (time.Duration(usage.Utime.Nano()) + time.Duration(usage.Stime.Nano())).Seconds(), usage.Maxrss>>10, load())
			t.Logf("mean %.3f ms, p50 %.3f ms, p95 %.3f ms; bound %.3f ms, gap %.5f %%; without capacities %.3f ms", v.Mean, v.P50, v.P95, v.Bound, 100*v.Gap, v.Unbounded)
			if v.Gap < 0 || v.Gap > 0.001 || v.Overloaded > 0 {
				t.Errorf("gap %g, %g above capacities", v.Gap, v.Overloaded)
			}
			// On a machine that others use, what counts is what two processors had to do.
			if busy, _ := strconv.ParseFloat(load(), 64); busy > 3 {
				took = (time.Duration(usage.Utime.Nano()) + time.Duration(usage.Stime.Nano())).Seconds() / 2
			}
			if took > c.limit {
				t.Errorf("%.1f s, expected at most %.0f s", took, c.limit)
			}
		})
	}
}

// write writes the files of a table, and gives the size of the largest.
func write(t *testing.T, tab *table.Table, dir string) int64 {
	t.Helper()
	var pops []map[string]any
	for _, p := range tab.PoPs {
		pops = append(pops, map[string]any{"name": p.Name, "latitude": p.Latitude, "longitude": p.Longitude, "capacity": p.Capacity, "drained": p.Drained})
	}
	b, err := json.Marshal(pops)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "pops.json"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, name := range []string{"demand.csv", "rtt.csv"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriterSize(f, 1<<20)
		var line []byte
		if name == "demand.csv" {
			w.WriteString("prefix,weight\n")
		} else {
			w.WriteString("prefix,pop,milliseconds\n")
		}
		for i, p := range tab.Prefixes {
			prefix := p.String()
			if name == "demand.csv" {
				line = append(strconv.AppendFloat(append(append(line[:0], prefix...), ','), tab.Demand[i], 'f', -1, 64), '\n')
				w.Write(line)
				continue
			}
			for j, v := range tab.Row(i) {
				line = append(append(append(append(line[:0], prefix...), ','), tab.PoPs[j].Name...), ',')
				line = append(strconv.AppendFloat(line, float64(v)/1000, 'f', 3, 64), '\n')
				w.Write(line)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		s, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		size = s.Size()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return size
}

// Maps side by side, all measured by the same truth: ours, of all round-trip times with 5 % of
// noise, and of those of 7 in 10 prefixes only; the nearest PoP by geography; and, on the PoPs
// that they know, the lists by country that the Wikimedia Foundation kept by hand in 2019.
// Aims: within 2 % of the bound where capacities allow it, and never above a capacity.
func TestQuality(t *testing.T) {
	in := newInternet(t, 300_000)
	list := countryLists(t, filepath.Join(cmp.Or(os.Getenv("ZONECAST_DATA"), "../../../shared/data/wikimedia-2019"), "geo-maps"))
	t.Logf("%d prefixes, load %s", len(in.prefixes), load())
	for _, c := range []struct {
		name        string
		pops        []table.PoP
		least, most float64
		hand        bool
	}{
		{"the five PoPs of 2019, capacities allow it", wikimedia()[:5], 1.15, 1.6, true},
		{"the five PoPs of 2019, tight", wikimedia()[:5], 0.85, 1.6, true},
		{"seven PoPs, capacities allow it", wikimedia()[:7], 1.15, 1.6, false},
		{"14 PoPs, capacities allow it", wikimedia(), 1.15, 1.6, false},
		{"14 PoPs, tight", wikimedia(), 0.85, 1.6, false},
	} {
		truth := in.measured(c.pops)
		capacities(truth, c.least, c.most)
		set := plan.DefaultSettings()
		set.Headroom = 0
		best := compute(t, truth, nil, set)
		say := func(what string, f plan.Figures) {
			worst := 0.0
			for j, p := range truth.PoPs {
				worst = max(worst, f.Load[j]/p.Capacity)
			}
			if f.P95 == 0 {
				t.Logf("| %s | %s | %.2f | %.1f %% | | | |", c.name, what, f.Mean, 100*(f.Mean/best.Figures.Bound-1))
				return
			}
			t.Logf("| %s | %s | %.2f | %.1f %% | %.1f | %.1f %% | %.2f %% |", c.name, what, f.Mean, 100*(f.Mean/best.Figures.Bound-1), f.P95, 100*worst, 100*f.Overloaded/f.Demand)
		}
		ours := func(what string, thin float64) plan.Figures {
			seen := noisy(truth, 0.05, 1)
			r := rand.New(rand.NewPCG(5, 5))
			for i := range seen.Prefixes {
				if r.Float64() < thin {
					for j := range c.pops {
						seen.RTT[i*len(c.pops)+j] = table.Missing
					}
				}
			}
			if _, err := fill.Fill(seen, in.places); err != nil {
				t.Fatal(err)
			}
			p := compute(t, seen, nil, set)
			f := plan.Measure(truth, func(i int) int { return int(p.Orders[i][0]) })
			say(what, f)
			return f
		}
		t.Logf("| PoPs | map | mean ms | above the bound | p95 ms | fullest PoP | demand above capacity |")
		say("bound without capacities", plan.Figures{Demand: 1, Mean: best.Figures.Unbounded, Load: make([]float64, len(c.pops))})
		say("bound within capacities", plan.Figures{Demand: 1, Mean: best.Figures.Bound, Load: make([]float64, len(c.pops))})
		say("ours, all known", best.Figures)
		noise := ours("ours, 5 % noise", 0)
		ours("ours, 5 % noise, 3 of 10 prefixes not measured", 0.3)
		say("nearest by geography", plan.Measure(truth, func(i int) int {
			p, near := in.places[i], 0
			distance := func(j int) float64 {
				return fill.Distance(float64(p.Latitude), float64(p.Longitude), c.pops[j].Latitude, c.pops[j].Longitude)
			}
			for j := range c.pops {
				if distance(j) < distance(near) {
					near = j
				}
			}
			return near
		}))
		if c.hand {
			say("lists by country", plan.Measure(truth, func(i int) int {
				p := in.places[i]
				for _, name := range list(string(p.Continent[:]), string(p.Country[:]), in.states[i]) {
					if j := slices.IndexFunc(c.pops, func(p table.PoP) bool { return p.Name == name }); j >= 0 {
						return j
					}
				}
				return 0
			}))
		}
		if best.Figures.Overloaded > 0 || best.Figures.Gap > 0.001 {
			t.Errorf("%s: %+v", c.name, best.Figures)
		}
		if c.least > 1 && best.Figures.Mean > 1.02*best.Figures.Unbounded || noise.Mean > 1.02*best.Figures.Bound {
			t.Errorf("%s: %.3f ms, with noise %.3f ms; the bound is %.3f ms, without capacities %.3f ms", c.name, best.Figures.Mean, noise.Mean, best.Figures.Bound, best.Figures.Unbounded)
		}
	}
}

// Cycles with 5 % of noise on each round-trip time, a drain, and its end. Aims: under 1 % of the demand moves
// without a gain above the threshold; who is drained moves, and nobody else.
func TestStableInternet(t *testing.T) {
	in := newInternet(t, 300_000)
	truth := in.measured(wikimedia())
	capacities(truth, 1.0, 1.6)
	set := plan.DefaultSettings()
	p := compute(t, noisy(truth, 0.05, 100), nil, set)
	start := p
	for cycle := range uint64(10) {
		next := compute(t, noisy(truth, 0.05, cycle), p, set)
		true1, true2 := plan.Measure(truth, func(i int) int { return int(p.Orders[i][0]) }).Mean, plan.Measure(truth, func(i int) int { return int(next.Orders[i][0]) }).Mean
		t.Logf("cycle %d: %.3f %% moved, %.3f %% for a gain above the threshold, %.3f %% put off; true mean %.3f ms, was %.3f ms", cycle, 100*next.Churn.Moved, 100*next.Churn.Gain, 100*next.Churn.Deferred, true2, true1)
		if next.Churn.Moved-next.Churn.Gain > 0.01 || next.Figures.Overloaded > 0 {
			t.Errorf("cycle %d: %+v, %v above capacities", cycle, next.Churn, next.Figures.Overloaded)
		}
		p = next
	}
	t.Logf("after 10 cycles %.2f %% of the demand is elsewhere than at first", 100*moved(start, p))
	for drained, pop := range truth.PoPs {
		after := noisy(truth, 0.05, 77)
		after.PoPs = slices.Clone(truth.PoPs)
		after.PoPs[drained].Drained = true
		next := compute(t, after, p, set)
		others, again := 0.0, 0.0
		for i, o := range next.Orders {
			was := p.Orders[i]
			if int(was[0]) != drained && o[0] != was[0] {
				others += truth.Demand[i]
			}
			if int(was[0]) == drained && o[0] != was[1] {
				again += truth.Demand[i]
			}
		}
		t.Logf("without %s: %.2f %% of the demand moves, %.3f %% of others, %.3f %% elsewhere than hosts had sent it; fullest PoP %.1f %%", pop.Name, 100*next.Churn.Moved, 100*others/next.Figures.Demand, 100*again/next.Figures.Demand, 100*fullest(next))
		if others > 0 && next.Figures.Overloaded == 0 {
			t.Errorf("without %s: demand %v of other PoPs moved", pop.Name, others)
		}
	}
	entries, err := ortc.Aggregate(p.Map("users").Entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d prefixes become %d entries of %d locations", len(in.prefixes), len(entries), len(p.Map("users").Orders))
}

func fullest(p *plan.Plan) (share float64) {
	for j, l := range p.Figures.Load {
		if pop := p.Table.PoPs[j]; pop.Open() {
			share = max(share, l/pop.Capacity)
		}
	}
	return share
}
