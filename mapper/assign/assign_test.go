package assign_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/mapper/assign"
)

// problems are small ones of all kinds: ties, PoPs without capacity, groups larger than
// a PoP, demand above all capacities, groups without demand.
func problems(t *rapid.T, mostGroups, mostPoPs int) *assign.Problem {
	m := rapid.IntRange(1, mostPoPs).Draw(t, "pops")
	n := rapid.IntRange(0, mostGroups).Draw(t, "groups")
	longest := int32(rapid.SampledFrom([]int{3, 300_000, assign.MaxRTT}).Draw(t, "longest"))
	p := &assign.Problem{
		RTT:      rapid.SliceOfN(rapid.Int32Range(0, longest), n*m, n*m).Draw(t, "rtt"),
		Demand:   rapid.SliceOfN(rapid.Int64Range(0, 40), n, n).Draw(t, "demand"),
		Capacity: rapid.SliceOfN(rapid.Int64Range(0, 200), m, m).Draw(t, "capacity"),
	}
	p.Capacity[0]++
	return p
}

// optimum is the least cost with groups that may be divided, by gonum's simplex: x of
// each group at each PoP, and what each PoP has left.
func optimum(t testing.TB, p *assign.Problem, capacity []float64) float64 {
	t.Helper()
	n, m := len(p.Demand), len(capacity)
	cost := make([]float64, n*m+m)
	a := mat.NewDense(n+m, n*m+m, nil)
	b := make([]float64, n+m)
	for g := range n {
		b[g] = float64(p.Demand[g])
		for j := range m {
			cost[g*m+j] = float64(p.RTT[g*m+j])
			a.Set(g, g*m+j, 1)
			a.Set(n+j, g*m+j, 1)
		}
	}
	for j := range m {
		b[n+j] = capacity[j]
		a.Set(n+j, n*m+j, 1)
	}
	best, _, err := lp.Simplex(cost, a, b, 1e-9, nil)
	if err != nil {
		t.Skipf("the oracle fails: %v", err)
	}
	return best
}

// The bound that the prices give is the optimum of the linear program: equal to that of
// a solver that has nothing in common with ours.
func TestPricesAreThoseOfTheLinearProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	solved := 0
	for try := range 120 {
		n, m := 1+r.IntN(14), 1+r.IntN(5)
		p := &assign.Problem{RTT: make([]int32, n*m), Demand: make([]int64, n), Capacity: make([]int64, m)}
		total := int64(0)
		for g := range p.Demand {
			p.Demand[g] = 1 + r.Int64N(50)
			total += p.Demand[g]
		}
		for i := range p.RTT {
			p.RTT[i] = r.Int32N(200_000)
		}
		capacity := make([]float64, m)
		for j := range p.Capacity {
			p.Capacity[j] = total/int64(m) + 1 + r.Int64N(total/int64(2*m)+1)
			capacity[j] = float64(p.Capacity[j])
		}
		t.Run(fmt.Sprint(try), func(t *testing.T) {
			want := optimum(t, p, capacity)
			a, err := assign.Price{}.Assign(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Bound(a.Prices); math.Abs(got-want) > 1e-6*want+1e-3 {
				t.Errorf("%d groups, %d PoPs: bound %f, the linear program says %f", n, m, got, want)
			}
			solved++
		})
	}
	if solved < 100 {
		t.Errorf("the oracle solved %d of 120", solved)
	}
}

// best tries all assignments: the least cost of those within the capacities.
func best(p *assign.Problem, capacity []int64) (cost float64, feasible bool) {
	n, m := len(p.Demand), len(capacity)
	room := slices.Clone(capacity)
	cost = math.Inf(1)
	var try func(g int, sofar float64)
	try = func(g int, sofar float64) {
		if sofar >= cost {
			return
		}
		if g == n {
			cost, feasible = sofar, true
			return
		}
		for j := range m {
			if d := p.Demand[g]; d <= room[j] && capacity[j] > 0 {
				room[j] -= d
				try(g+1, sofar+float64(d)*float64(p.RTT[g*m+j]))
				room[j] += d
			}
		}
	}
	try(0, 0)
	return cost, feasible
}

