// Package rtt has measured round-trip times: who was measured, to which PoP, how long it
// took, how many clients said so, and when.
//
// Who is measured is a client prefix, or the prefix of the resolvers that asked for clients.
// Addresses are kept only as prefixes (MaxBits4, MaxBits6 for what users sent). A cell, one of
// them to one PoP, holds a sketch of the times, from which quantiles come out within Accuracy,
// and an estimate of how many clients they came from: a median of one client is that client's
// word.
//
// Invariant: merging tables is associative and commutative, as long as no limit is reached:
// whatever the number of servers that measured and the order in which their tables came, the
// outcome is the same, and equal tables have equal octets. A table never holds more than its
// limit; what went for that is counted. Foreign octets give a table or an error, within bounds
// that are known before.
//
// In: single measurements; tables as octets (docs/format/rtt.md); lists of others' measurements
// (CSV, RIPE Atlas). Out: quantiles, demand, tables as octets.
package rtt

// Why not the sketch of the library whole (github.com/DataDog/sketches-go): its mapping of
// values to bins is used, and its sketch is what the tests compare with. But there is a sketch for
// each prefix and PoP, most of a few measurements: the library's takes some 300 octets and
// more for those, a Sketch 24 and 8 for each bin; and its decoder takes what it is given,
// such as a bin at 2^31 in a dense store.
