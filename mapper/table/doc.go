// Package table has what a map is computed from: PoPs, the demand of prefixes, and the
// round-trip times that were measured from prefixes to PoPs; and reads them from files.
//
// Invariant: what is read is all of a file or an error that names file and line, what
// was found and what is expected. A prefix, and a prefix with a PoP, is there once:
// addresses belong to the longest prefix around them, and with them their demand. IPv4-mapped
// prefixes are IPv4. The table does not depend on how many processors read it.
//
// In: pops.json, demand.csv, rtt.csv (docs/mapper.md), of anybody. Out: a Table.
package table
