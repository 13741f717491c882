// Package agent keeps a host's copy of a dataset: what is signed, verified, in the
// journal that the authority follows; and says what the host answers.
//
// Invariant: the journal only goes forward, and holds nothing that is not signed by
// a known key with version, chain and digest coming out; what it holds is durable
// before anything newer is taken. A dead store, a full disk and anything refused
// leave it as it is. What is said in the store is what the authority says it
// answers, not what is on the way to it.
//
// In: manifest and log from the store, snapshots over HTTP, the authority's files
// "serving" and "sample". Out: the journal, /hosts/<host>, /samples/<dataset>/<host>.
package agent
