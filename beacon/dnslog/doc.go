// Package dnslog reads what authorities tell of their queries: dnstap (dnstap.info) in Frame Streams, by
// unix or TCP sockets.
//
// Invariant: whatever comes, memory is bounded by the number of connections, and a stream
// that is not understood ends alone. Of an address nothing is made up: a client subnet
// that says nothing (RFC 7871: of no bits, of another family, with bits behind its
// length) is none.
//
// In: connections of authorities, and the messages of anybody in them. Out: Query.
package dnslog
