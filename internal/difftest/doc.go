// Package difftest asks two DNS servers the same questions and compares what they
// answer: the differential test between zonecast and servers that others wrote
// (BIND's named, NSD, Knot), over small hard zones in tests and over whole fleets in
// acceptance runs.
//
// Invariant: every difference is either in the Report or allowed by a rule of a
// file that gives its reason; Report.Unused names the rules that allowed nothing.
//
// In: zone files, the addresses of both servers, the file of allowed differences.
// Out: a Report.
package difftest
