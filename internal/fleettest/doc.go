// Package fleettest runs publishers and agents together over a store in memory, with
// real files and HTTP on the loopback interface, and holds the promises of the way
// from a published version to a host's journal; and whole simulated fleets, in which
// store, disks, network and clocks fail in every way that is promised for
// (docs/simulation.md). It has tests only.
//
// Invariant: what a host's journal holds is read back from disk by its own means
// (journal.Load, journal.FollowIn, with keys), never taken from the agent's word.
//
// In: a seed. Out: passed, or what broke and the seed.
package fleettest
