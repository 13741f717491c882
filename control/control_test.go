package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// world is a Control over a store in memory, with a test in the part of the stages.
type world struct {
	*Control
	t  *testing.T
	st *memstore.Store
	// published by the test in the presenter's place
	dataset *snapshot.Dataset
}

func newWorld(t *testing.T) *world {
	t.Helper()
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	return startedOn(t, st)
}

func startedOn(t *testing.T, st *memstore.Store) *world {
	t.Helper()
	c, err := New(DefaultConfig(), Deps{
		Store: st, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(), Policy: reconcile.DefaultPolicy(),
		Answers: func() (replay.Server, error) { return simple{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return &world{Control: c, t: t, st: st, dataset: snapshot.NewDataset("internal")}
}

func (w *world) commit(ops ...store.Op) store.Revision {
	w.t.Helper()
	rev, err := w.st.Commit(w.t.Context(), store.Txn{Do: ops})
	if err != nil {
		w.t.Fatal(err)
	}
	return rev
}

// publish does what a presenter does with RRsets.
func (w *world) publish(claims store.Revision, put ...record.RRset) {
	w.t.Helper()
	var ops []store.Op
	if len(put) > 0 {
		delta, err := w.dataset.Change(w.dataset.Time()+1, put, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.dataset.Apply(delta); err != nil {
			w.t.Fatal(err)
		}
		b, err := delta.Encode()
		if err != nil {
			w.t.Fatal(err)
		}
		_, log, err := follow.LogOps("internal", delta.Version, b)
		if err != nil {
			w.t.Fatal(err)
		}
		ops = append(ops, log)
	}
	d := w.dataset
	w.commit(append(ops, store.Op{Path: tree.HeadPath("internal"), Value: tree.Encode(tree.Head{
		Version: d.Version(), Digest: d.Digest().String(), Chain: d.Chain().String(), Time: d.Time(), Claims: claims, Content: d.Content(),
	})})...)
}

func (w *world) host(name string, version uint64) {
	w.t.Helper()
	h := tree.Host{Name: name, DNS: "192.0.2.1:53", Datasets: map[string]tree.HostDataset{"internal": {Version: version, Digest: "x", Time: 1}}}
	w.commit(store.Op{Path: tree.HostPath(name), Value: tree.Encode(h)})
}

// eventually repeats f until it is content.
func (w *world) eventually(f func() error) {
	w.t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.t.Fatal(err)
}

func rrset(t *testing.T, owner string, typ record.Type, data ...record.Rdata) record.RRset {
	t.Helper()
	n, err := record.ParseName(owner)
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(n, typ, 300, data...)
}

func TestWaitFollowsAChange(t *testing.T) {
	w := newWorld(t)
	registered := w.commit(store.Op{Path: "/servers/web.ams/web1.example.net.", Value: []byte("{}")})
	wait := func(ms int32) *controlapi.Arrival {
		t.Helper()
		a, err := w.Wait(t.Context(), int64(registered), "servers", "internal", ms)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := wait(1); a.Done || !strings.Contains(a.Stage, "mutator") {
		t.Errorf("before the mutator: %+v", a)
	}
	inClaims := w.commit(
		claimtree.Ops("rule/address", "web1", []record.Claim{{RRset: rrset(t, "web1.example.net.", record.TypeA, "\xc0\x00\x02\x01"), Source: "rule/address"}}),
		store.Op{Path: tree.MutatorProgress, Value: tree.Encode(tree.Progress{Servers: registered})})
	if a := wait(50); a.Done || !strings.Contains(a.Stage, "presenter") {
		t.Errorf("before the presenter: %+v", a)
	}
	w.host("host0", 0)
	w.host("host1", 0)
	w.publish(inClaims, rrset(t, "web1.example.net.", record.TypeA, "\xc0\x00\x02\x01"))
	w.host("host0", 1)
	if a := wait(50); a.Done || a.Version != 1 || len(a.Missing) != 1 || a.Missing[0].Host != "host1" {
		t.Errorf("with one host behind: %+v", a)
	}
	arrived := make(chan *controlapi.Arrival)
	go func() { arrived <- wait(10_000) }()
	w.host("host1", 1)
	if a := <-arrived; !a.Done || a.Hosts != 2 || a.Version != 1 {
		t.Errorf("with both hosts: %+v", a)
	}
	for _, kind := range []string{"servers", "claims", "override", "version"} {
		if a, err := w.Wait(t.Context(), 0, kind, "internal", 10_000); err != nil || !a.Done || a.Version != 1 {
			t.Errorf("for what is there now, as %s: %+v, %v", kind, a, err)
		}
	}
	// A heartbeat is another version with the same content: nobody waits for it.
	w.publish(inClaims, rrset(t, "_fresh.internal.example.net.", record.TypeTXT, "\x01x"))
	if a := wait(1000); !a.Done || a.Version != 1 {
		t.Errorf("after a heartbeat: %+v", a)
	}
	w.commit(store.Op{Path: tree.HostPath("host0"), Delete: true}, store.Op{Path: tree.HostPath("host1"), Delete: true})
	w.eventually(func() error {
		if a := wait(1); a.Done || !strings.Contains(a.Stage, "no host") {
			return errors.New("without hosts a change counts as answered")
		}
		return nil
	})
	for _, bad := range [][2]string{{"servers", "other"}, {"nonsense", "internal"}} {
		var refused *answer.Refused
		if _, err := w.Wait(t.Context(), 1, bad[0], bad[1], 1); !errors.As(err, &refused) {
			t.Errorf("Wait(%v) = %v, want it refused", bad, err)
		}
	}
}

const zone = `$TTL 300
@ IN SOA ns.example.net. hostmaster.example.net. 1 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.53
www IN A 192.0.2.80
`

func TestImportWhyGetExport(t *testing.T) {
	w := newWorld(t)
	ch, err := w.ImportZone(t.Context(), "example.net", []byte(zone), &controlapi.Doer{Author: "alice", Reason: "first"})
	if err != nil || !ch.Changed || ch.Revision == 0 {
		t.Fatalf("import = %+v, %v", ch, err)
	}
	again, err := w.ImportZone(t.Context(), "example.net", []byte(zone), &controlapi.Doer{Author: "alice", Reason: "again"})
	if err != nil || again.Revision == 0 {
		t.Fatalf("import again = %+v, %v", again, err)
	}
	w.eventually(func() error {
		x, err := w.Why(t.Context(), "www.example.net", "A")
		if err != nil {
			return err
		}
		if len(x.Claims) != 1 || x.Claims[0].Verdict != "wins" || x.Claims[0].Place != "example.net:5" || x.Claims[0].Source != "zone/import/example.net" || x.Claims[0].Author != "alice" {
			return errors.New("why does not say who claims www: " + x.String())
		}
		return nil
	})
	var refused *answer.Refused
	_, err = w.ImportZone(t.Context(), "example.net", []byte(zone+"bad IN A 192.0.2.999\n"), &controlapi.Doer{Author: "alice", Reason: ""})
	if !errors.As(err, &refused) || !strings.Contains(refused.Message, "example.net:6") {
		t.Errorf("a broken file: %v, want it refused with file and line", err)
	}
	for _, name := range []string{"", "a/b", "..", "a b"} {
		if _, err := w.ImportZone(t.Context(), name, []byte(zone), &controlapi.Doer{Author: "", Reason: ""}); !errors.As(err, &refused) {
			t.Errorf("file name %q: %v, want it refused", name, err)
		}
	}

	var all []record.RRset
	w.claims.mu.Lock()
	for r := range w.claims.state.All() {
		all = append(all, r)
	}
	w.claims.mu.Unlock()
	w.publish(1, append(all, rrset(t, "_fresh.internal.example.net.", record.TypeTXT, "\x01x"))...)
	w.eventually(func() error {
		got, err := w.GetRecords(t.Context(), "www.example.net", "")
		if err != nil {
			return err
		}
		if got.Version != 1 || len(got.Records) != 1 || got.Records[0].Rdata[0] != "192.0.2.80" {
			return errors.New("get: " + got.String())
		}
		return nil
	})
	var owners []string
	for after := ""; ; {
		page, err := w.ExportRecords(t.Context(), "internal", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			owners = append(owners, r.Owner+r.Type)
		}
		if after = page.NextAfter; after == "" {
			break
		}
	}
	if got, want := strings.Join(owners, " "), "example.net.NS example.net.SOA ns.example.net.A www.example.net.A"; got != want {
		t.Errorf("export = %s, want %s", got, want)
	}
	if _, err := w.ExportRecords(t.Context(), "internal", "99/1", 2); !errors.As(err, &refused) {
		t.Errorf("a cursor of another version: %v, want it refused", err)
	}
	if _, err := w.ImportZone(t.Context(), "example.net", nil, &controlapi.Doer{Author: "alice", Reason: "gone"}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		x, err := w.Why(t.Context(), "www.example.net", "A")
		if err == nil && len(x.Claims) != 0 {
			err = errors.New("claims stay after the removal")
		}
		return err
	})
}
