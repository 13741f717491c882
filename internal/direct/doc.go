// Package direct is the overrides that operators hand to a host without the store, as they
// lie in a file beside its journal: the agent writes it, the authority puts them on top.
//
// Invariant: the file is replaced whole; one that cannot be read changes nothing, and none
// is read that is not as it was written. Every override in it was signed by an operator that
// the host knows.
//
// In: statements of operators, the file. Out: the file; RRsets and what they hide.
package direct
