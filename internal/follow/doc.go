// Package follow gives a consumer the versions of a dataset as the store has them:
// deltas from where it is, or a snapshot when the log no longer begins there.
//
// Invariant: what a Sink is given is one history that only goes forward: every
// group begins where the last one ended, every digest has been recomputed and came
// out, and the last version of a group is the one its manifest is of. With keys,
// nothing is given that is not covered by a signature: the manifest signs the chain
// value of its version, which contains that of the version before, and so on. What
// cannot be believed is refused by name, never applied, and stops nothing: what
// comes next is judged anew. Without keys - the control plane, which writes the
// store itself - the head takes the manifest's place.
//
// In: /datasets/<name>/{head,out/} and parts from a store, snapshots from
// a Fetcher; all untrusted when there are keys. Out: Reset, Apply and Refused of a
// Sink; Load for what is published now; LogOps for those who write the log.
package follow

// Why the chain is checked backwards, from the newest version to the one we have:
// the only values that are signed are those of the newest version, and walking down
// authenticates each delta before anything in it is used. It also finds the
// shortest way by itself: the walk ends at what we have, or at a full delta, whose
// base does not matter.
