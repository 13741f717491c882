// Package beacon measures how far users are from each PoP.
//
// A page loads a small script, which fetches names that nobody fetched before: one below each
// of some PoPs, one below the name that the map decides, and an anycast one. The authorities tell
// which resolver asked for each (package dnslog), the script reports how long each PoP took
// (package join), and what is joined becomes round-trip times by client prefix and by resolver
// prefix (package rtt), in slots of time that age out.
//
// Invariant: what is counted was begun here by a token not long ago, and counts once. Memory and
// disk are bounded, and so is what one prefix can add; what is refused is counted by reason. Of addresses
// nothing longer than a /24 or a /48 is kept or written, no user has a name here, and who asks not to be
// measured is not (docs/beacon.md).
//
// In: HTTP of users, dnstap of authorities, both untrusted; a file of keys. Out: rtt.Table, as
// files of a directory and over HTTP.
package beacon

// Why the PoPs are options and not followed in the store: this service talks to everybody, and
// does with nothing behind it. A PoP that is not measured yet is one restart away.
