// Package geo tells where a client is: maps from prefixes to locations, and which map
// holds for which name.
//
// A map is used by the address that asks, or by the client subnet that comes with a
// query (EDNS Client Subnet, RFC 7871). With each location by subnet comes a scope: how
// many bits of the client's address decided. Scopes never overlap what is more specific
// (§7.2.1): all clients of a scope have the location that was answered, whatever
// prefixes lie inside the one that matched.
//
// Invariant: a Chart gives for every address the location of the longest prefix of its
// map; the scope is the largest prefix around the client within which all have the same
// location. A Chart of damaged octets gives some location or none, and never fails.
//
// In: an Atlas, as people say it. Out: its binary form, and charts that are looked up
// in that form, where it lies.
package geo
