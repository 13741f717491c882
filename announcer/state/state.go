package state

import "slices"

// State is what a host does with one VIP.
type State uint8

// The states. The zero value is where a host begins that has announced nothing yet.
const (
	Down     State = iota // not announced
	Up                    // announced
	Degraded              // announced, less preferred: what is answered is stale
	Draining              // announced, least preferred: it goes when its grace is over
	Held                  // announced, least preferred: checks fail, and the floor keeps it
)

// All is every state.
func All() []State { return []State{Down, Up, Degraded, Draining, Held} }

var names = [...]string{"down", "up", "degraded", "draining", "held"}

func (s State) String() string { return names[s] }

// Parse reads what String writes.
func Parse(text string) (State, bool) {
	i := slices.Index(names[:], text)
	return State(max(i, 0)), i >= 0
}

// Announced tells whether the route is out.
func (s State) Announced() bool { return s != Down }

// Health is the verdict of a VIP's checks, after their dampening.
type Health uint8

// Verdicts, from none to the worst.
const (
	Unknown Health = iota // nothing is known yet
	Good                  // it answers, and what it answers moves on
	Stale                 // it answers, and what it answers stands still or went back
	Bad                   // no answer in time, or a wrong one
	Dead                  // nobody listens: the kernel says so
)

var healths = [...]string{"unknown", "good", "stale", "bad", "dead"}

func (h Health) String() string { return healths[h] }

// Healths is every verdict.
func Healths() []Health { return []Health{Unknown, Good, Stale, Bad, Dead} }

// Order is what a person wants; it stands until it is taken back.
type Order uint8

// Orders.
const (
	None      Order = iota
	Drain           // go away gracefully, and stay away
	Hold            // robots take nothing away and bring nothing back
	ForceUp         // announce, whatever checks say
	ForceDown       // do not announce, whatever the floor says
)

var orders = [...]string{"", "drain", "hold", "up", "down"}

func (o Order) String() string { return orders[o] }

// Orders is every order, None among them.
func Orders() []Order { return []Order{None, Drain, Hold, ForceUp, ForceDown} }

// ParseOrder reads what String writes; "" is None.
func ParseOrder(text string) (Order, bool) {
	i := slices.Index(orders[:], text)
	return Order(max(i, 0)), i >= 0
}

// Lease is what the floor said last of the present wish to withdraw.
type Lease uint8

// Answers of the floor.
const (
	NotAsked    Lease = iota
	Granted           // enough others stay
	Refused           // too few would stay
	Unreachable       // the store did not answer: as good as refused
)

var leases = [...]string{"not asked", "granted", "refused", "unreachable"}

func (l Lease) String() string { return leases[l] }

// Leases is every answer.
func Leases() []Lease { return []Lease{NotAsked, Granted, Refused, Unreachable} }

// Input is all that a step depends on.
type Input struct {
	Health Health
	Order  Order
	Lease  Lease
	// GraceOver tells that Draining has lasted as long as it is to last.
	GraceOver bool
}

// Next is the state after in.
func Next(s State, in Input) State {
	switch in.Order {
	case ForceDown:
		return Down
	case ForceUp:
		return answering(in.Health, Held)
	}
	if in.Health == Dead {
		return Down
	}
	switch in.Order {
	case Hold:
		if s == Down {
			return Down
		}
		return answering(in.Health, Held)
	case Drain:
		if s == Down || in.GraceOver && in.Lease == Granted {
			return Down
		}
		return Draining
	}
	switch in.Health {
	case Unknown:
		if s == Draining { // the order was taken back
			return Held
		}
		return s
	case Bad:
		if s == Down || in.Lease == Granted {
			return Down
		}
		return Held
	}
	return answering(in.Health, Held)
}

// answering is the state of a host that announces: up or degraded while it answers, else other.
func answering(h Health, other State) State {
	switch h {
	case Good:
		return Up
	case Stale:
		return Degraded
	}
	return other
}

// WantsLease tells whether the step from s waits for a lease, which is to be asked for now.
func WantsLease(s State, in Input) bool {
	if !s.Announced() || in.Health == Dead {
		return false
	}
	return in.Order == Drain && in.GraceOver || in.Order == None && in.Health == Bad
}
