// Package proxy serves configurations to the programs of one machine, from memory and
// from a file that outlives it: they go on reading when every store is dead.
//
// Invariant: what is served of a path never goes back to an older landing while the disk
// holds; all of a landing appears at once; each answer says how long ago the store
// confirmed that there is nothing newer. What the store does not say, or says in a way that
// cannot be read, takes nothing away.
//
// In: /config/ of the store; a directory; requests of local programs on a unix socket, all
// bounded. Out: values with version, revision and age; a long poll.
package proxy

// Why a log of our own and not bbolt. Readers must get all or nothing of a landing after a
// crash at any call, which bbolt gives; but a bit that flips in one of its pages is found
// late or not at all, and in an inner page it is a panic or a fault in mapped memory. Here
// damage must be found at the start, set aside and told. Everything is in memory anyway, so
// that a log with sums, rewritten when half of it is void, is all that is needed.
