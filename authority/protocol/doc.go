// Package protocol turns one DNS query message into one response message. It knows
// no sockets, no clock and no state but what it counts: equal query, transport and
// View give equal octets.
//
// Invariant: whatever the octets that come in, nothing panics and nothing is
// unbounded; a message with QR set gets no answer; a response has the query's ID and
// fits the limit of its transport; an RRset is in a response whole or not at all.
//
// Choices where the RFCs leave one:
//
//   - Positive answers have an empty authority section, and the additional section
//     has the addresses of the NS, MX and SRV targets held here as far as they fit.
//   - Records of an RRset are rotated by the query's ID: clients that take the first
//     address spread over all of them, and the function stays pure.
//   - ANY over UDP gets one RRset (RFC 8482 §4.1), over TCP all of them.
//   - AXFR, IXFR are REFUSED, opcodes other than QUERY are NOTIMP, classes other
//     than IN are REFUSED but for the CH names of RFC 4892.
//   - NSID (RFC 5001) gives the configured identity; other EDNS options are ignored.
//   - TSIG is taken for an unknown additional record: the answer is unsigned.
//   - The case of the question is kept, and owner names point at it (0x20).
//
// In: a data.View and octets from anybody. Out: octets, and Counters.
package protocol