// What holds for every algorithm and every problem.
func TestAssignments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := problems(t, 40, 6)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		var bound float64
		for _, algorithm := range assign.Algorithms() {
			a, err := algorithm.Assign(context.Background(), p)
			if err != nil {
				t.Fatal(err)
			}
			again, _ := algorithm.Assign(context.Background(), p)
			if diff := cmp.Diff(a, again); diff != "" {
				t.Fatalf("%s: the same problem again (-first +second):\n%s", algorithm.Name, diff)
			}
			for g, j := range a.PoP {
				if p.Capacity[j] == 0 {
					t.Fatalf("%s: group %d is at PoP %d, which has no capacity", algorithm.Name, g, j)
				}
			}
			load, total, capacity := p.Loads(a.PoP), int64(0), int64(0)
			for _, d := range p.Demand {
				total += d
			}
			for _, c := range p.Capacity {
				capacity += c
			}
			if algorithm.Name == "argmin" {
				if got, want := p.Cost(a.PoP), p.Bound(nil); got != want {
					t.Fatalf("argmin costs %f, the bound without capacities is %f", got, want)
				}
				continue
			}
			if algorithm.Name == "price" {
				bound = p.Bound(a.Prices)
			}
			within := true
			for j := range load {
				within = within && load[j] <= p.Capacity[j]
			}
			if cost := p.Cost(a.PoP); within && cost < bound-1e-6*bound-1e-3 {
				t.Fatalf("%s costs %f, below the bound %f", algorithm.Name, cost, bound)
			}
			// With room for the largest group in every PoP, some PoP has room for any group.
			if room := int64(len(load)) * 40; total+room <= capacity && !within && algorithm.Name == "price" {
				t.Fatalf("price: loads %v of capacities %v, and %d is free", load, p.Capacity, capacity-total)
			}
		}
	})
}

// Of few groups, the best that whole groups allow is found or nearly so, and no PoP is
// over its capacity where that can be.
func TestWholeGroups(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 8))
	var got, want float64
	over, feasible := 0, 0
	for range 400 {
		n, m := 1+r.IntN(9), 2+r.IntN(2)
		p := &assign.Problem{RTT: make([]int32, n*m), Demand: make([]int64, n), Capacity: make([]int64, m)}
		total := int64(0)
		for g := range p.Demand {
			p.Demand[g] = 1 + r.Int64N(20)
			total += p.Demand[g]
		}
		for i := range p.RTT {
			p.RTT[i] = 1000 + r.Int32N(100_000)
		}
		for j := range p.Capacity {
			p.Capacity[j] = total*115/100/int64(m) + 1
		}
		least, ok := best(p, p.Capacity)
		if !ok {
			continue
		}
		feasible++
		a, err := assign.Price{}.Assign(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		within := true
		for j, l := range p.Loads(a.PoP) {
			within = within && l <= p.Capacity[j]
		}
		if !within {
			over++
			continue
		}
		got, want = got+p.Cost(a.PoP), want+least
	}
	t.Logf("%d problems: %.2f %% above the best with whole groups, %d over a capacity", feasible, 100*(got/want-1), over)
	if got > 1.05*want || over*100 > feasible {
		t.Errorf("%d problems: cost %f, the best is %f; %d are over a capacity", feasible, got, want, over)
	}
}

// Demand above all capacities is spread in proportion to them.
func TestOverloadIsSpread(t *testing.T) {
	p := &assign.Problem{Capacity: []int64{1000, 3000, 0, 6000}}
	for g := range 30_000 {
		p.RTT = append(p.RTT, int32(10_000+g%7), 50_000, 1, 90_000)
		p.Demand = append(p.Demand, 1)
	}
	for _, name := range []string{"price", "stable"} {
		algorithm, err := assign.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := algorithm.Assign(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int64{3000, 9000, 0, 18000}, p.Loads(a.PoP)); diff != "" {
			t.Errorf("%s: loads (-want +got):\n%s", name, diff)
		}
	}
}

// In a stable allocation no group and PoP would both rather have each other.
func TestStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := problems(t, 30, 5)
		for g := range p.Demand { // with groups of unequal size there need not be a stable one
			p.Demand[g] = 1
		}
		a, err := assign.Stable{}.Assign(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		load, m := p.Loads(a.PoP), len(p.Capacity)
		for g, at := range a.PoP {
			for j := range p.Capacity {
				if p.RTT[g*m+j] < p.RTT[g*m+int(at)] && load[j] < p.Capacity[j] {
					t.Fatalf("group %d is at %d, rather at %d, and that has room: %d of %d", g, at, j, load[j], p.Capacity[j])
				}
			}
		}
	})
}

