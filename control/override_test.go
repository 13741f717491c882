package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
)

var alice = &controlapi.Doer{Author: "alice", Reason: "the new one burns"}

func typed(owner, typ string, rdata ...string) *controlapi.RecordSet {
	return &controlapi.RecordSet{Owner: owner, Type: typ, TTL: 60, Rdata: rdata}
}

// peopled is a world with a zone of an address, an alias and a delegation.
func peopled(t *testing.T) *world {
	w := newWorld(t)
	zone := zoneHead + "www A 192.0.2.1\nalias CNAME www\nsub NS ns.sub\nns.sub A 192.0.2.9\n"
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(zone), "zoe", ""); err != nil {
		t.Fatal(err)
	}
	w.wins("www.example.net", "192.0.2.1")
	return w
}

// wins waits until what is claimed at a name comes to rdata.
func (w *world) wins(name, rdata string) {
	w.t.Helper()
	w.eventually(func() error {
		x, err := w.Why(w.t.Context(), name, "")
		if err != nil {
			return err
		}
		for _, c := range x.Claims {
			if c.Verdict == "wins" && strings.Join(c.Rdata, " ") == rdata {
				return nil
			}
		}
		return fmt.Errorf("%s: %v, want %s", name, x.Claims, rdata)
	})
}

// TestOverride sets one, replaces it and clears it: what it hides is said, why shows it, and
// all of it is in the audit, with who, why and from what.
func TestOverride(t *testing.T) {
	w := peopled(t)
	d, err := w.SetOverride(t.Context(), typed("WWW.example.net.", "A", "192.0.2.7", "192.0.2.8"), 7_200_000, false, alice)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(d.Text, "\n"); !strings.Contains(text, "www.example.net. 60 A 192.0.2.7, 192.0.2.8 until ") || !strings.Contains(text, "hides www.example.net. A 192.0.2.1 of zone/import/example.net") {
		t.Errorf("set says\n%s", text)
	}
	w.wins("www.example.net", "192.0.2.7 192.0.2.8")
	list, err := w.Overrides(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != d.ID || list[0].Author != "alice" || len(list[0].Hides) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if left := time.UnixMilli(list[0].UntilMs).Sub(time.UnixMilli(list[0].SetMs)); left != 2*time.Hour {
		t.Errorf("it holds for %v", left)
	}
	again, err := w.SetOverride(t.Context(), typed("www.example.net", "A", "192.0.2.9"), 60_000, false, alice)
	if err != nil || !strings.Contains(again.Text[0], "instead of override "+d.ID+" of alice") {
		t.Fatalf("%v, %v", again, err)
	}
	w.wins("www.example.net", "192.0.2.9")
	if _, err := w.ClearOverride(t.Context(), d.ID, alice); api.Code(err) != api.NotFound {
		t.Errorf("clear of a replaced one: %v", err)
	}
	if _, err := w.ClearOverride(t.Context(), again.ID, alice); err != nil {
		t.Fatal(err)
	}
	w.wins("www.example.net", "192.0.2.1")
	var page []string
	for after := ""; ; {
		p, err := w.Audit(t.Context(), 0, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			page = append(page, fmt.Sprintf("%s %s by %s: %s", e.Action, e.Subject, e.Author, e.Reason))
		}
		if after = p.NextAfter; after == "" {
			break
		}
	}
	want := []string{"override set " + d.ID, "override set " + again.ID, "override cleared " + again.ID}
	if len(page) != len(want) {
		t.Fatalf("audit has %q", page)
	}
	for _, x := range want {
		if !strings.Contains(strings.Join(page, "\n"), x+" by alice: the new one burns") {
			t.Errorf("audit has %q, want %s", page, x)
		}
	}
}

// TestOverrideRefused holds that what makes no sense is refused with what to do, and leaves
// nothing behind.
func TestOverrideRefused(t *testing.T) {
	w := peopled(t)
	for _, tt := range []struct {
		what  string
		r     *controlapi.RecordSet
		ms    int64
		whole bool
		by    *controlapi.Doer
		want  string
	}{
		{"no zone", typed("www.example.org", "A", "192.0.2.7"), 60_000, false, alice, "no zone"},
		{"below a cut", typed("x.sub.example.net", "A", "192.0.2.7"), 60_000, false, alice, "would not be answered"},
		{"address beside an alias", typed("alias.example.net", "A", "192.0.2.7"), 60_000, false, alice, "a CNAME stands alone"},
		{"alias beside an address", typed("www.example.net", "CNAME", "example.net."), 60_000, false, alice, "a CNAME stands alone"},
		{"alias at the apex", typed("example.net", "CNAME", "www.example.net."), 60_000, true, alice, "would not be answered"},
		{"no reason", typed("www.example.net", "A", "192.0.2.7"), 60_000, false, &controlapi.Doer{Author: "alice"}, "no reason"},
		{"nobody", typed("www.example.net", "A", "192.0.2.7"), 60_000, false, nil, "nobody is named"},
		{"no time", typed("www.example.net", "A", "192.0.2.7"), 0, false, alice, "expected 1s to 720h0m0s"},
		{"for ever", typed("www.example.net", "A", "192.0.2.7"), 1 << 50, false, alice, "expected 1s to 720h0m0s"},
		{"rdata", typed("www.example.net", "A", "192.0.2.700"), 60_000, false, alice, `record 1, "192.0.2.700"`},
		{"no rdata", typed("www.example.net", "A"), 60_000, false, alice, "0 records"},
		{"type", typed("www.example.net", "NOSUCH", "x"), 60_000, false, alice, "NOSUCH"},
		{"name", typed("www..example.net", "A", "192.0.2.7"), 60_000, false, alice, "www..example.net"},
		{"nothing", nil, 60_000, false, alice, "no record"},
	} {
		_, err := w.SetOverride(t.Context(), tt.r, tt.ms, tt.whole, tt.by)
		if api.Code(err) != api.Invalid || !strings.Contains(api.Message(err), tt.want) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
	}
	if list, err := w.Overrides(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d overrides are left, %v", len(list), err)
	}
	if p, err := w.Audit(t.Context(), 0, "", 0); err != nil || len(p.Entries) != 0 {
		t.Errorf("audit has %v, %v", p.Entries, err)
	}
	w.wins("www.example.net", "192.0.2.1") // the question left no trace
	if _, err := w.SetOverride(t.Context(), typed("alias.example.net", "A", "192.0.2.7"), 60_000, true, alice); err != nil {
		t.Error(err)
	}
	w.wins("alias.example.net", "192.0.2.7")
}

// TestOverridesOfTwo holds that of two people at the same moment one is told.
func TestOverridesOfTwo(t *testing.T) {
	w := peopled(t)
	d, err := w.SetOverride(t.Context(), typed("www.example.net", "A", "192.0.2.7"), 60_000, false, alice)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := w.ClearOverride(t.Context(), d.ID, alice)
			errs <- err
		}()
	}
	if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
		t.Errorf("%v, %v", a, b)
	} else if err := errors.Join(a, b); api.Code(err) != api.NotFound && api.Code(err) != api.Unavailable {
		t.Error(err)
	}
}
