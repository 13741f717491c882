package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

var alice = &controlapi.Doer{Author: "alice", Reason: "the new one burns"}

func typed(owner, typ string, rdata ...string) *controlapi.RecordSet {
	return &controlapi.RecordSet{Owner: owner, Type: typ, TTL: 60, Rdata: rdata}
}

// peopled is a world with a zone of an address, an alias and a delegation.
func peopled(t *testing.T) *world {
	w := newWorld(t)
	zone := zoneHead + "www A 192.0.2.1\nalias CNAME www\nsub NS ns.sub\nns.sub A 192.0.2.9\n"
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(zone), &controlapi.Doer{Author: "zoe", Reason: ""}); err != nil {
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
		p, err := w.Audit(t.Context(), 0, after, 2, false)
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
	want := []string{"import zone/import/example.net by zoe: "}
	for _, x := range []string{"override set " + d.ID, "override set " + again.ID, "override cleared " + again.ID} {
		want = append(want, x+" by alice: the new one burns")
	}
	if diff := cmp.Diff(want, page); diff != "" {
		t.Errorf("the audit (-want +got):\n%s", diff)
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
	if p, err := w.Audit(t.Context(), 0, "", 0, false); err != nil || len(p.Entries) != 1 { // the import
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

// TestExpectations announces a mass change and takes it back; what makes no sense is refused
// and leaves nothing behind.
func TestExpectations(t *testing.T) {
	w := peopled(t)
	w.publish(1, rrset(t, "example.net.", record.TypeSOA, record.Rdata("\x02ns\x00\x04root\x00"+strings.Repeat("\x00", 20))))
	w.eventually(func() error {
		if _, known := w.published.apex(rrset(t, "www.example.net.", record.TypeA, "\xc0\x00\x02\x01").Owner); !known {
			return errors.New("nothing is published yet")
		}
		return nil
	})
	day := time.Hour.Milliseconds() * 24
	for _, c := range []struct {
		e    controlapi.Expectation
		ms   int64
		code string
		says string
	}{
		{controlapi.Expectation{Zone: "example.net."}, day, api.Invalid, "nothing is announced"},
		{controlapi.Expectation{Removals: 1}, day, api.Invalid, "neither a zone nor a source"},
		{controlapi.Expectation{Removals: -1, Zone: "example.net."}, day, api.Invalid, "removals is -1"},
		{controlapi.Expectation{Creations: maxAnnounced + 1, Zone: "example.net."}, day, api.Invalid, "creations is 10000001, expected 0 to 10000000"},
		{controlapi.Expectation{Removals: 1, Zone: "example.net."}, 0, api.Invalid, "for 0 ms"},
		{controlapi.Expectation{Removals: 1, Zone: "example.net."}, 8 * day, api.Invalid, "expected 1s to 168h"},
		{controlapi.Expectation{Removals: 1, Zone: "www.example.net."}, day, api.Invalid, "it is a name in the zone example.net."},
		{controlapi.Expectation{Removals: 1, Zone: "example.org."}, day, api.Invalid, "is in no zone of dataset internal"},
		{controlapi.Expectation{Removals: 1, Zone: "a..b"}, day, api.Invalid, "zone: "},
		{controlapi.Expectation{Removals: 1, Source: "nonsense"}, day, api.Invalid, "source"},
	} {
		_, err := w.Expect(t.Context(), &c.e, c.ms, alice)
		if api.Code(err) != c.code || !strings.Contains(api.Message(err), c.says) {
			t.Errorf("%+v for %d ms: %v, want one that says %q", c.e, c.ms, err, c.says)
		}
	}
	if _, err := w.Expect(t.Context(), &controlapi.Expectation{Removals: 1, Zone: "example.net."}, day, &controlapi.Doer{Author: "alice"}); api.Code(err) != api.Invalid {
		t.Errorf("without a reason: %v", err)
	}
	if list, err := w.Expectations(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("refused, and %d are expected; %v", len(list), err)
	}
	d, err := w.Expect(t.Context(), &controlapi.Expectation{Removals: 500, Creations: 3, Zone: "Example.net", Source: "rule/address"}, day, alice)
	if err != nil || !strings.Contains(d.Text[0], "RRsets 500 removed, 3 created in example.net. by rule/address until ") {
		t.Fatalf("%v, %v", d, err)
	}
	list, err := w.Expectations(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != d.ID || list[0].LeftRemovals != 500 || list[0].LeftCreations != 3 || list[0].UntilMs-list[0].SetMs != day || list[0].Author != "alice" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := w.Unexpect(t.Context(), "nobody", alice); api.Code(err) != api.NotFound {
		t.Errorf("take back what is not there: %v", err)
	}
	if _, err := w.Unexpect(t.Context(), d.ID, alice); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Expectations(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("taken back, and %d are expected; %v", len(list), err)
	}
	page, err := w.Audit(t.Context(), 0, "", 10, false)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range page.Entries {
		actions = append(actions, e.Action+" "+e.Subject)
	}
	if got := strings.Join(actions, ", "); !strings.HasSuffix(got, "expect "+d.ID+", expect cleared "+d.ID) {
		t.Errorf("the audit has %s", got)
	}
}

// TestAuditOrder holds that the audit is in the order in which things were done, also when
// two are of one millisecond or a clock goes wrong, page by page.
func TestAuditOrder(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 40 {
		subject := fmt.Sprint(i)
		_, op := tree.AuditOps(tree.AuditEntry{Time: int64(1000 + i%3), Action: "freeze", Subject: subject})
		w.commit(op)
		want = append(want, subject)
	}
	for _, size := range []int32{0, 1, 7} {
		var got []string
		for after := ""; ; {
			p, err := w.Audit(t.Context(), 0, after, size, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Entries {
				got = append(got, e.Subject)
			}
			if after = p.NextAfter; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %s", size, got)
		}
	}
	if _, err := w.Audit(t.Context(), 0, "/audit/x", 0, false); api.Code(err) != api.Invalid {
		t.Errorf("a cursor that is no entry: %v", err)
	}
}
