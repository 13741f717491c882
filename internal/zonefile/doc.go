// Package zonefile turns one zone file into the claims of one source. Whoever
// takes zone files in uses it, so that a file means the same by every way.
//
// Invariant: the claims are the whole file or there is an error with
// file:line:column; they are one a RRset, in canonical order, inside the zone, and
// the zone has exactly one SOA, at its apex.
//
// In: a file of a directory and those it includes. Out: []record.Claim.
package zonefile
