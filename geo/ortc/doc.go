// Package ortc makes the fewest prefixes that put every address where it was: the
// Optimal Routing Table Constructor (Draves, King, Venkatachary, Zill: Constructing
// Optimal IP Routing Tables, INFOCOM 1999).
//
// Invariant: the longest prefix around every address says the same before and after,
// no set of prefixes that does so is smaller, and equal answers give equal entries,
// whatever entries they came from.
//
// In: entries of a map, in any order, prefixes within prefixes. Out: entries, in order.
package ortc
