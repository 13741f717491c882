// Package storetest is the contract of package store as a suite of tests: what
// every engine must do, and what the stages rely on.
//
// Invariant: a store.Store that passes Run keeps every sentence of store/store.go
// that can be tested without knowing the engine. Durability is the engine's own
// test, since only it knows how to crash.
//
// In: clients of an engine under test. Out: failures that quote what was expected.
package storetest
