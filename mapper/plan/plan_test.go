package plan_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
)

// world is n prefixes on a line with m PoPs on it, loaded to a part of the capacity.
func world(n, m int, load float64, seed uint64) *table.Table {
	r := rand.New(rand.NewPCG(seed, 8))
	t := &table.Table{}
	at := make([]float64, m)
	for j := range at {
		at[j] = r.Float64()
	}
	total := 0.0
	for i := range n {
		d := math.Round(100*min(math.Pow(1-r.Float64(), -1/1.2), 50)) / 100
		total += d
		t.Prefixes = append(t.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		t.Demand = append(t.Demand, d)
		x, last := r.Float64(), 2000+20_000*r.Float64()
		for j := range m {
			t.RTT = append(t.RTT, int32(last+200_000*math.Abs(x-at[j])*(1+0.2*r.Float64())))
		}
	}
	for j := range m {
		t.PoPs = append(t.PoPs, table.PoP{Name: fmt.Sprintf("pop%d", j), Capacity: math.Ceil(total / float64(m) / load)})
	}
	return t
}

// noisy is a table with other round-trip times: by a normal distribution with a part of each as
// its deviation.
func noisy(t *table.Table, part float64, seed uint64) *table.Table {
	r := rand.New(rand.NewPCG(seed, 9))
	out := *t
	out.RTT = slices.Clone(t.RTT)
	for i, v := range out.RTT {
		out.RTT[i] = int32(max(float64(v)*(1+part*r.NormFloat64()), 0))
	}
	return &out
}

func compute(t testing.TB, tab *table.Table, before *plan.Plan, set plan.Settings) *plan.Plan {
	t.Helper()
	var previous plan.Previous
	if before != nil {
		previous = before.Previous()
	}
	p, err := plan.Compute(context.Background(), tab, previous, set)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func moved(a, b *plan.Plan) (share float64) {
	all := 0.0
	for i, d := range a.Table.Demand {
		all += d
		if a.Orders[i][0] != b.Orders[i][0] {
			share += d
		}
	}
	return share / all
}

// What holds for every plan.
func TestPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, m := rapid.IntRange(0, 60).Draw(t, "prefixes"), rapid.IntRange(1, 6).Draw(t, "pops")
		load := rapid.SampledFrom([]float64{0.3, 0.8, 1, 1.7}).Draw(t, "load")
		tab := world(n, m, load, rapid.Uint64().Draw(t, "seed"))
		for j := range tab.PoPs {
			switch rapid.IntRange(0, 5).Draw(t, "state") {
			case 0:
				tab.PoPs[j].Drained = true
			case 1:
				tab.PoPs[j].Capacity = 0
			}
		}
		set := plan.DefaultSettings()
		set.Algorithm = rapid.SampledFrom([]string{"price", "stable", "argmin"}).Draw(t, "algorithm")
		first, err := plan.Compute(context.Background(), tab, nil, set)
		open := 0
		for _, p := range tab.PoPs {
			if p.Open() {
				open++
			}
		}
		if open == 0 {
			if !errors.Is(err, plan.ErrNoneOpen) {
				t.Fatalf("no PoP is open: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		check(t, first, open)
		second, err := plan.Compute(context.Background(), noisy(tab, 0.3, 1), first.Previous(), set)
		if err != nil {
			t.Fatal(err)
		}
		check(t, second, open)
		if again, _ := plan.Compute(context.Background(), noisy(tab, 0.3, 1), first.Previous(), set); cmp.Diff(second.Orders, again.Orders) != "" || cmp.Diff(second.Figures, again.Figures) != "" {
			t.Fatal("the same input gives another plan")
		}
	})
}

func check(t *rapid.T, p *plan.Plan, open int) {
	sum := 0.0
	for i, o := range p.Orders {
		if want := min(open, 3); len(p.Names(o)) != want {
			t.Fatalf("prefix %d: order %v, expected %d PoPs", i, o, want)
		}
		for k, j := range o {
			if j != plan.None && (!p.Table.PoPs[j].Open() || slices.Contains(o[:k], j)) {
				t.Fatalf("prefix %d: order %v with PoPs %+v", i, o, p.Table.PoPs)
			}
		}
		sum += p.Table.Demand[i]
	}
	load := 0.0
	for _, l := range p.Figures.Load {
		load += l
	}
	if math.Abs(load-sum) > 1e-6*sum+1e-9 || math.Abs(p.Figures.Demand-sum) > 1e-9*sum+1e-9 {
		t.Fatalf("loads are %v together, the demand is %v", load, sum)
	}
	f, within := p.Figures, true // within the capacities less the headroom
	for j, pop := range p.Table.PoPs {
		within = within && f.Load[j] <= pop.Capacity*(1-plan.DefaultSettings().Headroom)
	}
	if within && f.Mean < f.Bound*(1-1e-9) && f.Bound > f.Unbounded || f.Mean < f.Unbounded*(1-1e-9) || f.P50 > f.P95 {
		t.Fatalf("figures %+v", f)
	}
	m := p.Map("test")
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.Entries {
		if len(m.Orders[e.Location]) == 0 {
			t.Fatalf("%s is at %q, which has no order", e.Prefix, e.Location)
		}
	}
}

// When the others have room for each PoP, its second choices fit: nobody is above the capacity
// after any loss.
func TestSecondChoicesFit(t *testing.T) {
	for seed := range uint64(5) {
		tab := world(3000, 6, 0.8, seed) // 6 PoPs at 80 %: five have 125 % of the room that is needed
		p := compute(t, tab, nil, plan.DefaultSettings())
		if len(p.Losses) != 6 {
			t.Fatalf("%d losses", len(p.Losses))
		}
		for _, l := range p.Losses {
			if l.Worst > 1+1e-9 {
				t.Errorf("seed %d: without %s %s is at %.4f of its capacity", seed, tab.PoPs[l.PoP].Name, tab.PoPs[l.At].Name, l.Worst)
			}
			pops := slices.Clone(tab.PoPs)
			pops[l.PoP].Drained = true
			if f := p.Without(pops); f.Overloaded > 0 || math.Abs(f.Mean-l.Mean) > 1e-9 {
				t.Errorf("seed %d: without %s: %+v", seed, tab.PoPs[l.PoP].Name, f)
			}
		}
	}
	// Where it cannot be, the load is spread: nobody has much more than the others.
	tab := world(3000, 4, 0.95, 1)
	for _, l := range compute(t, tab, nil, plan.DefaultSettings()).Losses {
		if want := 4 * 0.95 / 3; l.Worst > 1.08*want {
			t.Errorf("without %s: %.3f of a capacity, at best %.3f", tab.PoPs[l.PoP].Name, l.Worst, want)
		}
	}
}

// A PoP that is drained moves its own demand and nobody else's, to where hosts have sent it
// already; when it is back, it gets no more at a time than the bound on churn.
func TestDrain(t *testing.T) {
	set := plan.DefaultSettings()
	tab := world(4000, 7, 0.75, 3)
	before := compute(t, tab, nil, set)
	for drained := range tab.PoPs {
		after := *tab
		after.PoPs = slices.Clone(tab.PoPs)
		after.PoPs[drained].Drained = true
		p := compute(t, noisy(&after, 0.05, 5), before, set)
		for i, o := range p.Orders {
			was := before.Orders[i]
			if int(was[0]) != drained && o[0] != was[0] {
				t.Fatalf("without %d: prefix %d moved from %d to %d", drained, i, was[0], o[0])
			}
		}
		if p.Figures.Overloaded > 0 {
			t.Errorf("without %d: %v above capacities", drained, p.Figures.Overloaded)
		}
		back := compute(t, tab, p, set)
		if back.Churn.Moved > set.MaxChurn+0.01 {
			t.Errorf("back again: %.3f of the demand moved at once", back.Churn.Moved)
		}
	}
}

// Noise moves next to nothing; what is moved for a gain is at most what may, the best first.
func TestStability(t *testing.T) {
	set := plan.DefaultSettings()
	tab := world(8000, 8, 0.8, 4)
	p := compute(t, tab, nil, set)
	start := p
	for cycle := range uint64(5) {
		next := compute(t, noisy(tab, 0.05, cycle), p, set)
		if without := next.Churn.Moved - next.Churn.Gain; without > 0.01 || math.Abs(next.Churn.Moved-moved(p, next)) > 1e-9 {
			t.Errorf("cycle %d: %.4f of the demand moved without a gain, %.4f in all (%.4f counted)", cycle, without, next.Churn.Moved, moved(p, next))
		}
		if next.Figures.Overloaded > 0 {
			t.Errorf("cycle %d: %v above capacities", cycle, next.Figures.Overloaded)
		}
		p = next
	}
	t.Logf("after 5 cycles %.4f of the demand is elsewhere, gap %.4f", moved(start, p), p.Figures.Gap)
	// Another Internet: most should move, and may not at once.
	other := world(8000, 8, 0.8, 5)
	other.Demand, other.PoPs = tab.Demand, tab.PoPs
	set.MaxChurn = 0.1
	next := compute(t, other, p, set)
	if next.Churn.Moved > 0.101 || next.Churn.Deferred < 0.2 {
		t.Errorf("%+v, expected at most a tenth to move and more to be put off", next.Churn)
	}
	first := next.Figures.Mean
	for range 20 {
		next = compute(t, other, next, set)
	}
	if next.Figures.Mean > 0.8*first || next.Churn.Moved > 0.1 {
		t.Errorf("mean %.1f ms after the first cycle, %.1f ms after 21: %+v", first, next.Figures.Mean, next.Churn)
	}
}

// Who has no demand moves for a gain, too, when nobody has any, and not at all when nobody may.
func TestChurnWithoutDemand(t *testing.T) {
	tab := world(3, 2, 0.5, 7)
	tab.Demand = make([]float64, 3)
	tab.RTT = []int32{10_000, 90_000, 90_000, 10_000, 90_000, 10_000}
	previous := func(int) []string { return []string{"pop0", "pop1"} }
	for churn, want := range map[float64][]int16{0: {0, 0, 0}, 0.25: {0, 1, 1}, 1: {0, 1, 1}} {
		set := plan.DefaultSettings()
		set.MaxChurn = churn
		p, err := plan.Compute(t.Context(), tab, previous, set)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range p.Orders {
			if o[0] != want[i] {
				t.Errorf("max-churn %v: prefix %d is at %d, expected %d", churn, i, o[0], want[i])
			}
		}
	}
}

// A capacity that is as good as none at all takes nothing from how exact the demand is.
func TestHugeCapacity(t *testing.T) {
	tab := world(100, 3, 0.5, 7)
	for i := range tab.Demand {
		tab.Demand[i] /= 1e6
	}
	for j := range tab.PoPs {
		tab.PoPs[j].Capacity = table.MaxAmount
	}
	if f := compute(t, tab, nil, plan.DefaultSettings()).Figures; math.Abs(f.Gap) > 1e-6 || math.Abs(f.Bound-f.Unbounded) > 1e-6 {
		t.Errorf("%+v, expected that everybody is at the nearest, and a gap of 0", f)
	}
}

// More demand than capacity is spread in proportion, headroom or not.
func TestOverload(t *testing.T) {
	tab := world(5000, 4, 1.3, 6)
	p := compute(t, tab, nil, plan.DefaultSettings())
	for j, l := range p.Figures.Load {
		if share := l / tab.PoPs[j].Capacity; math.Abs(share-1.3) > 0.01 {
			t.Errorf("PoP %d has %.3f of its capacity, expected 1.3", j, share)
		}
	}
	// Between the headroom and the capacity, the headroom is used, evenly.
	tab = world(5000, 4, 0.98, 6)
	p = compute(t, tab, nil, plan.DefaultSettings())
	if p.Figures.Overloaded > 0 {
		t.Errorf("%v above capacities, which suffice", p.Figures.Overloaded)
	}
}

// A map that has been read from a file, with PoPs that are gone since.
func TestUnknownPoPs(t *testing.T) {
	tab := world(10, 2, 0.5, 7)
	p, err := plan.Compute(t.Context(), tab, func(i int) []string { return [][]string{nil, {"gone"}, {"gone", "pop1"}, {"pop0"}}[i%4] }, plan.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int16{plan.None, plan.None, 1, 0}, p.Home[:4]); diff != "" {
		t.Errorf("homes (-want +got):\n%s", diff)
	}
}

// Who is pinned is where people want it, in every cycle, and is in the load.
func TestPins(t *testing.T) {
	tab := world(3000, 5, 0.7, 8)
	free := compute(t, tab, nil, plan.DefaultSettings())
	set := plan.DefaultSettings()
	set.Pins = slices.Repeat([]int16{plan.None}, 3000)
	for i := 0; i < 3000; i += 10 {
		set.Pins[i] = (free.Orders[i][0] + 1) % 5
	}
	p := compute(t, tab, free, set)
	after := *tab
	after.PoPs = slices.Clone(tab.PoPs)
	after.PoPs[2].Drained = true
	for _, q := range []*plan.Plan{p, compute(t, noisy(tab, 0.05, 1), p, set), compute(t, &after, p, set)} {
		for i, pin := range set.Pins {
			if pin != plan.None && q.Table.PoPs[pin].Open() && q.Orders[i][0] != pin {
				t.Fatalf("prefix %d is at %d, pinned to %d", i, q.Orders[i][0], pin)
			}
		}
		if q.Figures.Overloaded > 0 {
			t.Errorf("%v above capacities", q.Figures.Overloaded)
		}
	}
	// All of them at one PoP: it is too full, and the others go elsewhere.
	for i := range set.Pins {
		if set.Pins[i] = 0; i%3 == 0 {
			set.Pins[i] = plan.None
		}
	}
	for i, o := range compute(t, tab, nil, set).Orders {
		if i%3 == 0 && o[0] == 0 {
			t.Fatalf("prefix %d is at the PoP that is too full by pins", i)
		}
	}
}

func TestMapOfPlan(t *testing.T) {
	tab := world(2, 3, 0.5, 7)
	tab.Prefixes[1] = netip.MustParsePrefix("0.0.0.0/0")
	p := compute(t, tab, nil, plan.DefaultSettings())
	m := p.Map("users")
	if len(m.Entries) != 3 || m.Entries[2].Prefix != netip.MustParsePrefix("::/0") {
		t.Errorf("entries %v, expected the two and ::/0", m.Entries)
	}
	for l, order := range m.Orders {
		if want := fmt.Sprintf("%s/%s/%s", order[0], order[1], order[2]); l != record.Location(want) {
			t.Errorf("location %q has order %v", string(l), order)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, spoil := range []func(*plan.Settings){
		func(s *plan.Settings) { s.Algorithm = "best" }, func(s *plan.Settings) { s.Headroom = 1 }, func(s *plan.Settings) { s.Headroom = math.NaN() },
		func(s *plan.Settings) { s.Hysteresis = -1 }, func(s *plan.Settings) { s.Hysteresis = time.Minute }, func(s *plan.Settings) { s.HysteresisShare = 1.1 },
		func(s *plan.Settings) { s.MaxChurn = -0.1 },
	} {
		set := plan.DefaultSettings()
		spoil(&set)
		if _, err := plan.Compute(t.Context(), world(1, 1, 1, 1), nil, set); err == nil {
			t.Errorf("%+v: no error", set)
		}
	}
}

// Who is in no prefix goes to the nearest that is open, and to one that is full only when that is nearer by more
// than its room is worth.
func TestOrderFor(t *testing.T) {
	p := &plan.Plan{Table: &table.Table{PoPs: []table.PoP{{Name: "a", Capacity: 1}, {Name: "b", Capacity: 1}, {Name: "c", Capacity: 1, Drained: true}, {Name: "d", Capacity: 1}}}, Prices: []int64{5000, 0, -1, 0}}
	for _, c := range []struct {
		row  []int32
		want plan.Order
	}{{[]int32{1000, 7000, 500, 9000}, plan.Order{0, 1, 3}}, {[]int32{1000, 5000, 500, 9000}, plan.Order{1, 0, 3}}} {
		if got := p.OrderFor(c.row); got != c.want {
			t.Errorf("%v: order %v, expected %v", c.row, got, c.want)
		}
	}
	p.Prices, p.Table.PoPs[3].Capacity, p.Table.PoPs[1].Drained = nil, 0, true
	if got, want := p.OrderFor([]int32{9, 1, 1, 1}), (plan.Order{0, plan.None, plan.None}); got != want {
		t.Errorf("order %v, expected %v", got, want)
	}
}
