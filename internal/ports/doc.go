// Package ports finds ports for tests that have to name them before somebody listens.
//
// Invariant: what was given to one test of a process is given to no other of it.
//
// In: how many. Out: the first of them.
package ports
