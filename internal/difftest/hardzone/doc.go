// Package hardzone makes zones that are hard to answer from: cuts with and without
// glue, what lies hidden below cuts and DNAMEs, wildcards in odd places, empty
// non-terminals, chains and loops of CNAMEs and DNAMEs, names and RRsets at their
// limits, unknown types; several zones on one server, parents with and without
// their children.
//
// Invariant: equal Options give equal zones. Every zone is one that BIND's named,
// NSD and Knot load; Options.Only lifts that for what one of them refuses.
//
// In: a seed. Out: zones as RRsets.
package hardzone

// Half of every world is dense: names of few short labels, the asterisk among them,
// with types and targets drawn at random (dense.go). There the hard cases meet one
// another in ways that nobody would write down. The other half is what chance would
// not find in such a small space: limits, long chains, whole families of wildcards
// (feature.go, limit.go).
