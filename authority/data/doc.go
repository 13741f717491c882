// Package data holds one version of a dataset in the form that questions are asked
// of it: which zone is a name in, does it exist, where is it delegated away.
//
// Invariant: a View never changes; Apply makes another that shares all that is
// equal, in time proportional to the change. A name exists when it owns an RRset
// or a name below it does (RFC 4592 §2.2.2: empty non-terminals exist). A SOA is
// answered with the serial that the dataset gives its zone, not with the claimed one.
//
// All zones of a dataset lie in one tree of names. So where parent and child zone
// are both here, the child's apex is a delegation point of the parent whether or
// not the parent's file says so, and the two cannot disagree about its NS.
//
// In: RRsets of a snapshot.Dataset, verified. Out: Result, for authority/protocol.
package data
