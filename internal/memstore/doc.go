// Package memstore is a store.Store in memory, for tests only: no daemon uses it,
// and it keeps nothing. It passes the contract suite store/storetest, so that a
// test of a stage can use it in place of an engine, also inside testing/synctest.
//
// Invariant: as package store says for every engine, but for durability.
//
// In: as store.Store, and what a test wants to happen: SetAvailable, Compact, Die.
// Out: as store.Store.
package memstore
