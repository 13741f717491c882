package control

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// TestOperators lets operators act, each what he may and once, and nobody else; what they
// sign is what is done; the file is read again when it changes, and broken it lets nobody.
func TestOperators(t *testing.T) {
	w := peopled(t)
	file := filepath.Join(t.TempDir(), "operators")
	w.cfg.Operators = file
	keys := map[string]ed25519.PrivateKey{}
	var lines []string
	for _, who := range []string{"alice", "bob rollback,hold"} {
		name, rights, _ := strings.Cut(who, " ")
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		line, err := operator.Line(name, public)
		if err != nil {
			t.Fatal(err)
		}
		keys[name], lines = private, append(lines, line+" "+rights)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Join(lines, "\n"))
	now := time.Now()
	signed := func(who string, act operator.Act) *controlapi.Doer {
		t.Helper()
		b, err := operator.Sign(keys[who], who, act.Action, "internal", act.Args, now)
		if err != nil {
			t.Fatal(err)
		}
		return &controlapi.Doer{Author: who, Reason: act.Args["reason"].(string), SignedAct: b}
	}
	freeze := operator.Freeze("rule/*", "look first")
	denied := func(what string, by *controlapi.Doer, says string) {
		t.Helper()
		if _, err := w.Freeze(t.Context(), "rule/*", by); api.Code(err) != api.Denied || !strings.Contains(api.Message(err), says) {
			t.Errorf("%s: %v, want one that says %q", what, err, says)
		}
	}
	denied("not signed", &controlapi.Doer{Author: "alice", Reason: "look first"}, "freeze is not signed")
	denied("another source", signed("alice", operator.Freeze("zone/*", "look first")), "alice signed freeze with")
	other := signed("alice", freeze)
	other.Reason = "just so"
	denied("another reason", other, "alice signed freeze with")
	other = signed("alice", freeze)
	other.Author = "bob"
	denied("another author", other, "alice signed, and the author is said to be bob")
	denied("no right", signed("bob", freeze), `bob may not freeze: the right "freeze" is missing`)
	now = now.Add(-time.Hour)
	denied("an old one", signed("alice", freeze), "more than 5m0s apart")
	now = time.Now()
	if list, err := w.Freezes(t.Context()); err != nil || len(list) > 0 {
		t.Fatalf("denied, and %v is frozen, %v", list, err)
	}

	by := signed("alice", freeze)
	d, err := w.Freeze(t.Context(), "rule/*", by)
	if err != nil {
		t.Fatal(err)
	}
	denied("again", by, "was done already")
	if _, err := w.Thaw(t.Context(), d.ID, signed("alice", operator.Thaw(d.ID, "looked"))); err != nil {
		t.Error(err)
	}
	r := typed("www.example.net.", "A", "192.0.2.7")
	o, err := w.SetOverride(t.Context(), r, 60_000, false, signed("alice", operator.OverrideSet(r.Owner, r.Type, r.TTL, r.Rdata, 60_000, false, "fire")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ClearOverride(t.Context(), o.ID, signed("alice", operator.OverrideClear(o.ID, "out"))); err != nil {
		t.Error(err)
	}
	zone := []byte(zoneHead)
	if _, err := w.ImportZone(t.Context(), "example.org", zone, signed("alice", operator.Import("example.org", zone, "new"))); err != nil {
		t.Error(err)
	}
	if _, err := w.ImportZone(t.Context(), "example.org", append(zone, "x A 192.0.2.1\n"...), signed("alice", operator.Import("example.org", zone, "new"))); api.Code(err) != api.Denied {
		t.Errorf("other content than was signed: %v", err)
	}
	page, err := w.Audit(t.Context(), 0, "", 100, false)
	if err != nil || len(page.Entries) != 6 { // two imports, and these
		t.Errorf("the audit has %v, %v", page, err)
	}
	nodes, _, err := w.st.List(t.Context(), tree.Statements)
	if err != nil || len(nodes) != 5 && len(nodes) != 4 {
		t.Errorf("%d statements are remembered, %v", len(nodes), err)
	}

	// What becomes unreadable leaves those that were read last, and is said.
	for _, broken := range []func(){func() { write("nonsense\n") }, func() { _ = os.Remove(file) }} {
		broken()
		now = now.Add(time.Second) // another statement
		d, err := w.Freeze(t.Context(), "rule/*", signed("alice", freeze))
		if err != nil {
			t.Fatalf("with a broken file: %v", err)
		}
		if _, err := w.Thaw(t.Context(), d.ID, signed("alice", operator.Thaw(d.ID, "looked"))); err != nil {
			t.Error(err)
		}
		if got := w.Trouble(); !strings.Contains(got, "operators") || !strings.Contains(got, "those that were read last stay") {
			t.Errorf("with a broken file the trouble is %q", got)
		}
		denied("no right", signed("bob", freeze), `bob may not freeze`)
	}
	write(lines[1])
	if _, err := w.Freeze(t.Context(), "rule/*", signed("alice", freeze)); api.Code(err) != api.Denied || !strings.Contains(api.Message(err), `operator "alice" is not known here`) {
		t.Errorf("taken out of the file: %v", err)
	}
	if got := w.Trouble(); got != "" {
		t.Errorf("mended, and the trouble is %q", got)
	}
}

// TestDirectIsSaid: what operators put on top of the dataset on hosts is in the status, and
// wherever the name is asked for.
func TestDirectIsSaid(t *testing.T) {
	w := peopled(t)
	w.publish(1, rrset(t, "www.example.net.", record.TypeA, "\xc0\x00\x02\x01"))
	h := tree.Host{Name: "host1", DNS: "192.0.2.53:53", Datasets: map[string]tree.HostDataset{"internal": {
		Version: 1, Direct: []tree.DirectState{{ID: "d1", Owner: "www.example.net.", Type: "A", Operator: "alice", Until: 1790000000000}},
	}}}
	w.commit(store.Op{Path: tree.HostPath("host1"), Value: tree.Encode(h)})
	const says = "direct override d1 of www.example.net. A by alice until 2026-09-21 "
	w.eventually(func() error {
		x, err := w.Why(t.Context(), "www.example.net", "")
		if err != nil || !strings.Contains(strings.Join(x.Notes, "\n"), "host host1 has on top: "+says) {
			return fmt.Errorf("why says %v, %v", x, err)
		}
		return nil
	})
	st, err := w.Status(t.Context())
	if err != nil || len(st.Datasets[0].Hosts) != 1 || !strings.HasPrefix(strings.Join(st.Datasets[0].Hosts[0].Direct, "\n"), says) {
		t.Errorf("status says %v, %v", st, err)
	}
}

// TestDirectIsTakenIn hands overrides in, as hosts do when the store is back: each becomes an
// ordinary one, or is dropped, with the reason, and all of them are in the audit.
func TestDirectIsTakenIn(t *testing.T) {
	w := newWorld(t)
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
	handIn := func(act operator.Act, signedAt time.Time, change func(*tree.Direct)) string {
		t.Helper()
		signed, err := operator.Sign(private, "alice", act.Action, "internal", act.Args, signedAt)
		if err != nil {
			t.Fatal(err)
		}
		all, err := operator.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		s, id, err := all.Verify(signed, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := direct.Of(s, id, signed)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(&d)
		}
		w.commit(store.Op{Path: tree.DirectPath(d.ID), Value: tree.Encode(d)})
		return d.ID
	}
	comesTo := func(id, outcome, why string) {
		t.Helper()
		w.eventually(func() error {
			n, err := w.st.Get(t.Context(), tree.DirectPath(id))
			if err != nil {
				return err
			}
			var d tree.Direct
			if err := tree.Decode(n, &d); err != nil {
				return err
			}
			if d.Outcome != outcome || !strings.Contains(d.Why, why) {
				return fmt.Errorf("%q: %q, want %q: %q", d.Outcome, d.Why, outcome, why)
			}
			return nil
		})
	}
	set := func(name, address string) operator.Act {
		return direct.Set(name, "A", 60, []string{address}, time.Hour, false, "no store")
	}
	now := time.Now()
	comesTo(handIn(set("www.example.net", "192.0.2.7"), now, nil), tree.DirectDropped, "this process knows no operators")
	w.cfg.Operators = file // before anything is asked: nobody reads it meanwhile
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(zoneHead+"www A 192.0.2.1\n"), nil); api.Code(err) != api.Denied && api.Code(err) != api.Invalid {
		t.Fatal(err)
	}
	zone := []byte(zoneHead + "www A 192.0.2.1\nalias CNAME www\n")
	act := operator.Import("example.net", zone, "new")
	signed, err := operator.Sign(private, "alice", act.Action, "internal", act.Args, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ImportZone(t.Context(), "example.net", zone, &controlapi.Doer{Author: "alice", Reason: "new", SignedAct: signed}); err != nil {
		t.Fatal(err)
	}
	w.wins("www.example.net", "192.0.2.1")

	taken := handIn(set("www.example.net", "192.0.2.7"), now, nil)
	comesTo(taken, tree.DirectTaken, "")
	w.wins("www.example.net", "192.0.2.7")
	newer := handIn(set("www.example.net", "192.0.2.8"), now.Add(time.Second), nil)
	comesTo(newer, tree.DirectTaken, "")
	w.wins("www.example.net", "192.0.2.8")
	comesTo(handIn(set("www.example.net", "192.0.2.9"), now.Add(-time.Minute), nil), tree.DirectDropped, "override "+newer+" of alice is newer")
	comesTo(handIn(set("www.example.org", "192.0.2.9"), now, nil), tree.DirectDropped, "www.example.org. A would not be answered")
	comesTo(handIn(set("alias.example.net", "192.0.2.9"), now, nil), tree.DirectDropped, "a CNAME stands alone")
	comesTo(handIn(set("a.example.net", "192.0.2.9"), now.Add(-2*time.Hour), nil), tree.DirectEnded, "its time was over")
	comesTo(handIn(set("b.example.net", "192.0.2.9"), now, func(d *tree.Direct) { d.Cleared = "by alice (wrong)" }), tree.DirectEnded, "cleared: by alice (wrong)")
	comesTo(handIn(set("c.example.net", "192.0.2.9"), now, func(d *tree.Direct) { d.Signed[70] ^= 1 }), tree.DirectDropped, "")
	// What a host says is not believed, only what was signed.
	comesTo(handIn(set("d.example.net", "192.0.2.9"), now, func(d *tree.Direct) { d.Rdata = []string{"203.0.113.1"} }), tree.DirectTaken, "")
	w.wins("d.example.net", "192.0.2.9")
	list, err := w.Overrides(t.Context())
	if err != nil || len(list) != 2 || list[0].Author != "alice" || list[0].FromAddress != "hosts" {
		t.Errorf("%v, %v", list, err)
	}
	page, err := w.Audit(t.Context(), 0, "", 100, false)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range page.Entries {
		count[e.Action]++
	}
	if count["direct override taken in"] != 3 || count["direct override dropped"] != 5 || count["direct override ended"] != 2 {
		t.Errorf("the audit has %v", count)
	}
}
