// Package pins is where people want whom: clients of a prefix, of an autonomous system or of a country at
// one PoP.
//
// Invariant: of the pins of a prefix the most special counts: that of the longest prefix around it, then
// that of its autonomous system, then that of its country. A file with a mistake is no pins at all.
//
// In: a file of people, and where prefixes are. Out: the pin of each prefix, for a plan.
package pins
