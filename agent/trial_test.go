package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// TestTryOffers takes what is offered to this host and drops it when it no longer is; what no
// key signed, what is damaged, for others, old or not confirmed is not handed to the authority.
func TestTryOffers(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	file := filepath.Join(t.TempDir(), "key")
	private, err := snapshot.LoadOrCreateKey(file)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := DefaultConfig()
	c.Host, c.Labels, c.Journal, c.StatusDir, c.Keys, c.DNS = "host0", []string{"site=ams"}, filepath.Join(t.TempDir(), "journal"), t.TempDir(), []string{file + ".pub"}, "192.0.2.53:53"
	a, err := New(c, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	a.came = now
	x := &trying{Agent: a, path: trial.Path(a.cfg.Journal)}

	owner, err := record.ParseName("www.example.net.")
	if err != nil {
		t.Fatal(err)
	}
	delta, err := trial.Compose("internal", 7, reconcile.Change{Put: []record.RRset{record.NewRRset(owner, record.TypeA, 60, record.Rdata([]byte{192, 0, 2, 1}))}})
	if err != nil {
		t.Fatal(err)
	}
	// offered has it in the store and before the agent.
	offered := func(number uint64, key ed25519.PrivateKey, hosts string, until time.Time, parts []byte) {
		t.Helper()
		o := trial.Offer{
			Dataset: "internal", ID: "1", Number: number, Base: 7, Rings: []trial.Ring{{Name: "canary", Hosts: []string{hosts}}},
			Until: until.UnixMilli(), Size: len(delta), SHA256: trial.Sum(delta),
		}
		signed, err := o.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		ops := []store.Op{{Path: tree.OfferPath("internal"), Value: signed}, {Path: tree.TrialPartPath("internal", number, 0), Value: parts}}
		if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
			t.Fatal(err)
		}
		x.take(store.Batch{Puts: []store.Node{{Path: tree.OfferPath("internal"), Value: signed}}})
		if err := x.act(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	has := func(what string, want bool) {
		t.Helper()
		_, err := os.Stat(x.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || (err == nil) != want || (x.on != nil) != want {
			t.Fatalf("%s: the file is there: %v, on %v; want %v", what, err == nil, x.on, want)
		}
	}
	refused := func(want string) {
		t.Helper()
		if s := a.Status().Refused; !strings.Contains(s, want) {
			t.Errorf("refused %q, want %q", s, want)
		}
	}
	hour := now.Add(time.Hour)
	offered(1, stranger, "host0", hour, delta)
	has("signed by a stranger", false)
	refused("believed here")
	offered(2, private, "host1", hour, delta)
	has("for another host", false)
	offered(3, private, "site=ams", hour, delta)
	has("for hosts with its label", true)
	offered(4, private, "host0", hour, delta[1:])
	has("damaged", false)
	refused("SHA-256")
	offered(5, private, "host0", now, delta)
	has("over", false)
	refused("was over")
	offered(6, private, "host0", hour, delta)
	has("for this host", true)

	// A watch that begins at a replica that lags says what was offered.
	lagging := x.offered
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.OfferPath("internal"), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	x.drop("for the test")
	x.judged = nil
	x.take(store.Batch{Reset: true, Puts: []store.Node{{Path: tree.OfferPath("internal"), Value: lagging}}})
	if err := x.act(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	has("what was offered", false)
	offered(6, private, "host0", hour, delta)
	has("offered again", true)

	// It is confirmed for as long as the store has it and versions come.
	old := now.Add(-time.Hour)
	if err := os.Chtimes(x.path, old, old); err != nil {
		t.Fatal(err)
	}
	x.confirm(t.Context())
	if s, err := os.Stat(x.path); err != nil || s.ModTime().Equal(old) {
		t.Errorf("not confirmed: %v, %v", s, err)
	}
	if err := x.act(t.Context(), now.Add(trialBehind+time.Second)); err != nil {
		t.Fatal(err)
	}
	has("no version comes", false)
	if err := x.act(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	has("versions come again", true)
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.OfferPath("internal"), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	x.confirm(t.Context())
	if err := x.act(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	has("withdrawn", false)
	offered(7, private, "host0", hour, delta)
	if err := x.act(t.Context(), hour); err != nil {
		t.Fatal(err)
	}
	has("its time is over", false)

	// Another one that cannot be read takes the place of what is on; the same for more rings does
	// not, and is not confirmed until it is taken.
	offered(8, private, "host0", hour, delta)
	unread := func(number uint64, hosts ...string) {
		t.Helper()
		o := trial.Offer{
			Dataset: "internal", ID: "1", Number: number, Base: 7, Rings: []trial.Ring{{Name: "canary", Hosts: hosts}},
			Until: hour.UnixMilli(), Size: len(delta), SHA256: trial.Sum(delta),
		}
		signed, err := o.Sign(private)
		if err != nil {
			t.Fatal(err)
		}
		ops := []store.Op{{Path: tree.OfferPath("internal"), Value: signed}, {Path: tree.TrialPartPath("internal", number, 0), Delete: true}}
		if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
			t.Fatal(err)
		}
		x.take(store.Batch{Puts: []store.Node{{Path: tree.OfferPath("internal"), Value: signed}}})
		if err := x.act(t.Context(), now); err == nil || !strings.Contains(err.Error(), "not there") {
			t.Fatalf("its delta is not there: %v", err)
		}
	}
	unread(8, "host0", "host1")
	has("for more hosts, and not read yet", true)
	if err := os.Chtimes(x.path, old, old); err != nil {
		t.Fatal(err)
	}
	x.confirm(t.Context())
	if s, err := os.Stat(x.path); err != nil || !s.ModTime().Equal(old) {
		t.Errorf("what is on is confirmed by another offer: %v, %v", s, err)
	}
	unread(9, "host0")
	has("another one, and it cannot be read", false)

	// What is no longer offered may be a version: it stays until the authority answers that.
	answers := func(version uint64) {
		t.Helper()
		if err := serving.Write(c.StatusDir, tree.HostDataset{Version: version}); err != nil {
			t.Fatal(err)
		}
		if err := x.act(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	signedUpTo := func(version uint64) {
		t.Helper()
		m, err := (&snapshot.Manifest{Dataset: "internal", Version: version, Time: 1}).Sign(private)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ManifestPath("internal"), Value: m}}}); err != nil {
			t.Fatal(err)
		}
	}
	signedUpTo(9)
	offered(10, private, "host0", hour, delta)
	x.take(store.Batch{Deletes: []string{tree.OfferPath("internal")}})
	answers(8)
	has("its version is not answered yet", true)
	answers(9)
	has("its version is answered", false)
	offered(11, private, "host0", hour, delta)
	signedUpTo(12)
	x.take(store.Batch{Deletes: []string{tree.OfferPath("internal")}})
	answers(9)
	has("the version is not answered", true)
	if err := x.act(t.Context(), now.Add(trialLeave)); err != nil {
		t.Fatal(err)
	}
	has("it lasts too long", false)

	// What tells that a key is revoked may come later than what it signed.
	line, err := trust.Statement{Void: true, Time: now, Reason: "stolen"}.Sign(private)
	if err != nil {
		t.Fatal(err)
	}
	id := snapshot.KeyID(private.Public().(ed25519.PublicKey))
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.RevocationPath(id), Value: []byte(line)}}}); err != nil {
		t.Fatal(err)
	}
	offered(13, private, "host0", hour, delta)
	has("signed by a key that the store says is revoked", false)
	refused("believed here")
}

