// Package storecopy moves what is in one store to another, of whatever engine.
//
// Invariant: after a Copy without an error the target held, at one revision, exactly
// the lasting nodes that the source held at one revision, and the source has not
// changed meanwhile; but for numbers that mean something in one store only.
//
// In: two stores. Out: a target to start from.
package storecopy
