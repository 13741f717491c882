package steering

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

var now = time.UnixMilli(1790000000000)

func add(p *tree.PoP, there bool) error {
	if there {
		return errors.New("it is there")
	}
	p.Capacity = 1
	return nil
}

func drain(p *tree.PoP, there bool) error {
	if !there {
		return errors.New("it is not there")
	}
	p.Drained = true
	return nil
}

func undrain(p *tree.PoP, _ bool) error { p.Drained = false; return nil }

func do(t *testing.T, st store.Store, name string, c Change) error {
	t.Helper()
	_, _, err := Do(context.Background(), st, name, c, By{Author: "alice", Reason: "why not", From: "test"}, now)
	return err
}

// states are those that the claims say, checked against the nodes.
func states(t *testing.T, st store.Store) string {
	t.Helper()
	claims, err := claimtree.Load(context.Background(), st, Source)
	if err != nil {
		t.Fatal(err)
	}
	var rr []record.RRset
	zone := 0
	for _, c := range claims {
		if c.Owner == geo.Zone {
			zone++
			if !c.Fallback {
				t.Errorf("%s is no fallback", c.Key)
			}
			continue
		}
		rr = append(rr, c.RRset)
	}
	_, pops, err := geo.ParseMaps(rr)
	if err != nil {
		t.Fatal(err)
	}
	var claimed, there []string
	for _, p := range pops {
		claimed = append(claimed, p.Name+" "+p.State.String())
	}
	all, err := Read(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		there = append(there, p.Name+" "+p.State)
	}
	got := strings.Join(claimed, ", ")
	if want := strings.Join(there, ", "); got != want || len(all) > 0 && zone != 2 {
		t.Errorf("claimed: %s and %d records of the zone; there: %s", got, zone, want)
	}
	return got
}

func TestPoPs(t *testing.T) {
	st := memstore.New()
	people := func(action string, apply func(*tree.PoP, bool) error) Change {
		return Change{Action: action, Text: action, Apply: apply, People: true}
	}
	for _, name := range []string{"esams", "drmrs", "eqiad"} {
		if err := do(t, st, name, people("pop add", add)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name   string
		change Change
		says   string // of the error
		want   string
	}{
		{"esams", people("pop drain", drain), "", "drmrs up, eqiad up, esams drained"},
		{"drmrs", Change{Action: "pop health", Apply: func(p *tree.PoP, _ bool) error { p.Down = true; return nil }}, "", "drmrs down, eqiad up, esams drained"},
		{"eqiad", people("pop drain", drain), "PoP eqiad is the last one that is up (drmrs is down, esams is drained): no PoP would be up", "drmrs down, eqiad up, esams drained"},
		{"eqiad", Change{Action: "pop remove", Apply: drain, Gone: true, People: true}, "the last one that is up", "drmrs down, eqiad up, esams drained"},
		{"eqiad", Change{Action: "pop health", Apply: func(p *tree.PoP, _ bool) error { p.Down = true; return nil }}, "", "drmrs down, eqiad down, esams drained"},
		{"drmrs", people("pop drain", drain), "", "drmrs drained, eqiad down, esams drained"}, // it was not up
		{"esams", people("pop undrain", undrain), "", "drmrs drained, eqiad down, esams up"},
		{"drmrs", Change{Action: "pop remove", Apply: func(*tree.PoP, bool) error { return nil }, Gone: true, People: true}, "", "eqiad down, esams up"},
		{"nrt", people("pop drain", drain), "it is not there", "eqiad down, esams up"},
		{"a.b", people("pop add", add), "expected 1 to 63 of a-z", "eqiad down, esams up"},
		{"far", people("pop add", func(p *tree.PoP, _ bool) error { p.Latitude, p.Addresses = 91, []string{"x"}; return nil }), "latitude is 91, expected -90 to 90", "eqiad down, esams up"},
	} {
		err := do(t, st, step.name, step.change)
		if step.says == "" && err != nil || step.says != "" && (err == nil || !strings.Contains(err.Error(), step.says)) {
			t.Errorf("%s %s: %v, want %q", step.change.Action, step.name, err, step.says)
		}
		if got := states(t, st); got != step.want {
			t.Errorf("behind %s %s: %s, want %s", step.change.Action, step.name, got, step.want)
		}
	}
	audit, _, err := st.List(context.Background(), tree.Audit)
	if err != nil || len(audit) != 9 {
		t.Errorf("%d entries in the audit, want 9: one for each change that was done; %v", len(audit), err)
	}
}

// TestDrainTogether drains two PoPs of two at the same time, again and again: one of them stays.
func TestDrainTogether(t *testing.T) {
	for range 50 {
		st := memstore.New()
		var errs [2]error
		for _, name := range []string{"a", "b"} {
			if err := do(t, st, name, Change{Apply: add, People: true}); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i, name := range []string{"a", "b"} {
			wg.Go(func() {
				_, _, errs[i] = Do(context.Background(), st, name, Change{Apply: drain, People: true}, By{}, now)
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("%v and %v: expected one drain, and one refused", errs[0], errs[1])
		}
		if err := errors.Join(errs[0], errs[1]); !errors.Is(err, ErrLast) {
			t.Fatal(err)
		}
	}
}
