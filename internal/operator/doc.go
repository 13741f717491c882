// Package operator is who may act for a fleet: people and robots with a key each, and
// statements that they sign.
//
// A statement says who does what to which dataset, with which arguments, and when. It is
// good for some minutes, and its id, a hash of all of it, tells whether it was seen before.
//
// Invariant: what Verify gives was signed, octet for octet, by the operator that it names,
// whose key is in the file; and for nothing else than statements of zonecast.
//
// In: the operators' file, keys, octets from the network. Out: Statement.
package operator
