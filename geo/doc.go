// Package geo tells where a client is: maps from prefixes to locations, and which map
// holds for which name.
//
// A map is used by the address that asks, or by the client subnet that comes with a
// query (EDNS Client Subnet, RFC 7871). With each location by subnet comes a scope: how
// many bits of the client's address decided. Scopes never overlap what is more specific
// (§7.2.1): all clients of a scope have the location that was answered, whatever
// prefixes lie inside the one that matched.
//
// Maps come in two forms. An Atlas is that of tinydns and dnsrocks: a location is a key of
// RRsets, and those for it and those for everybody hold together. A Map is content of a
// dataset: a location is an ordered list of PoPs, of which the first that is up serves; PoPs
// have states; and all of it comes and goes as RRsets (docs/format/map.md), which a Guide
// follows.
//
// Invariant: a Chart gives for every address the location of the longest prefix of its
// map; the scope is the largest prefix around the client within which all have the same
// location. A Chart of damaged octets gives some location or none, and never fails.
//
// A Guide gives for every address the order of PoPs of the longest prefix of its map; the
// scope is the largest prefix around the client within which all get the same answer,
// whatever made the answers the same: location, order, or the states of PoPs. What is
// malformed in a Guide's RRsets is not taken, and what it would have replaced stays.
//
// In: an Atlas, as people say it; a Map, or its RRsets, from anybody. Out: the binary form of
// the one and charts that are looked up in that form, where it lies; RRsets of the other, and
// Guides.
package geo
