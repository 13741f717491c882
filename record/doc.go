// Package record is the vocabulary of zonecast: names, types, RRsets, claims.
//
// Invariant: a value of Name is a valid domain name in canonical form (wire
// format, lower case, uncompressed; RFC 4034 §6.2); an RRset made by NewRRset or
// decoded from bytes has its RDATA sorted in canonical order without duplicates
// (RFC 4034 §6.3), so that equal RRsets are equal byte for byte.
//
// In: text and bytes from anywhere, untrusted. Out: values every other package
// can compare, hash and order without looking again.
package record
