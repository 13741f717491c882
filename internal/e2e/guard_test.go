package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/api/registryapi"
)

// TestHeldChangeIsReplayed asks hosts for some names, and has a file take away the rarer one
// with half of its zone: that is held, and how much of the traffic it would change is said;
// and so is what a later version changed.
func TestHeldChangeIsReplayed(t *testing.T) {
	t.Parallel() // it waits more than it works
	if testing.Short() {
		t.Skip("waits for samples")
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "h%d A 192.0.2.%d\n", i, i%250)
		}
		return b.String()
	}
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	in.zone("example.org", zoneOf(many(100)))
	u := StartUp(t, UpOptions{Zones: in.zones, Guarded: true, Args: []string{"--sample-window", "1m"}})
	// In turn, with a period that 64 is a multiple of: one query in 64 is looked at.
	ask := []string{"www.example.net", "www.example.net", "h99.example.org", "www.example.net", "nobody.example.org", "www.example.net", "h1.example.org", "www.example.net"}
	const queries, p = 12_000, 1.0 / 8
	for i := range queries {
		asked(t, u.Hosts[i/len(ask)%len(u.Hosts)], ask[i%len(ask)], "A")
	}
	in.zone("example.org", zoneOf(many(40)))
	c := u.Client()
	var e *controlapi.Effect
	eventually := time.Now().Add(time.Minute)
	for ; time.Now().Before(eventually); time.Sleep(200 * time.Millisecond) {
		held, err := c.Control.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(held) == 1 && held[0].Effect.Hosts == int32(len(u.Hosts)) && held[0].Effect.Queries > queries*9/10 {
			e = held[0].Effect
			break
		}
	}
	if e == nil {
		held, _ := c.Control.Holds(t.Context())
		t.Fatalf("nothing is held, or no sample of all hosts came: %v", held)
	}
	// A share p of n samples lies within four standard deviations.
	near := func(got, p float64, n int64) bool {
		return n > queries/64/2 && math.Abs(got-p) < 4*math.Sqrt(p*(1-p)/float64(n))
	}
	if !near(e.Share, p, e.Sampled) || e.Low >= e.Share || e.High <= e.Share || !near(e.NoName, 1.0/8, e.Sampled) {
		t.Errorf("%v, expected a share of about %.3f", e, p)
	}
	if len(e.Kinds) != 1 || e.Kinds[0].Kind != "nxdomain" || len(e.Examples) != 1 || e.More != 0 {
		t.Fatalf("%v, expected one name that goes", e)
	}
	if x := e.Examples[0]; x.Name != "h99.example.org." || x.Type != "A" || x.Before != "192.0.2.99" || x.After != "NXDOMAIN" || x.Kind != "nxdomain" || x.Share != e.Share {
		t.Errorf("example %v", x)
	}
	out, _, _ := u.Run("holds")
	if !strings.Contains(out, "of live queries (") || !strings.Contains(out, "would be answered otherwise: the name would be gone") || !strings.Contains(out, "h99.example.org. A 192.0.2.99 -> NXDOMAIN") {
		t.Errorf("holds says\n%s", out)
	}
	t.Logf("%d of %d queries sampled; the rare name is %.1f %% of them (%.1f to %.1f %%), and %.1f %% of all\n%s", e.Sampled, queries, 100*e.Share, 100*e.Low, 100*e.High, 100*p, out)

	in.zone("example.net", zoneOf("www A 192.0.2.81\n"))
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")
	h, err := c.Control.History(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Control.Diff(t.Context(), h.Versions[1].Version, h.Versions[0].Version, 10)
	if err != nil || d.Effect.Sampled == 0 || !near(d.Effect.Share, 5.0/8, d.Effect.Sampled) || len(d.Effect.Examples) != 1 {
		t.Fatalf("diff says %v, %v", d, err)
	}
	if x := d.Effect.Examples[0]; x.Name != "www.example.net." || x.Before != "192.0.2.80" || x.After != "192.0.2.81" || x.Kind != "data" {
		t.Errorf("example %v", x)
	}
	out, _, _ = u.Run("diff", fmt.Sprint(h.Versions[1].Version), fmt.Sprint(h.Versions[0].Version))
	if !strings.Contains(out, "www.example.net. A 192.0.2.80 -> 192.0.2.81") {
		t.Errorf("diff says\n%s", out)
	}
}

