//go:build race

package bubbletest

// raced tells whether the race detector is there.
const raced = true
