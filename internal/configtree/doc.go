// Package configtree is how compiled configurations lie in the store, below /config/
// (docs/format/config.md).
//
// A configuration's node has a line of JSON about the value and, of a small value, the
// value. Parts of larger values lie elsewhere, named by the value's SHA-256. A landing
// that fits a transaction is one; a larger one is staged beside the configurations,
// becomes visible by one write of the head, and is then copied into place.
//
// Invariant: whoever folds a watch of /config/ sees every landing whole or not at all,
// and landings in their order, whatever was interrupted in between. A version number
// stands for one landing, and is greater than all before it. A configuration in force has
// all parts of its value in the store.
//
// In: compiled configurations. Out: nodes of the store, and from there again
// configurations.
package configtree
