package wire

import "net/netip"

// connection is one that is open. Silent, it is all that it costs: what has arrived
// of a message and what is left of a response are there only while they are.
type connection struct {
	fd       int
	serial   int32 // tells it from an earlier one with the same descriptor
	advanced bool  // there was progress since it was settled: TCPMessage begins anew
	last     bool  // to be closed once the responses are sent
	client   netip.AddrPort
	local    netip.Addr
	in       []byte // octets that have arrived and are not answered
	out      []byte // responses that the client has not taken yet
	sent     int    // octets of out
	mark     int    // what sent was at since
	accepted int64  // Server.now
	since    int64  // Server.now when it got into state
	state    *list  // of its loop; nil while an event of it is handled
	links    [orders]link
}

// order is one of the lists that a connection is in at a time.
type order int

const (
	byLife  order = iota // of all of a loop
	byState              // of those silent, reading or writing
	orders
)

type link struct{ before, after *connection }

// list is of connections, those that came first in front. The zero value is an empty
// list by life.
type list struct {
	order       order
	first, last *connection
}

func (l *list) push(k *connection) {
	k.links[l.order] = link{before: l.last}
	if l.last == nil {
		l.first = k
	} else {
		l.last.links[l.order].after = k
	}
	l.last = k
}

// remove takes out one that is in the list.
func (l *list) remove(k *connection) {
	at := k.links[l.order]
	if at.before == nil {
		l.first = at.after
	} else {
		at.before.links[l.order].after = at.after
	}
	if at.after == nil {
		l.last = at.before
	} else {
		at.after.links[l.order].before = at.before
	}
	k.links[l.order] = link{}
}
