// Package datasets divides what is claimed among datasets, by zones.
//
// Invariant: every claim is in one dataset. Without a division it is in each that is made.
//
// In: which zones a dataset has, claims. Out: the dataset of each, and its part of a change.
//
// As others have it: PowerDNS and Knot have views of zones for clients, NSD and BIND catalog
// zones (RFC 9432) for what a secondary carries; here it is the data itself that is divided, so
// that a host that does not carry a dataset never has it.
package datasets
