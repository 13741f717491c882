// Package freshness reads freshness records: what was published when one was stamped, and
// when that was.
//
// Invariant: what is no freshness record is an error, never a time.
//
// In: RDATA from a server. Out: Stamp.
package freshness
