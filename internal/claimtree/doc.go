// Package claimtree is how claims lie below /claims/<source>/ in the store.
//
// Independent shards (rules): every node is live by itself, its name says what it
// is about. Headed sources (zone files): shard values are immutable, their names
// ("@" and a hash) say their content, and the node "@head" lists those that are
// live, so that a change of any size appears in the one commit that puts the head.
//
// Invariant: whoever folds a watch of /claims/ sees a headed source as one Replace
// left it, and all sources of a Joint as one replacement left them, never a mixture of two, whatever was interrupted in between; and a
// Replace that returned without error is what is live until the next one.
//
// In: record.Claim. Out: nodes of the store, and from there again record.Claim.
package claimtree
