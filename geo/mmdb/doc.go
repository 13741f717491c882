// Package mmdb reads databases in the MaxMind DB format, as people have them: of cities
// and countries (MaxMind's GeoIP2 and GeoLite2, and those of the same layout), and the
// flat ones of IP2Location and ip-location-db, of places and of autonomous systems.
//
// Invariant: a database is read to its end or there is an error that names the file and
// the network where it is damaged; no file makes the reader go on without bounds. A
// network is named by its own addresses: what lies in the IPv4 part of an IPv6 database
// is IPv4, and its aliases (::ffff:0:0/96, 2001::/32, 2002::/16) are not networks.
//
// In: files of others, untrusted. Out: networks in the order of their addresses, and
// what the database says of each.
package mmdb