// A group that is larger than a PoP does not turn others out of it.
func TestStableLargeGroup(t *testing.T) {
	p := &assign.Problem{RTT: []int32{1000, 50_000, 1000, 100_000}, Demand: []int64{5, 50}, Capacity: []int64{10, 100}}
	a, err := assign.Stable{}.Assign(t.Context(), p)
	if diff := cmp.Diff([]int16{0, 1}, a.PoP); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// A group without demand is at the PoP near it, also when a divided one fills that.
func TestIdleGroup(t *testing.T) {
	p := &assign.Problem{RTT: []int32{1000, 2000, 1000, 200_000}, Demand: []int64{12, 0}, Capacity: []int64{10, 10}}
	a, err := assign.Price{}.Assign(t.Context(), p)
	if err != nil || a.PoP[1] != 0 {
		t.Errorf("%v (%v), expected the second group at the first PoP", a.PoP, err)
	}
}

// A group stays at home unless it gains more than its Stay.
func TestStay(t *testing.T) {
	p := &assign.Problem{
		RTT: []int32{10_000, 12_000, 10_000, 12_001, 10_000, 10_000}, Demand: []int64{1, 1, 1}, Capacity: []int64{10, 10},
		Home: []int16{1, 1, 1}, Stay: []int32{2000, 2000, 0},
	}
	for _, algorithm := range assign.Algorithms() {
		if algorithm.Name == "stable" {
			continue // its ties go to the first
		}
		a, err := algorithm.Assign(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int16{1, 0, 1}, a.PoP); diff != "" {
			t.Errorf("%s (-want +got):\n%s", algorithm.Name, diff)
		}
	}
}

// large is n groups along a circle with PoPs on it, with demand of a long tail.
func large(n, m int, load float64) *assign.Problem {
	r := rand.New(rand.NewPCG(uint64(n), uint64(m)))
	p := &assign.Problem{RTT: make([]int32, n*m), Demand: make([]int64, n), Capacity: make([]int64, m)}
	total := int64(0)
	at := make([]float64, m)
	for j := range at {
		at[j] = r.Float64()
	}
	for g := range n {
		p.Demand[g] = int64(min(100*math.Pow(1-r.Float64(), -1/1.1), 1e6))
		total += p.Demand[g]
		x := math.Pow(r.Float64(), 2)
		last := 2000 + 20_000*r.Float64()*r.Float64()
		for j := range m {
			d := math.Abs(x - at[j])
			p.RTT[g*m+j] = int32(last + 300_000*min(d, 1-d)*(1+0.3*r.Float64()))
		}
	}
	for j := range m {
		p.Capacity[j] = int64(float64(total) / float64(m) / load)
	}
	return p
}

// Samples and heaps that reach a part only come to the same optimum, and the groups
// that are made whole cost next to nothing.
func TestManyGroups(t *testing.T) {
	p := large(60_000, 9, 0.9)
	a, err := assign.Price{}.Assign(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	cost, bound := p.Cost(a.PoP), p.Bound(a.Prices)
	if gap := cost/bound - 1; gap < 0 || gap > 5e-4 {
		t.Errorf("cost %g, bound %g: gap %g, expected at most 0.05 %%", cost, bound, gap)
	}
	for j, l := range p.Loads(a.PoP) {
		if l > p.Capacity[j] {
			t.Errorf("PoP %d has %d of %d", j, l, p.Capacity[j])
		}
	}
	if a.Divided > 9*9 {
		t.Errorf("%d groups were divided, expected at most one for each pair of PoPs", a.Divided)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (assign.Price{}).Assign(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := func() *assign.Problem {
		return &assign.Problem{RTT: []int32{1, 2}, Demand: []int64{1}, Capacity: []int64{1, 1}}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*assign.Problem){
		"0 PoPs":                          func(p *assign.Problem) { p.Capacity = nil },
		"2 round-trip times":              func(p *assign.Problem) { p.Demand = []int64{1, 1} },
		"demand 0 is -1":                  func(p *assign.Problem) { p.Demand[0] = -1 },
		"capacity of all is more than":    func(p *assign.Problem) { p.Capacity = []int64{assign.MaxTotal, 1} },
		"round-trip time 1 is -1 µs":      func(p *assign.Problem) { p.RTT[1] = -1 },
		"is 10000001 µs":                  func(p *assign.Problem) { p.RTT[0] = assign.MaxRTT + 1 },
		"home 2":                          func(p *assign.Problem) { p.Home = []int16{2} },
		"0 homes, 1 stays":                func(p *assign.Problem) { p.Stay = []int32{1} },
		"row 1, expected 0 to 0":          func(p *assign.Problem) { p.Rows = []int32{1} },
		"no PoP has capacity":             func(p *assign.Problem) { p.Capacity = []int64{0, 0} },
		"1025 PoPs, expected 1 to 1024":   func(p *assign.Problem) { p.Capacity = make([]int64, 1025) },
		"stay -1 µs, expected 0 to":       func(p *assign.Problem) { p.Home, p.Stay = []int16{-1}, []int32{-1} },
		"demand 0 is 9223372036854775807": func(p *assign.Problem) { p.Demand[0] = math.MaxInt64 },
	} {
		p := good()
		spoil(p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
	if _, err := assign.Find("best"); err == nil || !strings.Contains(err.Error(), `expected one of ["price" "stable" "argmin"]`) {
		t.Error(err)
	}
}

func BenchmarkPrice(b *testing.B) {
	for _, size := range [][2]int{{100_000, 14}, {1_000_000, 14}, {1_000_000, 100}} {
		b.Run(fmt.Sprintf("groups=%d/pops=%d", size[0], size[1]), func(b *testing.B) {
			p := large(size[0], size[1], 0.85)
			for b.Loop() {
				began := time.Now()
				a, err := assign.Price{}.Assign(b.Context(), p)
				if err != nil {
					b.Fatal(err)
				}
				took := time.Since(began)
				b.ReportMetric(100*(p.Cost(a.PoP)/p.Bound(a.Prices)-1), "%gap")
				b.ReportMetric(float64(a.Divided), "divided")
				b.ReportMetric(took.Seconds(), "s")
			}
		})
	}
}
