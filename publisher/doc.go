// Package publisher signs every version of a dataset and offers snapshots of it.
//
// Invariant: the manifest in the store only ever moves to a newer version, or to a
// newer snapshot of the same one, whoever leads; it is signed for no version that
// the publisher has not itself applied and whose digest did not come out; a snapshot
// is offered only after it has been read back from disk whole and found equal; a
// delta leaves the log only when a signed manifest says so, and when two snapshots
// newer than it are offered.
//
// In: head and log of a dataset, from the store; a private key. Out: the manifest,
// a shorter log, snapshot files, and Handler, which serves them.
package publisher

// If the directory is lost, the publisher starts from the log; where the log is
// trimmed, from a snapshot that another publisher still offers; where nobody offers
// one, it cannot sign and says so (refused, kind unreachable), hosts go on with what
// they have, and after a minute the presenter makes a full delta, which needs no base.
