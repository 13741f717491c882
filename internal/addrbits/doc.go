// Package addrbits is IP addresses as numbers, for who sorts them, and cuts and joins prefixes of
// both families with one code.
//
// Invariant: the first bit of an address is the highest of its number, so that the order of
// numbers is that of the addresses of a family, and a prefix of any length is the same bits in
// either family. The family is not in the number: it is the caller's, as 4 or 6 or as 32 or 128 bits.
//
// In: addresses. Out: numbers, and addresses of them.
package addrbits
