// Package mmdbtest makes small databases in the MaxMind DB format for tests.
//
// Invariant: what it makes is in the layout of MaxMind's own, and any reader takes it.
//
// In: networks and what is said of them. Out: the octets of a .mmdb file.
package mmdbtest
