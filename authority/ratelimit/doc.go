// Package ratelimit limits equal responses to equal clients, so that a server is of
// no use to those who flood a victim with responses to forged queries (response rate
// limiting).
//
// A bucket belongs to a client prefix, a class of response and the name that the
// response is imputed to. What many different questions could get from one place
// shares a bucket: all NXDOMAIN of a zone, all answers from a wildcard. A bucket that
// ran over stays in debt for up to the window; meanwhile every Slip-th response is
// sent truncated, so that an honest client comes again over TCP, and the others are
// dropped. Clients that proved their address, by TCP or a valid cookie, are not
// accounted: the caller leaves them out.
//
// Invariant: memory is that of the table, whatever the queries; a bucket never
// limits before it got more than its rate in one second; a bucket that is evicted is
// forgotten in its client's favour; nothing allocates. The same seed and the same
// calls give the same actions.
//
// In: client, class and name of each response that is about to be sent, and the
// time. Out: actions, counters, and events of limits that began and ended.
package ratelimit

// Why tables are per worker, and what that means for the limit. SO_REUSEPORT spreads
// the packets of a prefix over the workers by address and port. A table that all
// share would have its hottest lines written by all CPUs exactly during a flood. With
// a table each, a flood from many ports reaches every worker; with the full rate at
// each, the victim would get Workers times the limit. So a worker refills at
// rate/Workers, and a flood from many ports gets the rate in total. The burst is one
// second's full rate at every worker: an honest client of few ports is not limited
// sooner than with one worker, though it may sustain only rate/Workers from one port.
//
// Why a bucket is one instant: the generic cell rate algorithm keeps the time at which
// the bucket will be full again, and each response moves it by the cost of one. That
// is the token bucket without refilling it, and fractions of tokens cost nothing. A
// bucket whose instant has passed is the same as none, so the least instant of a set
// is the one to evict: random prefixes, which owe little, push each other out, and
// never a bucket in debt before all of the set are.
