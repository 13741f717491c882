// Package heavy finds the keys that come most often in a stream that has too many
// different ones to count them all: the Space-Saving algorithm (Metwally, Agrawal,
// El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
// ICDT 2005). The keys are names and types that clients ask for.
//
// Invariant: of N keys that were added to a Counter of k entries, each one that came
// more than N/k times is there; each entry came at least Count-Error and at most
// Count times. Memory is that of k entries, whatever the keys; Add allocates nothing.
//
// In: keys, from one goroutine. Out: the entries of one Counter or of several, for
// any goroutine.
package heavy
