// Package measured makes the table that a map is computed from of what beacons and others
// measured.
//
// Invariant: a time is believed when enough clients and enough measurements say so, the newest
// first; their median counts, so that fewer than half of them do not move it. What is older than
// the bound is as if it was never measured. Clients and resolvers are rows of their own, of
// one table: they share the capacity of the PoPs.
//
// In: rtt.Tables, PoPs. Out: a table.Table, and who each row is.
package measured
