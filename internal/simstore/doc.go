// Package simstore is a replicated store.Store in memory whose network and machines fail
// as they are told, for simulations in a testing/synctest bubble.
//
// Invariant: as package store says for every engine, whatever is lost, late, doubled or cut
// off: what a majority of replicas has taken stays, a call whose answer is lost says
// store.ErrUnavailable, watches are whole and in order, sessions end when their client has
// not been heard of for their ttl. What breaks that on purpose - Blind, PutBack - is said to.
//
// In: as store.Store, and what a test wants to happen. Out: as store.Store, and how much the
// cluster was asked for, second by second.
package simstore
