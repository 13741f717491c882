// Package store is the small, ordered, watched tree in which the stages meet.
//
// Invariant: every change has a Revision greater than all before it; a Commit
// happens whole or not at all; a watcher sees, for each path, states in the order
// they happened, never an older one after a newer one, and always ends at the
// newest; what Commit acknowledged survives the crash of any process.
//
// The package has only the interface, the path rules and what is true of every
// engine; engines are in folders below (etcd, zookeeper), and storetest is the
// one suite that all of them pass.
//
// In: paths and values up to MaxValue. Out: nodes, batches of events, leadership.
package store
