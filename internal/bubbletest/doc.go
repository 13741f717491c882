// Package bubbletest runs tests in bubbles of package testing/synctest.
//
// Invariant: as synctest.Test, with the race detector too.
//
// In: a test. Out: its bubble.
package bubbletest
