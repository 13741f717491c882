// Package journal is the directory in which a host keeps one dataset: a snapshot
// file and a log of the deltas since. The agent writes it, the authority follows
// it, in another process.
//
// Invariant: after a crash at any moment, and on a full disk, the directory holds
// the state before or after the operation that was cut short, never neither and
// never a mixture; what Append or Reset acknowledged is there. Readers see whole
// groups only: deltas together with the manifest that covers them.
//
// In: verified deltas, snapshot files, manifests. Out: the dataset, and events
// for those who follow.
//
// The layout is drawn in docs/format/journal.md.
package journal
