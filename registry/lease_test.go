package registry_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/registry"
	"github.com/zonecast/zonecast/store"
)

// leased runs f in a bubble with a registry and a server whose lease is 10 s.
func leased(t *testing.T, f func(t *testing.T, st *memstore.Store, r *registry.Registry, there func() bool)) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		t.Cleanup(func() { st.Close() })
		r := start(t, st, registry.DefaultConfig())
		in := reg("web1.example.net", "192.0.2.1")
		in.LeaseMs = 10000
		if _, err := r.RegisterServer(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := r.RegisterServer(t.Context(), reg("web2.example.net", "192.0.2.2")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f(t, st, r, func() bool {
			servers := mustHold(t, st)
			if _, ok := servers["web2.example.net"]; !ok {
				t.Error("the server without a lease is gone")
			}
			_, ok := servers["web1.example.net"]
			return ok
		})
	})
}

func TestLeaseRunsOut(t *testing.T) {
	leased(t, func(t *testing.T, st *memstore.Store, r *registry.Registry, there func() bool) {
		for range 10 {
			time.Sleep(9 * time.Second)
			if l, err := r.Renew(t.Context(), "web1.example.net"); err != nil || l.TTLMs != 10000 || l.ExpiresMs != time.Now().UnixMilli()+10000 {
				t.Fatalf("renew: %v, %v", l, err)
			}
		}
		time.Sleep(9 * time.Second)
		if !there() {
			t.Fatal("gone before its lease ran out")
		}
		time.Sleep(3 * time.Second)
		if there() {
			t.Fatal("still there after its lease ran out")
		}
		if _, err := r.Renew(t.Context(), "web1.example.net"); api.Code(err) != api.NotFound {
			t.Errorf("renew what ran out: %v", err)
		}
		if _, err := r.Renew(t.Context(), "web2.example.net"); api.Code(err) != api.NotFound {
			t.Errorf("renew what has no lease: %v", err)
		}
	})
}

// Registering the same again renews, writes only the lease, and changes nothing.
func TestRegisterAgainRenews(t *testing.T) {
	leased(t, func(t *testing.T, st *memstore.Store, r *registry.Registry, there func() bool) {
		in := reg("web1.example.net", "192.0.2.1")
		in.LeaseMs = 10000
		time.Sleep(9 * time.Second)
		before, err := st.Get(t.Context(), tree.ServerPath("web.sfo", "web1.example.net"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.RegisterServer(t.Context(), in)
		if err != nil || c.Changed || c.Revision != int64(before.Modified) {
			t.Errorf("got %v, %v, want unchanged at %d", c, err, before.Modified)
		}
		time.Sleep(9 * time.Second)
		if !there() {
			t.Error("registering again did not renew")
		}
		in.LeaseMs = 0 // now for ever
		if c, err := r.RegisterServer(t.Context(), in); err != nil || c.Changed {
			t.Errorf("got %v, %v", c, err)
		}
		time.Sleep(time.Minute)
		if !there() {
			t.Error("the lease that was given up ran out")
		}
	})
}

// After an outage in which nobody could renew, every lease begins anew; so it does
// under a new leader.
func TestOutageExpiresNothing(t *testing.T) {
	leased(t, func(t *testing.T, st *memstore.Store, r *registry.Registry, there func() bool) {
		time.Sleep(5 * time.Second)
		st.SetAvailable(false)
		time.Sleep(time.Minute)
		st.SetAvailable(true)
		time.Sleep(9 * time.Second)
		if !there() {
			t.Fatal("an outage of the store expired a lease")
		}
		// Sessions were lost: the election begins again, which takes some seconds.
		time.Sleep(40 * time.Second)
		if there() {
			t.Error("the lease never runs out after an outage")
		}
	})
}

// What a lease says about the wall clock decides nothing.
func TestWallClockDecidesNothing(t *testing.T) {
	leased(t, func(t *testing.T, st *memstore.Store, r *registry.Registry, there func() bool) {
		time.Sleep(8 * time.Second)
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{
			Path:  tree.LeasePath("web1.example.net"),
			Value: tree.Encode(tree.Lease{Expires: 1, TTL: 10000}),
		}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		if !there() {
			t.Error("a clock far ahead expired a lease")
		}
	})
}

// A second process takes over when the first dies.
func TestLeaseSurvivesItsKeeper(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		t.Cleanup(func() { st.Close() })
		first := st.Peer()
		r, err := registry.New(registry.DefaultConfig(), deps(first))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		start(t, st, registry.DefaultConfig())
		var in []*registryapi.Registration
		for i := range 250 {
			one := reg(fmt.Sprintf("web%d.example.net", i), fmt.Sprintf("192.0.2.%d", i))
			one.LeaseMs = 20000
			in = append(in, one)
		}
		if _, err := r.RegisterServers(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		first.Die()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(19 * time.Second)
		if n := len(mustHold(t, st)); n != 250 {
			t.Errorf("%d servers, want all 250 after the keeper of leases died", n)
		}
		time.Sleep(20 * time.Second)
		if n := len(mustHold(t, st)); n != 0 {
			t.Errorf("%d servers are left", n)
		}
	})
}
