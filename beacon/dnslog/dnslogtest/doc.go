// Package dnslogtest is an authority that tells of queries which nobody made, for tests.
//
// Invariant: what was told is with the reader's system when Tell returns.
//
// In: names and addresses. Out: dnstap in Frame Streams.
package dnslogtest
