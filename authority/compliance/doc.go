// Package compliance is a table of strange queries, and of what a server that keeps to
// the RFCs says to each: the questions of ISC's tests of EDNS compliance and their
// kin, and messages that no honest client sends. It asks them of any server that
// has the zone Zone; only tests import it.
//
// Invariant: a case says what the RFC it names demands and no more, where RFCs leave
// a choice all of it is allowed; what holds for every response is checked for every
// response; BIND's named passes the whole table.
//
// In: the address of a server. Out: what is wrong with its responses, in words.
package compliance
