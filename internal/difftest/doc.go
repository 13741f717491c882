// Package difftest asks DNS servers the same questions and compares what they
// answer: the differential test between zonecast and servers that others wrote
// (BIND's named, NSD, Knot), over small hard zones in tests, over generated ones
// (package hardzone) and over whole fleets in acceptance runs.
//
// Compare asks everything about some zones, one question at a time, and says what
// differs in words. CompareMany asks what Draw draws, many at once: it takes answers
// for the same as long as their octets in canonical form are, and looks closely only
// at the others. Reduce takes away records until a difference needs all that are left.
//
// Invariant: every difference is either in the Report or allowed by a rule of a
// file that gives its reason; Report.Unused names the rules that allowed nothing.
//
// In: zone files, the addresses of the servers, the file of allowed differences.
// Out: a Report.
package difftest
