// Package mutator keeps the claims of rules what the servers say: it follows the
// servers in the store, runs the rules on what changed, and writes the claims that
// are different.
//
// Each shard of a rule depends on its members alone (package rules), so a change to
// one server runs the rules of the shards it was and is a member of, and no others.
// A shard whose bytes are those in the store already is not written.
//
// Invariant: when nothing changes any more, the claims in the store are exactly
// what the rules make of the servers in the store, whatever happened on the way:
// restarts, two processes at once, outages. tree.Progress never says that a server
// is in the claims before it is.
//
// The package also stamps the freshness records (DESIGN §8): every second it claims
// a TXT with the time of now, at the start of the way that all changes take.
//
// In: tree.Servers, and the heads of datasets for the stamp. Out: tree.Claims of
// rule/*, tree.MutatorProgress.
package mutator
