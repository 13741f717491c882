// Package mapclaims is maps on their way into a dataset: the form in which a map and the
// RRsets of its names are handed from one process to another, and the claims of the source
// that a map is.
//
// Invariant: what Decode gives is one map that passes geo's checks, and RRsets that pass
// record's; what a hostile content can make it hold is bounded. The claims of equal maps are
// equal but for who made them and when.
//
// In: a map and sets of records. Out: octets, and claims of source map/<name>.
package mapclaims