// TestTrialThatCannotBeTaken: a host that cannot take what is offered says so once, however long that
// lasts.
func TestTrialThatCannotBeTaken(t *testing.T) {
	dir := t.TempDir()
	private, err := snapshot.LoadOrCreateKey(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		var text bytes.Buffer
		c := DefaultConfig()
		c.Host, c.Journal, c.StatusDir, c.Keys, c.DNS = "host0", filepath.Join(dir, "journal"), dir, []string{filepath.Join(dir, "key.pub")}, "192.0.2.53:53"
		a, err := New(c, Deps{Store: st, Log: slog.New(slog.NewTextHandler(&text, nil)), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		o := trial.Offer{
			Dataset: "internal", ID: "1", Number: 1, Base: 7, Rings: []trial.Ring{{Name: "canary", Hosts: []string{"host0"}}},
			Until: time.Now().Add(time.Hour).UnixMilli(), Size: 10, SHA256: trial.Sum(nil),
		}
		signed, err := o.Sign(private)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.OfferPath("internal"), Value: signed}}}); err != nil {
			t.Fatal(err)
		}
		a.came = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.tryOffers(ctx) }()
		time.Sleep(50 * time.Second)
		cancel()
		<-done
		if n := strings.Count(text.String(), "trial not taken"); n != 1 {
			t.Errorf("%d lines say so, expected 1:\n%s", n, text.String())
		}
	})
}
