// Package fold makes batches of what an engine tells, at the pace of the reader.
//
// Invariant: a batch holds whole increments, at most one state of each path, and the
// newest of those that had come when it was taken.
//
// In: increments, in order. Out: batches, as store.Store.Watch promises them.
package fold