// TestLeases announces that 2,000 servers come, and has the leases of all of them run out at
// once, as in a partition: what they took away within the bounds is gone, the rest is held
// and answered on; meanwhile another source's changes reach all hosts as quickly as ever;
// release lets it happen.
func TestLeases(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leases")
	}
	const servers, lease = 2000, 12 * time.Second
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	u := StartUp(t, UpOptions{Zones: in.zones, Guarded: true})
	c := u.Client()
	e := &controlapi.Expectation{Zone: "example.net.", Creations: 2 * servers, Replacements: 1000}
	if _, err := c.Control.Expect(t.Context(), e, time.Hour.Milliseconds(), doer); err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("web%04d.example.net", i) }
	began := time.Now()
	const batch = 100
	for i := 0; i < servers; i += batch {
		var rs []*registryapi.Registration
		for k := i; k < i+batch; k++ {
			rs = append(rs, &registryapi.Registration{
				Name: name(k), Role: "web", Site: "ams", LeaseMs: lease.Milliseconds(),
				Addresses: []string{fmt.Sprintf("198.18.%d.%d", k/250, k%250+1)},
			})
		}
		out, err := c.Registry.RegisterServers(t.Context(), rs)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Code != "" {
				t.Fatal(o.Message)
			}
		}
	}
	holds(t, u, name(servers-1), "A", "NOERROR 198.18.7.250")
	if held, err := c.Control.Holds(t.Context()); err != nil || len(held) > 0 {
		t.Fatalf("announced, and held: %v, %v", held, err)
	}
	list, err := c.Control.Expectations(t.Context())
	// What fills a young zone counts as nothing; the service's addresses are replaced again and again.
	if err != nil || len(list) != 1 || list[0].LeftReplacements == list[0].Replacements || list[0].LeftCreations != list[0].Creations {
		t.Fatalf("left of what was announced: %v, %v", list, err)
	}
	t.Logf("%d servers registered and answered after %v", servers, time.Since(began))

	time.Sleep(time.Until(began.Add(lease)))
	until(t, func() string {
		held, err := c.Control.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range held {
			if h.Source == "rule/address" {
				return ""
			}
		}
		return fmt.Sprintf("the leases ran out, and %d changes are held, none of rule/address", len(held))
	})
	// Others go on.
	var took Figures
	for i := range 50 {
		address := fmt.Sprintf("192.0.2.%d", 100+i)
		began := time.Now()
		in.zone("example.net", zoneOf("www A "+address+"\n"))
		holds(t, u, "www.example.net", "A", "NOERROR "+address)
		took = append(took, time.Since(began))
	}
	t.Logf("while rule/address is held, another source's change until all hosts answered it: %s; %s", took, Machine())
	if p := took.At(90); p > time.Second {
		t.Errorf("another source's change takes %v while one is held", p)
	}
	gone, waits := 0, int64(0)
	until(t, func() string { // all have run out, and what came of it is held
		list, err := c.Registry.ListServers(t.Context(), "", 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Servers) > 0 {
			return "servers are left"
		}
		held, err := c.Control.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		why := ""
		for _, h := range held {
			if h.Source == "rule/address" {
				waits, why = h.Removed, strings.Join(h.Why, "\n")
			}
		}
		gone = 0
		for i := range servers {
			if asked(t, u.Hosts[i%len(u.Hosts)], name(i), "A") == "NXDOMAIN" {
				gone++
			}
		}
		if int64(gone) != servers-waits {
			return fmt.Sprintf("%d of %d are gone, %d wait", gone, servers, waits)
		}
		t.Log(why)
		return ""
	})
	if gone > servers/5 {
		t.Errorf("%d of %d are gone", gone, servers)
	}
	t.Logf("%d of %d went within the bounds, %d are held and answered", gone, servers, waits)
	until(t, func() string {
		held, err := c.Control.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range held {
			if _, err := c.Control.Decide(t.Context(), h.ID, "release", doer); err != nil {
				t.Log(err) // it became another one
			}
		}
		if len(held) > 0 {
			return fmt.Sprintf("%d are held", len(held))
		}
		return ""
	})
	for _, i := range []int{0, servers / 2, servers - 1} {
		holds(t, u, name(i), "A", "NXDOMAIN")
	}
}
