package state

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// inputs gives every input there is.
func inputs(f func(Input)) {
	for _, h := range Healths() {
		for _, o := range Orders() {
			for _, l := range Leases() {
				for _, over := range []bool{false, true} {
					f(Input{h, o, l, over})
				}
			}
		}
	}
}

// TestExhaustive tries every state with every input.
func TestExhaustive(t *testing.T) {
	tried := 0
	for _, s := range All() {
		inputs(func(in Input) {
			tried++
			next := Next(s, in)
			fail := func(why string) { t.Errorf("%v with %+v becomes %v: %s", s, in, next, why) }
			robots := in.Order != ForceDown && in.Order != ForceUp
			if s.Announced() && !next.Announced() && robots && in.Health != Dead && in.Lease != Granted {
				fail("withdrawn without a lease")
			}
			if s.Announced() && !next.Announced() && robots && in.Order != Drain && (in.Health == Good || in.Health == Stale) {
				fail("withdrawn although it answers")
			}
			if in.Health == Stale && next.Announced() && next != Degraded && next != Draining {
				fail("stale, and not degraded")
			}
			if in.Order == Hold && in.Health != Dead && s.Announced() != next.Announced() {
				fail("held by a person, and it changed")
			}
			if in.Order == ForceUp && !next.Announced() || in.Order == ForceDown && next.Announced() {
				fail("not as a person said")
			}
			if in.Health == Dead && robots && next != Down {
				fail("nobody listens, and it is announced")
			}
			if in.Order == Drain && next == Up || in.Order == Drain && s == Down && next != Down {
				fail("not drained")
			}
			if in.Order == None && in.Health == Good && next != Up {
				fail("it answers, and is not up")
			}
			if s == Down && next.Announced() && in.Order != ForceUp && in.Health != Good && in.Health != Stale {
				fail("announced without an answer")
			}
			if in.Health == Bad && next == Up {
				fail("bad, and up")
			}
			if again := Next(next, in); again != next {
				fail(fmt.Sprintf("and then %v with the same input", again))
			}
			// Who waits for a lease moves with one, and only then.
			with, without := in, in
			with.Lease, without.Lease = Granted, Refused
			if moves := Next(s, with) != Next(s, without); WantsLease(s, in) != moves {
				fail(fmt.Sprintf("wants a lease: %v, and one makes a difference: %v", WantsLease(s, in), moves))
			}
			if without.Lease = Unreachable; Next(s, without) != Next(s, Input{in.Health, in.Order, Refused, in.GraceOver}) {
				fail("an unreachable floor is not one that refuses")
			}
		})
	}
	if want := 5 * 5 * 5 * 4 * 2; tried != want {
		t.Errorf("%d combinations, expected %d", tried, want)
	}
}

// TestHistories: after any history, a host that answers and has no order is up, and one that is
// down came there by a lease, by a dead daemon or by a person.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, allowed := Down, true
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			in := Input{
				rapid.SampledFrom(Healths()).Draw(t, "health"), rapid.SampledFrom(Orders()).Draw(t, "order"),
				rapid.SampledFrom(Leases()).Draw(t, "lease"), rapid.Bool().Draw(t, "over"),
			}
			s = Next(s, in)
			if s.Announced() {
				allowed = false
			} else if in.Lease == Granted || in.Health == Dead || in.Order == ForceDown {
				allowed = true
			}
			if !s.Announced() && !allowed {
				t.Fatalf("down by %+v", in)
			}
		}
		if s = Next(s, Input{Health: Good}); s != Up {
			t.Fatalf("good and without an order: %v", s)
		}
	})
}

// TestDrawn: the table in docs/vip.md is that of Next. A cell has the state after each health,
// without a lease, or with one behind a slash where that makes a difference.
func TestDrawn(t *testing.T) {
	page, err := os.ReadFile("../../docs/vip.md")
	if err != nil {
		t.Fatal(err)
	}
	cell := func(s State, in Input) string {
		in.Lease = Refused
		without := Next(s, in)
		in.Lease = Granted
		if with := Next(s, in); with != without {
			return without.String() + " / " + with.String()
		}
		return without.String()
	}
	for _, o := range Orders() {
		for _, s := range All() {
			row := "|"
			if o != None {
				row += " " + o.String() + " |"
			} else {
				row += " none |"
			}
			row += " " + s.String() + " |"
			for _, h := range Healths() {
				row += " " + cell(s, Input{Health: h, Order: o, GraceOver: true}) + " |"
			}
			if !strings.Contains(string(page), row+"\n") {
				t.Errorf("docs/vip.md has not the row\n%s", row)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range All() {
		if back, ok := Parse(s.String()); !ok || back != s {
			t.Errorf("%v is read as %v", s, back)
		}
	}
	for _, o := range Orders() {
		if back, ok := ParseOrder(o.String()); !ok || back != o {
			t.Errorf("%v is read as %v", o, back)
		}
	}
	if _, ok := Parse("sideways"); ok {
		t.Error("there is a state sideways")
	}
	if _, ok := ParseOrder("sideways"); ok {
		t.Error("there is an order sideways")
	}
}
