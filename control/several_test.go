package control

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// TestSeveral: a process that speaks of two datasets explains each name by the one that has it,
// tells of both, waits for both, and plans for both.
func TestSeveral(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		commit := func(ops ...store.Op) store.Revision {
			t.Helper()
			rev, err := st.Commit(t.Context(), store.Txn{Do: ops})
			if err != nil {
				t.Fatal(err)
			}
			return rev
		}
		named := func(text string) record.Name {
			n, err := record.ParseName(text)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		soa := func(zone string) record.Claim {
			data := record.Rdata(named("ns.example.net.")) + record.Rdata(named("root.example.net.")) + record.Rdata(make([]byte, 20))
			return record.Claim{RRset: record.NewRRset(named(zone), record.TypeSOA, 60, data), Source: "zone/all"}
		}
		address := func(owner string, last byte) record.Claim {
			return record.Claim{RRset: record.NewRRset(named(owner), record.TypeA, 60, record.Rdata([]byte{192, 0, 2, last})), Source: "zone/all"}
		}
		claims := []record.Claim{soa("example.net."), address("www.example.net.", 1), soa("example.org."), address("www.example.org.", 2)}
		rev := commit(claimtree.Ops("zone/all", "s", claims))
		head := func(dataset string, version uint64, claims store.Revision) {
			commit(store.Op{Path: tree.HeadPath(dataset), Value: tree.Encode(tree.Head{Version: version, Content: version, Claims: claims})})
		}
		host := func(name string, serves map[string]uint64) {
			h := tree.Host{Name: name, Datasets: map[string]tree.HostDataset{}}
			for d, v := range serves {
				h.Carries, h.Datasets[d] = append(h.Carries, d), tree.HostDataset{Version: v}
			}
			commit(store.Op{Path: tree.HostPath(name), Value: tree.Encode(h)})
		}
		var internal, edge, spare datasets.Zones
		for z, text := range map[*datasets.Zones]string{&internal: "internal=*", &edge: "edge=example.org", &spare: "spare=example.com"} {
			if err := z.UnmarshalText([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		division, err := datasets.New([]datasets.Zones{internal, edge, spare})
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSeveral(DefaultConfig(), Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Policy: reconcile.DefaultPolicy(), Division: division})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Run(ctx) }()
		defer func() { cancel(); <-done }()
		settle := func() { time.Sleep(5 * time.Second); synctest.Wait() }
		settle()

		for owner, want := range map[string]string{"www.example.net.": "192.0.2.1", "www.example.org.": "192.0.2.2"} {
			x, err := s.Why(t.Context(), owner, "A")
			if err != nil || len(x.Claims) != 1 || !slices.Contains(x.Claims[0].Rdata, want) {
				t.Errorf("why %s: %+v, %v", owner, x, err)
			}
		}
		if x, err := s.Of()["internal"].Why(t.Context(), "www.example.org.", "A"); err != nil || len(x.Claims) != 0 {
			t.Errorf("internal alone says of a name of edge: %+v, %v", x, err)
		}
		state, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range state.Datasets {
			names = append(names, d.Name)
		}
		if !slices.Equal(names, []string{"internal", "edge", "spare"}) {
			t.Errorf("status tells of %q", names)
		}

		// A change is everywhere when the hosts of both answer it; nobody carries the third.
		head("internal", 7, rev)
		host("dns1", map[string]uint64{"internal": 7})
		host("dns2", map[string]uint64{"edge": 3})
		settle()
		wait := func(dataset string) *controlapi.Arrival {
			t.Helper()
			a, err := s.Wait(t.Context(), int64(rev), "claims", dataset, 100)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		if a := wait(""); a.Done || !strings.HasPrefix(a.Stage, "edge: the presenter has not made") {
			t.Errorf("before edge has a version: %+v", a)
		}
		if a := wait("internal"); !a.Done {
			t.Errorf("internal alone: %+v", a)
		}
		head("edge", 4, rev)
		settle()
		if a := wait(""); a.Done || len(a.Missing) != 1 || a.Missing[0].Host != "dns2" {
			t.Errorf("dns2 is behind: %+v", a)
		}
		host("dns2", map[string]uint64{"edge": 4})
		settle()
		if a := wait(""); !a.Done {
			t.Errorf("everywhere: %+v", a)
		}
		if _, err := s.Wait(t.Context(), int64(rev), "claims", "nope", 100); api.Code(err) != api.NotFound {
			t.Errorf("a dataset that is not served: %v", err)
		}

		// A hold of the second is shown, and decided where it is.
		commit(store.Op{Path: tree.HoldPath("5ad3c1e0"), Value: tree.Encode(tree.Hold{ID: "5ad3c1e0", Dataset: "edge", Source: "zone/all", Why: []string{"x"}})})
		settle()
		holds, err := s.Holds(t.Context())
		if err != nil || len(holds) != 1 || holds[0].ID != "5ad3c1e0" {
			t.Errorf("holds are %+v, %v", holds, err)
		}
		by := &controlapi.Doer{Author: "alice", Reason: "it is meant"}
		if _, err := s.Decide(t.Context(), "5ad3c1e0", "release", by); err != nil {
			t.Errorf("release: %v", err)
		}
		if _, err := s.Decide(t.Context(), "00000000", "release", by); api.Code(err) != api.NotFound {
			t.Errorf("no such hold: %v", err)
		}

		// A plan has the changes of both.
		change := plan.Change{Source: "config/x", Claims: []record.Claim{address("new.example.net.", 5), address("new.example.org.", 6)}}
		for i := range change.Claims {
			change.Claims[i].Source = "config/x"
		}
		p, err := s.Consider(t.Context(), []plan.Change{change}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		var zones []string
		for _, z := range p.Zones {
			zones = append(zones, z.Name)
		}
		if p.Total.Added != 2 || p.Come != 2 || !slices.Equal(zones, []string{"example.net.", "example.org."}) {
			t.Errorf("the plan is %+v", p)
		}
		again, err := s.Consider(t.Context(), []plan.Change{change}, nil, false)
		if err != nil || again.Digest != p.Digest {
			t.Errorf("the same plan has digests %s and %s, %v", p.Digest, again.Digest, err)
		}
		change.Claims[1].RRset = address("new.example.org.", 7).RRset
		if other, err := s.Consider(t.Context(), []plan.Change{change}, nil, false); err != nil || other.Digest == p.Digest {
			t.Errorf("another plan has the digest of the first, %v", err)
		}
	})
}

// TestSeveralTakesIn: what hosts hand in goes to the control of the dataset that it was signed for.
func TestSeveralTakesIn(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := operator.Line("alice", public)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "operators")
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := operator.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &Several{}
	for i, d := range []string{"internal", "edge"} {
		c := &Control{cfg: Config{Dataset: d, Operators: file}, deps: Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now}, first: i == 0, beside: []string{"edge", "internal"}[i : i+1]}
		s.all = append(s.all, c)
	}
	for dataset, want := range map[string]string{"internal": "internal", "edge": "edge", "gone": "internal", "": "internal"} {
		act := direct.Set("www.example.org.", "A", 60, []string{"192.0.2.7"}, time.Hour, false, "no store")
		signed, err := operator.Sign(private, "alice", act.Action, dataset, act.Args, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if dataset == "" {
			signed = []byte("nothing that can be read")
		} else if _, _, err := all.Verify(signed, time.Time{}); err != nil {
			t.Fatal(err)
		}
		var by []string
		for _, c := range s.all {
			ours, err := c.takesIn(tree.Direct{Signed: signed})
			if err != nil {
				t.Fatal(err)
			}
			if ours {
				by = append(by, c.cfg.Dataset)
			}
		}
		if !slices.Equal(by, []string{want}) {
			t.Errorf("signed for %q: decided by %q, want %s", dataset, by, want)
		}
	}
	// While operators cannot be read nobody lets go of it.
	for _, c := range s.all {
		c.operators, c.cfg.Operators = operator.File{}, filepath.Join(t.TempDir(), "none")
		node := store.Node{Path: tree.DirectPath("5ad3c1e0"), Value: tree.Encode(tree.Direct{Signed: []byte("x")})}
		if done, err := c.takeIn(t.Context(), node); done || err == nil {
			t.Errorf("%s is done with it: %v, %v", c.cfg.Dataset, done, err)
		}
	}
}
